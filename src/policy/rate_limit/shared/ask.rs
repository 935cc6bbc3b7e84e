//! Asking the store: one question per bucket at a time, with every call in it that waited for the one before.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::key::LimitKey;
use super::super::policies::Policy;
use super::super::rule::{Standing, Wait};
use super::super::shard::Slot;
use super::claims::Bucket;
use super::decide::Given;
use super::hold::{Hold, Origin, Told};
use super::question::{self, Kind, Question, Terms};
use super::{RESETS, Shared};
use crate::clock::Tick;
use crate::metrics::LimitAnswer;
use crate::store::StoreError;
use crate::store::redis::Script;

/// Calls that share one question at most: a script runs for so long that others wait for it, half a millisecond with these.
const MOST_CALLS: usize = 512;
/// How long an answer is listened for that comes too late: what it took goes back.
const LATE: Duration = Duration::from_secs(5);
/// How long a call waits, in deadlines: for the question that is under way and for its own. Where so many calls wait for one
/// bucket that it takes more, those are decided here.
const PATIENCE: u32 = 2;

/// Why a bucket is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Calls wait for it.
    Calls,
    /// The lease runs low; nobody waits yet.
    NextLease,
    /// Tokens go back, and nobody waits.
    HandBack,
}

/// A call that waits for tokens of one bucket. Dropped: the store did not answer.
pub(super) struct Waiting {
    cost: u32,
    tell: oneshot::Sender<Given>,
}

impl Shared {
    /// How one bucket answers; `None`: the store did not in time.
    pub(super) async fn ask(self: &Arc<Self>, bucket: Bucket) -> Option<Given> {
        self.metrics.limit_answers.inc(LimitAnswer::Asked);
        let (tell, told) = oneshot::channel();
        let first = self.entry(bucket.slot, |entry| {
            entry.question = Some(bucket.question);
            entry.queue.push(Waiting { cost: bucket.cost, tell });
            !std::mem::replace(&mut entry.asking, true)
        });
        if first {
            self.clone().spawn_asking(bucket, Why::Calls);
        }
        timeout(self.deadline * PATIENCE, told).await.ok()?.ok()
    }

    /// Asks in a task of its own: a call may be given up while others wait for the same answer.
    pub(super) fn spawn_asking(self: Arc<Self>, bucket: Bucket, why: Why) {
        tokio::spawn(Asking { shared: self, bucket, why, done: false }.run());
    }

    /// One question, counted. An answer that comes too late has taken its tokens all the same: they go back.
    pub(super) async fn question(
        self: &Arc<Self>,
        slot: Slot,
        question: Question,
        terms: Terms,
        costs: Vec<u32>,
    ) -> Result<Told, StoreError> {
        let asked = self.clock.tick();
        let shared = self.clone();
        let mut asking = Box::pin(async move {
            let script = match question.kind {
                Kind::Bucket => &shared.scripts.bucket,
                Kind::Window => &shared.scripts.window,
            };
            let args = question.args(terms, &costs, asked);
            let answer = shared.script(script, &slot, &args, LATE).await;
            answer.and_then(|value| question::told(value, costs.len())).map(|told| (told, costs))
        });
        let told = match timeout(self.deadline, &mut asking).await {
            Ok(answer) => answer.map(|(told, _)| told),
            Err(_) => {
                let shared = self.clone();
                tokio::spawn(async move {
                    if let Ok((told, costs)) = asking.await
                        && !terms.looks
                    {
                        shared.came_too_late(slot, question, &costs, &told, asked);
                    }
                });
                Err(StoreError::Unavailable(format!("no answer within {:?}", self.deadline)))
            }
        };
        let told = self.noted(&slot, told)?;
        if told.leased > 0 {
            self.metrics.limit_leases.inc();
            self.metrics.limit_leased_tokens.inc_by(u64::from(told.leased));
        }
        Ok(told)
    }

    /// What an answer took that came too late waits for the sweep: asking at once would be too late again.
    fn came_too_late(&self, slot: Slot, question: Question, costs: &[u32], told: &Told, asked: Tick) {
        let granted = told.waits.iter().zip(costs).filter(|(wait, _)| **wait == Wait::No);
        let tokens = granted.fold(told.leased, |sum, (_, cost)| sum.saturating_add(*cost));
        if tokens > 0 {
            self.entry(slot, |entry| {
                entry.question = Some(question);
                entry.hold.put_aside(tokens, Origin { asked, window: told.window });
            });
        }
    }

    /// Runs a script on a bucket.
    pub(super) async fn script(
        &self,
        script: &Script,
        slot: &Slot,
        args: &[String],
        limit: Duration,
    ) -> Result<Value, StoreError> {
        let key = question::name(slot.family, slot.key);
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.redis.script(script, &[key.as_bytes()], &args, limit).await
    }

