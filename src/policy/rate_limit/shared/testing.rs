//! Engines on real servers, for tests of everything that is counted over instances.

use std::sync::Arc;
use std::time::Duration;

use super::super::buckets::Buckets;
use super::Shared;
use crate::clock::Clock;
use crate::config::{RedisMode, RedisNode, RedisStore, RedisTimeouts};
use crate::metrics::Metrics;
use crate::store::redis::Redis;

/// Long enough for a busy machine: these tests are about what is answered, not when.
pub(in crate::policy) const PATIENT: Duration = Duration::from_secs(60);

pub(in crate::policy) fn engine(port: u16, deadline: Duration) -> Arc<Shared> {
    engine_by(port, deadline, Clock::system())
}

pub(in crate::policy) fn engine_by(port: u16, deadline: Duration, clock: Clock) -> Arc<Shared> {
    engine_on(RedisMode::Single, port, deadline, clock)
}

pub(in crate::policy) fn engine_on(mode: RedisMode, port: u16, deadline: Duration, clock: Clock) -> Arc<Shared> {
    let timeouts = RedisTimeouts { connect: PATIENT, command: PATIENT, total: PATIENT, limits: deadline };
    let store = RedisStore {
        path: "unused".into(),
        nodes: vec![RedisNode { host: "127.0.0.1".to_owned(), port }],
        mode,
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
pub(in crate::policy) async fn started(port: u16, deadline: Duration) -> Arc<Shared> {
    let engine = engine(port, deadline);
    tokio::spawn(engine.clone().look_after());
    until(|| engine.is_up()).await;
    engine
}

/// Looks until something holds.
pub(in crate::policy) async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
