//! Against real servers.

mod doors;
mod dumps;
mod kills;
mod replicas;

use super::testing::{Cluster, Server, Watched};
use super::*;
use crate::config::{RedisMode, RedisNode, RedisTimeouts};
use crate::store::Backend;
use crate::store::contract::{self, Place};
use crate::store::oauth::tests::grants_are_listed_page_by_page;

/// A config for servers on loopback.
pub(super) fn config(mode: RedisMode, urls: &[String]) -> RedisStore {
    let node = |url: &String| RedisNode {
        host: "127.0.0.1".to_owned(),
        port: url.rsplit_once(':').unwrap().1.parse().unwrap(),
    };
    RedisStore {
        nodes: urls.iter().map(node).collect(),
        mode,
        path: "unused".into(),
        username: None,
        password: None,
        sentinel_username: None,
        sentinel_password: None,
        tls: None,
        replica_reads: false,
        timeouts: RedisTimeouts {
            connect: Duration::from_secs(1),
            command: Duration::from_secs(2),
            total: Duration::from_secs(20),
            limits: Duration::from_millis(5),
        },
        wait_replicas: None,
        require_durability: true,
    }
}

pub(super) fn open(store: &RedisStore) -> Redis {
    Redis::new(store, Clock::system(), Arc::new(Metrics::new(&[]).unwrap()))
}

/// A script answers, a push arrives.
async fn serves(redis: &Redis) {
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    // Scripts do not wait for a first look at the servers; this does.
    redis.publish("nothing").await.unwrap();
    let counted = redis.script(&script, &[b"tmcp:{x}:l"], &[b"2"], Duration::from_secs(1)).await;
    assert_eq!(counted, Ok(Value::Int(2)));
    let mut topic = redis.subscribe("revocations");
    // The number moves when listening begins.
    topic.changed().await.unwrap();
    let before = *topic.borrow_and_update();
    redis.publish("revocations").await.unwrap();
    topic.changed().await.unwrap();
    assert_eq!(*topic.borrow(), before + 1);
}

#[tokio::test]
async fn one_server_runs_scripts_and_passes_pushes_on() {
    let server = Server::start(&[]);
    serves(&open(&config(RedisMode::Single, &[server.url()]))).await;
}

#[tokio::test]
async fn a_primary_under_sentinels_runs_scripts_and_passes_pushes_on() {
    let watched = Watched::start();
    serves(&open(&config(RedisMode::Sentinel { master: "tmcp".to_owned() }, &watched.urls()))).await;
}

#[tokio::test]
async fn a_cluster_runs_scripts_and_passes_pushes_on() {
    let cluster = Cluster::start();
    // One node leads to all.
    serves(&open(&config(RedisMode::Cluster, &cluster.urls()[..1]))).await;
}

#[tokio::test]
async fn operators_list_grants_over_all_of_a_cluster() {
    let cluster = Cluster::start();
    let redis = open(&config(RedisMode::Cluster, &cluster.urls()[..1]));
    grants_are_listed_page_by_page(Arc::new(redis)).await;
}

/// A store for the contract: every handle is one more client.
struct Servers(RedisStore);

#[async_trait::async_trait]
impl Place for Servers {
    async fn open(&self) -> Arc<dyn Backend> {
        Arc::new(open(&self.0))
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn holds_time(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_keeps_the_contract() {
    let server = Server::start(&[]);
    contract::holds(&Servers(config(RedisMode::Single, &[server.url()]))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_under_sentinels_keeps_the_contract() {
    let watched = Watched::start();
    let mode = RedisMode::Sentinel { master: "tmcp".to_owned() };
    contract::holds(&Servers(config(mode, &watched.urls()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_the_contract() {
    let cluster = Cluster::start();
    contract::holds(&Servers(config(RedisMode::Cluster, &cluster.urls()[..1]))).await;
}
