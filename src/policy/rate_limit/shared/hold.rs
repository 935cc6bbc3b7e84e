//! What an instance knows of one shared bucket: tokens on lease, a refusal that still stands, how busy the key is.
//!
//! Pure arithmetic over [`Tick`]s: the engine locks it, asks the store and feeds the answer in.
//!
//! # Leases
//! A key that is slow ([`pace`]) asks the store for every call. A faster one asks for what it will use in the next 50 ms
//! besides; the store gives at most a twentieth of what is left. A lease is void after [`LEASE`], and what was not used
//! goes back, with the next question or by the sweep.
//!
//! So over any time T no more is admitted than the bucket and the refill of T and that second. What is out was taken within
//! the last second, when the bucket could be refilled in its place; what goes back later goes back less what was refilled
//! beyond the second (`bucket.lua`). And nobody holds leases, one after the other, that it has no use for while the bucket
//! fills up beside them: what a key does not use does not count for its [`pace`], and a lease is the twentieth of a second's use.
//!
//! The next lease is fetched while the last eighth of this one is being used, if that is a whole token at least, so that
//! hardly a call of a busy key waits for the store. Tokens keep to the question that brought them ([`Origin`]): what is left
//! of this lease when the next arrives goes back, and so does what a call hands back that it was given before. Neither
//! may be used for longer by being added to another lease.
//!
//! # Refusals
//! A refusal is remembered until its time, but for no longer than a lease is good for: what other instances hold may
//! come back before that time, and then it is over. Who keeps calling is told the whole time, and costs a question a second.

mod back;
mod pace;

use std::time::Duration;

use self::back::Aside;
pub(super) use self::back::{Back, Origin};
use self::pace::Pace;
use super::super::rule::{Standing, Wait};
use super::question::Terms;
use crate::clock::Tick;

/// How long a lease may be used.
pub(super) const LEASE: Duration = Duration::from_secs(1);
/// The part of a lease that is left when the next one is fetched.
const LAST_PART: u32 = 8;
/// A hold that was not used for so long says nothing of the present.
const IDLE: Duration = Duration::from_secs(2);

/// What the store said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Tokens leased.
    pub leased: u32,
    /// Tokens left, without any instance's leases.
    pub left: u32,
    /// Nanoseconds until everything is available again.
    pub full_in: u64,
    /// The window that tokens were taken in; 0 for a bucket.
    pub window: u64,
    /// What each call has to wait.
    pub waits: Vec<Wait>,
}

/// Calls of this cost and more are refused; cost 0: none is.
#[derive(Clone, Copy, Debug, Default)]
struct Refusal {
    cost: u32,
    /// What they are told.
    until: Tick,
    /// When the store is asked again.
    again: Tick,
}

/// What is known of one shared bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    pace: Pace,
    used: Tick,
    spare: u32,
    /// Of the spare ones.
    origin: Origin,
    /// How much the last lease was.
    leased: u32,
    aside: Aside,
    left: u32,
    full_at: Tick,
    refused: Refusal,
    /// When somebody may have reset the bucket: what was asked before says nothing of it.
    forgotten_at: Tick,
    /// When it was reset here: what was taken before was taken from another bucket.
    reset_at: Tick,
}

impl Hold {
    /// The answer to a call, if it can be given without asking. Tokens are taken when it is yes.
    pub fn answer(&mut self, cost: u32, now: Tick) -> Option<(Standing, Origin)> {
        self.pace.count(cost, now);
        self.known(cost, now)
    }

    /// As [`Hold::answer`], to a call that has been counted before and has waited for the store since.
    pub fn known(&mut self, cost: u32, now: Tick) -> Option<(Standing, Origin)> {
        self.used = now;
        if self.spare >= cost && now < self.void_at() {
            self.spare -= cost;
            return Some((self.standing(Wait::No, now), self.origin));
        }
        let Refusal { cost: refused, until, again } = self.refused;
        let stands = refused != 0 && cost >= refused && now < again;
        stands.then(|| (self.standing(Wait::Nanos(until.0 - now.0), now), self.origin))
    }

    /// Whether it is time for the next lease, though this one still serves.
    pub fn runs_low(&self) -> bool {
        self.leased >= LAST_PART && self.spare <= self.leased / LAST_PART && self.pace.wish() > 0
    }