    /// Notes whether the server of a bucket has answered in time.
    pub(super) fn noted<T>(&self, slot: &Slot, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        let server = self.redis.server_of(question::name(slot.family, slot.key).as_bytes());
        match &answer {
            Ok(_) => server.iter().for_each(|server| self.servers.answered(server)),
            Err(error) => {
                self.metrics.limit_store_failures.inc();
                if server.is_some_and(|server| self.servers.failed(&server, self.clock.tick())) {
                    self.metrics.limit_store_up.set(0);
                    log::warn!("limits: {error}; until it does, each policy's on_store_failure holds");
                }
            }
        }
        answer
    }

    /// How a call of one token would do.
    pub(super) async fn standing(self: Arc<Self>, policy: &Policy, key: LimitKey) -> Result<Standing, StoreError> {
        let slot = Slot { family: policy.family, key };
        let terms = Terms { looks: true, ..Terms::default() };
        let told = self.question(slot, Question::new(policy), terms, vec![1]).await?;
        let wait = told.waits.first().copied().unwrap_or(Wait::No);
        Ok(Standing { remaining: told.left, wait, full_in: told.full_in })
    }

    /// Makes a bucket full. What other instances hold of it on lease may still go back into it for a second.
    pub(super) async fn start_afresh(&self, policy: &Policy, key: LimitKey) -> Result<(), StoreError> {
        let slot = Slot { family: policy.family, key };
        let reset = self.script(&self.scripts.reset, &slot, &[], self.deadline).await;
        // What this instance has counted by itself it can forget whatever the store says. After it: what was asked before may
        // have been answered by what was there.
        let now = self.clock.tick();
        self.entry(slot, |entry| {
            if reset.is_ok() {
                entry.hold.start_afresh(now)
            } else {
                entry.hold.forget_refusal(now)
            }
            entry.mark.lift(now);
        });
        self.local.forget(&policy.share(self.instances()), key);
        reset?;
        // Others that remember a refusal ask again. One that is not reached does within a second, for a mark when it ends.
        self.redis.publish(RESETS).await
    }
}

/// The questions about one bucket, one after the other as long as there are calls.
struct Asking {
    shared: Arc<Shared>,
    bucket: Bucket,
    /// Of the next question; unless it is for calls, it is asked even if none waits.
    why: Why,
    done: bool,
}

impl Drop for Asking {
    /// Given up with its runtime: whoever waits is told that there is no answer.
    fn drop(&mut self) {
        if !self.done {
            let waiting = self.shared.with_entry(&self.bucket.slot, |entry| {
                entry.asking = false;
                std::mem::take(&mut entry.queue)
            });
            drop(waiting);
        }
    }
}

impl Asking {
    async fn run(mut self) {
        while let Some((calls, terms)) = self.next() {
            let costs: Vec<u32> = calls.iter().map(|call| call.cost).collect();
            let asked = self.shared.clock.tick();
            let Bucket { slot, question, .. } = self.bucket;
            let Ok(told) = self.shared.question(slot, question, terms, costs.clone()).await else {
                // Those that came meanwhile would wait for the same silence: dropping this tells them.
                return;
            };
            let now = self.shared.clock.tick();
            let standings = self.shared.entry(slot, |entry| entry.hold.learn(&told, &costs, asked, now));
            let origin = Origin { asked, window: told.window };
            for (call, standing) in calls.into_iter().zip(standings) {
                self.tell(call, (standing, origin));
            }
        }
    }

    /// Tells a call. One that is no longer there hands its tokens back by not being there.
    fn tell(&self, call: Waiting, known: (Standing, Origin)) {
        let bucket = Bucket { cost: call.cost, ..self.bucket };
        drop(call.tell.send(Given::new(self.shared.clone(), bucket, known)));
    }

    /// The calls of the next question and its terms; `None`, and this is done: nobody waits.
    fn next(&mut self) -> Option<(Vec<Waiting>, Terms)> {
        let now = self.shared.clock.tick();
        let mut served = Vec::new();
        let why = std::mem::replace(&mut self.why, Why::Calls);
        let next = self.shared.entry(self.bucket.slot, |entry| {
            // Those that came while the last question was under way: what it brought may do for them.
            let mut waiting: Vec<Waiting> = Vec::new();
            for call in std::mem::take(&mut entry.queue).into_iter().filter(|call| !call.tell.is_closed()) {
                match entry.hold.known(call.cost, now) {
                    Some(known) => served.push((call, known)),
                    None => waiting.push(call),
                }
            }
            entry.queue = waiting.split_off(waiting.len().min(MOST_CALLS));
            entry.asking = why != Why::Calls || !waiting.is_empty();
            entry.asking.then(|| {
                let terms = Hold::ask(&mut entry.hold, waiting.len(), why == Why::HandBack);
                (waiting, terms)
            })
        });
        self.done = next.is_none();
        // Not under the lock: a call that is no longer there hands back.
        for (call, known) in served {
            self.tell(call, known);
        }
        next
    }
}
