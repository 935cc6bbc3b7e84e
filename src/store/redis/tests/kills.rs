//! Primaries that are killed while clients write: what was acknowledged as durable is there afterwards, once.
//!
//! Each client counts up in a value of its own, each step on condition that the last one is in place, and sends a step
//! again until it is acknowledged. A lost step, or one done twice, is a conflict. `REDIS_KILLS=200` makes it a soak.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::super::keys::Key;
use super::super::testing::Certificates;
use super::doors::tls;
use super::*;
use crate::store::{Applied, Batch, Condition, Partition, Read};

const CLIENTS: usize = 4;

/// Clients that count up until they are told to stop.
struct Counting {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    clients: Vec<JoinHandle<(Partition, u64)>>,
}

impl Counting {
    fn start(store: &RedisStore, partitions: Vec<Partition>) -> Counting {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = partitions.into_iter().map(|partition| {
            let (redis, stop, acknowledged) = (open(store), stop.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let (mut count, mut last) = (0, None);
                while !stop.load(Ordering::Relaxed) {
                    let batch = Batch::new(partition.clone()).unwrap();
                    let condition = last.map_or(Condition::Absent, Condition::Is);
                    let step = batch.when("count", condition).put("count", (count + 1).to_string(), None);
                    last = Some(step.version);
                    loop {
                        match redis.apply(step.clone()).await {
                            Ok(Applied::Done) => break,
                            Ok(conflict) => panic!("step {}: {conflict:?}", count + 1),
                            // As a caller of the edge would: a moment, then the same again.
                            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                        }
                    }
                    count += 1;
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                (partition, count)
            })
        });
        Counting { clients: clients.collect(), stop, acknowledged }
    }

