//! Verified tokens, so that a signature is checked once a minute rather than on every request.
//!
//! Only tokens that verified are put in, so garbage cannot push good ones out. The slot is found by a hash of the
//! token's last bytes, which are signature; what counts is the comparison of the whole token, so a collision costs
//! a second verification and never shows one caller another's identity.
//!
//! Which entry has to go is decided by queues (S3-FIFO): newcomers pass a small queue first and must be asked for again
//! to enter the large one, so a flood of tokens that are seen once leaves those in use alone. Of those that had to make
//! room the hash is remembered for a while, and one that comes back enters the large queue at once: else tokens that are
//! used every few seconds would never get there. A hit touches one shard under a shared lock and moves nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use foldhash::fast::RandomState;
use parking_lot::RwLock;

use crate::config::CacheSize;

const SHARDS: usize = 64;
/// Bytes at a token's end that are hashed: more bits than a signature's forger could choose.
const TAIL: usize = 32;
/// Hits beyond this many give an entry no longer life.
const MAX_HITS: u8 = 3;
/// Bytes that tables and queues take for each entry.
const OVERHEAD: usize = 128;
/// How far the clocks of two threads' requests may be apart without an entry looking as if it came from the future.
const SKEW: u64 = 5;

/// A cache from whole tokens to `V`. Times are seconds since the Unix epoch.
pub struct TokenCache<V> {
    shards: Box<[RwLock<Shard<V>>]>,
    hasher: RandomState,
    shard_bytes: usize,
    ttl: u64,
}

struct Shard<V> {
    slots: HashMap<u64, Slot<V>, RandomState>,
    newcomers: Queue,
    residents: Queue,
    ghosts: Ghosts,
}

/// Hashes of newcomers that had to make room, the latest last.
#[derive(Default)]
struct Ghosts {
    order: VecDeque<u64>,
    known: HashSet<u64, RandomState>,
}

impl Ghosts {
    /// Remembers one, and forgets the oldest beyond `most`.
    fn add(&mut self, hash: u64, most: usize) {
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        while self.order.len() > most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether it is remembered. Its place in line is left to grow old.
    fn take(&mut self, hash: u64) -> bool {
        self.known.remove(&hash)
    }
}

#[derive(Default)]
struct Queue {
    order: VecDeque<u64>,
    bytes: usize,
}

struct Slot<V> {
    token: Box<[u8]>,
    value: Arc<V>,
    verified_at: u64,
    /// The entry is dead from this second on.
    ends_at: u64,
    weight: usize,
    resident: bool,
    hits: AtomicU8,
}

impl<V> std::fmt::Debug for TokenCache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenCache({} entries)", self.len())
    }
}

impl<V> TokenCache<V> {
    /// An empty cache of that size; a size of nought keeps nothing.
    pub fn new(size: CacheSize) -> TokenCache<V> {
        let shard = || Shard {
            slots: HashMap::default(),
            newcomers: Queue::default(),
            residents: Queue::default(),
            ghosts: Ghosts::default(),
        };
        TokenCache {
            shards: (0..SHARDS).map(|_| RwLock::new(shard())).collect(),
            hasher: RandomState::default(),
            shard_bytes: size.max_size / SHARDS,
            ttl: size.ttl.as_secs(),
        }
    }

    /// What was kept for exactly this token, if it is still good at `now`.
    pub fn get(&self, token: &[u8], now: u64) -> Option<Arc<V>> {
        let hash = self.hash(token);
        let shard = self.shard(hash)?.read();
        let slot = shard.slots.get(&hash)?;
        let age = (now + SKEW).checked_sub(slot.verified_at)?;
        if now >= slot.ends_at || age >= self.ttl + SKEW || *slot.token != *token {
            return None;
        }
        // A hot entry's counter is full, and its cache line stays shared between cores.
        let hits = slot.hits.load(Ordering::Relaxed);
        if hits < MAX_HITS {
            slot.hits.store(hits + 1, Ordering::Relaxed);
        }
        Some(slot.value.clone())
    }

