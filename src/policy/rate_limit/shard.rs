//! One part of the buckets, behind one lock: bounded, and swept a little by whoever adds to it.
//!
//! States lie in a dense row beside a hash index, so that a sweep can go on where it stopped and a sample can be drawn
//! at random: neither is possible in a plain hash map.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use super::key::LimitKey;
use super::policies::Family;
use super::rule::State;
use crate::clock::Tick;

/// A bucket's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) family: Family,
    pub(super) key: LimitKey,
}

/// Upper bound of the memory that a bucket takes: 48 bytes in the row, and two index entries of 9 bytes for each
/// place of an index that is at worst doubled twice.
pub(super) const BYTES_PER_BUCKET: usize = 96;

/// Neighbours that a newcomer looks at; more than one, so that sweeping keeps ahead of growth.
const SWEPT_PER_NEWCOMER: usize = 4;
/// Buckets that are compared when one has to go.
const SAMPLE: usize = 16;

/// What an insertion did to others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cleared {
    /// Buckets dropped that said nothing any more.
    pub(super) swept: usize,
    /// Buckets dropped for want of room, with what they knew.
    pub(super) evicted: usize,
}

pub(super) struct Shard {
    row: IndexMap<Slot, State, RandomState>,
    /// Buckets in the row by policy.
    held: HashMap<Family, usize, RandomState>,
    cursor: usize,
    draws: u64,
}

impl Shard {
    pub(super) fn new(hasher: RandomState, seed: u64) -> Self {
        let held = HashMap::with_hasher(hasher.clone());
        Shard { row: IndexMap::with_hasher(hasher), held, cursor: 0, draws: seed | 1 }
    }

    /// A bucket's state; the default for one that is not there.
    pub(super) fn get(&self, slot: &Slot) -> State {
        self.row.get(slot).copied().unwrap_or_default()
    }

    /// Sets a bucket's state. `None`: it was there, nothing else changed.
    pub(super) fn put(&mut self, slot: Slot, state: State, now: Tick, most: usize) -> Option<Cleared> {
        if let Some(known) = self.row.get_mut(&slot) {
            *known = state;
            return None;
        }
        let mut cleared = Cleared { swept: self.sweep(now, SWEPT_PER_NEWCOMER), evicted: 0 };
        // Two for one where the bound was lowered, so that the shard shrinks to it without a long pause.
        for _ in 0..2 {
            if self.row.len() >= most {
                self.evict(now, &mut cleared);
            }
        }
        self.reserve(most);
        *self.held.entry(slot.family).or_insert(0) += 1;
        self.row.insert(slot, state);
        Some(cleared)
    }

    /// Looks at the next `count` buckets and drops those that say nothing any more. Returns how many.
    pub(super) fn sweep(&mut self, now: Tick, count: usize) -> usize {
        let before = self.row.len();
        for _ in 0..count.min(before) {
            if self.cursor >= self.row.len() {
                self.cursor = 0;
            }
            match self.row.get_index(self.cursor) {
                Some((_, state)) if !state.matters(now) => self.remove(self.cursor),
                _ => self.cursor += 1,
            }
        }
        before - self.row.len()
    }

    /// Lets the next sweep begin at the front. A whole round must: what a removal moves into the gap comes from the
    /// end, which a round that began in the middle has seen already.
    pub(super) fn rewind(&mut self) -> usize {
        self.cursor = 0;
        self.row.len()
    }

    /// Gives memory back once most of it is unused.
    pub(super) fn shrink(&mut self) {
        if self.row.capacity() > 64 && self.row.len() < self.row.capacity() / 4 {
            self.row.shrink_to(self.row.len() * 2);
        }
    }

    /// Drops one bucket of a random sample: one that says nothing any more; else, of the policy that holds most of this
    /// shard, the one that is nearest to full.
    fn evict(&mut self, now: Tick, cleared: &mut Cleared) {
        let mut goes = None;
        for _ in 0..SAMPLE {
            let at = self.draw();
            let Some((slot, state)) = self.row.get_index(at) else { return };
            if !state.matters(now) {
                self.remove(at);
                cleared.swept += 1;
                return;
            }
            let held = self.held.get(&slot.family).copied().unwrap_or(0);
            // Least goes: held by most, and then full soonest. Windows end together, so there the count decides.
            let rank = (usize::MAX - held, state.forget_at, state.second);
            if goes.is_none_or(|(least, _)| rank < least) {
                goes = Some((rank, at));
            }
        }
        if let Some((_, at)) = goes {
            self.remove(at);
            cleared.evicted += 1;
        }
    }

    /// Drops a bucket. Returns whether it was there.
    pub(super) fn forget(&mut self, slot: &Slot) -> bool {
        let at = self.row.get_index_of(slot);
        if let Some(at) = at {
            self.remove(at);
        }
        at.is_some()
    }

    fn remove(&mut self, at: usize) {
        let Some((slot, _)) = self.row.swap_remove_index(at) else { return };
        if let Some(held) = self.held.get_mut(&slot.family) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&slot.family);
            }
        }
    }

    /// A random place in the row (xorshift: who floods must not be able to steer it, and cannot see it).
    fn draw(&mut self) -> usize {
        self.draws ^= self.draws << 13;
        self.draws ^= self.draws >> 7;
        self.draws ^= self.draws << 17;
        let scaled = (u128::from(self.draws) * self.row.len() as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }

    /// Makes room for one more. Left to itself the row would grow to the index's capacity, which may be twice as much.
    fn reserve(&mut self, most: usize) {
        let len = self.row.len();
        if len == self.row.capacity() {
            let more = (len / 2).max(16).min(most.saturating_sub(len).max(1));
            self.row.reserve_exact(more);
        }
    }
}