    /// Waits until clients have got some steps further.
    async fn progress(&self) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + 20;
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            assert!(self.clients.iter().all(|client| !client.is_finished()), "a client has failed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets clients finish, and holds what is stored against what they were told.
    async fn ends_well(self, store: &RedisStore) {
        self.stop.store(true, Ordering::Relaxed);
        let reader = open(store);
        for client in self.clients {
            let (partition, count) = client.await.unwrap();
            let found = reader.get(&partition, "count", Read::Latest).await.unwrap().unwrap();
            assert_eq!(found.value, count.to_string());
        }
    }
}

fn kills() -> usize {
    std::env::var("REDIS_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(2)
}

/// Kills primaries of a cluster, one after the other, while clients of `store` write.
async fn kills_primaries_of(mut cluster: Cluster, store: RedisStore, times: usize) {
    let partitions: Vec<_> = (0..CLIENTS).map(|n| Partition::of("kill", &[&n.to_string()])).collect();
    let counting = Counting::start(&store, partitions.clone());
    for round in 0..times {
        counting.progress().await;
        let key = Key::Value("count").of(&partitions[round % CLIENTS]);
        let victim = cluster.primary_of(&key).port;
        let replica = cluster.replica_of(victim);
        // A replica that lags: what it has not heard of is not acknowledged.
        cluster.node(replica).freeze();
        tokio::time::sleep(Duration::from_millis(20)).await;
        cluster.node(replica).thaw();
        cluster.node_mut(victim).kill();
        cluster.takes_over(replica);
        // It takes writes again when it has a replica again.
        cluster.node_mut(victim).start_again();
    }
    counting.progress().await;
    counting.ends_well(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_primaries_loses_nothing() {
    let cluster = Cluster::start();
    let store = config(RedisMode::Cluster, &cluster.urls());
    kills_primaries_of(cluster, store, kills()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_primaries_loses_nothing_with_tls_either() {
    let certificates = Certificates::new();
    let cluster = Cluster::start_with_tls(&certificates);
    let urls: Vec<String> = cluster.nodes.iter().map(Server::tls_url).collect();
    let store = RedisStore { tls: Some(tls(&certificates)), ..config(RedisMode::Cluster, &urls) };
    kills_primaries_of(cluster, store, 1).await;
}

/// Kills the primary under sentinels, and the one that follows it, while clients of `store` write.
async fn kills_primaries_under(mut watched: Watched, mut store: RedisStore, times: usize) {
    // Sentinels may choose either replica: both have to have what is acknowledged.
    store.wait_replicas = Some(2);
    let counting = Counting::start(&store, (0..CLIENTS).map(|n| Partition::of("kill", &[&n.to_string()])).collect());
    for _ in 0..times {
        counting.progress().await;
        let victim = watched.primary().port;
        watched.primary().kill();
        watched.fails_over_from(victim);
        watched.server_mut(victim).start_again();
    }
    counting.progress().await;
    counting.ends_well(&store).await;
}

fn under_sentinels(urls: &[String]) -> RedisStore {
    config(RedisMode::Sentinel { master: "tmcp".to_owned() }, urls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_under_sentinels_that_is_lost_loses_nothing() {
    let watched = Watched::start();
    let store = under_sentinels(&watched.urls());
    kills_primaries_under(watched, store, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_under_sentinels_that_is_lost_loses_nothing_with_tls_either() {
    let certificates = Certificates::new();
    let watched = Watched::start_with_tls(&certificates);
    let urls: Vec<String> = watched.sentinels.iter().map(Server::tls_url).collect();
    let store = RedisStore { tls: Some(tls(&certificates)), ..under_sentinels(&urls) };
    kills_primaries_under(watched, store, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_that_is_killed_and_started_again_loses_nothing() {
    let mut server = Server::start(&[]);
    let store = config(RedisMode::Single, &[server.url()]);
    let counting = Counting::start(&store, (0..CLIENTS).map(|n| Partition::of("kill", &[&n.to_string()])).collect());
    for _ in 0..3 {
        counting.progress().await;
        server.kill();
        server.start_again();
    }
    counting.progress().await;
    counting.ends_well(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_loses_nothing() {
    let cluster = Cluster::start();
    let store = config(RedisMode::Cluster, &cluster.urls());
    let partition = Partition::of("kill", &["moves"]);
    let counting = Counting::start(&store, vec![partition.clone()]);
    let slot = slot_of(Key::Names.of(&partition).as_bytes());
    for _ in 0..2 {
        counting.progress().await;
        cluster.migrate(slot);
    }
    counting.progress().await;
    counting.ends_well(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replicas_do_not_have_is_not_acknowledged() {
    let (_primary, replica, mut store) = followed();
    store.timeouts.command = Duration::from_millis(200);
    store.timeouts.total = Duration::from_millis(500);
    let redis = open(&store);
    let batch = Batch::new(Partition::of("kill", &["few"])).unwrap().when("a", Condition::Absent).put("a", "1", None);
    replica.freeze();
    assert!(matches!(redis.apply(batch.clone()).await, Err(StoreError::NotDurable(_))));
    assert!(matches!(redis.apply(batch.clone()).await, Err(StoreError::NotDurable(_))), "sent again it is no safer");
    assert_eq!(redis.apply(batch.clone().relaxed()).await, Ok(Applied::Done));
    assert_eq!(redis.parts().metrics.redis_shortfalls.get(), 2);
    replica.thaw();
    // The replica is as far as it was; now it hears the rest.
    while redis.apply(batch.clone()).await != Ok(Applied::Done) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_comes_back_in_time_makes_a_write_good() {
    let (_primary, replica, mut store) = followed();
    store.timeouts.command = Duration::from_millis(200);
    store.timeouts.total = Duration::from_secs(60);
    let redis = open(&store);
    let batch = Batch::new(Partition::of("kill", &["late"])).unwrap().when("a", Condition::Absent).put("a", "1", None);
    replica.freeze();
    let writing = tokio::spawn({
        let (redis, batch) = (redis.clone(), batch.clone());
        async move { redis.apply(batch).await }
    });
    // It has come up short once, and waits again.
    let waits = |redis: &Redis| redis.parts().metrics.redis_round_trips.get(RedisUse::Write);
    while waits(&redis) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    replica.thaw();
    assert_eq!(writing.await.unwrap(), Ok(Applied::Done));
    assert_eq!(redis.parts().metrics.redis_shortfalls.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_without_replicas_confirms_nothing() {
    let (primary, replica, mut store) = followed();
    store.timeouts.command = Duration::from_millis(200);
    let redis = open(&store);
    let partition = Partition::of("kill", &["alone"]);
    redis.apply(Batch::new(partition.clone()).unwrap().put("a", "1", None)).await.unwrap();
    let get = async |read| redis.get(&partition, "a", read).await.map(|found| found.unwrap().value);
    assert_eq!(get(Read::Confirmed).await.unwrap(), "1");
    // A server that is full confirms all the same.
    primary.ask::<()>("CONFIG SET maxmemory 1");
    assert_eq!(get(Read::Confirmed).await.unwrap(), "1");
    primary.ask::<()>("CONFIG SET maxmemory 0");
    replica.freeze();
    assert!(matches!(get(Read::Confirmed).await, Err(StoreError::NotDurable(_))));
    assert_eq!(get(Read::Latest).await.unwrap(), "1");
    replica.thaw();
    while get(Read::Confirmed).await.is_err() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_may_be_stale_go_to_replicas() {
    let (_primary, replica, mut store) = followed();
    store.replica_reads = true;
    let redis = open(&store);
    let partition = Partition::of("kill", &["stale"]);
    redis.apply(Batch::new(partition.clone()).unwrap().put("a", "1", None)).await.unwrap();
    let asked = || replica.ask::<String>("INFO commandstats").contains("cmdstat_get:");
    redis.get(&partition, "a", Read::Latest).await.unwrap();
    assert!(!asked());
    assert_eq!(redis.get(&partition, "a", Read::Stale).await.unwrap().unwrap().value, "1");
    assert!(asked());
}

/// The answer to a batch can get lost, and others can overtake it before it is sent again.
#[tokio::test]
async fn a_batch_that_was_overtaken_is_known_to_have_happened() {
    let server = Server::start(&[]);
    let redis = open(&config(RedisMode::Single, &[server.url()]));
    let partition = Partition::of("kill", &["overtaken"]);
    let first = Batch::new(partition.clone()).unwrap().when("a", Condition::Absent).put("a", "1", None);
    assert_eq!(redis.apply(first.clone()).await, Ok(Applied::Done));
    let other = Batch::new(partition.clone()).unwrap().when("a", Condition::Is(first.version)).put("a", "2", None);
    assert_eq!(redis.apply(other).await, Ok(Applied::Done));
    assert_eq!(redis.apply(first).await, Ok(Applied::Done));
    assert_eq!(redis.get(&partition, "a", Read::Latest).await.unwrap().unwrap().value, "2");
}

/// A primary with one replica, which is waited for.
fn followed() -> (Server, Server, RedisStore) {
    let primary = Server::start(&[]);
    let replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", primary.port)]);
    super::super::testing::until(|| {
        replica.follows() && primary.ask::<String>("INFO replication").contains("state=online")
    });
    let mut store = config(RedisMode::Single, &[primary.url()]);
    store.wait_replicas = Some(1);
    (primary, replica, store)
}
