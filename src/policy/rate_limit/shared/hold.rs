//! What an instance knows of one shared bucket: tokens on lease, a refusal that still stands, how busy the key is.
//!
//! Pure arithmetic over [`Tick`]s: the engine locks it, asks the store and feeds the answer in.
//!
//! # Leases
//! A key below [`SLOW`] calls a second asks the store for every call. A faster one asks for what it will use in the next
//! 50 ms besides; the store gives at most a twentieth of what is left. A lease is void after [`LEASE`]: over any time T no more
//! than the bucket and the refill of T and that second is admitted. What was not used goes back, with the next question or
//! by the sweep.
//!
//! The next lease is fetched while the last eighth of this one is being used, if that is a whole token at least, so that
//! hardly a call of a busy key waits for the store. What is left of this one when the next arrives goes back: it may not be
//! used for longer by being added to another.
//!
//! # What does not hold yet
//! A refusal is remembered until its time, though tokens that another instance held may come back before. A token that is
//! handed back after the next lease has arrived, because another limit refused the call, joins that lease: it may be used
//! for longer, and goes back under that one's window.

use std::time::Duration;

use super::super::rule::{Standing, Wait};
use super::Marked;
use super::question::Terms;
use crate::clock::Tick;

/// Calls a second up to which a key has no leases.
const SLOW: u32 = 20;
/// How long a lease may be used.
const LEASE: Duration = Duration::from_secs(1);
/// Over how much time calls are counted to tell how fast a key is.
const COUNTED_OVER: Duration = Duration::from_millis(250);
/// A lease is what a key uses in this part of a second.
const LEASES_A_SECOND: u32 = 20;
/// The part of a lease that is left when the next one is fetched.
const LAST_PART: u32 = 8;
/// How long a mark that was not there is taken to be absent still: as long as a lease stays good elsewhere.
const LOOK_EVERY: Duration = LEASE;
/// A hold that was not used for so long says nothing of the present.
const IDLE: Duration = Duration::from_secs(2);

/// How fast calls come.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    since: Tick,
    tokens: u32,
    per_second: u32,
}

impl Pace {
    fn count(&mut self, tokens: u32, now: Tick) {
        let over = now.since(self.since);
        if over >= COUNTED_OVER {
            let per_second = u128::from(self.tokens) * 1_000_000_000 / over.as_nanos().max(1);
            *self = Pace { since: now, tokens: 0, per_second: u32::try_from(per_second).unwrap_or(u32::MAX) };
        }
        self.tokens = self.tokens.saturating_add(tokens);
    }

    /// Tokens to lease.
    fn wish(&self) -> u32 {
        if self.per_second <= SLOW { 0 } else { self.per_second / LEASES_A_SECOND }
    }
}

/// What the store said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Tokens leased.
    pub leased: u32,
    /// Tokens left, without any instance's leases.
    pub left: u32,
    /// Nanoseconds until everything is available again.
    pub full_in: u64,
    /// The window that the lease was taken in; 0 for a bucket.
    pub window: u64,
    /// What each call has to wait.
    pub waits: Vec<Wait>,
}

/// Tokens that go back to the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Back {
    pub tokens: u32,
    pub window: u64,
}

/// What is known of one shared bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    pace: Pace,
    used: Tick,
    spare: u32,
    void_at: Tick,
    window: u64,
    /// How much the last lease was.
    leased: u32,
    /// Of leases before it: what goes back.
    aside: Back,
    left: u32,
    full_at: Tick,
    /// Calls of this cost and more are refused until then; cost 0: none is.
    refused: (u32, Tick),
    /// Of a mark: when it is to be looked at again.
    look_at: Tick,
    /// Of a mark: whether it was set here and the store has not been told yet.
    untold: bool,
}

impl Hold {
    /// How long a mark stands by what is known here. `None`: look at it, and until then it is what it was.
    pub fn marked(&mut self, now: Tick) -> Option<Wait> {
        self.used = now;
        let standing = self.known_mark(now);
        if standing == Wait::No && now >= self.look_at {
            // Whoever is told so looks; others that come meanwhile need not.
            self.look_at = now.plus(LOOK_EVERY);
            return None;
        }
        Some(standing)
    }

    /// How long a mark stands by what is known here, without a wish to know more.
    pub fn known_mark(&self, now: Tick) -> Wait {
        let (refused, until) = self.refused;
        if refused != 0 && now < until { Wait::Nanos(until.0 - now.0) } else { Wait::No }
    }

    /// Remembers that a mark stands for so long.
    pub fn remember_mark(&mut self, wait: Wait, now: Tick) {
        self.used = now;
        if let Wait::Nanos(nanos) = wait {
            self.refused = (1, now.plus(Duration::from_nanos(nanos)));
        }
    }

    /// The answer to a call, if it can be given without asking. Tokens are taken when it is yes.
    pub fn answer(&mut self, cost: u32, now: Tick) -> Option<Standing> {
        self.pace.count(cost, now);
        self.known(cost, now)
    }