    /// Keeps `value`, verified at `now`, until the cache's own time is up and never past `expires_at`. `weight` is
    /// what the value takes in bytes.
    pub fn insert(&self, token: &[u8], value: Arc<V>, weight: usize, now: u64, expires_at: u64) {
        let weight = weight + token.len() + OVERHEAD;
        let ends_at = expires_at.min(now.saturating_add(self.ttl));
        if ends_at <= now || weight > self.shard_bytes {
            return;
        }
        let hash = self.hash(token);
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = shard.write();
        let replaced = shard.slots.remove(&hash);
        // What stood there before keeps its place in line.
        let (resident, hits, queued) = match &replaced {
            Some(old) => (old.resident, old.hits.load(Ordering::Relaxed), true),
            None => (shard.ghosts.take(hash), 0, false),
        };
        let queue = if resident { &mut shard.residents } else { &mut shard.newcomers };
        queue.bytes = (queue.bytes + weight).saturating_sub(replaced.map_or(0, |old| old.weight));
        if !queued {
            queue.order.push_back(hash);
        }
        let slot =
            Slot { token: token.into(), value, verified_at: now, ends_at, weight, resident, hits: AtomicU8::new(hits) };
        shard.slots.insert(hash, slot);
        while shard.newcomers.bytes + shard.residents.bytes > self.shard_bytes && shard.evict(self.shard_bytes, now) {}
    }

    /// Forgets a token.
    pub fn remove(&self, token: &[u8]) {
        let hash = self.hash(token);
        if let Some(shard) = self.shard(hash) {
            let mut shard = shard.write();
            // Its place in line stays, empty, and the bytes with it go when the line gets there; so the slot is
            // ended rather than taken out.
            if let Some(slot) = shard.slots.get_mut(&hash).filter(|slot| *slot.token == *token) {
                slot.ends_at = 0;
            }
        }
    }

    /// How many entries are held, dead ones included.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().slots.len()).sum()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, by the weights that were given.
    pub fn bytes(&self) -> usize {
        let bytes = |shard: &Shard<V>| shard.newcomers.bytes + shard.residents.bytes;
        self.shards.iter().map(|shard| bytes(&shard.read())).sum()
    }

    fn hash(&self, token: &[u8]) -> u64 {
        self.hasher.hash_one(token.get(token.len().saturating_sub(TAIL)..).unwrap_or_default())
    }

    fn shard(&self, hash: u64) -> Option<&RwLock<Shard<V>>> {
        self.shards.get((hash >> 32) as usize % SHARDS)
    }
}

