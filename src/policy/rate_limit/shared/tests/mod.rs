//! Against real servers.

mod back;
mod cluster;
mod door;
mod lost;
mod scripts;
mod several;

use std::time::Duration;

use futures::future::join_all;

use super::testing::{PATIENT, engine, engine_by, started, until};
use super::*;
use crate::clock::ManualClock;
use crate::config::{LimitAlgorithm, LimitPolicy, OnStoreFailure};
use crate::metrics::LimitAnswer;
use crate::model::UserId;
use crate::store::redis::testing::Server;

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

async fn take(engine: &Shared, charges: &[Charge<'_>]) -> Outcome {
    match engine.take(engine.clock.tick(), charges) {
        Taken::Now(outcome) => outcome,
        Taken::Later(outcome) => outcome.await,
    }
}

async fn one(engine: &Shared, policy: &Policy, key: LimitKey) -> Outcome {
    take(engine, &[Charge { policy, key, cost: 1 }]).await
}

/// How much is left of a bucket, by the store's word.
async fn left(engine: &Shared, policy: &Policy, key: LimitKey) -> u32 {
    Engine::look_at(engine, engine.clock.tick(), policy, key).await.unwrap().remaining
}

/// Asks the store until so much is left.
async fn until_left(engine: &Shared, policy: &Policy, key: LimitKey, tokens: u32) {
    while left(engine, policy, key).await != tokens {
        tokio::task::yield_now().await;
    }
}

/// An engine by a clock that the test moves.
async fn by_hand(server: &Server) -> (Arc<Shared>, ManualClock) {
    let (clock, hand) = Clock::manual(1_700_000_000);
    let engine = engine_by(server.port, PATIENT, clock);
    tokio::spawn(engine.clone().look_after());
    until(|| engine.is_up()).await;
    (engine, hand)
}
