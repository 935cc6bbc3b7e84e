//! What an instance knows of one mark: whether it stands, when it is to be looked at again, what the store is to be told.

use std::time::Duration;

use super::super::rule::Wait;
use super::Marked;
use super::hold::LEASE;
use crate::clock::Tick;

/// How long a mark that was not there is taken to be absent still.
const LOOK_EVERY: Duration = LEASE;

/// What is known of one mark.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KnownMark {
    until: Tick,
    /// When it is to be looked at again.
    look_at: Tick,
    /// It was set here, and the store has not been told yet.
    untold: bool,
    /// When somebody may have lifted it: what was asked before says nothing of it.
    forgotten_at: Tick,
}

impl KnownMark {
    /// How long it stands by what is known here. `None`: look at it, and until then it is what it was.
    pub fn look(&mut self, now: Tick) -> Option<Wait> {
        let standing = self.stands(now);
        if standing == Wait::No && now >= self.look_at {
            // Whoever is told so looks; others that come meanwhile need not.
            self.look_at = now.plus(LOOK_EVERY);
            return None;
        }
        Some(standing)
    }

    /// How long it stands by what is known here, without a wish to know more.
    pub fn stands(&self, now: Tick) -> Wait {
        if now < self.until { Wait::Nanos(self.until.0 - now.0) } else { Wait::No }
    }

    /// Remembers an answer to a question of `asked`: by that time, so that it ends here no later than there.
    pub fn remember(&mut self, wait: Wait, asked: Tick) {
        if let Wait::Nanos(nanos) = wait
            && asked >= self.forgotten_at
        {
            self.until = asked.plus(Duration::from_nanos(nanos));
        }
    }

    /// Sets it by what is known here.
    pub fn set_here(&mut self, lasts: Duration, now: Tick) -> Marked {
        let known = self.stands(now);
        if known != Wait::No {
            return Marked { new: false, wait: known };
        }
        self.until = now.plus(lasts);
        self.untold = true;
        Marked { new: true, wait: self.stands(now) }
    }

    /// For how long it stands, if the store has to be told of it.
    pub fn untold(&self, now: Tick) -> Option<Duration> {
        match self.stands(now) {
            Wait::Nanos(nanos) if self.untold => Some(Duration::from_nanos(nanos)),
            _ => None,
        }
    }

    /// The store knows. False: it was lifted meanwhile, and should know nothing.
    pub fn told(&mut self) -> bool {
        std::mem::take(&mut self.untold)
    }

    /// It is lifted.
    pub fn lift(&mut self, now: Tick) {
        self.untold = false;
        self.forget(now);
    }

    /// Forgets it: somebody may have lifted it. What the store has not been told of nobody can have meant.
    pub fn forget(&mut self, now: Tick) {
        if !self.untold {
            *self = KnownMark { forgotten_at: now, ..KnownMark::default() };
        }
    }

    /// Whether it still says something.
    pub fn matters(&self, now: Tick) -> bool {
        now < self.until || now < self.look_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn an_answer_of_before_it_was_lifted_brings_no_mark_back() {
        let mut mark = KnownMark::default();
        mark.remember(Wait::Nanos(60 * SECOND), Tick(1));
        assert_eq!(mark.stands(Tick(2)), Wait::Nanos(60 * SECOND - 1));
        mark.forget(Tick(10));
        mark.remember(Wait::Nanos(60 * SECOND), Tick(9));
        assert_eq!(mark.stands(Tick(11)), Wait::No);
        mark.remember(Wait::Nanos(60 * SECOND), Tick(12));
        assert_ne!(mark.stands(Tick(13)), Wait::No);
    }

    #[test]
    fn what_the_store_has_not_been_told_of_is_only_lifted_by_name() {
        let mut mark = KnownMark::default();
        let minute = Duration::from_secs(60);
        assert!(mark.set_here(minute, Tick(1)).new && !mark.set_here(minute, Tick(2)).new);
        mark.forget(Tick(3));
        assert_eq!(mark.untold(Tick(1 + SECOND)), Some(minute - LEASE));
        mark.lift(Tick(4));
        assert_eq!((mark.untold(Tick(5)), mark.stands(Tick(5))), (None, Wait::No));
        assert!(!mark.told(), "the store is to be told that it is lifted");
    }

    #[test]
    fn one_that_is_absent_is_looked_at_once_a_second_by_one_call() {
        let mut mark = KnownMark::default();
        let looks = [1, 2, SECOND, SECOND + 1, SECOND + 2].map(|now| mark.look(Tick(now)).is_none());
        assert_eq!(looks, [true, false, false, true, false]);
    }
}
