//! Putting something else in a store's place: a backup, or another store's content.
//!
//! It takes several steps, any of which may be the last one: the machine may stop, Redis go away. So before anything is
//! removed, what has to be done again in the end ([`Kept`]) is written down in the store itself, where emptying it leaves
//! it alone. As long as that stands there the store is neither the one nor the other: no edge starts on it, and whoever
//! tries again picks up what was written down.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kept::{Again, Kept};
use super::{Backend, Batch, Partition, Read, Record, StoreError, transfer};
use crate::clock::Clock;

const KIND: &str = "replacing";
const KEPT: &str = "kept";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    kept: Kept,
}

/// Why a store is not replaced.
#[derive(Debug)]
pub enum Refused {
    /// There is something in it.
    NotEmpty,
    /// It fails; part of what was in it may be gone.
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        Refused::Store(error)
    }
}

/// A store that has been emptied and is to be filled.
#[derive(Debug)]
pub struct Replacing {
    store: Arc<dyn Backend>,
    clock: Clock,
    kept: Kept,
    /// Why what had been revoked in it could not be read, and is forgotten.
    pub forgotten: Option<String>,
}

impl Replacing {
    /// Empties `store`, which has to be empty unless `force`.
    ///
    /// # Errors
    /// [`Refused::NotEmpty`], with nothing changed; and when the store fails.
    pub async fn begin(store: &Arc<dyn Backend>, clock: &Clock, force: bool) -> Result<Replacing, Refused> {
        if !force && !transfer::is_empty(&**store).await? {
            return Err(Refused::NotEmpty);
        }
        let mut forgotten = None;
        let own = match Kept::read(store, clock).await {
            // That may be why it is to be replaced.
            Err(StoreError::Malformed(why)) => {
                forgotten = Some(why);
                Kept::default()
            }
            read => read?,
        };
        let kept = match earlier(&**store).await {
            Err(StoreError::Malformed(why)) => {
                forgotten = Some(why);
                own
            }
            read => own.and(read?.unwrap_or_default()),
        };
        let stored = Stored { v: VERSION, kept };
        let value = serde_json::to_vec(&stored).map_err(|error| StoreError::Internal(error.to_string()))?;
        store.apply(Batch::new(partition())?.put(KEPT, value, None)).await?;
        transfer::clear(&**store).await?;
        Ok(Replacing { store: store.clone(), clock: clock.clone(), kept: stored.kept, forgotten })
    }

    /// Does again what must not be undone, now that the store is filled, and lets edges start on it.
    ///
    /// # Errors
    /// When the store fails: it has to be replaced once more then.
    pub async fn finish(self) -> Result<Again, StoreError> {
        let again = self.kept.apply_again(&self.store, &self.clock).await?;
        self.store.apply(Batch::new(partition())?.delete(KEPT)).await?;
        Ok(again)
    }
}

/// Refuses a store that somebody began to replace without coming to the end.
///
/// # Errors
/// What to do, for a person; and when the store fails.
pub async fn is_whole(store: &dyn Backend) -> Result<(), String> {
    match is_unfinished(store).await {
        Ok(false) => Ok(()),
        Ok(true) => {
            Err("the store was being replaced by `store restore` or `store copy`, which broke off: run that again, \
             with --force. What had been revoked is not yet revoked in it again"
                .to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Whether somebody began to replace the store and did not come to the end.
///
/// # Errors
/// When the store fails.
pub async fn is_unfinished(store: &dyn Backend) -> Result<bool, StoreError> {
    Ok(store.get(&partition(), KEPT, Read::Latest).await?.is_some())
}

/// Whether a record is such a note: it belongs to one store, and goes into no backup or copy.
pub fn is_note(record: &Record) -> bool {
    match record {
        Record::Value { partition, .. } | Record::Item { partition, .. } => partition.kind() == KIND,
    }
}

async fn earlier(store: &dyn Backend) -> Result<Option<Kept>, StoreError> {
    let Some(entry) = store.get(&partition(), KEPT, Read::Latest).await? else { return Ok(None) };
    let stored: Stored = serde_json::from_slice(&entry.value)
        .map_err(|error| StoreError::Malformed(format!("what an earlier try was to do again: {error}")))?;
    Ok(Some(stored.kept))
}

fn partition() -> Partition {
    Partition::of(KIND, &[])
}

#[cfg(test)]
mod tests;
