//! On several servers, of which some are lost.

use super::super::testing::engine_on;
use super::*;
use crate::config::RedisMode;
use crate::store::redis::testing::Cluster;

fn policy_closed() -> Policy {
    policy(1, 99, LimitAlgorithm::TokenBucket, OnStoreFailure::Closed)
}

/// Calls about buckets on other servers go on and prove nothing about the one that is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_that_is_lost_is_not_asked_and_the_others_are() {
    let cluster = Cluster::start();
    for node in &cluster.nodes {
        // It stays lost, and the others go on without it.
        node.ask::<()>("CONFIG SET cluster-replica-no-failover yes");
        node.ask::<()>("CONFIG SET cluster-require-full-coverage no");
    }
    let engine = engine_on(RedisMode::Cluster, cluster.nodes[0].port, PATIENT / 60, Clock::system());
    tokio::spawn(engine.clone().look_after());
    until(|| engine.is_up()).await;
    let policy = bucket(1, 999);
    let slot = |key| Slot { family: policy.family, key };
    let port_of = |key| {
        let slot = slot(key);
        engine.redis.server_of(question::name(slot.family, slot.key).as_bytes()).unwrap().port
    };
    let lost = cluster.nodes[1].port;
    let (dead, alive): (Vec<_>, Vec<_>) = (0..100).map(user).partition(|key| port_of(*key) == lost);
    cluster.node(lost).freeze();
    while engine.asks(&slot(dead[0])) {
        one(&engine, &policy, dead[0]).await;
        one(&engine, &policy, alive[0]).await;
        one(&engine, &policy, alive[1]).await;
    }
    let charge = |key| [Charge { policy: &policy, key, cost: 1 }];
    assert!(matches!(engine.take(engine.clock.tick(), &charge(dead[1])), Taken::Now(_)), "nobody waits for it");
    assert!(!engine.is_up() && engine.asks(&slot(alive[2])));
    let asked = engine.metrics.limit_answers.get(LimitAnswer::Asked);
    assert!(one(&engine, &policy, alive[2]).await.admitted);
    assert_eq!(engine.metrics.limit_answers.get(LimitAnswer::Asked), asked + 1);
    // A refusal by one that answers is a refusal; what is not heard of is decided here, and all or nothing.
    let used_up = bucket(1, 0);
    let key = |policy: &Policy, dead: bool| {
        let port = |key| engine.redis.server_of(question::name(policy.family, key).as_bytes()).unwrap().port;
        (200..).map(user).find(|key| (port(*key) == lost) == dead).unwrap()
    };
    let answers = Charge { policy: &used_up, key: key(&used_up, false), cost: 1 };
    let silent = Charge { policy: &policy, key: key(&policy, true), cost: 1 };
    assert!(take(&engine, &[answers, silent]).await.admitted);
    for _ in 0..3 {
        let outcome = take(&engine, &[answers, silent]).await;
        assert!(!outcome.admitted && !outcome.lost && outcome.standings[0].wait != Wait::No);
    }
    let (one_left, narrow) = (bucket(1, 8), bucket(1, 1));
    let answers = Charge { policy: &one_left, key: key(&one_left, false), cost: 1 };
    let silent = Charge { policy: &narrow, key: key(&narrow, true), cost: 1 };
    let both = [answers, silent];
    let admitted = join_all((0..20).map(|_| take(&engine, &both))).await;
    assert_eq!(admitted.iter().filter(|outcome| outcome.admitted).count(), 2);
    until_left(&engine, &one_left, answers.key, 7).await;
    let closed = policy_closed();
    let silent = Charge { policy: &closed, key: key(&closed, true), cost: 1 };
    let outcome = take(&engine, &[answers, silent]).await;
    assert!(outcome.lost && !outcome.admitted);
    until_left(&engine, &one_left, answers.key, 7).await;
    cluster.node(lost).thaw();
    until(|| engine.is_up()).await;
    assert!(one(&engine, &policy, dead[1]).await.admitted);
}