    /// As [`Hold::answer`], to a call that has been counted before and has waited for the store since.
    pub fn known(&mut self, cost: u32, now: Tick) -> Option<Standing> {
        self.used = now;
        if self.spare >= cost && now < self.void_at {
            self.spare -= cost;
            return Some(self.standing(Wait::No, now));
        }
        let (refused, until) = self.refused;
        (refused != 0 && cost >= refused && now < until).then(|| self.standing(Wait::Nanos(until.0 - now.0), now))
    }

    /// Whether it is time for the next lease, though this one still serves.
    pub fn runs_low(&self) -> bool {
        self.leased >= LAST_PART && self.spare <= self.leased / LAST_PART && self.pace.wish() > 0
    }

    /// What to ask for besides the calls' own tokens, and what goes back with the question. A lease that does not do for
    /// the calls goes back; without any it serves on until the answer is there.
    pub fn ask(&mut self, calls: usize) -> Terms {
        if calls > 0 {
            self.set_aside();
        }
        Terms { wish: self.pace.wish(), back: std::mem::take(&mut self.aside), looks: false }
    }

    /// Ends the lease: what is left of it goes back.
    fn set_aside(&mut self) {
        let tokens = std::mem::take(&mut self.spare);
        if tokens > 0 {
            // Those of a window that is over say next to nothing any more, and to grant less is safe.
            let before = if self.aside.window == self.window { self.aside.tokens } else { 0 };
            self.aside = Back { tokens: before.saturating_add(tokens), window: self.window };
        }
    }

    /// What goes back without a question that takes it along; that of a lease which is void, too.
    pub fn give_back_void(&mut self, now: Tick) -> Option<Back> {
        if now >= self.void_at {
            self.set_aside();
        }
        (self.aside.tokens > 0).then(|| std::mem::take(&mut self.aside))
    }

    /// Takes in an answer to calls of these costs, asked at `asked`. Returns how each stands.
    pub fn learn(&mut self, told: &Told, costs: &[u32], asked: Tick, now: Tick) -> Vec<Standing> {
        self.set_aside();
        self.spare = told.leased;
        self.leased = told.leased;
        self.void_at = asked.plus(LEASE);
        self.window = told.window;
        self.left = told.left;
        self.full_at = now.plus(Duration::from_nanos(told.full_in));
        self.refused = (0, now);
        for (wait, cost) in told.waits.iter().zip(costs) {
            if let Wait::Nanos(nanos) = wait
                && (self.refused.0 == 0 || *cost < self.refused.0)
            {
                self.refused = (*cost, asked.plus(Duration::from_nanos(*nanos)));
            }
        }
        told.waits.iter().map(|wait| self.standing(*wait, now)).collect()
    }

    /// Takes tokens back that a call was given and another limit refused.
    pub fn hand_back(&mut self, tokens: u32, now: Tick) {
        self.spare = self.spare.saturating_add(tokens);
        if self.void_at <= now {
            // Not to be used: they go back with the next question or sweep.
            self.void_at = now;
        }
    }

    /// How the key stands by what is known; refill since then is left out, so it is a lower bound.
    pub fn standing(&self, wait: Wait, now: Tick) -> Standing {
        let spare = if now < self.void_at { self.spare } else { 0 };
        Standing { remaining: self.left.saturating_add(spare), wait, full_in: self.full_at.0.saturating_sub(now.0) }
    }

    /// Sets a mark by what is known here.
    pub fn mark_here(&mut self, lasts: Duration, now: Tick) -> Marked {
        let known = self.known_mark(now);
        if known != Wait::No {
            return Marked { new: false, wait: known };
        }
        let wait = Wait::Nanos(u64::try_from(lasts.as_nanos()).unwrap_or(u64::MAX));
        self.remember_mark(wait, now);
        self.untold = true;
        Marked { new: true, wait }
    }

    /// For how long a mark stands that the store has to be told of.
    pub fn untold_mark(&self, now: Tick) -> Option<Duration> {
        match self.known_mark(now) {
            Wait::Nanos(nanos) if self.untold => Some(Duration::from_nanos(nanos)),
            _ => None,
        }
    }

    /// The store knows.
    pub fn told_mark(&mut self) {
        self.untold = false;
    }

    /// The bucket is full by somebody's word: nothing that was known of it holds.
    pub fn start_afresh(&mut self) {
        self.untold = false;
        self.forget_refusal();
    }

    /// Forgets that calls were refused: somebody may have reset the bucket. What the store has not been told of nobody can
    /// have meant.
    pub fn forget_refusal(&mut self) {
        if !self.untold {
            self.refused = (0, Tick::default());
            self.look_at = Tick::default();
        }
    }

    /// Whether something would be lost with it: tokens, or a mark that only this instance knows.
    pub fn is_needed(&self) -> bool {
        self.spare > 0 || self.aside.tokens > 0 || self.untold
    }

    /// Whether it still says something.
    pub fn matters(&self, now: Tick) -> bool {
        self.is_needed() || now < self.refused.1 || now.since(self.used) < IDLE
    }
}

#[cfg(test)]
mod tests;
