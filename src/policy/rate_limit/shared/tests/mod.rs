//! Against real servers.

mod cluster;
mod door;
mod lost;
mod scripts;
mod several;

use std::time::Duration;

use super::testing::{PATIENT, engine, engine_by, started, until};
use super::*;
use crate::config::{LimitAlgorithm, LimitPolicy, OnStoreFailure};
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
