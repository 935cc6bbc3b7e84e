//! Every upstream of one config revision, and what is taken over from the one before.
//!
//! At a reload, a [`Backend`] whose config and certificates did not change is taken over whole, connections and all; of
//! one that did change, breakers live on while their own numbers and the addresses stay, and so does what is known of
//! each address.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::backend::Backend;
use crate::clock::Clock;
use crate::config;

/// The name of the upstream that wallet rows use.
pub const WALLET: &str = "wallet";
/// The name of the upstream that Matrix rows use.
pub const HOMESERVER: &str = "homeserver";

/// Every upstream of one config revision.
#[derive(Clone, Debug, Default)]
pub struct Upstreams {
    by_name: BTreeMap<String, Arc<Backend>>,
}

/// What is wrong with the upstreams of a config revision: one line for each that could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError(pub Vec<String>);

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for BuildError {}

impl Upstreams {
    /// Builds every upstream of `configs`, taking over from `previous` what did not change. Reads certificate files and
    /// asks DNS, so call it where blocking is allowed. A name that DNS does not know now is no error: it is asked for
    /// again in the background.
    pub fn build(
        configs: &BTreeMap<String, Arc<config::Upstream>>,
        previous: Option<&Upstreams>,
        clock: &Clock,
    ) -> Result<Upstreams, BuildError> {
        let (mut by_name, mut errors) = (BTreeMap::new(), Vec::new());
        for (name, config) in configs {
            match Backend::build(config, previous.and_then(|previous| previous.get(name)), clock) {
                Ok(backend) => drop(by_name.insert(name.clone(), backend)),
                Err(error) => errors.push(format!("upstream {name}: {error}")),
            }
        }
        if errors.is_empty() { Ok(Upstreams { by_name }) } else { Err(BuildError(errors)) }
    }

    /// The upstream of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Backend>> {
        self.by_name.get(name)
    }

    /// Every upstream, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.by_name.values()
    }

    /// Idle connections to keep over all upstreams together: Pingora has one pool for all.
    pub fn pool_size(&self) -> usize {
        self.iter().map(|backend| backend.config().pool).sum()
    }

    /// Starts health checks and DNS refresh of those upstreams that have none running yet. Call it when the revision
    /// takes effect, on the runtime that shall run them. They end by themselves once nothing holds the backend.
    pub fn start(&self, runtime: &tokio::runtime::Handle) {
        for backend in self.iter() {
            backend.start(runtime);
        }
    }
}
