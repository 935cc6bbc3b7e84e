//! How fast calls of one key come, and how much to lease for it.

use std::time::Duration;

use crate::clock::Tick;

/// Calls a second up to which a key has no leases.
const SLOW: u32 = 20;
/// Over how much time calls are counted to tell how fast a key is.
const COUNTED_OVER: Duration = Duration::from_millis(250);
/// A lease is what a key uses in this part of a second.
const LEASES_A_SECOND: u32 = 20;

/// How fast calls come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    since: Tick,
    tokens: u32,
    per_second: u32,
}

impl Pace {
    pub fn count(&mut self, tokens: u32, now: Tick) {
        let over = now.since(self.since);
        if over >= COUNTED_OVER {
            let per_second = u128::from(self.tokens) * 1_000_000_000 / over.as_nanos().max(1);
            *self = Pace { since: now, tokens: 0, per_second: u32::try_from(per_second).unwrap_or(u32::MAX) };
        }
        self.tokens = self.tokens.saturating_add(tokens);
    }

    /// Takes out what was counted and not used.
    pub fn uncount(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_sub(tokens);
    }

    /// Tokens to lease.
    pub fn wish(&self) -> u32 {
        if self.per_second <= SLOW { 0 } else { self.per_second / LEASES_A_SECOND }
    }
}
