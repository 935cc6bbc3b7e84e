//! What one call asks, by bucket.

use smallvec::SmallVec;

use super::super::engine::Charge;
use super::super::rule::{Standing, Wait};
use super::super::shard::Slot;
use super::question::Question;

/// What one call asks of one bucket.
#[derive(Clone, Copy)]
pub(super) struct Bucket {
    pub slot: Slot,
    pub cost: u32,
    pub report_only: bool,
    pub question: Question,
}

impl Bucket {
    pub fn refuses(&self, answer: Option<&Standing>) -> bool {
        !self.report_only && answer.is_some_and(|standing| standing.wait != Wait::No)
    }
}

/// A call's charges by bucket: those on one bucket count together.
pub(super) struct Claims {
    pub buckets: SmallVec<[Bucket; 2]>,
    /// The bucket of each charge.
    pub of: SmallVec<[usize; 2]>,
}

impl Claims {
    pub fn new(charges: &[Charge<'_>]) -> Claims {
        let mut claims = Claims { buckets: SmallVec::new(), of: SmallVec::new() };
        for charge in charges {
            let slot = Slot { family: charge.policy.family, key: charge.key };
            let at = claims.buckets.iter().position(|bucket| bucket.slot == slot);
            let at = at.unwrap_or_else(|| {
                let question = Question::new(charge.policy);
                let report_only = charge.policy.report_only;
                claims.buckets.push(Bucket { slot, cost: 0, report_only, question });
                claims.buckets.len() - 1
            });
            if let Some(bucket) = claims.buckets.get_mut(at) {
                bucket.cost = bucket.cost.saturating_add(charge.cost);
            }
            claims.of.push(at);
        }
        claims
    }

    /// Each bucket with its first charge.
    pub fn by_bucket<'a>(&self, charges: &'a [Charge<'a>]) -> impl Iterator<Item = (&Bucket, &'a Charge<'a>)> {
        self.buckets.iter().enumerate().filter_map(move |(at, bucket)| {
            let first = self.of.iter().position(|of| *of == at)?;
            Some((bucket, charges.get(first)?))
        })
    }
}
