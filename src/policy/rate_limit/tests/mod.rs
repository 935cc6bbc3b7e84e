//! Tests of the whole limiter, with a clock that stands still.

mod exact;
mod memory;
mod policies;
mod several;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;

use super::*;
use crate::clock::{Clock, ManualClock, Tick};
use crate::config::{LimitAlgorithm, LimitOverride, LimitPolicy, OnStoreFailure};
use crate::model::{MiniAppId, UserId};

const MINUTE: Duration = Duration::from_secs(60);
const UNIX: u64 = 1_700_000_000;

fn limit(requests: u32, burst: u32) -> LimitPolicy {
    LimitPolicy {
        requests,
        per: MINUTE,
        burst,
        algorithm: LimitAlgorithm::TokenBucket,
        on_store_failure: OnStoreFailure::Local,
        report_only: false,
    }
}

fn window(requests: u32, burst: u32) -> LimitPolicy {
    LimitPolicy { algorithm: LimitAlgorithm::SlidingWindow, ..limit(requests, burst) }
}

fn compile(policies: &[(&str, LimitPolicy)], overrides: &[LimitOverride]) -> Result<Policies, PolicyError> {
    let policies: BTreeMap<_, _> = policies.iter().map(|(name, policy)| ((*name).to_owned(), policy.clone())).collect();
    Policies::new(&policies, overrides)
}

fn app(id: &str) -> MiniAppId {
    MiniAppId::parse(id).unwrap()
}

fn user(number: u32) -> LimitKey {
    LimitKey::user(&UserId::parse(&format!("@u{number}:tween.example")).unwrap())
}

/// A limiter, its buckets and a clock.
struct Bench {
    limiter: Limiter,
    buckets: Arc<Buckets>,
    clock: Clock,
    hand: ManualClock,
}

impl Bench {
    fn new(policies: &[(&str, LimitPolicy)]) -> Self {
        let (clock, hand) = Clock::manual(UNIX);
        let buckets = Arc::new(Buckets::new(16 << 20));
        let limiter = Limiter::new(compile(policies, &[]).unwrap(), buckets.clone());
        Bench { limiter, buckets, clock, hand }
    }

    /// A reload: other policies over the same buckets.
    fn reload(&mut self, policies: &[(&str, LimitPolicy)], overrides: &[LimitOverride]) {
        self.limiter = Limiter::new(compile(policies, overrides).unwrap(), self.buckets.clone());
    }

    fn claim(&self, policy: &str, key: LimitKey, cost: u32) -> Claim {
        Claim { policy: self.limiter.policies().id(policy).unwrap(), key, cost }
    }

    fn take_all(&self, claims: &[Claim]) -> Decision {
        self.limiter.take(self.clock.tick(), self.clock.unix_secs(), claims).now_or_never().expect("it waited")
    }

    fn take(&self, policy: &str, key: LimitKey) -> Decision {
        self.take_all(&[self.claim(policy, key, 1)])
    }

    /// Calls until the first refusal; returns how many went through, and the refusal.
    fn drain(&self, policy: &str, key: LimitKey) -> (u32, Report) {
        for admitted in 0.. {
            if let Decision::Refused(report) = self.take(policy, key) {
                return (admitted, report);
            }
        }
        unreachable!("the numbers do not end before the bucket does")
    }
}
