//! Against real servers.

mod lost;
mod scripts;
mod several;

use std::time::Duration;

use super::*;
use crate::config::{LimitAlgorithm, LimitPolicy, OnStoreFailure, RedisMode, RedisNode, RedisStore, RedisTimeouts};
use crate::model::UserId;
use crate::store::redis::testing::Server;

/// Long enough for a busy machine: these tests are about what is answered, not when.
const PATIENT: Duration = Duration::from_secs(60);

fn policy(requests: u32, burst: u32, algorithm: LimitAlgorithm, on_store_failure: OnStoreFailure) -> Policy {
    let per = Duration::from_secs(60);
    let numbers = LimitPolicy { requests, per, burst, algorithm, on_store_failure, report_only: false };
    Policy::new("tested", None, &numbers).unwrap()
}

fn bucket(requests: u32, burst: u32) -> Policy {
    policy(requests, burst, LimitAlgorithm::TokenBucket, OnStoreFailure::Local)
}

fn user(number: u32) -> LimitKey {
    LimitKey::user(&UserId::parse(&format!("@u{number}:tween.example")).unwrap())
}

fn engine(port: u16, deadline: Duration) -> Arc<Shared> {
    engine_by(port, deadline, Clock::system())
}

fn engine_by(port: u16, deadline: Duration, clock: Clock) -> Arc<Shared> {
    let timeouts = RedisTimeouts { connect: PATIENT, command: PATIENT, total: PATIENT, limits: deadline };
    let store = RedisStore {
        path: "unused".into(),
        nodes: vec![RedisNode { host: "127.0.0.1".to_owned(), port }],
        mode: RedisMode::Single,
        username: None,
        password: None,
        sentinel_username: None,
        sentinel_password: None,
        tls: None,
        replica_reads: false,
        timeouts,
        wait_replicas: None,
        require_durability: true,
    };
    let metrics = Arc::new(Metrics::new(&[]).unwrap());
    let redis = Redis::new(&store, clock.clone(), metrics.clone());
    Shared::new(redis, clock, metrics, deadline, Arc::new(Buckets::new(16 << 20)))
}

/// An engine that has found its store and is looked after.
async fn started(port: u16, deadline: Duration) -> Arc<Shared> {
    let engine = engine(port, deadline);
    tokio::spawn(engine.clone().look_after());
    until(|| engine.is_up()).await;
    engine
}

/// Looks until something holds.
async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn take(engine: &Shared, charges: &[Charge<'_>]) -> Outcome {
    match engine.take(engine.clock.tick(), charges) {
        Taken::Now(outcome) => outcome,
        Taken::Later(outcome) => outcome.await,
    }
}

async fn one(engine: &Shared, policy: &Policy, key: LimitKey) -> Outcome {
    take(engine, &[Charge { policy, key, cost: 1 }]).await
}
