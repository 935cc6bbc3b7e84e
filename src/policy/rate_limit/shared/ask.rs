//! Asking the store: one question per bucket at a time, with every call in it that waited for the one before.

use std::sync::Arc;

use redis::Value;
use tokio::sync::oneshot;

use super::super::key::LimitKey;
use super::super::policies::Policy;
use super::super::rule::{Standing, Wait};
use super::super::shard::Slot;
use super::hold::{Hold, Told};
use super::question::{self, Kind, Question, Terms};
use super::{Bucket, RESETS, Shared};
use crate::metrics::LimitAnswer;
use crate::store::StoreError;
use crate::store::redis::Script;

/// Calls that share one question at most: a script runs for so long that others wait for it.
const MOST_CALLS: usize = 64;

/// A call that waits for tokens of one bucket.
pub(super) struct Waiting {
    cost: u32,
    /// Told how the bucket stands; `None`: the store did not answer.
    tell: oneshot::Sender<Option<Standing>>,
}

impl Shared {
    /// How one bucket answers; `None`: the store did not.
    pub(super) async fn ask(self: &Arc<Self>, bucket: &Bucket) -> Option<Standing> {
        self.metrics.limit_answers.inc(LimitAnswer::Asked);
        let (tell, told) = oneshot::channel();
        let first = {
            let mut shard = self.place(&bucket.slot);
            let entry = shard.entry(bucket.slot).or_default();
            entry.question = Some(bucket.question);
            entry.queue.push(Waiting { cost: bucket.cost, tell });
            !std::mem::replace(&mut entry.asking, true)
        };
        if first {
            self.clone().spawn_asking(bucket.slot, bucket.question, false);
        }
        told.await.ok().flatten()
    }

    /// Asks in a task of its own: a call may be given up while others wait for the same answer. `ahead`: nobody waits yet.
    pub(super) fn spawn_asking(self: Arc<Self>, slot: Slot, question: Question, ahead: bool) {
        tokio::spawn(Asking { shared: self, slot, ahead, done: false }.run(question));
    }

    /// One question, counted.
    pub(super) async fn question(
        &self,
        slot: &Slot,
        question: &Question,
        terms: Terms,
        costs: &[u32],
    ) -> Result<Told, StoreError> {
        let script = match question.kind {
            Kind::Bucket => &self.scripts.bucket,
            Kind::Window => &self.scripts.window,
        };
        let told =
            self.run(script, slot, &question.args(terms, costs), |value| question::told(value, costs.len())).await?;
        if told.leased > 0 {
            self.metrics.limit_leases.inc();
            self.metrics.limit_leased_tokens.inc_by(u64::from(told.leased));
        }
        Ok(told)
    }

    /// Runs a script on a bucket; whether it was answered in time is noted.
    pub(super) async fn run<T>(
        &self,
        script: &Script,
        slot: &Slot,
        args: &[String],
        read: impl FnOnce(Value) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let key = question::name(slot.family, slot.key);
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let server = self.redis.server_of(key.as_bytes());
        match self.redis.script(script, &[key.as_bytes()], &args, self.deadline).await.and_then(read) {
            Ok(answer) => {
                server.iter().for_each(|server| self.servers.answered(server));
                Ok(answer)
            }
            Err(error) => {
                self.metrics.limit_store_failures.inc();
                if server.is_some_and(|server| self.servers.failed(&server, self.clock.tick())) {
                    self.metrics.limit_store_up.set(0);
                    log::warn!("limits: {error}; until it does, each policy's on_store_failure holds");
                }
                Err(error)
            }
        }
    }

    /// How a call of one token would do.
    pub(super) async fn standing(&self, policy: &Policy, key: LimitKey) -> Result<Standing, StoreError> {
        let slot = Slot { family: policy.family, key };
        let terms = Terms { looks: true, ..Terms::default() };
        let told = self.question(&slot, &Question::new(policy), terms, &[1]).await?;
        let wait = told.waits.first().copied().unwrap_or(Wait::No);
        Ok(Standing { remaining: told.left, wait, full_in: told.full_in })
    }

    /// Makes a bucket full.
    pub(super) async fn start_afresh(&self, policy: &Policy, key: LimitKey) -> Result<(), StoreError> {
        let slot = Slot { family: policy.family, key };
        let name = question::name(slot.family, slot.key);
        let reset = self.redis.script(&self.scripts.reset, &[name.as_bytes()], &[], self.deadline).await;
        // What this instance has counted by itself it can forget whatever the store says.
        self.with_hold(&slot, Hold::start_afresh);
        self.local.forget(&policy.share(self.instances()), key);
        reset?;
        // Others that remember a refusal ask again. One that is not reached does when its refusal ends.
        self.redis.publish(RESETS).await
    }
}

/// The questions about one bucket, one after the other as long as there are calls.
struct Asking {
    shared: Arc<Shared>,
    slot: Slot,
    /// The next question is asked even if no call waits.
    ahead: bool,
    done: bool,
}

impl Drop for Asking {
    /// Given up with its runtime: whoever waits is told that there is no answer.
    fn drop(&mut self) {
        if !self.done
            && let Some(entry) = self.shared.place(&self.slot).get_mut(&self.slot)
        {
            entry.asking = false;
            entry.queue.clear();
        }
    }
}

impl Asking {
    async fn run(mut self, question: Question) {
        while let Some((calls, terms)) = self.next() {
            let costs: Vec<u32> = calls.iter().map(|call| call.cost).collect();
            let asked = self.shared.clock.tick();
            let Ok(told) = self.shared.question(&self.slot, &question, terms, &costs).await else {
                // Those that came meanwhile would wait for the same silence: dropping this tells them.
                return;
            };
            let now = self.shared.clock.tick();
            let learn = |hold: &mut Hold| hold.learn(&told, &costs, asked, now);
            let standings = self.shared.with_hold(&self.slot, learn).unwrap_or_default();
            for (call, standing) in calls.into_iter().zip(standings) {
                let unheard = call.tell.send(Some(standing)).is_err();
                if unheard && standing.wait == Wait::No {
                    self.shared.with_hold(&self.slot, |hold| hold.hand_back(call.cost, now));
                }
            }
        }
    }

    /// The calls of the next question and its terms; `None`, and this is done: nobody waits.
    fn next(&mut self) -> Option<(Vec<Waiting>, Terms)> {
        let now = self.shared.clock.tick();
        let mut shard = self.shared.place(&self.slot);
        let entry = shard.entry(self.slot).or_default();
        let hold = &mut entry.hold;
        // Those that came while the last question was under way: what it brought may do for them.
        for call in std::mem::take(&mut entry.queue) {
            if call.tell.is_closed() {
                continue;
            }
            let Some(standing) = hold.known(call.cost, now) else {
                entry.queue.push(call);
                continue;
            };
            if call.tell.send(Some(standing)).is_err() && standing.wait == Wait::No {
                hold.hand_back(call.cost, now);
            }
        }
        if entry.queue.is_empty() && !std::mem::take(&mut self.ahead) {
            entry.asking = false;
            self.done = true;
            return None;
        }
        self.ahead = false;
        let count = entry.queue.len().min(MOST_CALLS);
        Some((entry.queue.drain(..count).collect(), hold.ask(count)))
    }
}
