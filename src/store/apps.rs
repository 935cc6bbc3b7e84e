//! Mini-apps that commands have registered: a versioned record each, in one partition.
//!
//! What a mini-app is stands in its record in the form of `miniapps.yaml`, and is read by the same reader: what the config
//! would refuse is refused here. Client secrets are kept as hashes, the webhook secret sealed.
//!
//! Every change also puts the value `head`, on condition that nobody else has put it meanwhile. So changes happen one
//! after the other, none is lost, and whoever follows has to look at one value only to know whether there is news.
//!
//! A mini-app that is removed leaves its record behind: users' approvals are remembered by its id, which therefore must
//! not become somebody else's by accident.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::seal::{SealError, Sealer};
use super::{Applied, Backend, Batch, Condition, Entry, Partition, Read, StoreError, Version};
use crate::config::{MiniApp, Problems, Registration, Secret};
use crate::model::MiniAppId;
use crate::model::oauth::Digest;

/// What is told when a mini-app changes.
const TOPIC: &str = "apps";
/// The format that this release writes.
const VERSION: u32 = 1;
const HEAD: &str = "head";
const APP: &str = "app/";
/// Records asked for in one go.
const PAGE: usize = 500;
/// How often others may come first before that is called a fault.
const TRIES: usize = 100;
/// What a sealed webhook secret is bound to, besides the mini-app's id.
const PURPOSE: &str = "webhook secret";

/// A mini-app as it is stored. Times are seconds since the Unix epoch.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRecord {
    v: u32,
    /// What it is, as it was written down.
    pub registration: Registration,
    /// Its client secrets, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<ClientSecret>,
    /// Its webhook secret, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
    /// When it was first registered.
    pub created: u64,
    /// When it was last changed.
    pub changed: u64,
    /// Since when and why it is switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<Suspension>,
    /// When it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<u64>,
}

/// A client secret: what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSecret {
    /// SHA-256 of the secret.
    pub hash: Digest,
    /// When it was made.
    pub created: u64,
    /// When it ends, for one that has been replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<u64>,
}

impl ClientSecret {
    /// Whether it is good at `now`.
    pub fn is_valid(&self, now: u64) -> bool {
        self.valid_until.is_none_or(|until| now < until)
    }
}

/// Why a mini-app is switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspension {
    /// Since when.
    pub since: u64,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why a record is no mini-app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// It cannot be read: damaged, or of a later release.
    Unreadable(String),
    /// The reader of mini-apps refuses it.
    Refused(Problems),
    /// Its webhook secret does not open.
    Sealed(SealError),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Unreadable(why) => f.write_str(why),
            RecordError::Refused(problems) => problems.fmt(f),
            RecordError::Sealed(error) => write!(f, "its webhook secret: {error}"),
        }
    }
}

impl std::error::Error for RecordError {}

impl fmt::Debug for AppRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppRecord({})", self.registration.id)
    }
}

impl AppRecord {
    /// The record of a mini-app that is registered at `now`, without secrets.
    pub fn new(registration: Registration, now: u64) -> AppRecord {
        AppRecord {
            v: VERSION,
            registration,
            secrets: Vec::new(),
            webhook_secret: None,
            created: now,
            changed: now,
            suspended: None,
            removed: None,
        }
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// [`RecordError::Unreadable`], saying so when a later release wrote it.
    pub fn parse(value: &[u8]) -> Result<AppRecord, RecordError> {
        #[derive(Deserialize)]
        struct Format {
            v: u32,
        }
        let unreadable = |error: serde_json::Error| RecordError::Unreadable(format!("its record is damaged: {error}"));
        // Before the rest, which another format has every right to write otherwise.
        let Format { v } = serde_json::from_slice(value).map_err(unreadable)?;
        if v != VERSION {
            return Err(RecordError::Unreadable(format!(
                "its record is of format {v}, and this release reads format {VERSION}: a later release wrote it"
            )));
        }
        serde_json::from_slice(value).map_err(unreadable)
    }

    /// The mini-app at `now`, checked as one of the config's would be.
    ///
    /// # Errors
    /// [`RecordError::Refused`] and [`RecordError::Sealed`].
    pub fn app(&self, sealer: &Sealer, now: u64) -> Result<MiniApp, RecordError> {
        let secret = self.open_webhook_secret(sealer)?;
        let hashes: Vec<[u8; 32]> = self.secrets.iter().filter(|s| s.is_valid(now)).map(|s| s.hash.0).collect();
        let mut complete = |app: &mut MiniApp| {
            app.secret_hashes.clone_from(&hashes);
            app.webhook_secret.clone_from(&secret);
            app.suspended = self.suspended.is_some();
        };
        self.registration.read("the store", &mut complete).map_err(RecordError::Refused)
    }

    /// When the next of its secrets ends, after `now`.
    pub fn next_end(&self, now: u64) -> Option<u64> {
        self.secrets.iter().filter_map(|secret| secret.valid_until).filter(|until| *until > now).min()
    }

    /// Seals a webhook secret into it, in place of the one before.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn seal_webhook_secret(&mut self, sealer: &Sealer, secret: Option<&Secret>) -> Result<(), SealError> {
        let seal = |secret: &Secret| sealer.seal(PURPOSE, &self.registration.id, secret.expose().as_bytes());
        self.webhook_secret = secret.map(seal).transpose()?;
        Ok(())
    }

