//! The engine in process: every bucket in this process' memory, exact under any number of threads.
//!
//! # Exactness
//! A bucket belongs to one shard, a call reads and writes it under that shard's lock, and the arithmetic has no rounding
//! error. A call that draws on several buckets holds all of their shards, always locked in ascending order, so "all or
//! none" is one step to everybody else and nobody can wait in a circle.
//!
//! # Memory
//! A full bucket says no more than no bucket, so it is forgotten: newcomers sweep a few neighbours each, and
//! [`Buckets::sweep`] does it for quiet times. What is left can only be bounded by forgetting what matters, and a
//! flood of new keys (an IPv6 owner has many) must not be able to make us forget who has used up a limit. So
//! a shard that is at its bound drops, out of a random sample, a bucket **of the policy that holds most of it** that is **nearest to full**:
//! - a flood under one policy soon is that policy's majority and evicts itself; the others keep an equal share each.
//!   Comparing refill times between policies instead would favour the flood wherever refilling takes days;
//! - within a policy, the flood's own buckets have given one token each, and go first; one that is in deep
//!   deficit is lost only when all of a sample are deeper. Forgetting a bucket grants its key exactly what it
//!   had used, so the least used one is also the cheapest mistake.
//!
//! Refusing newcomers instead would let a flood lock everybody else out. `evicted` counts, so that one sees it
//! happening and can raise `cache.rate_limit_cache.max_size`.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use futures::future::{BoxFuture, ready};
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use super::engine::{Answer, Charge, Engine, Marked, Outcome, Taken};
use super::key::LimitKey;
use super::policies::Policy;
use super::rule::{Rule, Standing, State, Wait};
use super::shard::{BYTES_PER_BUCKET, Cleared, Shard, Slot};
use crate::clock::Tick;
use crate::store::StoreError;

/// Enough that a few dozen threads rarely meet.
const SHARDS: usize = 64;
/// Fewest buckets of a shard, however little memory is allowed: eviction needs something to choose from.
const FEWEST: usize = 32;
/// Buckets that a sweep looks at before it lets callers in again.
const SWEPT_AT_ONCE: usize = 512;

/// The live buckets of all policies. Outlives config revisions.
pub struct Buckets {
    shards: Box<[Padded]>,
    hasher: RandomState,
    most_per_shard: AtomicUsize,
    live: AtomicUsize,
    swept: AtomicU64,
    evicted: AtomicU64,
}

/// A shard on cache lines of its own: neighbours' locks are taken by other threads.
#[repr(align(128))]
struct Padded(Mutex<Shard>);

/// What the buckets' memory is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Buckets in memory.
    pub live: usize,
    /// Bytes that they take, at most.
    pub bytes: usize,
    /// Buckets there is room for.
    pub most: usize,
    /// Buckets forgotten because they were full again, since the start.
    pub swept: u64,
    /// Buckets forgotten for want of room although they were not full, since the start.
    pub evicted: u64,
}

impl Buckets {
    /// No buckets, and room for as many as fit into `max_bytes` (at least a few thousand).
    pub fn new(max_bytes: usize) -> Self {
        let hasher = RandomState::default();
        let shard = |at: usize| Padded(Mutex::new(Shard::new(hasher.clone(), hasher.hash_one(at))));
        let buckets = Buckets {
            shards: (0..SHARDS).map(shard).collect(),
            hasher: hasher.clone(),
            most_per_shard: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            swept: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        };
        buckets.set_max_bytes(max_bytes);
        buckets
    }

    /// Changes the bound. Shards over a lowered one shrink as calls come in.
    pub fn set_max_bytes(&self, max_bytes: usize) {
        self.most_per_shard.store((max_bytes / SHARDS / BYTES_PER_BUCKET).max(FEWEST), Ordering::Relaxed);
    }

