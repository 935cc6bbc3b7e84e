//! The response cache: answers of upstreams, kept for the one caller they were given to.
//!
//! Our own on top of moka rather than Pingora's, whose in-memory store is for testing, copies each hit and is slower
//! than asking a quick upstream. An entry belongs to a caller: the caller's whole identity is part of the key, the key
//! is compared as a whole and never by a hash alone, so two callers cannot share an entry. Rows are cached only where
//! the config says so, and only 200 answers to `GET` are kept; `HEAD` and conditional requests are answered from them.
//!
//! - **Coalescing.** Of concurrent misses of one key one goes upstream, with a [`FillGuard`]; the others wait for
//!   it, for as long as they are told. When it comes to nothing they go themselves.
//! - **The caller's own writes** move the caller on to a new generation, which is part of the key: what was stored or is
//!   being fetched for the old one cannot be found again, at the cost of one addition.
//! - **Purging** moves everybody on in the same way for answers that are being fetched, and takes out what is stored.
//! - **What may not be kept** is remembered for a while, so that callers do not queue up for an answer that each of them
//!   has to fetch anyway.

mod conditional;
mod entry;
mod fill;
mod key;
mod rules;

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Tick};
use crate::config::CacheSize;
use crate::model::Operation;

pub use entry::Entry;
pub use fill::{FillGuard, Waited, Waiter};
pub use key::{Identity, Key, KeyParts};
pub use rules::{RequestRule, Unstorable};

/// How long it is remembered that an answer may not be kept.
const PASS: Duration = Duration::from_secs(10);
/// Counters of generations; callers that share one are moved on together, which costs a miss and nothing else.
const GENERATIONS: usize = 4096;
/// The largest entry, as a part of the whole cache: one over this.
const LARGEST: usize = 16;

/// The response cache. Cloning shares it.
#[derive(Clone)]
pub struct ResponseCache {
    shared: Arc<Shared>,
}

struct Shared {
    stored: moka::sync::Cache<Key, Stored, foldhash::fast::RandomState>,
    /// Answers being fetched. The lock is held for a look-up or an insertion.
    flights: Mutex<HashMap<Key, fill::Flight, foldhash::fast::RandomState>>,
    generations: Box<[AtomicU64]>,
    /// Grows with each purge: what was asked for before one is not stored after it.
    purges: AtomicU64,
    hasher: foldhash::fast::RandomState,
    /// Request headers of the config's `vary_by`, in lower case.
    vary_by: Vec<String>,
    size: CacheSize,
    largest: usize,
    clock: Clock,
}

/// What is remembered under a key.
#[derive(Clone)]
enum Stored {
    Answer(Arc<Entry>),
    /// The answer may not be kept; until then.
    Pass(Tick),
}

/// What the cache says about a request.
#[derive(Debug)]
pub enum Lookup {
    /// Here is the answer.
    Hit(Arc<Entry>),
    /// Fetch it, and give it to the guard on the way.
    Fill(FillGuard),
    /// Somebody is fetching it.
    Wait(Waiter),
    /// Fetch it; it is not kept.
    Pass,
}

/// What to purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// Everything.
    All,
    /// Answers to one operation.
    Operation(Operation),
    /// Answers given on behalf of a user.
    User(String),
    /// Answers given to a mini-app.
    App(String),
    /// Answers under a path, compared as text.
    PathPrefix(String),
}

impl ResponseCache {
    /// An empty cache. `vary_by` are request headers, in lower case, that answers depend on besides the caller.
    pub fn new(size: CacheSize, vary_by: Vec<String>, clock: Clock) -> Self {
        let hasher = foldhash::fast::RandomState::default();
        let stored = moka::sync::Cache::builder()
            .max_capacity(size.max_size as u64)
            .time_to_live(size.ttl)
            .weigher(|key: &Key, stored: &Stored| {
                let weight = key.weight() + if let Stored::Answer(entry) = stored { entry.weight() } else { 0 };
                u32::try_from(weight).unwrap_or(u32::MAX)
            })
            .build_with_hasher(hasher.clone());
        let shared = Shared {
            stored,
            flights: Mutex::new(HashMap::with_hasher(hasher.clone())),
            generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            purges: AtomicU64::new(0),
            hasher,
            vary_by,
            size,
            largest: size.max_size / LARGEST,
            clock,
        };
        ResponseCache { shared: Arc::new(shared) }
    }

    /// The key of a request.
    pub fn key(&self, parts: &KeyParts<'_>) -> Key {
        let generation = self.generation(&parts.identity).map_or(0, |generation| generation.load(Ordering::Acquire));
        Key::new(parts, &self.shared.vary_by, generation)
    }

    /// Looks for an answer. `rule` is what the request's own headers allow and must not be [`RequestRule::Bypass`],
    /// with which there is nothing to look for: it is answered with [`Lookup::Pass`].
    pub fn lookup(&self, key: &Key, rule: RequestRule) -> Lookup {
        if rule == RequestRule::Bypass {
            return Lookup::Pass;
        }
        if let Some(found) = self.shared.find(key) {
            return found;
        }
        if rule == RequestRule::Look {
            return Lookup::Pass;
        }
        let mut flights = self.shared.flights.lock();
        if let Some(flight) = flights.get(key) {
            return Lookup::Wait(flight.wait());
        }
        // A flight stores its answer before it leaves the table, so whoever does not find it there looks once more.
        if let Some(found) = self.shared.find(key) {
            return found;
        }
        let (guard, flight) = FillGuard::new(self.shared.clone(), key.clone());
        flights.insert(key.clone(), flight);
        Lookup::Fill(guard)
    }

    /// Forgets what is stored for a caller, who has just changed something: call it once the upstream has
    /// answered, whatever it answered. It goes by the user, or by the mini-app where no user is: what one mini-app pays
    /// changes the balance that another one sees.
    pub fn invalidate_caller(&self, identity: &Identity<'_>) {
        if let Some(generation) = self.generation(identity) {
            generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// There always is one: the number is within the table.
    fn generation(&self, identity: &Identity<'_>) -> Option<&AtomicU64> {
        self.shared.generations.get(self.shared.hasher.hash_one(identity.owner()) as usize % GENERATIONS)
    }

    /// Takes answers out; the result is how many. Answers that are being fetched are not stored when they come.
    pub fn purge(&self, what: &Purge) -> u64 {
        let shared = &self.shared;
        shared.purges.fetch_add(1, Ordering::AcqRel);
        let mut count = 0;
        for (key, stored) in &shared.stored {
            if key.is_meant_by(what) {
                shared.stored.invalidate(&*key);
                count += u64::from(matches!(stored, Stored::Answer(_)));
            }
        }
        shared.stored.run_pending_tasks();
        count
    }

    /// Entries and bytes, as of the last housekeeping.
    pub fn usage(&self) -> (u64, u64) {
        (self.shared.stored.entry_count(), self.shared.stored.weighted_size())
    }

    /// The size it was made with: a config with another one needs another cache.
    pub fn size(&self) -> CacheSize {
        self.shared.size
    }

    /// The headers it was made with.
    pub fn vary_by(&self) -> &[String] {
        &self.shared.vary_by
    }
}

impl std::fmt::Debug for ResponseCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseCache").field("size", &self.shared.size).finish_non_exhaustive()
    }
}

impl Shared {
    /// What is stored and still good.
    fn find(&self, key: &Key) -> Option<Lookup> {
        let now = self.clock.tick();
        match self.stored.get(key)? {
            Stored::Answer(entry) if entry.is_fresh(now) => Some(Lookup::Hit(entry)),
            Stored::Pass(until) if now < until => Some(Lookup::Pass),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
