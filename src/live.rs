//! What outlives a config revision: counters, buckets, verified tokens, cached answers, keys.
//!
//! A snapshot is thrown away at a reload; what callers have used up, what has been verified and what is being counted
//! is not. Each thing here is kept as long as its own part of the config stays the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::policy::authn::VerifierState;
use crate::policy::guard::PeerGuard;
use crate::policy::rate_limit::Buckets;

/// State that a reload hands on.
#[derive(Clone)]
pub struct Live {
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Limit buckets.
    pub buckets: Arc<Buckets>,
    /// The guard at the door.
    pub guard: Arc<PeerGuard>,
    /// Keys, verified tokens, revocations.
    pub tokens: VerifierState,
}

/// Bytes that may be held in memory for something, over all requests.
#[derive(Debug)]
pub struct ByteBudget {
    used: Arc<AtomicUsize>,
    limit: AtomicUsize,
}

/// A share of a [`ByteBudget`], given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    used: Arc<AtomicUsize>,
    limit: usize,
    bytes: usize,
}

impl ByteBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        ByteBudget { used: Arc::default(), limit: AtomicUsize::new(limit) }
    }

    /// Changes the limit; what is reserved stays reserved.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Bytes reserved now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes a share; `None` when there is not enough left.
    pub fn reserve(&self, bytes: usize) -> Option<Reserved> {
        let limit = self.limit.load(Ordering::Relaxed);
        let mut share = Reserved { used: self.used.clone(), limit, bytes: 0 };
        share.grow_to(bytes).then_some(share)
    }
}

impl Reserved {
    /// Enlarges the share to `bytes`; false, and unchanged, when there is not enough left.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let fits = |used: usize| used.checked_add(more).filter(|total| *total <= self.limit || more == 0);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if taken {
            self.bytes += more;
        }
        taken
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded_and_given_back() {
        let budget = ByteBudget::new(100);
        let mut first = budget.reserve(60).unwrap();
        assert!(budget.reserve(41).is_none());
        assert!(!first.grow_to(101));
        assert!(first.grow_to(100));
        assert_eq!(budget.used(), 100);
        assert!(budget.reserve(0).is_some(), "a request without a body needs no room");
        drop(first);
        assert_eq!(budget.used(), 0);
    }
}