    /// What the memory is used for.
    pub fn stats(&self) -> Stats {
        Stats {
            live: self.live.load(Ordering::Relaxed),
            bytes: self.live.load(Ordering::Relaxed) * BYTES_PER_BUCKET,
            most: self.most_per_shard.load(Ordering::Relaxed) * SHARDS,
            swept: self.swept.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    /// Whether every bucket is full: nothing has been taken for long.
    pub fn is_empty(&self) -> bool {
        self.live.load(Ordering::Relaxed) == 0
    }

    /// Forgets every bucket that is full, and gives back memory that stays unused. Returns how many.
    ///
    /// To be called every few seconds, off the threads that serve: a few milliseconds usually, a tenth of a second per
    /// million buckets that have to go. Calls go on meanwhile.
    pub fn sweep(&self, now: Tick) -> usize {
        let mut swept = 0;
        for Padded(shard) in &self.shards {
            let len = shard.lock().rewind();
            for _ in 0..len.div_ceil(SWEPT_AT_ONCE) {
                swept += shard.lock().sweep(now, SWEPT_AT_ONCE);
            }
            shard.lock().shrink();
        }
        self.count(Cleared { swept, evicted: 0 });
        swept
    }

    /// How a key stands, if it asked for one token; nothing is taken.
    pub fn peek(&self, policy: &Policy, key: LimitKey, now: Tick) -> Standing {
        let slot = Slot { family: policy.family, key };
        let state = if self.is_empty() { State::default() } else { self.shard(self.place(&slot)).lock().get(&slot) };
        policy.rule.weigh(state, now, 1).standing
    }

    /// Takes a token whether or not there is one. An empty bucket goes into debt, by at most `most` of refilling; a
    /// sliding window has no debts and stays full.
    pub fn owe(&self, policy: &Policy, key: LimitKey, now: Tick, most: Duration) {
        let slot = Slot { family: policy.family, key };
        let mut shard = self.shard(self.place(&slot)).lock();
        let state = shard.get(&slot);
        let after = match &policy.rule {
            Rule::TokenBucket(rule) => rule.owe(state, now, u64::try_from(most.as_nanos()).unwrap_or(u64::MAX)),
            Rule::SlidingWindow(rule) => rule.weigh(state, now, 1).granted.unwrap_or(state),
        };
        self.put(&mut shard, slot, after, now);
    }

    /// Makes a bucket full.
    pub(super) fn forget(&self, policy: &Policy, key: LimitKey) {
        let slot = Slot { family: policy.family, key };
        if self.shard(self.place(&slot)).lock().forget(&slot) {
            self.count(Cleared { swept: 1, evicted: 0 });
        }
    }

    /// [`Engine::take`], which here is always decided at once.
    pub fn decide(&self, now: Tick, charges: &[Charge<'_>]) -> Outcome {
        match charges {
            [charge] => self.take_one(now, charge),
            charges => self.take_all(now, charges),
        }
    }

    fn take_one(&self, now: Tick, charge: &Charge<'_>) -> Outcome {
        let slot = Slot { family: charge.policy.family, key: charge.key };
        let mut shard = self.shard(self.place(&slot)).lock();
        let verdict = charge.policy.rule.weigh(shard.get(&slot), now, charge.cost);
        if let Some(state) = verdict.granted {
            self.put(&mut shard, slot, state, now);
        }
        let mut standings = SmallVec::new();
        standings.push(verdict.standing);
        Outcome { admitted: charge.policy.report_only || verdict.granted.is_some(), standings, lost: false }
    }

    fn take_all(&self, now: Tick, charges: &[Charge<'_>]) -> Outcome {
        let slots: SmallVec<[(Slot, usize); 4]> = charges
            .iter()
            .map(|charge| Slot { family: charge.policy.family, key: charge.key })
            .map(|slot| (slot, self.place(&slot)))
            .collect();
        let mut order: SmallVec<[usize; 4]> = slots.iter().map(|(_, place)| *place).collect();
        order.sort_unstable();
        order.dedup();
        let mut held: SmallVec<[(usize, MutexGuard<'_, Shard>); 4]> =
            order.into_iter().map(|place| (place, self.shard(place).lock())).collect();
        let state = |held: &[(usize, MutexGuard<'_, Shard>)], slot: &Slot, place: usize| {
            held.iter().find(|(at, _)| *at == place).map(|(_, shard)| shard.get(slot)).unwrap_or_default()
        };

        // Charges on one bucket count together, so each of them is weighed with the sum.
        let weigh = |held: &[_], cost: &dyn Fn(&Slot) -> u32| -> SmallVec<[_; 4]> {
            let weigh = |(charge, (slot, place)): (&Charge<'_>, &(Slot, usize))| {
                charge.policy.rule.weigh(state(held, slot, *place), now, cost(slot))
            };
            charges.iter().zip(&slots).map(weigh).collect()
        };
        let together = |slot: &Slot| {
            let same = charges.iter().zip(&slots).filter(|(_, (other, _))| other == slot);
            same.fold(0_u32, |sum, (charge, _)| sum.saturating_add(charge.cost))
        };
        let verdicts = weigh(&held, &together);
        let mut standings: SmallVec<[Standing; 2]> = verdicts.iter().map(|verdict| verdict.standing).collect();
        let admitted = Outcome::admits(charges, &standings);
        if admitted {
            for (verdict, (slot, place)) in verdicts.iter().zip(&slots) {
                let shard = held.iter_mut().find(|(at, _)| at == place);
                if let (Some(state), Some((_, shard))) = (verdict.granted, shard) {
                    self.put(shard, *slot, state, now);
                }
            }
        } else {
            // Those that would have granted stand as before: they gave nothing.
            let before = weigh(&held, &|_| 0);
            for (standing, before) in standings.iter_mut().zip(&before) {
                if standing.wait == Wait::No {
                    *standing = before.standing;
                }
            }
        }
        Outcome { admitted, standings, lost: false }
    }

    fn put(&self, shard: &mut Shard, slot: Slot, state: State, now: Tick) {
        if let Some(cleared) = shard.put(slot, state, now, self.most_per_shard.load(Ordering::Relaxed)) {
            self.live.fetch_add(1, Ordering::Relaxed);
            self.count(cleared);
        }
    }

    fn count(&self, cleared: Cleared) {
        let gone = cleared.swept + cleared.evicted;
        if gone > 0 {
            self.live.fetch_sub(gone, Ordering::Relaxed);
            self.swept.fetch_add(cleared.swept as u64, Ordering::Relaxed);
            self.evicted.fetch_add(cleared.evicted as u64, Ordering::Relaxed);
        }
    }

    /// Which shard a bucket is in. The hash is seeded at random, so nobody can choose addresses that meet in one.
    fn place(&self, slot: &Slot) -> usize {
        // Bits that the shard's own index does not use: it goes by the lowest and the seven highest.
        (self.hasher.hash_one(slot) >> 40) as usize % SHARDS
    }

    fn shard(&self, place: usize) -> &Mutex<Shard> {
        #[expect(clippy::indexing_slicing, reason = "the remainder by the number of shards")]
        &self.shards[place % SHARDS].0
    }
}

impl Engine for Buckets {
    fn take(&self, now: Tick, charges: &[Charge<'_>]) -> Taken {
        Taken::Now(self.decide(now, charges))
    }

    fn marked(&self, now: Tick, mark: &Policy, key: LimitKey) -> Answer<Wait> {
        Answer::Now(self.peek(mark, key, now).wait)
    }

    fn set_mark(&self, now: Tick, mark: &Policy, key: LimitKey) -> Answer<Marked> {
        Answer::Now(self.decide(now, &[Charge { policy: mark, key, cost: 1 }]).mark())
    }

    fn look_at<'a>(
        &'a self,
        now: Tick,
        policy: &'a Policy,
        key: LimitKey,
    ) -> BoxFuture<'a, Result<Standing, StoreError>> {
        Box::pin(ready(Ok(self.peek(policy, key, now))))
    }

    fn reset<'a>(&'a self, policy: &'a Policy, key: LimitKey) -> BoxFuture<'a, Result<(), StoreError>> {
        self.forget(policy, key);
        Box::pin(ready(Ok(())))
    }
}