    /// Its webhook secret.
    ///
    /// # Errors
    /// [`RecordError::Sealed`] when it does not open.
    pub fn open_webhook_secret(&self, sealer: &Sealer) -> Result<Option<Secret>, RecordError> {
        let Some(sealed) = &self.webhook_secret else { return Ok(None) };
        let opened = sealer.open(PURPOSE, &self.registration.id, sealed).map_err(RecordError::Sealed)?;
        let text = str::from_utf8(&opened).map_err(|_| RecordError::Sealed(SealError::DoesNotOpen))?;
        Ok(Some(Secret::new(text)))
    }

    /// Seals its webhook secret under the current master key, when an earlier one did.
    ///
    /// # Errors
    /// [`RecordError::Sealed`] when it opens under neither.
    pub fn reseal(&mut self, sealer: &Sealer) -> Result<(), RecordError> {
        if let Some(sealed) = &self.webhook_secret
            && let Some(fresh) =
                sealer.seals_afresh(PURPOSE, &self.registration.id, sealed).map_err(RecordError::Sealed)?
        {
            self.webhook_secret = Some(fresh);
        }
        Ok(())
    }

    fn encoded(&self) -> Result<Bytes, StoreError> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|error| StoreError::Internal(error.to_string()))
    }
}

/// Records, readable or not, by the id that each is kept under, those of removed mini-apps too.
pub type AppRecords = BTreeMap<MiniAppId, Result<AppRecord, RecordError>>;

/// The mini-apps' place in the store.
#[derive(Clone, Debug)]
pub struct AppStore {
    store: Arc<dyn Backend>,
}

impl AppStore {
    /// In `store`.
    pub fn new(store: Arc<dyn Backend>) -> AppStore {
        AppStore { store }
    }

    /// A number that moves when somebody changes a mini-app; the telling can be lost.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.store.subscribe(TOPIC)
    }

    /// Another one after every change; `None` before the first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn version(&self) -> Result<Option<Version>, StoreError> {
        Ok(self.head().await?.map(|entry| entry.version))
    }

    /// Every record.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn all(&self) -> Result<AppRecords, StoreError> {
        let (mut found, mut after) = (BTreeMap::new(), None::<String>);
        loop {
            let page = self.store.scan(&partition(), APP, after.as_deref(), PAGE, Read::Latest).await?;
            let last = page.len() < PAGE;
            after = page.last().map(|(name, _)| name.clone());
            for (name, entry) in page {
                let id = MiniAppId::parse(name.strip_prefix(APP).unwrap_or(&name))
                    .map_err(|error| StoreError::Malformed(format!("a mini-app under {name}: {error}")))?;
                let record = read(&id, &entry);
                found.insert(id, record);
            }
            if last {
                return Ok(found);
            }
        }
    }

    /// Reads the records, lets `change` work on them and puts those that it changed in their place, durably and all at
    /// once. When somebody else was faster `change` is called again, on what is there then. When it fails nothing is
    /// written. Records are never taken away, and those that cannot be read stay as they are: while releases differ, an old
    /// one must be able to switch a mini-app off although a new one has written another's record.
    ///
    /// # Errors
    /// Those of `change` and of the store.
    pub async fn update<T, E: From<StoreError>>(
        &self,
        mut change: impl FnMut(&mut AppRecords) -> Result<T, E>,
    ) -> Result<T, E> {
        for _ in 0..TRIES {
            // Before the records: a change in between is then a conflict, rather than lost.
            let head = self.head().await?;
            let before = self.all().await?;
            let mut after = before.clone();
            let outcome = change(&mut after)?;
            let condition = head.map_or(Condition::Absent, |entry| Condition::Is(entry.version));
            let mut batch = Batch::new(partition())?.when(HEAD, condition).telling(TOPIC);
            for (id, record) in &after {
                let Ok(record) = record else { continue };
                match before.get(id) {
                    Some(Ok(before)) if before == record => {}
                    Some(Err(error)) => return Err(StoreError::Malformed(format!("mini-app {id}: {error}")).into()),
                    _ => batch = batch.put(format!("{APP}{id}"), record.encoded()?, None),
                }
            }
            if batch.operations.is_empty()
                || self.store.apply(batch.put(HEAD, format!("{{\"v\":{VERSION}}}"), None)).await? == Applied::Done
            {
                return Ok(outcome);
            }
        }
        Err(StoreError::Unavailable("others change mini-apps all the time".to_owned()).into())
    }

    async fn head(&self) -> Result<Option<Entry>, StoreError> {
        self.store.get(&partition(), HEAD, Read::Latest).await
    }
}

fn partition() -> Partition {
    Partition::of("apps", &[])
}

fn read(id: &MiniAppId, entry: &Entry) -> Result<AppRecord, RecordError> {
    let record = AppRecord::parse(&entry.value)?;
    if record.registration.id != id.as_str() {
        return Err(RecordError::Unreadable(format!("its record is that of {}", record.registration.id)));
    }
    Ok(record)
}

#[cfg(test)]
mod tests;
