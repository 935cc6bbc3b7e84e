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

/// Opens the store that the config names, counted in `metrics`. Blocks; may be called outside of a runtime.
///
/// # Errors
/// Why it cannot be opened and what to do, for a person.
pub fn open(store: &config::Store, clock: &Clock, metrics: &Arc<Metrics>) -> Result<Opened, String> {
    match store {
        config::Store::Embedded { path } => {
            folder::prepare(path)?;
            let embedded = Embedded::open(path, clock.clone(), metrics.clone())
                .map_err(|error| format!("store.path {}: {error}", path.display()))?;
            let store = Arc::new(Measured::new(embedded, clock.clone(), metrics.clone()));
            Ok(Opened { store, redis: None })
        }
        config::Store::Redis(config) => {
            redis::check(config, clock, metrics)?;
            let redis = Redis::new(config, clock.clone(), metrics.clone());
            let store = Arc::new(Measured::new(redis.clone(), clock.clone(), metrics.clone()));
            Ok(Opened { store, redis: Some(redis) })
        }
    }
}