impl<V> Shard<V> {
    /// Takes one step towards making room; `false` when nothing is left to take out.
    fn evict(&mut self, budget: usize, now: u64) -> bool {
        let from_newcomers = self.newcomers.bytes > budget / 10 || self.residents.order.is_empty();
        let queue = if from_newcomers { &mut self.newcomers } else { &mut self.residents };
        let Some(hash) = queue.order.pop_front() else { return false };
        let Some(slot) = self.slots.get_mut(&hash) else { return true };
        let hits = slot.hits.load(Ordering::Relaxed);
        queue.bytes = queue.bytes.saturating_sub(slot.weight);
        if hits == 0 || slot.ends_at <= now {
            if from_newcomers && slot.ends_at > now {
                self.ghosts.add(hash, self.slots.len());
            }
            self.slots.remove(&hash);
            return true;
        }
        slot.hits.store(if from_newcomers { 0 } else { hits - 1 }, Ordering::Relaxed);
        slot.resident = true;
        self.residents.bytes += slot.weight;
        self.residents.order.push_back(hash);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cache(max_size: usize) -> TokenCache<u32> {
        TokenCache::new(CacheSize { ttl: Duration::from_secs(60), max_size })
    }

    fn token(n: u32) -> Vec<u8> {
        format!("header.claims.{n:0>600}").into_bytes()
    }

    #[test]
    fn ends_with_its_time_and_never_past_exp() {
        let cache = cache(1 << 20);
        cache.insert(b"a", Arc::new(1), 0, 1000, 5000);
        cache.insert(b"b", Arc::new(2), 0, 1000, 1010);
        cache.insert(b"c", Arc::new(3), 0, 1000, 1000);
        assert_eq!(cache.get(b"a", 1059).as_deref(), Some(&1));
        assert_eq!(cache.get(b"a", 1060), None);
        assert_eq!(cache.get(b"b", 1009).as_deref(), Some(&2));
        assert_eq!(cache.get(b"b", 1010), None);
        assert_eq!(cache.get(b"c", 1000), None);
        assert_eq!(cache.get(b"a", 996).as_deref(), Some(&1), "a request that began a moment earlier");
        assert_eq!(cache.get(b"a", 900), None, "a clock that was set back does not lengthen a life");
        cache.insert(b"a", Arc::new(4), 0, 1070, 5000);
        assert_eq!(cache.get(b"a", 1100).as_deref(), Some(&4));
        cache.remove(b"a");
        assert_eq!(cache.get(b"a", 1100), None);
    }

    #[test]
    fn only_the_whole_token_counts() {
        let cache = cache(1 << 20);
        let tail = "x".repeat(TAIL);
        let (ours, theirs) = (format!("alice.{tail}"), format!("mallory.{tail}"));
        cache.insert(ours.as_bytes(), Arc::new(1), 0, 0, 100);
        assert_eq!(cache.get(theirs.as_bytes(), 0), None, "the same hash");
        cache.insert(theirs.as_bytes(), Arc::new(2), 0, 0, 100);
        assert_eq!(cache.get(theirs.as_bytes(), 0).as_deref(), Some(&2));
        assert_eq!(cache.get(ours.as_bytes(), 0), None, "one slot, one token");
    }

    #[test]
    fn stays_within_its_bytes_and_keeps_what_is_in_use() {
        let size = 4 << 20;
        let cache = cache(size);
        let each = token(0).len() + OVERHEAD;
        let hot: Vec<_> = (0..u32::try_from(size / each / 4).unwrap()).map(token).collect();
        for (n, token) in hot.iter().enumerate() {
            cache.insert(token, Arc::new(n as u32), 0, 0, 100);
        }
        for round in 0..20u32 {
            for token in &hot {
                cache.get(token, 0);
            }
            for n in 0..2000 {
                cache.insert(&token(1_000_000 + round * 2000 + n), Arc::new(n), 0, 0, 100);
            }
            assert!(cache.bytes() <= size);
        }
        let kept = hot.iter().filter(|token| cache.get(token, 0).is_some()).count();
        assert!(kept * 100 >= hot.len() * 99, "{kept} of {} survived", hot.len());
        assert!(cache.len() > 2 * hot.len(), "the rest of the room is used");
    }

    #[test]
    fn who_comes_back_after_making_room_stays() {
        let cache = cache(4 << 20);
        let room = (4 << 20) / (token(0).len() + OVERHEAD);
        let flood = |from: u32, count: usize| {
            for n in from..from + u32::try_from(count).unwrap() {
                cache.insert(&token(n), Arc::new(n), 0, 0, 100);
            }
        };
        flood(1, room);
        cache.insert(&token(0), Arc::new(0), 0, 0, 100);
        flood(1_000_000, room * 5 / 4);
        assert!(cache.get(&token(0), 0).is_none(), "once is not often");
        cache.insert(&token(0), Arc::new(0), 0, 0, 100);
        flood(2_000_000, room * 5 / 4);
        assert!(cache.get(&token(0), 0).is_some());
    }

    #[test]
    fn no_room_means_no_entry() {
        let cache = cache(0);
        cache.insert(b"a", Arc::new(1), 0, 0, 100);
        assert!(cache.is_empty());
    }
}
