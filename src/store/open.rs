//! From the config to an open store.

use std::sync::Arc;

use super::backend::Backend;
use super::embedded::Embedded;
use super::folder;
use super::measured::Measured;
use crate::clock::Clock;
use crate::config;
use crate::metrics::Metrics;

/// Opens the store that the config names, counted in `metrics`. Blocks; may be called outside of a runtime.
///
/// # Errors
/// Why it cannot be opened and what to do, for a person.
pub fn open(store: &config::Store, clock: &Clock, metrics: &Arc<Metrics>) -> Result<Arc<dyn Backend>, String> {
    match store {
        config::Store::Embedded { path } => {
            folder::prepare(path)?;
            let embedded = Embedded::open(path, clock.clone(), metrics.clone())
                .map_err(|error| format!("store.path {}: {error}", path.display()))?;
            Ok(Arc::new(Measured::new(embedded, clock.clone(), metrics.clone())))
        }
    }
}
