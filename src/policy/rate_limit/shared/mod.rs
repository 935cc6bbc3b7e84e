//! The engine over several instances: every bucket in Redis, tokens of busy ones on lease.
//!
//! # A call's way
//! A lease that holds, or a refusal that still stands, answers at once ([`hold`]). Otherwise the store is asked, by one
//! atomic script per bucket and decision ([`question`]); calls that miss on one bucket at the same time share a
//! script, and all scripts share a connection. A lease that runs low is renewed while it still serves, and calls that came
//! while a question was under way are served by what it brought.
//!
//! Buckets of one call lie on different servers of a cluster, so "all or none" is put together here ([`decide`]): each is
//! asked, and unless all agree, what any of them gave goes back. So does what a call was given that is no longer there, and
//! what an answer took that came too late.
//!
//! # Without the store
//! What does not answer within the deadline counts as lost, and soon nobody asks any more ([`health`]). Then each policy's own
//! rule holds: `local` counts in this process, with the limit divided by the number of instances last seen; `closed`
//! refuses with 503; `open` lets through. It holds for the limits that nothing was heard of, and only for those: a refusal
//! by any other refuses. No limit holds a call up for longer than two deadlines, its own question's and that of
//! the one that was under way. [Marks](Policy::mark) hold by what this instance knows ([`mark`]).
//!
//! # Memory
//! Holds of keys that are quiet are dropped by the sweep. Past the bound those go first that hold nothing but what the
//! store knows, too: they only saved questions; then leases, which are void soon; then marks that the store has not been
//! told of. What is being asked about stays: a question ends with its deadline, and there are no more of them than calls.

mod ask;
mod chores;
mod claims;
mod decide;
mod health;
mod hold;
mod known_mark;
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
use futures::future::{BoxFuture, ready};
use parking_lot::{Mutex, MutexGuard};

use self::ask::Waiting;
use self::health::Servers;
use self::hold::Hold;
use self::known_mark::KnownMark;
use self::question::Question;
use super::buckets::Buckets;
use super::engine::{Answer, Charge, Engine, Marked, Outcome, Taken};
use super::key::LimitKey;
use super::policies::Policy;
use super::rule::{Standing, Wait};
use super::shard::Slot;
use crate::clock::{Clock, Tick};
use crate::metrics::Metrics;
use crate::store::StoreError;
use crate::store::redis::{Redis, Script};

const SHARDS: usize = 64;
/// Upper bound of the memory that a hold takes: its place in an index that is at least seven sixteenths full, and one call
/// that waits.
const BYTES_PER_HOLD: usize = size_of::<(Slot, Entry)>() * 16 / 7 + 128;
/// Fewest holds of a shard, however little memory is allowed.
const FEWEST: usize = 32;
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
    mark: KnownMark,
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
        self.most_per_shard.store((max_bytes / SHARDS / BYTES_PER_HOLD).max(FEWEST), Ordering::Relaxed);
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

    /// What is known of a bucket, from now on at least that it was asked about.
    fn entry<T>(&self, slot: Slot, then: impl FnOnce(&mut Entry) -> T) -> T {
        let mut shard = self.place(&slot);
        let most = self.most_per_shard.load(Ordering::Relaxed);
        if shard.len() >= most && !shard.contains_key(&slot) {
            make_room(&mut shard, most, self.clock.tick());
        }
        then(shard.entry(slot).or_default())
    }

    fn with_entry<T>(&self, slot: &Slot, then: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.place(slot).get_mut(slot).map(then)
    }
}

/// Makes room for an eighth of a shard, so that it need not be looked through for every newcomer.
fn make_room(shard: &mut HashMap<Slot, Entry, RandomState>, most: usize, now: Tick) {
    let worth: [fn(&Entry, Tick) -> bool; 3] = [
        |entry, now| entry.hold.is_needed() || entry.mark.untold(now).is_some(),
        |entry, now| entry.mark.untold(now).is_some(),
        |_, _| false,
    ];
    for keep in worth {
        let mut surplus = shard.len().saturating_sub(most - most / 8);
        shard.retain(|_, entry| {
            let stays = surplus == 0 || entry.asking || keep(entry, now);
            surplus -= usize::from(!stays);
            stays
        });
        if shard.len() < most {
            return;
        }
    }
}

impl Engine for Shared {
    fn take(&self, now: Tick, charges: &[Charge<'_>]) -> Taken {
        self.decide_on(now, charges)
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
        match self.own.upgrade() {
            Some(own) => Box::pin(own.standing(policy, key)),
            None => Box::pin(ready(Err(StoreError::Internal("the limits are gone".to_owned())))),
        }
    }

    fn reset<'a>(&'a self, policy: &'a Policy, key: LimitKey) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.start_afresh(policy, key))
    }
}
