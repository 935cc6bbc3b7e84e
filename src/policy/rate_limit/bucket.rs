//! The token bucket, exact.
//!
//! A bucket is kept as the time at which it will be full again, which needs no refilling: the tokens that are missing
//! follow from the time left. To have no fraction anywhere, they are counted in *units*, chosen so that both a token
//! and a nanosecond's refill are whole numbers of them: with 100 requests a minute a nanosecond refills 1 unit and
//! a token is 600,000,000; with 7 a minute they are 7 and 60,000,000,000. The time at which a bucket is full need not be
//! a whole nanosecond, so the state holds it rounded up together with the units it was rounded up by. Nothing is
//! ever lost or gained, however many calls there are.

use super::rule::{Standing, State, Verdict, Wait, div_ceil, div_floor};
use crate::clock::Tick;

/// A bucket of tokens, refilled continuously.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Units that one token is worth.
    token: u64,
    /// Units refilled in a nanosecond; fits into 32 bits.
    rate: u64,
    /// Units missing from an empty bucket.
    empty: u128,
    /// Tokens in a full bucket.
    pub(super) capacity: u32,
}

impl TokenBucket {
    /// `requests` and `per` (nanoseconds) are above zero, and `capacity` refills within the bounds of `Rule::new`.
    pub(super) fn new(requests: u32, per: u64, capacity: u32) -> Self {
        let common = gcd(u64::from(requests), per);
        let (token, rate) = (per / common, u64::from(requests) / common);
        TokenBucket { token, rate, empty: u128::from(token) * u128::from(capacity), capacity }
    }

    pub(super) fn share(&self, instances: u32) -> Self {
        let instances = instances.max(1);
        let token = self.token.saturating_mul(u64::from(instances));
        let capacity = (self.capacity / instances).max(1);
        TokenBucket { token, rate: self.rate, empty: u128::from(token) * u128::from(capacity), capacity }
    }

    pub(super) fn weigh(&self, state: State, now: Tick, cost: u32) -> Verdict {
        let missing = self.missing(state, now);
        let after = missing + u128::from(self.token) * u128::from(cost);
        if after <= self.empty {
            let state = self.state(after, now);
            let remaining = self.tokens(self.empty - after);
            let standing = Standing { remaining, wait: Wait::No, full_in: state.forget_at - now.0 };
            return Verdict { granted: Some(state), standing };
        }
        let wait =
            if cost > self.capacity { Wait::Never } else { Wait::Nanos(div_ceil(after - self.empty, self.rate)) };
        let remaining = self.tokens(self.empty.saturating_sub(missing));
        Verdict { granted: None, standing: Standing { remaining, wait, full_in: div_ceil(missing, self.rate) } }
    }

    /// The state after a token was taken whether or not there was one: an empty bucket goes into debt, by at most what
    /// is refilled in `most` nanoseconds.
    pub(super) fn owe(&self, state: State, now: Tick, most: u64) -> State {
        let bound = self.empty + u128::from(self.rate) * u128::from(most);
        self.state((self.missing(state, now) + u128::from(self.token)).min(bound), now)
    }

    fn missing(&self, state: State, now: Tick) -> u128 {
        let left = state.forget_at.saturating_sub(now.0);
        (u128::from(left) * u128::from(self.rate)).saturating_sub(u128::from(state.first))
    }

    fn state(&self, missing: u128, now: Tick) -> State {
        let left = div_ceil(missing, self.rate);
        let rounded_by = u128::from(left) * u128::from(self.rate) - missing;
        State { forget_at: now.0.saturating_add(left), first: u32::try_from(rounded_by).unwrap_or(0), second: 0 }
    }

    fn tokens(&self, units: u128) -> u32 {
        u32::try_from(div_floor(units, self.token)).unwrap_or(u32::MAX)
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
