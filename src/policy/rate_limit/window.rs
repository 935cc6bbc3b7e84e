//! The sliding window: two counters, the older weighted by how much of it the window still covers.
//!
//! Time is cut into windows of one length. What was granted in the previous one is taken to have been spread evenly,
//! so that its share in the last `length` falls steadily to nothing while the current one fills up. All of it is
//! kept multiplied by the length, so that there is no fraction. A window holds `requests + burst`, so that the headers'
//! numbers mean the same as with a token bucket; unlike there, the burst is available in every window.

use super::rule::{Standing, State, Verdict, Wait, div_floor};
use crate::clock::Tick;

/// Two counters, the older weighted by how much of it the window still covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Nanoseconds in a window.
    length: u64,
    /// Tokens that any window holds.
    pub(super) capacity: u32,
}

/// A state seen from a point of time.
struct View {
    previous: u32,
    current: u32,
    /// Nanoseconds of the current window that are over.
    elapsed: u64,
    /// From when on the current window's count means nothing: the end of the next one.
    forget_at: u64,
}

impl SlidingWindow {
    /// `length` (nanoseconds) is above zero and within the bounds of `Rule::new`.
    pub(super) fn new(length: u64, capacity: u32) -> Self {
        SlidingWindow { length, capacity }
    }

    pub(super) fn share(&self, instances: u32) -> Self {
        SlidingWindow { length: self.length, capacity: (self.capacity / instances.max(1)).max(1) }
    }

    pub(super) fn weigh(&self, state: State, now: Tick, cost: u32) -> Verdict {
        let view = self.view(state, now);
        let length = u128::from(self.length);
        let full = u128::from(self.capacity) * length;
        let covered = u128::from(self.length - view.elapsed);
        let used = u128::from(view.previous) * covered + u128::from(view.current) * length;
        let after = used + u128::from(cost) * length;
        let tokens = |units: u128| u32::try_from(div_floor(units, self.length)).unwrap_or(u32::MAX);
        if after <= full {
            let current = view.current + cost;
            let standing = Standing {
                remaining: tokens(full - after),
                wait: Wait::No,
                full_in: self.full_in(view.previous, current, view.elapsed),
            };
            let state = State { forget_at: view.forget_at, first: view.previous, second: current };
            return Verdict { granted: Some(state), standing };
        }
        let standing = Standing {
            remaining: tokens(full.saturating_sub(used)),
            wait: self.wait(&view, cost),
            full_in: self.full_in(view.previous, view.current, view.elapsed),
        };
        Verdict { granted: None, standing }
    }

    fn view(&self, state: State, now: Tick) -> View {
        let current_ends = state.forget_at.saturating_sub(self.length);
        if now.0 < current_ends {
            // A thread whose `now` is older than the window's start counts as standing at its start.
            let elapsed = self.length.saturating_sub(current_ends - now.0);
            View { previous: state.first, current: state.second, elapsed, forget_at: state.forget_at }
        } else if now.0 < state.forget_at {
            View {
                previous: state.second,
                current: 0,
                elapsed: now.0 - current_ends,
                forget_at: state.forget_at.saturating_add(self.length),
            }
        } else {
            let elapsed = now.0 % self.length;
            let forget_at = (now.0 - elapsed).saturating_add(self.length.saturating_mul(2));
            View { previous: 0, current: 0, elapsed, forget_at }
        }
    }

    fn full_in(&self, previous: u32, current: u32, elapsed: u64) -> u64 {
        let rest = self.length - elapsed;
        match (previous, current) {
            (0, 0) => 0,
            (_, 0) => rest,
            _ => rest + self.length,
        }
    }

    /// The first nanosecond at which a call that is refused now would be granted.
    fn wait(&self, view: &View, cost: u32) -> Wait {
        let Some(room) = self.capacity.checked_sub(cost) else { return Wait::Never };
        let until = match room.checked_sub(view.current) {
            // Within this window, once enough of the previous one has gone by.
            Some(room) => self.clears_at(view.previous, room),
            // Only in the next window, where the current one is the previous one.
            None => self.length + self.clears_at(view.current, room),
        };
        Wait::Nanos(until.saturating_sub(view.elapsed))
    }

    /// Nanoseconds into a window at which the previous one's `count` weighs at most `room`.
    fn clears_at(&self, count: u32, room: u32) -> u64 {
        if count <= room {
            return 0;
        }
        self.length - div_floor(u128::from(room) * u128::from(self.length), u64::from(count))
    }
}
