//! Who is let in, and which servers are good enough.

use super::super::settings::look;
use super::super::testing::Certificates;
use super::*;
use crate::config::{ListenTls, RedisTls, Secret};
use crate::store::{Batch, Condition, Partition};

/// The rights of an edge, as `docs/store.md` has them.
const RIGHTS: &str = "~tmcp:* &tmcp:* -@all +@read +@write +@scripting +@transaction +@connection +@pubsub -@dangerous +wait \
                      +time +info +role +config|get +cluster|slots";

/// What a client needs that shows a certificate.
pub(super) fn tls(certificates: &Certificates) -> RedisTls {
    let (certificate, key) = certificates.pair("client");
    RedisTls { ca: Some(certificates.ca()), client: Some(ListenTls { certificate, key }) }
}

/// A server with TLS that asks for a client certificate and a user, and what a client needs for it.
fn guarded(certificates: &Certificates) -> (Server, RedisStore) {
    let mut lines = certificates.lines();
    lines.push("user default off".to_owned());
    lines.push(format!("user edge on >secret {RIGHTS}"));
    lines.push(format!("user blind on >secret {RIGHTS} -config -publish"));
    lines.push(format!("user deaf on >secret {RIGHTS} -subscribe"));
    let server = Server::start(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let mut store = config(RedisMode::Single, &[server.tls_url()]);
    store.tls = Some(tls(certificates));
    (store.username, store.password) = (Some("edge".to_owned()), Some(Secret::new("secret")));
    store.timeouts.total = Duration::from_secs(5);
    (server, store)
}

#[tokio::test]
async fn sentinels_and_what_they_watch_over_with_tls() {
    let certificates = Certificates::new();
    let watched = Watched::start_with_tls(&certificates);
    let sentinels: Vec<String> = watched.sentinels.iter().map(Server::tls_url).collect();
    let mut store = config(RedisMode::Sentinel { master: "tmcp".to_owned() }, &sentinels);
    store.tls = Some(tls(&certificates));
    look(&open(&store)).await.unwrap();
    serves(&open(&store)).await;
}

#[tokio::test]
async fn a_cluster_with_tls() {
    let certificates = Certificates::new();
    let cluster = Cluster::start_with_tls(&certificates);
    let mut store = config(RedisMode::Cluster, &[cluster.nodes[0].tls_url()]);
    store.tls = Some(tls(&certificates));
    look(&open(&store)).await.unwrap();
    serves(&open(&store)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_users() {
    let certificates = Certificates::new();
    let (_server, store) = guarded(&certificates);
    look(&open(&store)).await.unwrap();
    contract::holds(&Servers(store.clone())).await;

    let refused = async |change: &dyn Fn(&mut RedisStore)| {
        let mut other = store.clone();
        change(&mut other);
        let redis = open(&other);
        let batch = Batch::new(Partition::of("doors", &[])).unwrap().when("a", Condition::Absent);
        redis.apply(batch.put("a", "1", None)).await.unwrap_err().to_string()
    };
    let told = refused(&|store| store.password = Some(Secret::new("wrong"))).await;
    assert!(told.contains("WRONGPASS") || told.contains("uthentication"), "{told}");
    let told = refused(&|store| store.tls = Some(RedisTls::default())).await;
    assert!(told.contains("certificate"), "a certificate that nobody vouches for: {told}");
    for (user, why) in [("blind", "can't run this command"), ("deaf", "no permissions to run the 'subscribe' command")]
    {
        let other = RedisStore { username: Some(user.to_owned()), ..store.clone() };
        let told = look(&open(&other)).await.unwrap_err();
        assert!(told.contains("does not do what an edge needs: ") && told.contains(why), "{told}");
    }
}

/// Whoever may connect and not listen tries again at growing intervals.
#[tokio::test]
async fn a_user_who_may_not_listen_makes_no_storm() {
    let server = Server::start(&[&format!("user deaf on >secret {RIGHTS} -subscribe")]);
    let mut store = config(RedisMode::Single, &[server.url()]);
    (store.username, store.password) = (Some("deaf".to_owned()), Some(Secret::new("secret")));
    let mut observer = server.connection();
    let mut refused = || -> usize {
        let text: String = redis::cmd("INFO").arg("errorstats").query(&mut observer).unwrap();
        let counted = text.lines().find_map(|line| line.strip_prefix("errorstat_NOPERM:count="));
        counted.map_or(0, |count| count.trim().parse().unwrap())
    };
    let (redis, clock) = (open(&store), Clock::system());
    let _topic = redis.subscribe("revocations");
    let mut after = async |count| {
        while refused() < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        clock.tick()
    };
    let (first, sixth) = (after(1).await, after(6).await);
    // 20, 40, 80, 160 and 320 ms, each up to a quarter shorter.
    assert!(sixth.since(first) >= Duration::from_millis(450), "{:?}", sixth.since(first));
}

#[tokio::test]
async fn an_edge_starts_while_nothing_can_be_made_safe() {
    let server = Server::start(&[]);
    let mut store = config(RedisMode::Single, &[server.url()]);
    (store.wait_replicas, store.require_durability) = (Some(1), false);
    store.timeouts.total = Duration::from_secs(3);
    look(&open(&store)).await.unwrap();
    server.ask::<()>("CONFIG SET min-replicas-to-write 1");
    look(&open(&store)).await.unwrap();
    store.require_durability = true;
    look(&open(&store)).await.unwrap();
    server.ask::<()>("CONFIG SET min-replicas-to-write 0");
    store.wait_replicas = Some(0);
    server.ask::<()>("CONFIG SET maxmemory 1");
    look(&open(&store)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_forgets_is_refused() {
    let server = Server::start(&[]);
    let store = config(RedisMode::Single, &[server.url()]);
    look(&open(&store)).await.unwrap();
    for (change, told) in [
        ("appendfsync everysec", "appendfsync is everysec: set `appendfsync always`"),
        ("appendonly no", "appendonly is no: set `appendonly yes`"),
        ("maxmemory-policy allkeys-lru", "maxmemory-policy is allkeys-lru: set `maxmemory-policy noeviction`"),
    ] {
        server.ask::<()>(&format!("CONFIG SET {change}"));
        let refused = look(&open(&store)).await.unwrap_err();
        assert!(refused.contains(&format!("127.0.0.1:{}: {told}", server.port)), "{refused}");
    }
    let careless = RedisStore { require_durability: false, ..store };
    look(&open(&careless)).await.unwrap();
}

#[tokio::test]
async fn replicas_have_to_be_spoken_of_and_waited_for() {
    let primary = Server::start(&[]);
    let replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", primary.port)]);
    // A primary names a replica once that has acknowledged something, a moment after the replica is content.
    super::super::testing::until(|| {
        replica.follows() && primary.ask::<String>("INFO replication").contains("state=online")
    });
    let mut store = config(RedisMode::Single, &[primary.url()]);
    let told = look(&open(&store)).await.unwrap_err();
    assert!(told.contains("has replicas: set store.wait_replicas"), "{told}");
    store.wait_replicas = Some(1);
    let told = look(&open(&store)).await.unwrap_err();
    assert!(told.contains("min-replicas-to-write is 0"), "{told}");
    primary.ask::<()>("CONFIG SET min-replicas-to-write 1");
    look(&open(&store)).await.unwrap();
    let other = config(RedisMode::Single, &[replica.url()]);
    let told = look(&open(&other)).await.unwrap_err();
    assert!(told.contains("is a replica; name its primary"), "{told}");
}

#[tokio::test]
async fn a_full_server_says_so_and_deletes_all_the_same() {
    let server = Server::start(&[]);
    let redis = open(&config(RedisMode::Single, &[server.url()]));
    let partition = Partition::of("doors", &["full"]);
    let batch = || Batch::new(partition.clone()).unwrap();
    redis.apply(batch().put("a", "1", None)).await.unwrap();
    server.ask::<()>("CONFIG SET maxmemory 1");
    assert!(matches!(redis.apply(batch().put("b", "1", None)).await, Err(StoreError::Full(_))));
    redis.apply(batch().delete("a")).await.unwrap();
    assert_eq!(redis.get(&partition, "a", crate::store::Read::Latest).await, Ok(None));
}

#[tokio::test]
async fn whoever_cannot_wait_is_told_at_once() {
    let server = Server::start(&[]);
    let redis = open(&config(RedisMode::Single, &[server.url()]));
    redis.publish("nothing").await.unwrap();
    let script = Script::new("return 1");
    let limit = Duration::from_millis(50);
    let ask = async || redis.script(&script, &[b"tmcp:{x}:l"], &[], limit).await;
    assert_eq!(ask().await, Ok(Value::Int(1)));
    server.freeze();
    // Silent for as long as one command may take, the connection is given up; from then on nobody waits for it.
    while matches!(ask().await, Err(StoreError::Unavailable(why)) if why.contains("no answer within")) {}
    server.thaw();
    while ask().await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
