//! An estimate of every address' requests in the last second, in constant memory.
//!
//! The sketch is pingora-limits' `Estimator`. Its `Rate` would do the rotating too, but it reads the machine's clock
//! by itself, which no test can hold still, and it subtracts times that two threads may have read in either order.

use std::sync::atomic::{AtomicU64, Ordering};

use pingora_limits::estimator::Estimator;

use crate::clock::Tick;
use crate::policy::rate_limit::LimitKey;

const SECOND: u64 = 1_000_000_000;
// An address is over-estimated by about (all requests in a second) / SLOTS at worst in all rows at once: 6 at 100,000/s.
const ROWS: usize = 4;
const SLOTS: usize = 16_384;

/// Requests by address: of this second, of the one before, and an empty sketch for the next.
pub(super) struct Sketch {
    thirds: [Estimator; 3],
    second: AtomicU64,
}

/// Requests of one address, never fewer than there were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    previous: u64,
    current: u64,
    elapsed: u64,
}

impl Estimate {
    /// Whether there may have been more than `count` in the last second, the second before weighted by how much of it
    /// that covers.
    pub(super) fn may_exceed(self, count: u32) -> bool {
        let weighted = u128::from(self.previous) * u128::from(SECOND - self.elapsed)
            + u128::from(self.current) * u128::from(SECOND);
        weighted > u128::from(count) * u128::from(SECOND)
    }
}

impl Sketch {
    pub(super) fn new() -> Self {
        Sketch { thirds: [0; 3].map(|_| Estimator::new(ROWS, SLOTS)), second: AtomicU64::new(0) }
    }

    /// Counts a request.
    pub(super) fn observe(&self, peer: LimitKey, now: Tick) -> Estimate {
        let second = self.turn(now.0 / SECOND);
        Estimate {
            current: count(self.third(second).incr(peer, 1)),
            previous: count(self.third(second + 2).get(peer)),
            elapsed: now.0 % SECOND,
        }
    }

    /// Moves on to `second`. Whoever gets there first empties what will be needed next; requests counted meanwhile by
    /// others may be lost after a pause, which delays the exact count by so many.
    fn turn(&self, second: u64) -> u64 {
        let seen = self.second.load(Ordering::Acquire);
        if second <= seen {
            return seen;
        }
        if self.second.compare_exchange(seen, second, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            if second - seen > 1 {
                self.third(second).reset();
                self.third(second + 2).reset();
            }
            self.third(second + 1).reset();
        }
        second
    }

    /// The sketch of a second; that of the second before is the one two further on.
    fn third(&self, second: u64) -> &Estimator {
        let [first, middle, last] = &self.thirds;
        match second % 3 {
            0 => first,
            1 => middle,
            _ => last,
        }
    }
}

/// A sketch's counter; one that ran over counts as the most there can be.
fn count(estimate: isize) -> u64 {
    u64::try_from(estimate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(last: u8) -> LimitKey {
        LimitKey::ip(std::net::IpAddr::from([192, 0, 2, last]))
    }

    fn at(millis: u64) -> Tick {
        Tick(millis * 1_000_000)
    }

    #[test]
    fn never_under_estimates_within_a_second() {
        let sketch = Sketch::new();
        for seen in 0..100 {
            assert!(sketch.observe(key(1), at(5_500)).may_exceed(seen));
        }
        assert!(!sketch.observe(key(2), at(5_500)).may_exceed(1));
    }

    #[test]
    fn the_second_before_fades_and_is_then_forgotten() {
        let sketch = Sketch::new();
        for _ in 0..100 {
            sketch.observe(key(1), at(900));
        }
        assert!(sketch.observe(key(1), at(1_000)).may_exceed(100));
        assert!(!sketch.observe(key(1), at(1_900)).may_exceed(12));
        assert!(sketch.observe(key(1), at(1_900)).may_exceed(12));
        let fresh = sketch.observe(key(1), at(3_000));
        assert_eq!((fresh.previous, fresh.current), (0, 1));
        for second in 4..20 {
            let next = sketch.observe(key(1), at(second * 1_000));
            assert_eq!((next.previous, next.current), (1, 1));
        }
    }
}
