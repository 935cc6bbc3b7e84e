//! From the config to an open store.

use std::sync::Arc;

use super::backend::Backend;
use super::embedded::Embedded;
use super::folder;
use super::measured::Measured;
use super::redis::{self, Redis};
use crate::clock::Clock;
use crate::config;
use crate::metrics::Metrics;

/// An open store.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The store.
    pub store: Arc<dyn Backend>,
    /// The Redis that it is on, for those who run scripts of their own there.
    pub redis: Option<Redis>,
}

/// Opens the store that the config names for an edge, counted in `metrics`. A Redis is looked at first: an edge is not to
/// find out while it serves that it may not do something, or that what it was told is safe is not. Blocks; may be
/// called outside of a runtime.
///
/// # Errors
/// Why it cannot be opened and what to do, for a person.
pub fn open(store: &config::Store, clock: &Clock, metrics: &Arc<Metrics>) -> Result<Opened, String> {
    if let config::Store::Redis(config) = store {
        redis::check(config, clock, metrics)?;
    }
    open_unseen(store, clock, metrics)
}

/// Opens the store for a command, which does what it is asked to at once: whoever calls payments off is not to be held
/// up by what is wrong besides. Blocks; may be called outside of a runtime.
///
/// # Errors
/// Why it cannot be opened and what to do, for a person.
pub fn open_unseen(store: &config::Store, clock: &Clock, metrics: &Arc<Metrics>) -> Result<Opened, String> {
    match store {
        config::Store::Embedded { path } => {
            folder::prepare(path)?;
            let embedded = Embedded::open(path, clock.clone(), metrics.clone())
                .map_err(|error| format!("store.path {}: {error}", path.display()))?;
            let store = Arc::new(Measured::new(embedded, clock.clone(), metrics.clone()));
            Ok(Opened { store, redis: None })
        }
        config::Store::Redis(config) => {
            let redis = Redis::new(config, clock.clone(), metrics.clone());
            let store = Arc::new(Measured::new(redis.clone(), clock.clone(), metrics.clone()));
            Ok(Opened { store, redis: Some(redis) })
        }
    }
}
