//! A call's limits while the store does not answer: each policy's own rule.

use smallvec::SmallVec;

use super::super::buckets::Buckets;
use super::super::engine::{Charge, Outcome};
use super::super::key::LimitKey;
use super::super::policies::Policy;
use super::super::rule::{Standing, Wait};
use super::claims::Claims;
use crate::clock::Tick;
use crate::config::OnStoreFailure;

/// What a call asks of this instance alone, by bucket.
pub(super) struct Alone(SmallVec<[Share; 1]>);

/// One instance's part of a policy's limit.
struct Share {
    policy: Policy,
    key: LimitKey,
    cost: u32,
    closed: bool,
}

impl Alone {
    /// `instances` share each limit.
    pub fn new(charges: &[Charge<'_>], claims: &Claims, instances: u32) -> Alone {
        let share = claims.by_bucket(charges).map(|(bucket, charge)| {
            let closed = charge.policy.on_store_failure == OnStoreFailure::Closed && !charge.policy.report_only;
            Share { policy: charge.policy.share(instances), key: charge.key, cost: bucket.cost, closed }
        });
        Alone(share.collect())
    }

    /// Decides with buckets in this process about those that nobody has said anything of; standings are of these. Open
    /// policies count too, for the headers, and refuse nothing.
    pub fn decide(&self, local: &Buckets, now: Tick, said: &[Option<Standing>]) -> Outcome {
        let unsaid = || self.0.iter().zip(said).filter(|(_, said)| said.is_none()).map(|(share, _)| share);
        if unsaid().any(|share| share.closed) {
            let peek = |share: &Share| local.peek(&share.policy, share.key, now);
            return Outcome { admitted: false, standings: unsaid().map(peek).collect(), lost: true };
        }
        let mut charges: SmallVec<[Charge<'_>; 2]> = SmallVec::new();
        for share in unsaid() {
            // More than this instance's share is no reason to refuse for ever what all of them allow together.
            let cost = share.cost.min(share.policy.capacity());
            charges.push(Charge { policy: &share.policy, key: share.key, cost });
        }
        let mut outcome = local.decide(now, &charges);
        for (standing, share) in outcome.standings.iter_mut().zip(unsaid()) {
            if share.policy.on_store_failure == OnStoreFailure::Open {
                standing.wait = Wait::No;
            }
        }
        outcome
    }
}
