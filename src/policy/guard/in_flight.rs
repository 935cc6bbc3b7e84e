//! Requests under way per address, counted exactly. An address without any takes no memory.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::policy::rate_limit::LimitKey;

const SHARDS: usize = 64;

type Counts = Mutex<HashMap<LimitKey, u32, RandomState>>;

/// Requests under way.
pub(super) struct UnderWay {
    // Shared one by one, so that guards of different shards do not meet in one reference count.
    shards: Box<[Arc<Counts>]>,
    hasher: RandomState,
}

/// A request under way; it ends when this is dropped.
#[must_use = "the request counts as ended when this is dropped"]
pub struct InFlight {
    // `None`: there is no limit, nothing was counted.
    counted: Option<(Arc<Counts>, LimitKey)>,
}

impl UnderWay {
    pub(super) fn new() -> Self {
        let hasher = RandomState::default();
        let shards = (0..SHARDS).map(|_| Arc::new(Mutex::new(HashMap::with_hasher(hasher.clone())))).collect();
        UnderWay { shards, hasher }
    }

    /// Counts one more of `peer`, unless there are `most` already; 0 means that there is no limit.
    pub(super) fn enter(&self, peer: LimitKey, most: u32) -> Option<InFlight> {
        if most == 0 {
            return Some(InFlight { counted: None });
        }
        let place = (self.hasher.hash_one(peer) >> 40) as usize % SHARDS;
        #[expect(clippy::indexing_slicing, reason = "the remainder by the number of shards")]
        let shard = &self.shards[place];
        {
            let mut counts = shard.lock();
            let count = counts.entry(peer).or_insert(0);
            if *count >= most {
                return None;
            }
            *count += 1;
        }
        Some(InFlight { counted: Some((shard.clone(), peer)) })
    }

    /// Requests under way of all addresses.
    pub(super) fn total(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().values().copied().map(u64::from).sum::<u64>()).sum()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Some((shard, peer)) = &self.counted else { return };
        let mut counts = shard.lock();
        if let Some(count) = counts.get_mut(peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(peer);
            }
        }
    }
}
