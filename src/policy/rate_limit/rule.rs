//! One limit as arithmetic: state and time in, verdict and state out. No memory, no clock, no rounding error.

use std::time::Duration;

use super::bucket::TokenBucket;
use super::window::SlidingWindow;
use crate::clock::Tick;
use crate::config::LimitAlgorithm;

/// The longest time in which any limit may refill: beyond it, nanoseconds stop fitting into 64 bits.
const LONGEST: Duration = Duration::from_hours(24 * 366 * 10);

/// What is remembered of one key under one rule. The default is a key never seen.
///
/// `forget_at` is the point from which on a state says no more than the default does, whatever the rule: whoever keeps
/// states can drop such ones without knowing their rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) forget_at: u64,
    /// Token bucket: what [`TokenBucket`] rounds `forget_at` up by. Sliding window: the previous window's count.
    pub(super) first: u32,
    /// Sliding window: the current window's count.
    pub(super) second: u32,
}

impl State {
    /// Whether this state still says something at `now`.
    pub(super) fn matters(&self, now: Tick) -> bool {
        self.forget_at > now.0
    }
}

/// When the same call would succeed, if nobody else draws on the same bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// It succeeds now.
    No,
    /// After so many nanoseconds.
    Nanos(u64),
    /// Never: it costs more than the limit holds.
    Never,
}

/// How a key stands with one rule: after the call when all of its claims were granted, as it was before otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whole tokens left.
    pub remaining: u32,
    /// When the call succeeds; anything but [`Wait::No`] means that this rule objects.
    pub wait: Wait,
    /// Nanoseconds until everything is available again.
    pub full_in: u64,
}

/// What a rule says to one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    /// The state to keep, if the call is granted.
    pub(super) granted: Option<State>,
    pub(super) standing: Standing,
}

/// How one policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A bucket of tokens, refilled continuously.
    TokenBucket(TokenBucket),
    /// Two counters, the older weighted by how much of it the window still covers.
    SlidingWindow(SlidingWindow),
}

impl Rule {
    /// A rule that grants `requests` per `per` in the long run and `requests + burst` at once.
    ///
    /// # Errors
    /// Says what is wrong when a number is zero that must not be, or does not fit the arithmetic.
    pub fn new(requests: u32, per: Duration, burst: u32, algorithm: LimitAlgorithm) -> Result<Self, String> {
        if requests == 0 {
            return Err(
                "requests must be at least 1: a limit that is never refilled cannot be told when to retry".into()
            );
        }
        let Some(capacity) = requests.checked_add(burst) else {
            return Err(format!("requests and burst together must be at most {}", u32::MAX));
        };
        let nanos = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        let refill = per.saturating_mul(capacity / requests).saturating_add(per);
        if per < Duration::from_millis(1) || refill > LONGEST {
            return Err("the period must be at least a millisecond, and a full refill take at most ten years".into());
        }
        Ok(match algorithm {
            LimitAlgorithm::TokenBucket => Rule::TokenBucket(TokenBucket::new(requests, nanos, capacity)),
            LimitAlgorithm::SlidingWindow => Rule::SlidingWindow(SlidingWindow::new(nanos, capacity)),
        })
    }

    /// This rule with its numbers divided among `instances`, of which each may at least make one call at a time.
    pub(super) fn share(&self, instances: u32) -> Rule {
        match self {
            Rule::TokenBucket(rule) => Rule::TokenBucket(rule.share(instances)),
            Rule::SlidingWindow(rule) => Rule::SlidingWindow(rule.share(instances)),
        }
    }

    /// The most that is ever granted at once.
    pub(super) fn capacity(&self) -> u32 {
        match self {
            Rule::TokenBucket(rule) => rule.capacity,
            Rule::SlidingWindow(rule) => rule.capacity,
        }
    }

    /// What this rule says to a call of `cost` tokens.
    pub(super) fn weigh(&self, state: State, now: Tick, cost: u32) -> Verdict {
        match self {
            Rule::TokenBucket(rule) => rule.weigh(state, now, cost),
            Rule::SlidingWindow(rule) => rule.weigh(state, now, cost),
        }
    }
}

/// Division that stays in one machine word when it can: the 128-bit one is a library call.
pub(super) fn div_floor(dividend: u128, divisor: u64) -> u64 {
    match u64::try_from(dividend) {
        Ok(dividend) => dividend / divisor,
        Err(_) => u64::try_from(dividend / u128::from(divisor)).unwrap_or(u64::MAX),
    }
}

/// As [`div_floor`], rounded up.
pub(super) fn div_ceil(dividend: u128, divisor: u64) -> u64 {
    match u64::try_from(dividend) {
        Ok(dividend) => dividend.div_ceil(divisor),
        Err(_) => u64::try_from(dividend.div_ceil(u128::from(divisor))).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_limit_are_refused() {
        let minute = Duration::from_secs(60);
        let rule = |requests, per, burst| Rule::new(requests, per, burst, LimitAlgorithm::TokenBucket);
        assert!(rule(0, minute, 5).is_err());
        assert!(rule(1, Duration::ZERO, 5).is_err());
        assert!(rule(u32::MAX, minute, 1).is_err());
        assert!(rule(1, Duration::from_hours(24), u32::MAX - 1).is_err());
        assert!(rule(u32::MAX, minute, 0).is_ok());
        assert!(rule(1, Duration::from_hours(24), 100).is_ok());
    }
}
