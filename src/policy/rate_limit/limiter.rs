//! Claims in, decision out.

use std::sync::Arc;

use smallvec::SmallVec;

use super::engine::{Charge, Engine, Outcome};
use super::key::LimitKey;
use super::policies::{Policies, Policy, PolicyId};
use super::report::Report;
use super::rule::Wait;
use crate::clock::Tick;
use crate::store::StoreError;

/// What a call has to be granted.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Under which policy; see [`Policies::for_app`] for overrides.
    pub policy: PolicyId,
    /// Whose bucket.
    pub key: LimitKey,
    /// How many calls it counts as: 1, or the ids of a batch.
    pub cost: u32,
}

/// May the call proceed?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No policy limits it.
    Unlimited,
    /// It may; every claim was granted.
    Admitted(Report),
    /// It may not; no claim took anything.
    Refused(Report),
    /// Nobody can tell: the store does not answer, and a policy is closed then.
    Unknown,
}

impl Decision {
    /// What to tell the caller.
    pub fn report(&self) -> Option<&Report> {
        match self {
            Decision::Unlimited | Decision::Unknown => None,
            Decision::Admitted(report) | Decision::Refused(report) => Some(report),
        }
    }
}

/// The limits of one config revision over buckets that outlive it.
pub struct Limiter {
    policies: Policies,
    engine: Arc<dyn Engine>,
}

impl Limiter {
    /// Applies `policies` to the buckets of `engine`.
    pub fn new(policies: Policies, engine: Arc<dyn Engine>) -> Self {
        Limiter { policies, engine }
    }

    /// The compiled policies, to look ids and names up.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// How a key stands with every policy and override that it has used anything of.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn look_at(
        &self,
        now: Tick,
        unix_secs: u64,
        key: LimitKey,
    ) -> Result<Vec<(&Policy, Report)>, StoreError> {
        let mut used = Vec::new();
        for (id, policy) in self.policies.all() {
            let standing = self.engine.look_at(now, policy, key).await?;
            if standing.full_in > 0 {
                let charge = Charge { policy, key, cost: 1 };
                used.push((policy, Report::new(id, &charge, &standing, unix_secs, None)));
            }
        }
        Ok(used)
    }

    /// Forgets what a key has used, under every policy and at every instance.
    ///
    /// # Errors
    /// When the store does not answer; some policies may have been reset then.
    pub async fn reset(&self, key: LimitKey) -> Result<(), StoreError> {
        for (_, policy) in self.policies.all() {
            self.engine.reset(policy, key).await?;
        }
        Ok(())
    }

    /// Takes what every claim asks, or nothing (protocol section 8).
    ///
    /// `unix_secs` is wall time, for the headers only. With buckets in process this never waits: the future is ready
    /// when first polled. The report is of the claim that stands worst, of policies that may refuse before those that
    /// only report.
    pub async fn take(&self, now: Tick, unix_secs: u64, claims: &[Claim]) -> Decision {
        let mut charges: SmallVec<[(PolicyId, Charge<'_>); 3]> = SmallVec::new();
        for Claim { policy: id, key, cost } in claims {
            if let Some(policy) = self.policies.get(*id) {
                charges.push((*id, Charge { policy, key: *key, cost: *cost }));
            }
        }
        // Nearly every call has one claim, which need not be copied into a row of its own.
        let taken = match charges.as_slice() {
            [] => return Decision::Unlimited,
            [(_, charge)] => self.engine.take(now, std::slice::from_ref(charge)),
            many => self.engine.take(now, &many.iter().map(|(_, charge)| *charge).collect::<SmallVec<[_; 3]>>()),
        };
        let outcome = taken.get().await;
        judge(now, unix_secs, &charges, &outcome)
    }
}

fn judge(now: Tick, unix_secs: u64, charges: &[(PolicyId, Charge<'_>)], outcome: &Outcome) -> Decision {
    if outcome.lost {
        return Decision::Unknown;
    }
    let asked = || charges.iter().zip(&outcome.standings);
    let mut would_refuse = None;
    for ((id, charge), standing) in asked() {
        if charge.policy.report_only && standing.wait != Wait::No {
            charge.policy.let_through(now);
            would_refuse.get_or_insert(*id);
        }
    }
    let worst = asked().max_by_key(|((_, charge), standing)| {
        (!charge.policy.report_only, standing.wait, u32::MAX - standing.remaining, standing.full_in)
    });
    let Some(((id, charge), standing)) = worst else { return Decision::Unlimited };
    let report = Report::new(*id, charge, standing, unix_secs, would_refuse);
    if outcome.admitted { Decision::Admitted(report) } else { Decision::Refused(report) }
}
