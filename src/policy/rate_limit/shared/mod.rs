//! The engine over several instances: every bucket in Redis, tokens of busy ones on lease.
//!
//! # A call's way
//! A lease that holds, or a refusal that still stands, answers at once ([`hold`]). Otherwise the store is asked, by one
//! atomic script per bucket and decision ([`question`]); calls that miss on one bucket at the same time share a
//! script, and all scripts share a connection. A lease that runs low is renewed while it still serves, and calls that came
//! while a question was under way are served by what it brought.
//!
//! Buckets of one call lie on different servers of a cluster, so "all or none" is put together here: each is asked, and if
//! one refuses, the others' tokens are handed back.
//!
//! # Without the store
//! What does not answer within the deadline counts as lost, and soon nobody asks any more ([`health`]). Then each policy's own rule
//! holds: `local` counts in this process, with the limit divided by the number of instances last seen; `closed`
//! refuses with 503; `open` lets through. It holds for all limits of a call as soon as one of them is not answered, also for
//! those that Redis has answered: a call may be let through then that one of them refused. An answer that comes too late has
//! taken its tokens all the same. No question holds a call up for longer than two deadlines, its own and that of a
//! question that was under way. [Marks](Policy::mark) hold by what this instance knows ([`mark`]).
//!
//! # Memory
//! Holds of keys that are quiet are dropped by the sweep. Past the bound all are dropped that hold nothing but what the
//! store knows, too: they only saved questions.

mod ask;
mod chores;
mod health;
mod hold;
mod mark;
mod question;
#[cfg(test)]
pub(in crate::policy) mod testing;
#[cfg(test)]
mod tests;
mod without;

pub use chores::instances_on;

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use futures::future::{BoxFuture, join_all};
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use self::ask::Waiting;
use self::health::Servers;
use self::hold::Hold;
use self::question::Question;
use self::without::Alone;
use super::buckets::Buckets;
use super::engine::{Answer, Charge, Engine, Marked, Outcome, Taken};
use super::key::LimitKey;
use super::policies::Policy;
use super::rule::{Standing, Wait};
use super::shard::Slot;
use crate::clock::{Clock, Tick};
use crate::metrics::{LimitAnswer, Metrics};
use crate::store::StoreError;
use crate::store::redis::{Redis, Script};

const SHARDS: usize = 64;
/// Upper bound of the memory that a hold takes, with its place in the index.
const BYTES_PER_HOLD: usize = 320;
/// The topic on which instances tell each other that somebody's limits were reset.
const RESETS: &str = "limits";

/// Buckets that instances share through Redis.
pub struct Shared {
    redis: Redis,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// What this instance is called among those that share the store.
    name: String,
    /// How long a decision may wait for one answer.
    deadline: Duration,
    scripts: Scripts,
    shards: Box<[Mutex<HashMap<Slot, Entry, RandomState>>]>,
    hasher: RandomState,
    most_per_shard: AtomicUsize,
    servers: Servers,
    /// This instance says no more that it is there.
    leaving: AtomicBool,
    /// Instances that said lately that they are there; at least 1.
    instances: AtomicU32,
    /// Buckets for when the store does not answer.
    local: Arc<Buckets>,
    own: Weak<Shared>,
}

struct Scripts {
    bucket: Script,
    window: Script,
    mark: Script,
    present: Script,
    leave: Script,
    reset: Script,
}

