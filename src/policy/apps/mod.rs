//! Mini-apps in the store: keeping an edge's memory of them in step, and what `tmcp-edge app` does to them.
//!
//! | file | |
//! |---|---|
//! | `registrar` | registering, changing, switching off and removing them |
//! | `secrets` | the secrets that they are given |
//! | `view` | what is told of them |
//!
//! An edge is told when one changes, and looks twice a second in any case. What it knows is replaced as a whole and every
//! cached token is looked at again, so a change is in force here at once for everybody who asks
//! [`super::authn::Registry`]. A record that cannot be read leaves its mini-app as it was, and the others are followed all
//! the same: while releases differ, an old edge must not miss that a mini-app was switched off because a new one
//! has written another's record.

pub mod registrar;
mod secrets;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::authn::{Generation, MiniApps, StoredApps};
use super::keyring::Keyring;
use crate::clock::Clock;
use crate::config::{Config, MiniApp};
use crate::metrics::{AppSource, Metrics};
use crate::model::MiniAppId;
use crate::store::apps::{AppRecord, AppStore, RecordError};
use crate::store::{StoreError, Version, told_or_after};

/// How often a running edge looks for what a command has done, when it is not told.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Why the store's mini-apps are not known as they are now.
#[derive(Debug)]
pub enum AppsError {
    /// The store.
    Store(StoreError),
    /// Mini-apps that cannot be read, a line each.
    Unreadable(Vec<String>),
    /// Mini-apps in use are gone from the store.
    Vanished,
}

impl fmt::Display for AppsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppsError::Store(error) => write!(f, "mini-apps: {error}"),
            AppsError::Unreadable(each) => f.write_str(&each.join("\n")),
            AppsError::Vanished => f.write_str("the store's mini-apps are gone"),
        }
    }
}

impl std::error::Error for AppsError {}

impl From<StoreError> for AppsError {
    fn from(error: StoreError) -> AppsError {
        AppsError::Store(error)
    }
}

/// Keeps [`StoredApps`] in step with the store.
#[derive(Debug)]
pub struct AppFeed {
    store: AppStore,
    stored: Arc<StoredApps>,
    keyring: Arc<Keyring>,
    generation: Generation,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Held while looking, so that two looks happen one after the other.
    seen: tokio::sync::Mutex<Seen>,
    named: Mutex<Named>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Of the store, as of the last look; `None` while it has held no mini-app.
    version: Option<Version>,
    records: BTreeMap<MiniAppId, Result<AppRecord, RecordError>>,
    /// When a client secret ends that is valid now.
    next_end: Option<u64>,
}

/// What the config names, and of which of those it has been said that the store has them too.
#[derive(Debug, Default)]
struct Named {
    ids: BTreeSet<MiniAppId>,
    told: BTreeSet<MiniAppId>,
}

impl AppFeed {
    /// A feed that has not looked yet. `generation` moves with every change, so that cached tokens are looked at again.
    pub fn new(
        store: AppStore,
        stored: Arc<StoredApps>,
        keyring: Arc<Keyring>,
        generation: Generation,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> AppFeed {
        let (seen, named) = (tokio::sync::Mutex::default(), Mutex::default());
        AppFeed { store, stored, keyring, generation, clock, metrics, seen, named }
    }

    /// Takes note of the mini-apps that the config in force lists, and warns of those that nobody knows.
    pub fn take_note(&self, config: &Config) {
        self.named.lock().ids = config.miniapps.keys().cloned().collect();
        self.metrics.miniapps.set(AppSource::Config, config.miniapps.len() as u64);
        self.tell_of_twins();
        for unlisted in config.unlisted.iter().filter(|unlisted| self.stored.get(&unlisted.id).is_none()) {
            log::warn!("{}; the store has none either", unlisted.place);
        }
    }

    /// The mini-app of that id, as it is known here.
    pub fn get(&self, id: &MiniAppId) -> Option<Arc<MiniApp>> {
        self.stored.get(id)
    }

    /// Reads what is new and puts it in force; says whether there was anything.
    ///
    /// # Errors
    /// When the store fails or has lost them, and at the first look when one of them cannot be read. What is in memory
    /// then stays as it was.
    pub async fn look(&self) -> Result<bool, AppsError> {
        let mut seen = self.seen.lock().await;
        // Before the records: a change in between is then read now and once more, rather than never.
        let version = self.store.version().await?;
        let now = self.clock.unix_secs();
        if version == seen.version && seen.next_end.is_none_or(|end| now < end) {
            return Ok(false);
        }
        if version.is_none() {
            return Err(AppsError::Vanished);
        }
        let read;
        let records = if version == seen.version {
            &seen.records
        } else {
            read = self.store.all().await?;
            &read
        };
        let (apps, unreadable) = self.build(records, now);
        if !unreadable.is_empty() {
            if seen.version.is_none() {
                return Err(AppsError::Unreadable(unreadable));
            }
            log::error!("{}; those stay as they were", unreadable.join("; "));
        }
        let next_end = records.values().flatten().filter_map(|record| record.next_end(now)).min();
        self.metrics.miniapps.set(AppSource::Store, apps.len() as u64);
        self.stored.replace(apps);
        self.generation.bump();
        *seen = Seen { version, records: records.clone(), next_end };
        drop(seen);
        self.tell_of_twins();
        Ok(true)
    }

    /// Looks whenever somebody tells of a change, and twice a second; ends only by being dropped.
    pub async fn follow(&self) {
        self.follow_resting(LOOK_EVERY).await;
    }

    async fn follow_resting(&self, rest: Duration) {
        let mut told = self.store.subscribe();
        let mut failing = false;
        loop {
            told_or_after(&mut told, rest).await;
            let looked = self.look().await;
            match &looked {
                Ok(true) => log::info!("mini-apps changed: {} are in the store", self.stored.all().len()),
                // Said once, not twice a second.
                Err(error) if !failing => log::error!("{error}; the mini-apps in memory stay as they are"),
                Ok(false) if failing => log::info!("the store's mini-apps are read again"),
                _ => {}
            }
            failing = looked.is_err();
        }
    }

    fn build(
        &self,
        records: &BTreeMap<MiniAppId, Result<AppRecord, RecordError>>,
        now: u64,
    ) -> (MiniApps, Vec<String>) {
        let (mut apps, mut unreadable) = (MiniApps::new(), Vec::new());
        for (id, record) in records {
            let app = match record {
                Ok(record) if record.removed.is_some() => continue,
                Ok(record) => record.app(self.keyring.sealer(), now),
                Err(error) => Err(error.clone()),
            };
            match app {
                Ok(app) => drop(apps.insert(id.clone(), Arc::new(app))),
                Err(error) => {
                    unreadable.push(format!("mini-app {id}: {error}"));
                    apps.extend(self.stored.get(id).map(|known| (id.clone(), known)));
                }
            }
        }
        (apps, unreadable)
    }

    /// The config wins over the store, which somebody who registered the mini-app there has to hear once.
    fn tell_of_twins(&self) {
        let mut named = self.named.lock();
        let twins: BTreeSet<MiniAppId> = named.ids.iter().filter(|id| self.stored.get(id).is_some()).cloned().collect();
        for id in twins.difference(&named.told) {
            log::warn!("mini-app {id} is in the config and in the store: what the config says counts");
        }
        named.told = twins;
    }
}
