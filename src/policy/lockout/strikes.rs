//! Counting strikes with what limits are counted with, so that they hold over instances and outlive a lost store alike.
//!
//! "Ten within an hour" has to be exact: a window of counters would forget some and remember others too long. A strike is a
//! mark that stands for that hour, and there are nine of them to be set. A strike sets the first that does not stand;
//! when all nine stand, this is the tenth within the hour, and the lock, one more mark, is set. Two instances
//! that count at once cannot set the same mark; while the store is lost each counts by itself. Strikes are not taken back
//! when the lock is set: it lasts at least as long as they do.

use std::sync::Arc;
use std::time::Duration;

use super::Standing;
use crate::clock::Tick;
use crate::config;
use crate::metrics::{Label as _, LockoutKind};
use crate::policy::rate_limit::{Charge, Engine, LimitKey, Marked, Policy, PolicyError, Wait};
use crate::store::StoreError;

/// One lockout: its strikes and its lock.
pub(super) struct Lockout {
    pub(super) kind: LockoutKind,
    pub(super) numbers: config::Lockout,
    /// One less than it takes.
    strikes: Vec<Policy>,
    lock: Policy,
    engine: Arc<dyn Engine>,
}

impl Lockout {
    pub(super) fn new(
        kind: LockoutKind,
        numbers: config::Lockout,
        engine: Arc<dyn Engine>,
    ) -> Result<Lockout, PolicyError> {
        let name = kind.name();
        let strike = |number: u32| Policy::mark(&format!("{name}/strike/{number}"), numbers.within);
        let strikes = (1..numbers.strikes).map(strike).collect::<Result<_, _>>()?;
        let lock = Policy::mark(&format!("{name}/lock"), numbers.lasts)?;
        Ok(Lockout { kind, numbers, strikes, lock, engine })
    }

    /// For how long a key is locked out still.
    pub(super) async fn locked_for(&self, key: LimitKey, now: Tick) -> Option<Duration> {
        left(self.engine.marked(now, &self.lock, key).get().await)
    }

    /// Counts a strike. When it was one too many: for how long the key is locked out, and whether by this one.
    pub(super) async fn strike(&self, key: LimitKey, now: Tick) -> Option<(Duration, bool)> {
        for policy in &self.strikes {
            if self.engine.take(now, &[Charge { policy, key, cost: 1 }]).get().await.admitted {
                return None;
            }
        }
        let Marked { new, wait } = self.engine.set_mark(now, &self.lock, key).get().await;
        left(wait).map(|left| (left, new))
    }

    pub(super) async fn look_at(&self, key: LimitKey, now: Tick) -> Result<Standing, StoreError> {
        let mut strikes = 0;
        for policy in &self.strikes {
            strikes += u32::from(self.engine.look_at(now, policy, key).await?.wait != Wait::No);
        }
        let told = left(self.engine.look_at(now, &self.lock, key).await?.wait);
        // A lock that was set while the store was lost only this instance knows.
        let known = self.locked_for(key, now).await;
        let locked_for = told.max(known);
        let of = self.numbers.strikes;
        Ok(Standing { kind: self.kind, strikes: if locked_for.is_some() { of } else { strikes }, of, locked_for })
    }

    pub(super) async fn lift(&self, key: LimitKey) -> Result<(), StoreError> {
        for policy in self.strikes.iter().chain([&self.lock]) {
            self.engine.reset(policy, key).await?;
        }
        Ok(())
    }
}

fn left(wait: Wait) -> Option<Duration> {
    match wait {
        Wait::Nanos(nanos) => Some(Duration::from_nanos(nanos)),
        Wait::No | Wait::Never => None,
    }
}