/// What is known of a bucket, and who waits for more.
#[derive(Default)]
struct Entry {
    hold: Hold,
    /// Its numbers, once it has been asked about.
    question: Option<Question>,
    asking: bool,
    queue: Vec<Waiting>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("redis", &self.redis).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Shared {
    /// Buckets in `redis`, asked for at most `deadline` at a time. `local` serves when it does not answer. Nothing is
    /// asked before [`Shared::look_after`] has found it there.
    pub fn new(
        redis: Redis,
        clock: Clock,
        metrics: Arc<Metrics>,
        deadline: Duration,
        local: Arc<Buckets>,
    ) -> Arc<Shared> {
        Arc::new_cyclic(|own| Shared {
            redis,
            clock,
            metrics,
            name: chores::instance_name(),
            deadline,
            scripts: Scripts {
                bucket: Script::new(include_str!("bucket.lua")),
                window: Script::new(include_str!("window.lua")),
                mark: Script::new(include_str!("mark.lua")),
                present: Script::new(include_str!("present.lua")),
                leave: Script::new("return redis.call('ZREM', KEYS[1], ARGV[1])"),
                reset: Script::new("return redis.call('DEL', KEYS[1])"),
            },
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            most_per_shard: AtomicUsize::new(usize::MAX),
            servers: Servers::default(),
            leaving: AtomicBool::new(false),
            instances: AtomicU32::new(1),
            local,
            own: own.clone(),
        })
    }

    /// Bounds the memory for what is known of shared buckets.
    pub fn set_max_bytes(&self, max_bytes: usize) {
        self.most_per_shard.store((max_bytes / SHARDS / BYTES_PER_HOLD).max(32), Ordering::Relaxed);
    }

    /// Whether the store is being asked, all of it; of what is not, each policy's own rule holds.
    pub fn is_up(&self) -> bool {
        self.servers.all_up()
    }

    /// Whether the store is being asked about a bucket.
    fn asks(&self, slot: &Slot) -> bool {
        let server = || self.redis.server_of(question::name(slot.family, slot.key).as_bytes());
        self.is_up() || server().is_some_and(|server| self.servers.is_up(&server))
    }

    /// Instances that said lately that they are there.
    pub fn instances(&self) -> u32 {
        self.instances.load(Ordering::Relaxed).max(1)
    }

    fn place(&self, slot: &Slot) -> MutexGuard<'_, HashMap<Slot, Entry, RandomState>> {
        #[expect(clippy::indexing_slicing, reason = "the remainder by the number of shards")]
        self.shards[(self.hasher.hash_one(slot) >> 40) as usize % SHARDS].lock()
    }

    /// What can be said of one bucket without asking.
    fn answer(&self, bucket: &Bucket, now: Tick) -> Option<Standing> {
        let (standing, runs_low) = self.entry(bucket.slot, |entry| {
            let standing = entry.hold.answer(bucket.cost, now)?;
            let runs_low = !entry.asking && entry.hold.runs_low();
            if runs_low {
                entry.asking = true;
                entry.question = Some(bucket.question);
            }
            Some((standing, runs_low))
        })?;
        if runs_low && let Some(own) = self.own.upgrade() {
            own.spawn_asking(bucket.slot, bucket.question, true);
        }
        let from = if standing.wait == Wait::No { LimitAnswer::Lease } else { LimitAnswer::Remembered };
        self.metrics.limit_answers.inc(from);
        Some(standing)
    }

    /// What is known of a bucket, from now on at least that it was asked about.
    fn entry<T>(&self, slot: Slot, then: impl FnOnce(&mut Entry) -> T) -> T {
        let mut shard = self.place(&slot);
        if !shard.contains_key(&slot) && shard.len() >= self.most_per_shard.load(Ordering::Relaxed) {
            shard.retain(|_, entry| entry.asking || entry.hold.is_needed());
        }
        then(shard.entry(slot).or_default())
    }

    fn with_hold<T>(&self, slot: &Slot, then: impl FnOnce(&mut Hold) -> T) -> Option<T> {
        self.place(slot).get_mut(slot).map(|entry| then(&mut entry.hold))
    }

    fn without_store(&self, alone: &Alone, now: Tick) -> Outcome {
        self.metrics.limit_answers.inc(LimitAnswer::WithoutStore);
        alone.decide(&self.local, now)
    }

    /// The outcome, once every bucket that matters has answered. Where one refuses, the others' tokens go back.
    fn conclude(&self, claims: &Claims, answers: &[Option<Standing>], now: Tick) -> Outcome {
        let admitted = claims.buckets.iter().zip(answers).all(|(bucket, answer)| !bucket.refuses(answer.as_ref()));
        let standing = |(bucket, answer): (&Bucket, &Option<Standing>)| match answer {
            Some(standing) if !admitted && standing.wait == Wait::No => {
                self.with_hold(&bucket.slot, |hold| hold.hand_back(bucket.cost, now));
                Standing { remaining: standing.remaining.saturating_add(bucket.cost), ..*standing }
            }
            Some(standing) => *standing,
            // Not asked: another one has refused.
            None => self.with_hold(&bucket.slot, |hold| hold.standing(Wait::No, now)).unwrap_or(UNKNOWN),
        };
        let of_buckets: SmallVec<[Standing; 2]> = claims.buckets.iter().zip(answers).map(standing).collect();
        let standings = claims.of.iter().map(|at| of_buckets.get(*at).copied().unwrap_or(UNKNOWN)).collect();
        Outcome { admitted, standings, lost: false }
    }

