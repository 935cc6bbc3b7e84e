//! What goes on beside the calls: probing the store, saying that this instance is there, handing void leases back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::rand;

use super::super::shard::Slot;
use super::hold::{Back, Hold};
use super::question::{Question, Terms};
use super::{RESETS, Shared};
use crate::clock::Tick;

/// How often there is a look at everything: probes of a store that is lost, void leases.
const EVERY: Duration = Duration::from_millis(250);
/// How often an instance says that it is there, and after how long a silence it is gone.
const PRESENT_EVERY: Duration = Duration::from_secs(2);
const GONE_AFTER: Duration = Duration::from_secs(10);
/// Instances by when they last said that they are there.
const PRESENT: &str = "tmcp:{limit:instances}";

/// The pause between probes at the start, when nothing else is done.
const MEET_EVERY: Duration = Duration::from_millis(10);

/// What no other instance is called.
pub(super) fn instance_name() -> String {
    let mut chance = [0; 8];
    // Without chance two containers may have one name; then they count as one instance, and `local` is more generous.
    let _ = rand::fill(&mut chance);
    format!("{}-{:016x}", std::process::id(), u64::from_be_bytes(chance))
}

impl Shared {
    /// Waits until the store has answered, for as long as `patience` at most: the first calls of an edge that has just
    /// come up are then decided by what all edges have counted.
    pub async fn meet(&self, patience: Duration) {
        let met = async {
            while !self.is_up() {
                self.probe().await;
                tokio::time::sleep(MEET_EVERY).await;
            }
        };
        if tokio::time::timeout(patience, met).await.is_err() {
            log::warn!("limits: the store has not answered yet; until it does, each policy's on_store_failure holds");
        }
    }

    /// Runs for as long as the edge does.
    pub async fn look_after(self: Arc<Self>) {
        let mut resets = self.redis.subscribe(RESETS);
        let mut present_at: Option<Tick> = None;
        loop {
            let now = self.clock.tick();
            let due = present_at.is_none_or(|at| now.since(at) >= PRESENT_EVERY);
            if due || !self.is_up() {
                self.probe().await;
                present_at = Some(now);
            }
            self.settle().await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                Ok(()) = resets.changed() => self.each_hold(Hold::forget_refusal),
            }
        }
    }

    async fn probe(&self) {
        let gone = GONE_AFTER.as_millis().to_string();
        let args = [self.name.as_bytes(), gone.as_bytes()];
        let answer = self.redis.script(&self.scripts.present, &[PRESENT.as_bytes()], &args, self.deadline).await;
        let count = answer.ok().and_then(|value| redis::from_redis_value::<u32>(value).ok());
        if let Some(count) = count {
            self.instances.store(count.max(1), Ordering::Relaxed);
            self.metrics.limit_instances.set(i64::from(count.max(1)));
        }
        if self.health.probed(count.is_some(), self.clock.tick()) {
            self.metrics.limit_store_up.set(1);
            log::info!("limits: the store answers, and counts for {} instance(s)", self.instances());
        }
    }

    /// Tells the store what it does not know yet: what was leased and not used, and marks that were set without it.
    /// Forgets keys that are quiet.
    pub(super) async fn settle(&self) {
        let now = self.clock.tick();
        let mut void: Vec<(Slot, Question, Back)> = Vec::new();
        let mut untold = Vec::new();
        for shard in &self.shards {
            shard.lock().retain(|slot, entry| {
                // While a question is under way, the next one takes them along.
                if !entry.asking
                    && let Some(question) = entry.question
                    && let Some(back) = entry.hold.give_back_void(now)
                {
                    void.push((*slot, question, back));
                }
                untold.extend(entry.hold.untold_mark(now).map(|left| (*slot, left)));
                entry.asking || entry.hold.matters(now)
            });
        }
        self.tell_marks(untold).await;
        for (slot, question, back) in void {
            // What cannot be handed back stays taken: to grant less is safe.
            if !self.is_up() || self.question(&slot, &question, Terms { back, ..Terms::default() }, &[]).await.is_err()
            {
                return;
            }
        }
    }

    fn each_hold(&self, mut then: impl FnMut(&mut Hold)) {
        for shard in &self.shards {
            shard.lock().values_mut().for_each(|entry| then(&mut entry.hold));
        }
    }
}
