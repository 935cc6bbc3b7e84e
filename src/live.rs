//! What outlives a config revision: counters, buckets, verified tokens, cached answers, keys.
//!
//! A snapshot is thrown away at a reload; what callers have used up, what has been verified and what is being counted
//! is not. Each thing here is kept as long as its own part of the config stays the same.

use std::sync::Arc;

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
