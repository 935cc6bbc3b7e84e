//! Is the store worth asking? A breaker around each of its servers, so that an outage costs its first calls a moment and the
//! rest nothing, and the loss of one server of a cluster nothing to the buckets on others.
//!
//! It begins closed to callers: the first probe, which runs as soon as the edge does, opens the way. [`FAILURES`] in a row
//! shut it, and only probes, which run in the background and hold nobody up, open it again. A store that comes and
//! goes has to answer longer each time before it is trusted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::clock::Tick;
use crate::config::RedisNode;

/// Failures in a row after which nobody asks any more.
const FAILURES: u32 = 3;
/// Answered probes in a row that are asked for at first, and at most.
const FIRST_PROOF: u32 = 2;
const LONGEST_PROOF: u32 = 32;
/// An outage that begins so soon after the last one is counted with it.
const SETTLED: Duration = Duration::from_secs(30);

/// The servers that limits lie on.
#[derive(Debug, Default)]
pub(super) struct Servers {
    /// Every known one is asked: then nobody has to find out which one a bucket lies on.
    all_up: AtomicBool,
    each: RwLock<HashMap<RedisNode, Arc<Health>>>,
}

impl Servers {
    /// Whether all are asked.
    pub fn all_up(&self) -> bool {
        self.all_up.load(Ordering::Relaxed)
    }

    /// Whether one is asked.
    pub fn is_up(&self, server: &RedisNode) -> bool {
        self.all_up() || self.each.read().get(server).is_some_and(|health| health.is_up())
    }

    /// One has answered in time.
    pub fn answered(&self, server: &RedisNode) {
        if let Some(health) = self.each.read().get(server) {
            health.answered();
        }
    }

    /// One has not answered in time. True: that was one too many.
    pub fn failed(&self, server: &RedisNode, now: Tick) -> bool {
        let shuts = self.health(server).failed(now);
        if shuts {
            let _settled = self.each.write();
            self.all_up.store(false, Ordering::Relaxed);
        }
        shuts
    }

    /// A probe of one came back. True: from now on it is asked again.
    pub fn probed(&self, server: &RedisNode, answered: bool, now: Tick) -> bool {
        self.health(server).probed(answered, now)
    }

    /// Forgets all but the servers that there are now, and sees whether all of them are asked.
    pub fn settle(&self, known: &[RedisNode]) {
        let mut each = self.each.write();
        each.retain(|server, _| known.contains(server));
        let up = |server: &RedisNode| each.get(server).is_some_and(|health| health.is_up());
        self.all_up.store(!known.is_empty() && known.iter().all(up), Ordering::Relaxed);
    }

    fn health(&self, server: &RedisNode) -> Arc<Health> {
        if let Some(health) = self.each.read().get(server) {
            return health.clone();
        }
        self.each.write().entry(server.clone()).or_default().clone()
    }
}

/// Whether a server is asked.
#[derive(Debug, Default)]
struct Health {
    up: AtomicBool,
    failures: AtomicU32,
    proof: Mutex<Proof>,
}

#[derive(Debug)]
struct Proof {
    given: u32,
    asked: u32,
    up_since: Option<Tick>,
}

impl Default for Proof {
    fn default() -> Self {
        // The first probe after the start is proof enough: nothing has failed yet.
        Proof { given: 0, asked: 1, up_since: None }
    }
}

impl Health {
    /// Whether to ask.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// A question was answered in time.
    pub fn answered(&self) {
        // Read first: this line of memory is everybody's.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A question was not answered in time. True: that was one too many.
    pub fn failed(&self, now: Tick) -> bool {
        let shuts =
            self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES && self.up.swap(false, Ordering::Relaxed);
        if shuts {
            let mut proof = self.proof.lock();
            let again = proof.up_since.is_some_and(|since| now.since(since) < SETTLED);
            proof.asked = if again { (proof.asked * 2).clamp(FIRST_PROOF, LONGEST_PROOF) } else { FIRST_PROOF };
            proof.given = 0;
        }
        shuts
    }

    /// A probe came back. True: from now on the store is asked again.
    pub fn probed(&self, answered: bool, now: Tick) -> bool {
        let mut proof = self.proof.lock();
        if !answered {
            proof.given = 0;
            return false;
        }
        proof.given += 1;
        if proof.given < proof.asked || self.is_up() {
            return false;
        }
        proof.up_since = Some(now);
        self.failures.store(0, Ordering::Relaxed);
        self.up.store(true, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuts_after_failures_in_a_row_and_opens_by_proof() {
        let health = Health::default();
        assert!(!health.is_up());
        assert!(health.probed(true, Tick(0)) && health.is_up());
        for _ in 0..5 {
            assert!(!health.failed(Tick(1)) && !health.failed(Tick(1)));
            health.answered();
        }
        assert!(!health.failed(Tick(1)) && !health.failed(Tick(1)) && health.failed(Tick(1)));
        assert!(!health.is_up());
        assert!(!health.failed(Tick(1)), "told once");
    }

    #[test]
    fn what_comes_and_goes_is_trusted_later_each_time() {
        let health = Health::default();
        let proof = |health: &Health| {
            let mut probes = 1;
            while !health.probed(true, Tick(0)) {
                probes += 1;
            }
            probes
        };
        let mut asked = vec![proof(&health)];
        for _ in 0..6 {
            for _ in 0..3 {
                health.failed(Tick(1));
            }
            health.probed(true, Tick(1));
            health.probed(false, Tick(1));
            asked.push(proof(&health));
        }
        assert_eq!(asked, [1, 2, 4, 8, 16, 32, 32]);
        for _ in 0..3 {
            health.failed(Tick(0).plus(SETTLED));
        }
        assert_eq!(proof(&health), 2, "that was long ago");
    }
}
