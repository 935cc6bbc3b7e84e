//! One number that moves whenever something changes that may void a token: a revocation, a key, a mini-app, a reload.
//!
//! A cached token remembers the number under which it was last found good. As long as nothing has changed, looking
//! for revocations costs one load and one comparison.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Generation(Arc<AtomicU64>);

impl Generation {
    /// The number now. A change made before the caller's look is seen by it.
    pub fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Says that something has changed; call it after the change is in place. Returns the new number.
    pub fn bump(&self) -> u64 {
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }
}
