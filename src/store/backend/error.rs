//! Why a store did not do what it was asked.

use std::fmt;

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It cannot be reached or does not answer in time. Of a batch nothing is known: it may have happened.
    Unavailable(String),
    /// It happened, but not as safely as asked for: too few replicas have it, or syncing failed. To the caller it has not
    /// happened, and a power cut or fail-over may undo it.
    NotDurable(String),
    /// It has no room, or refuses to write. Nothing happened, now or when the same was tried before.
    Full(String),
    /// What is stored cannot be read: damaged, or of a later release.
    Malformed(String),
    /// A cursor that no dump of this store gave.
    NoSuchCursor,
    /// Anything else that is nobody's fault but ours.
    Internal(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Unavailable(why) => write!(f, "the store does not answer: {why}"),
            StoreError::NotDurable(why) => write!(f, "the store could not make it safe: {why}"),
            StoreError::Full(why) => write!(f, "the store takes no more writes: {why}"),
            StoreError::Malformed(why) => write!(f, "the store holds what cannot be read: {why}"),
            StoreError::NoSuchCursor => f.write_str("that is no cursor of a dump of this store"),
            StoreError::Internal(why) => write!(f, "the store failed: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}