    /// What to ask for besides the calls' own tokens, and what goes back with the question. A lease that does not do for
    /// the calls goes back; without any it serves on until the answer is there. A question that only hands back wishes for
    /// nothing: nobody has asked for a lease, and where answers come too late it would be handed back again, for ever.
    pub fn ask(&mut self, calls: usize, only_back: bool) -> Terms {
        if calls > 0 {
            self.set_aside();
        }
        let wish = if only_back && calls == 0 { 0 } else { self.pace.wish() };
        Terms { wish, back: self.aside.take(), looks: false }
    }

    /// What goes back without a question that takes it along; that of a lease which is void, too.
    pub fn give_back_void(&mut self, now: Tick) -> Option<Back> {
        if now >= self.void_at() {
            self.set_aside();
        }
        Some(self.aside.take()).filter(|back| back.tokens > 0)
    }

    /// Takes in an answer to calls of these costs, asked at `asked`. Returns how each stands.
    pub fn learn(&mut self, told: &Told, costs: &[u32], asked: Tick, now: Tick) -> Vec<Standing> {
        self.set_aside();
        self.spare = if asked >= self.reset_at { told.leased } else { 0 };
        self.leased = told.leased;
        self.origin = Origin { asked, window: told.window };
        self.note(told, now);
        let refused = told.waits.iter().zip(costs).filter_map(|(wait, cost)| match wait {
            Wait::Nanos(nanos) => Some((*cost, *nanos)),
            Wait::No | Wait::Never => None,
        });
        if let Some((cost, nanos)) = refused.min()
            && asked >= self.forgotten_at
        {
            let until = asked.plus(Duration::from_nanos(nanos));
            self.refused = Refusal { cost, until, again: until.min(asked.plus(LEASE)) };
        }
        told.waits.iter().map(|wait| self.standing(*wait, now)).collect()
    }

    /// Takes in how the bucket stands.
    pub fn note(&mut self, told: &Told, now: Tick) {
        self.left = told.left;
        self.full_at = now.plus(Duration::from_nanos(told.full_in));
        if told.left >= self.refused.cost {
            self.refused = Refusal::default();
        }
    }

    /// Takes tokens back that a call was given and did not use. True: this key has no lease, so no question comes soon that
    /// would take them along, and others may need them at once.
    pub fn hand_back(&mut self, tokens: u32, origin: Origin, now: Tick) -> bool {
        self.pace.uncount(tokens);
        if origin.asked < self.reset_at {
            return false;
        }
        let leased = self.leased > 0 && now < self.void_at();
        if leased && origin == self.origin {
            self.spare = self.spare.saturating_add(tokens);
        } else {
            self.aside.put(tokens, origin);
        }
        !leased
    }

    /// Takes tokens back that came when nobody waited for them any more.
    pub fn put_aside(&mut self, tokens: u32, origin: Origin) {
        if origin.asked >= self.reset_at {
            self.aside.put(tokens, origin);
        }
    }

    /// How the key stands by what is known; refill since then is left out, so it is a lower bound.
    pub fn standing(&self, wait: Wait, now: Tick) -> Standing {
        let spare = if now < self.void_at() { self.spare } else { 0 };
        Standing { remaining: self.left.saturating_add(spare), wait, full_in: self.full_at.0.saturating_sub(now.0) }
    }

    /// The bucket is full by somebody's word: nothing that was known of it holds, and nothing goes back into it.
    pub fn start_afresh(&mut self, now: Tick) {
        (self.spare, self.aside, self.reset_at) = (0, Aside::default(), now);
        self.forget_refusal(now);
    }

    /// Forgets that calls were refused: somebody may have reset the bucket.
    pub fn forget_refusal(&mut self, now: Tick) {
        self.refused = Refusal::default();
        self.forgotten_at = now;
    }

    /// Whether tokens would be lost with it.
    pub fn is_needed(&self) -> bool {
        self.spare > 0 || !self.aside.is_empty()
    }

    /// Whether it still says something.
    pub fn matters(&self, now: Tick) -> bool {
        self.is_needed() || now < self.refused.again || now.since(self.used) < IDLE
    }

    fn void_at(&self) -> Tick {
        self.origin.asked.plus(LEASE)
    }

    /// Ends the lease: what is left of it goes back.
    fn set_aside(&mut self) {
        self.aside.put(std::mem::take(&mut self.spare), self.origin);
    }
}

#[cfg(test)]
mod tests;
