//! Marks that instances share: looked at once a second, remembered as long as they stand.
//!
//! A mark is a bucket of one token ([`Policy::mark`]); it stands while that token is out. Calls look at it far more often
//! than it is set, so what was seen holds for a second. One that is set is known here until it ends, whether or not
//! the store is there to be asked; what was set without the store is told to it when it is back, so that it holds at
//! every instance and an operator finds it wherever one looks.

use std::time::Duration;

use super::super::key::LimitKey;
use super::super::policies::Policy;
use super::super::rule::Wait;
use super::super::shard::Slot;
use super::{Answer, Marked, Shared, question};
use crate::clock::Tick;
use crate::metrics::LimitAnswer;
use crate::store::StoreError;

impl Shared {
    pub(super) fn look_at_mark(&self, now: Tick, mark: &Policy, key: LimitKey) -> Answer<Wait> {
        let slot = Slot { family: mark.family, key };
        if !self.asks(&slot) {
            return Answer::Now(self.with_entry(&slot, |entry| entry.mark.stands(now)).unwrap_or(Wait::No));
        }
        if let Some(known) = self.entry(slot, |entry| entry.mark.look(now)) {
            self.metrics.limit_answers.inc(LimitAnswer::Remembered);
            return Answer::Now(known);
        }
        let Some(own) = self.own.upgrade() else { return Answer::Now(Wait::No) };
        let lasts = mark.per;
        // In a task of its own: whoever goes away before the answer must not leave the others without it.
        let looking = tokio::spawn(async move {
            let asked = own.clock.tick();
            own.metrics.limit_answers.inc(LimitAnswer::Asked);
            let told = own.mark(&slot, Duration::ZERO, lasts).await;
            own.entry(slot, |entry| {
                if let Ok(Marked { wait, .. }) = told {
                    entry.mark.remember(wait, asked);
                }
                entry.mark.stands(own.clock.tick())
            })
        });
        Answer::Later(Box::pin(async move { looking.await.unwrap_or(Wait::No) }))
    }

    pub(super) fn take_mark(&self, now: Tick, mark: &Policy, key: LimitKey) -> Answer<Marked> {
        let slot = Slot { family: mark.family, key };
        let lasts = mark.per;
        match self.own.upgrade() {
            Some(own) if self.asks(&slot) => Answer::Later(Box::pin(async move {
                let asked = own.clock.tick();
                own.metrics.limit_answers.inc(LimitAnswer::Asked);
                match own.mark(&slot, lasts, lasts).await {
                    Ok(marked) => {
                        own.entry(slot, |entry| entry.mark.remember(marked.wait, asked));
                        marked
                    }
                    Err(_) => own.mark_here(slot, lasts, own.clock.tick()),
                }
            })),
            _ => Answer::Now(self.mark_here(slot, lasts, now)),
        }
    }

    fn mark_here(&self, slot: Slot, lasts: Duration, now: Tick) -> Marked {
        self.metrics.limit_answers.inc(LimitAnswer::WithoutStore);
        self.entry(slot, |entry| entry.mark.set_here(lasts, now))
    }

    /// Tells the store of marks that were set without it.
    pub(super) async fn tell_marks(&self, untold: Vec<Slot>) {
        for slot in untold {
            let left = self.with_entry(&slot, |entry| entry.mark.untold(self.clock.tick())).flatten();
            let Some(left) = left.filter(|_| self.asks(&slot)) else { continue };
            if self.mark(&slot, left, left).await.is_ok()
                && self.with_entry(&slot, |entry| entry.mark.told()) == Some(false)
            {
                // It was lifted while the store was being told. If that does not get there, it stands until it ends or
                // is lifted again.
                let _ = self.script(&self.scripts.reset, &slot, &[], self.deadline).await;
            }
        }
    }

    async fn mark(&self, slot: &Slot, wish: Duration, most: Duration) -> Result<Marked, StoreError> {
        let args = [wish, most].map(|time| time.as_micros().to_string());
        let answer = self.script(&self.scripts.mark, slot, &args, self.deadline).await;
        self.noted(slot, answer.and_then(question::marked))
    }
}