    /// Asks for what could not be answered, and decides.
    async fn decide(self: Arc<Self>, claims: Claims, mut answers: Answers, alone: Alone) -> Outcome {
        let open = claims.buckets.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
        let told = join_all(open.map(|(bucket, _)| self.ask(bucket))).await;
        let now = self.clock.tick();
        let mut told = told.into_iter();
        for answer in answers.iter_mut().filter(|answer| answer.is_none()) {
            *answer = told.next().flatten();
        }
        if answers.iter().all(Option::is_some) {
            return self.conclude(&claims, &answers, now);
        }
        for (bucket, answer) in claims.buckets.iter().zip(&answers) {
            if answer.is_some_and(|standing| standing.wait == Wait::No) {
                self.with_hold(&bucket.slot, |hold| hold.hand_back(bucket.cost, now));
            }
        }
        self.without_store(&alone, now)
    }
}

type Answers = SmallVec<[Option<Standing>; 2]>;

/// What is said of a bucket of which nothing is known.
const UNKNOWN: Standing = Standing { remaining: 0, wait: Wait::No, full_in: 0 };

/// What one call asks of one bucket.
struct Bucket {
    slot: Slot,
    cost: u32,
    report_only: bool,
    question: Question,
}

impl Bucket {
    fn refuses(&self, answer: Option<&Standing>) -> bool {
        !self.report_only && answer.is_some_and(|standing| standing.wait != Wait::No)
    }
}

/// A call's charges by bucket: those on one bucket count together.
struct Claims {
    buckets: SmallVec<[Bucket; 2]>,
    /// The bucket of each charge.
    of: SmallVec<[usize; 2]>,
}

impl Claims {
    fn new(charges: &[Charge<'_>]) -> Claims {
        let mut claims = Claims { buckets: SmallVec::new(), of: SmallVec::new() };
        for charge in charges {
            let slot = Slot { family: charge.policy.family, key: charge.key };
            let at = claims.buckets.iter().position(|bucket| bucket.slot == slot);
            let at = at.unwrap_or_else(|| {
                let question = Question::new(charge.policy);
                let report_only = charge.policy.report_only;
                claims.buckets.push(Bucket { slot, cost: 0, report_only, question });
                claims.buckets.len() - 1
            });
            if let Some(bucket) = claims.buckets.get_mut(at) {
                bucket.cost = bucket.cost.saturating_add(charge.cost);
            }
            claims.of.push(at);
        }
        claims
    }
}

impl Engine for Shared {
    fn take(&self, now: Tick, charges: &[Charge<'_>]) -> Taken {
        let claims = Claims::new(charges);
        if !self.is_up() && !claims.buckets.iter().all(|bucket| self.asks(&bucket.slot)) {
            return Taken::Now(self.without_store(&Alone::new(charges, self.instances()), now));
        }
        let answers: Answers = claims.buckets.iter().map(|bucket| self.answer(bucket, now)).collect();
        let refused = claims.buckets.iter().zip(&answers).any(|(bucket, answer)| bucket.refuses(answer.as_ref()));
        match self.own.upgrade() {
            Some(own) if !refused && answers.iter().any(Option::is_none) => {
                Taken::Later(Box::pin(own.decide(claims, answers, Alone::new(charges, self.instances()))))
            }
            _ => Taken::Now(self.conclude(&claims, &answers, now)),
        }
    }

    fn marked(&self, now: Tick, mark: &Policy, key: LimitKey) -> Answer<Wait> {
        self.look_at_mark(now, mark, key)
    }

    fn set_mark(&self, now: Tick, mark: &Policy, key: LimitKey) -> Answer<Marked> {
        self.take_mark(now, mark, key)
    }

    fn look_at<'a>(
        &'a self,
        _: Tick,
        policy: &'a Policy,
        key: LimitKey,
    ) -> BoxFuture<'a, Result<Standing, StoreError>> {
        Box::pin(self.standing(policy, key))
    }

    fn reset<'a>(&'a self, policy: &'a Policy, key: LimitKey) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.start_afresh(policy, key))
    }
}
