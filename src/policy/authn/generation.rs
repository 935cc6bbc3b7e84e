//! What has happened so far, as two numbers.
//!
//! One moves whenever something changes that may void a token: a revocation, a key, a mini-app, a reload. A cached token
//! remembers the number under which it was last found good. As long as nothing has changed, looking for revocations costs
//! one load and one comparison.
//!
//! The other is the number of the last revocation in force here. Our own tokens carry it (claim `rev`), so that a
//! revocation and a token of the same second are told apart: clocks could not, and clocks of two machines never could.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Generation(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    changes: AtomicU64,
    revocation: AtomicU64,
}

impl Generation {
    /// The number of changes now. A change made before the caller's look is seen by it.
    pub fn current(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }

    /// Says that something has changed; call it after the change is in place. Returns the new number.
    pub fn bump(&self) -> u64 {
        self.0.changes.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of the last revocation in force here; 0 before the first.
    pub fn revocation(&self) -> u64 {
        self.0.revocation.load(Ordering::Acquire)
    }

    /// Says that every revocation up to `number` is in force.
    pub fn revoked_up_to(&self, number: u64) {
        self.0.revocation.fetch_max(number, Ordering::AcqRel);
    }
}
