//! What goes on beside the calls: probing the store, saying that this instance is there, handing void leases back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::rand;
use futures::future::join_all;
use futures::{StreamExt as _, stream};
use tokio::task::JoinHandle;

use super::super::shard::Slot;
use super::hold::Back;
use super::question::{Question, Terms};
use super::{Entry, RESETS, Shared};
use crate::clock::Tick;
use crate::store::StoreError;
use crate::store::redis::{Redis, Script};

/// How often there is a look at everything: probes of a store that is lost, void leases.
const EVERY: Duration = Duration::from_millis(250);
/// How often an instance says that it is there, and after how long a silence it is gone.
const PRESENT_EVERY: Duration = Duration::from_secs(2);
const GONE_AFTER: Duration = Duration::from_secs(10);
/// Instances by when they last said that they are there.
const PRESENT: &str = "tmcp:{limit:instances}";

/// Void leases that are handed back at once.
const AT_ONCE: usize = 32;
/// The pause between probes at the start, when nothing else is done.
const MEET_EVERY: Duration = Duration::from_millis(10);

/// What no other instance is called.
pub(super) fn instance_name() -> String {
    let mut chance = [0; 8];
    // Without chance two containers may have one name; then they count as one instance, and `local` is more generous.
    let _ = rand::fill(&mut chance);
    format!("{}-{:016x}", std::process::id(), u64::from_be_bytes(chance))
}

/// How many instances on `redis` have said lately that they are there.
///
/// # Errors
/// When it does not answer.
pub async fn instances_on(redis: &Redis) -> Result<u32, StoreError> {
    let script = Script::read_only(
        "local clock = redis.call('TIME')
         local since = clock[1] * 1000 + math.floor(clock[2] / 1000) - ARGV[1]
         return redis.call('ZCOUNT', KEYS[1], string.format('%.0f', since), '+inf')",
    );
    let count = redis.look_up(&script, &[PRESENT.as_bytes()], &[GONE_AFTER.as_millis().to_string().as_bytes()]).await?;
    redis::from_redis_value(count).map_err(|error| StoreError::Internal(error.to_string()))
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
        let mut settling: Option<JoinHandle<()>> = None;
        loop {
            let now = self.clock.tick();
            let due = present_at.is_none_or(|at| now.since(at) >= PRESENT_EVERY);
            if due || !self.is_up() {
                self.probe().await;
                present_at = Some(now);
            }
            // In a task of its own, so that probes and resets do not wait for it.
            if settling.as_ref().is_none_or(JoinHandle::is_finished) {
                settling = Some(tokio::spawn(self.clone().settle()));
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                Ok(()) = resets.changed() => {
                    let now = self.clock.tick();
                    self.each_entry(|entry| {
                        entry.hold.forget_refusal(now);
                        entry.mark.forget(now);
                    });
                }
            }
        }
    }

    /// Tells the others that this instance is going, so that each takes its part of the limits if they have to count alone.
    /// One that does not get to say so counts for some seconds more.
    pub async fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.say_leaving().await;
    }

    async fn say_leaving(&self) {
        let args = [self.name.as_bytes()];
        if let Err(error) = self.redis.script(&self.scripts.leave, &[PRESENT.as_bytes()], &args, self.deadline).await {
            log::debug!("limits: the others are not told that this instance is going: {error}");
        }
    }

    pub(super) async fn probe(&self) {
        if self.leaving.load(Ordering::Relaxed) {
            return;
        }
        let gone = GONE_AFTER.as_millis().to_string();
        let args = [self.name.as_bytes(), gone.as_bytes()];
        let answer = self.redis.script(&self.scripts.present, &[PRESENT.as_bytes()], &args, self.deadline).await;
        let count = answer.ok().and_then(|value| redis::from_redis_value::<u32>(value).ok());
        if let Some(count) = count {
            self.instances.store(count.max(1), Ordering::Relaxed);
            self.metrics.limit_instances.set(i64::from(count.max(1)));
        }
        if self.leaving.load(Ordering::Relaxed) {
            // Said meanwhile; this may have been the last word.
            self.say_leaving().await;
        }
        // The one with the instances has been asked; the others are to say just that they are there.
        let at = self.redis.server_of(PRESENT.as_bytes());
        let others = self.redis.servers().into_iter().filter(|server| Some(server) != at.as_ref());
        let others = others.map(|server| async {
            let answered = self.redis.ping(&server, self.deadline).await.is_ok();
            (server, answered)
        });
        let others = join_all(others).await;
        for (server, answered) in at.into_iter().map(|at| (at, count.is_some())).chain(others) {
            if self.servers.probed(&server, answered, self.clock.tick()) {
                log::info!("limits: {server} answers, and counts for {} instance(s)", self.instances());
            }
        }
        self.servers.settle(&self.redis.servers());
        self.metrics.limit_store_up.set(i64::from(self.is_up()));
    }

    /// Tells the store what it does not know yet: what was leased and not used, and marks that were set without it.
    /// Forgets keys that are quiet.
    pub(super) async fn settle(self: Arc<Self>) {
        let now = self.clock.tick();
        let mut void: Vec<(Slot, Question, Back)> = Vec::new();
        let mut untold = Vec::new();
        for shard in &self.shards {
            shard.lock().retain(|slot, entry| {
                // While a question is under way, the next one takes them along; without the store they wait for it.
                if !entry.asking
                    && entry.hold.is_needed()
                    && self.asks(slot)
                    && let Some(question) = entry.question
                    && let Some(back) = entry.hold.give_back_void(now)
                {
                    void.push((*slot, question, back));
                }
                untold.extend(entry.mark.untold(now).map(|_| *slot));
                entry.asking || entry.hold.matters(now) || entry.mark.matters(now)
            });
        }
        let hand_back = |(slot, question, back): (Slot, Question, Back)| {
            let shared = self.clone();
            async move {
                // What is lost on its way stays taken: to grant less is safe.
                if let Ok(told) = shared.question(slot, question, Terms { back, ..Terms::default() }, Vec::new()).await
                {
                    shared.with_entry(&slot, |entry| entry.hold.note(&told, now));
                }
            }
        };
        let handed_back = stream::iter(void).for_each_concurrent(AT_ONCE, hand_back);
        futures::join!(handed_back, self.tell_marks(untold));
    }

    fn each_entry(&self, mut then: impl FnMut(&mut Entry)) {
        for shard in &self.shards {
            shard.lock().values_mut().for_each(&mut then);
        }
    }
}
