//! How values lie in the store: JSON with the number of its format, so that the next release can read it.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::{Entry, StoreError, Version};

/// The format that this release writes.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    v: u32,
    #[serde(flatten)]
    value: T,
}

/// A value as it was found: a change of it happens only if nobody changed it in between.
#[derive(Clone, Debug)]
pub struct Held<T> {
    /// What was found.
    pub value: T,
    pub(super) version: Version,
}

pub(super) fn write(value: &impl Serialize) -> Result<Bytes, StoreError> {
    let stored = Stored { v: VERSION, value };
    serde_json::to_vec(&stored).map(Bytes::from).map_err(|error| StoreError::Internal(error.to_string()))
}

pub(super) fn read<T: DeserializeOwned>(what: &str, entry: &Entry) -> Result<Held<T>, StoreError> {
    let malformed = |why: String| StoreError::Malformed(format!("{what}: {why}"));
    let stored: Stored<T> = serde_json::from_slice(&entry.value).map_err(|error| malformed(error.to_string()))?;
    if stored.v != VERSION {
        return Err(malformed(format!("format {}; this release reads format {VERSION}", stored.v)));
    }
    Ok(Held { value: stored.value, version: entry.version })
}
