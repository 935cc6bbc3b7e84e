//! Marks that instances share: looked at once a second, remembered as long as they stand.
//!
//! A mark is a bucket of one token ([`Policy::mark`]), so setting it is asking for that token, and it stands while the
//! token is out. Calls look at it far more often than it is set; so what was seen holds for a second, and what is set is
//! known here until it ends, whether or not the store is there to be asked.

use super::super::key::LimitKey;
use super::super::policies::Policy;
use super::super::rule::Wait;
use super::super::shard::Slot;
use super::question::{Question, Terms};
use super::{Answer, Charge, Engine as _, Marked, Shared};
use crate::clock::Tick;

impl Shared {
    pub(super) fn look_at_mark(&self, now: Tick, mark: &Policy, key: LimitKey) -> Answer<Wait> {
        let slot = Slot { family: mark.family, key };
        if !self.is_up() {
            return Answer::Now(self.with_hold(&slot, |hold| hold.known_mark(now)).unwrap_or(Wait::No));
        }
        if let Some(known) = self.hold(slot, |hold| hold.marked(now)) {
            return Answer::Now(known);
        }
        let Some(own) = self.own.upgrade() else { return Answer::Now(Wait::No) };
        let question = Question::new(mark);
        Answer::Later(Box::pin(async move {
            let asked = own.clock.tick();
            let terms = Terms { looks: true, ..Terms::default() };
            let told = own.question(&slot, &question, terms, &[1]).await;
            let wait = told.ok().and_then(|told| told.waits.first().copied());
            // By when it was asked: a mark may end sooner here than it does there, and is then asked about.
            own.hold(slot, |hold| {
                hold.remember_mark(wait.unwrap_or(Wait::No), asked);
                hold.known_mark(own.clock.tick())
            })
        }))
    }

    pub(super) fn take_mark(&self, now: Tick, mark: &Policy, key: LimitKey) -> Answer<Marked> {
        let slot = Slot { family: mark.family, key };
        let taken = self.take(now, &[Charge { policy: mark, key, cost: 1 }]);
        let Some(own) = self.own.upgrade() else { return Answer::Now(Marked { new: false, wait: Wait::No }) };
        Answer::Later(Box::pin(async move {
            let marked = taken.get().await.mark();
            own.hold(slot, |hold| hold.remember_mark(marked.wait, now));
            marked
        }))
    }
}
