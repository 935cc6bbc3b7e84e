//! Which reads go to replicas: those that may be stale, where the config says so, and no others.

use super::*;
use crate::clock::Clock;
use crate::model::oauth::{ClientId, Grant, GrantId, Via};
use crate::model::{MiniAppId, Revoked, ScopeSet, UserId};
use crate::store::keys::KeyStore;
use crate::store::oauth::{Approvals, Grants};
use crate::store::revocations::RevocationLog;
use crate::store::{Batch, Partition, Read};

/// How often a server was asked for values, alone or by script.
fn asked(server: &Server) -> u64 {
    let told: String = server.ask("INFO commandstats");
    let reads = ["cmdstat_get:", "cmdstat_eval_ro:", "cmdstat_evalsha_ro:"];
    let calls = told.lines().filter(|line| reads.iter().any(|read| line.starts_with(read)));
    calls.map(|line| line.split("calls=").nth(1).unwrap().split(',').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn primary_and_replica() -> (Server, Server, RedisStore) {
    let primary = Server::start(&[]);
    let replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", primary.port)]);
    super::super::testing::until(|| replica.follows());
    let mut store = config(RedisMode::Single, &[primary.url()]);
    (store.wait_replicas, store.replica_reads) = (Some(1), true);
    (primary, replica, store)
}

async fn fill(redis: &Redis, partition: &Partition) {
    redis.apply(Batch::new(partition.clone()).unwrap().put("a", "1", None).put("b", "2", None)).await.unwrap();
}

#[tokio::test]
async fn a_read_that_may_be_stale_spares_the_primary() {
    let (primary, mut replica, store) = primary_and_replica();
    let (redis, partition) = (open(&store), Partition::of("replicas", &[]));
    fill(&redis, &partition).await;
    let reads = async |redis: &Redis, read: Read| {
        let before = (asked(&primary), asked(&replica));
        assert_eq!(redis.get(&partition, "a", read).await.unwrap().unwrap().value, "1");
        assert_eq!(redis.scan(&partition, "", None, 10, read).await.unwrap().len(), 2);
        (asked(&primary) - before.0, asked(&replica) - before.1)
    };
    // A script that a server does not know is sent twice.
    reads(&redis, Read::Stale).await;
    reads(&redis, Read::Latest).await;
    let (of_primary, of_replica) = reads(&redis, Read::Stale).await;
    assert!(of_primary == 0 && of_replica > 0);
    let (of_primary, of_replica) = reads(&redis, Read::Latest).await;
    assert!(of_primary > 0 && of_replica == 0);
    let other = open(&RedisStore { replica_reads: false, ..store });
    assert_eq!(reads(&other, Read::Stale).await.1, 0, "the config does not say so");
    replica.kill();
    assert_eq!(redis.get(&partition, "a", Read::Stale).await.unwrap().unwrap().value, "1", "the primary steps in");
}

#[tokio::test]
async fn a_cluster_too() {
    let cluster = Cluster::start();
    let mut store = config(RedisMode::Cluster, &cluster.urls());
    store.replica_reads = true;
    let partition = Partition::of("replicas", &[]);
    fill(&open(&store), &partition).await;
    let primary = cluster.primary_of(&super::super::keys::Key::Names.of(&partition)).port;
    let replica = cluster.node(cluster.replica_of(primary));
    // A cluster names no replica that nothing has been replicated to, and its nodes hear of that one after the other.
    for node in &cluster.nodes {
        let named = || format!("{:?}", node.ask::<::redis::Value>("CLUSTER SLOTS")).contains(&replica.port.to_string());
        super::super::testing::until(named);
    }
    let redis = open(&store);
    let before = (asked(cluster.node(primary)), asked(replica));
    assert_eq!(redis.get(&partition, "a", Read::Stale).await.unwrap().unwrap().value, "1");
    assert_eq!((asked(cluster.node(primary)), asked(replica)), (before.0, before.1 + 1));
}

#[tokio::test]
async fn what_can_be_redeemed_or_withdrawn_is_never_read_from_a_replica() {
    let (_primary, replica, store) = primary_and_replica();
    let backend: Arc<dyn Backend> = Arc::new(open(&store));
    let (user, app) = (UserId::parse("@a:x").unwrap(), MiniAppId::parse("ma_shop").unwrap());
    let before = asked(&replica);
    let log = RevocationLog::new(backend.clone(), Clock::system());
    log.append(Revoked::User(user.clone())).await.unwrap();
    assert_eq!(log.since(0).await.unwrap().unwrap().len() + log.all().await.unwrap().1.len(), 2);
    KeyStore::new(backend.clone()).read().await.unwrap();
    let grants = Grants::new(backend.clone());
    assert!(grants.get(GrantId([7; 16])).await.unwrap().is_none());
    assert!(grants.of_user(&user, None, 0).await.unwrap().is_empty());
    assert!(Approvals::new(backend).of(&user, &app).await.unwrap().is_empty());
    assert_eq!(asked(&replica), before);
}

fn grant() -> Grant {
    Grant::given(
        ClientId::of(MiniAppId::parse("ma_shop").unwrap()),
        UserId::parse("@alice:tween.example").unwrap(),
        ScopeSet::EMPTY,
        Via::Code,
        (1_000, 0),
    )
}

#[tokio::test]
async fn operators_look_through_grants_at_replicas_and_change_nothing_by_it() {
    let (primary, replica, store) = primary_and_replica();
    let grants = Grants::new(Arc::new(open(&store)));
    let (id, grant) = (GrantId([7; 16]), grant());
    grants.create(id, &grant, Duration::from_secs(60)).await.unwrap();
    let mut at_replica = asked(&replica);
    for user in [Some(&grant.user), None] {
        let page = grants.page(user, None, None, 100).await.unwrap();
        assert_eq!(page.grants.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id]);
        assert!(asked(&replica) > at_replica, "the replica is asked for the grant");
        at_replica = asked(&replica);
    }
    assert!(grants.get(id).await.unwrap().is_some());
    assert_eq!(asked(&replica), at_replica, "who decides by it asks the primary");
    // A replica that has heard nothing of a grant shows none, and the user's list keeps it all the same.
    replica.ask::<()>("CONFIG SET replica-read-only no");
    let keys: Vec<String> = replica.ask("KEYS *:v:grant");
    assert_eq!(replica.ask::<u64>(&format!("DEL {}", keys.join(" "))), 1);
    let at_primary = asked(&primary);
    assert!(grants.page(Some(&grant.user), None, None, 100).await.unwrap().grants.is_empty());
    assert_eq!(asked(&primary), at_primary);
    assert_eq!(grants.of_user(&grant.user, None, grant.granted_at).await.unwrap().len(), 1);
}
