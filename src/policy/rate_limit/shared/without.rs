//! A call's limits while the store does not answer: each policy's own rule.

use smallvec::SmallVec;

use super::super::buckets::Buckets;
use super::super::engine::{Charge, Outcome};
use super::super::key::LimitKey;
use super::super::policies::Policy;
use super::super::rule::Wait;
use crate::clock::Tick;
use crate::config::OnStoreFailure;

/// What a call asks of this instance alone.
pub(super) struct Alone {
    shares: SmallVec<[Share; 1]>,
    closed: bool,
}

/// One instance's part of a policy's limit.
struct Share {
    policy: Policy,
    key: LimitKey,
    cost: u32,
}

impl Alone {
    /// `instances` share each limit.
    pub fn new(charges: &[Charge<'_>], instances: u32) -> Alone {
        let closed = |charge: &Charge<'_>| {
            charge.policy.on_store_failure == OnStoreFailure::Closed && !charge.policy.report_only
        };
        let share =
            |charge: &Charge<'_>| Share { policy: charge.policy.share(instances), key: charge.key, cost: charge.cost };
        Alone { closed: charges.iter().any(closed), shares: charges.iter().map(share).collect() }
    }

    /// Decides with buckets in this process. Open policies count too, for the headers, and refuse nothing.
    pub fn decide(&self, local: &Buckets, now: Tick) -> Outcome {
        if self.closed {
            let peek = |share: &Share| local.peek(&share.policy, share.key, now);
            return Outcome { admitted: false, standings: self.shares.iter().map(peek).collect(), lost: true };
        }
        let charges: SmallVec<[Charge<'_>; 2]> = self
            .shares
            .iter()
            .map(|Share { policy, key, cost }| {
                // More than this instance's share is no reason to refuse for ever what all of them allow together.
                let cost = (*cost).min(policy.capacity());
                Charge { policy, key: *key, cost }
            })
            .collect();
        let mut outcome = local.decide(now, &charges);
        for (standing, share) in outcome.standings.iter_mut().zip(&self.shares) {
            if share.policy.on_store_failure == OnStoreFailure::Open {
                standing.wait = Wait::No;
            }
        }
        outcome
    }
}
