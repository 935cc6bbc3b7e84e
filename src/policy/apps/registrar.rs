//! What `tmcp-edge app` does. A change is in the store when the call returns; edges that are running notice within a
//! second.
//!
//! Switching a mini-app off is two things: its record, which keeps anything new from being issued, and an epoch in the
//! log of revocations, which voids what is out. The record comes first, so that nothing is issued after the epoch. An edge
//! that has heard of the epoch and not yet of the record could still issue in between; therefore switching on makes
//! another epoch first, and what was issued before a mini-app came back is void whoever issued it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::secrets;
use crate::clock::Clock;
use crate::config::miniapp::{MAX_NAME, MAX_SECRETS, is_name, namesake};
use crate::config::{MiniApp, Problems, Registration, Secret};
use crate::model::miniapp::ClientType;
use crate::model::oauth::Digest;
use crate::model::{MiniAppId, Revoked, ScopeSet};
use crate::policy::authn::MiniApps;
use crate::policy::keyring::Keyring;
use crate::store::StoreError;
use crate::store::apps::{AppRecord, AppRecords, AppStore, ClientSecret, RecordError, Suspension};
use crate::store::revocations::RevocationLog;
use crate::store::seal::{SealError, sha256};

/// Why nothing was done.
#[derive(Debug)]
pub enum RegistrarError {
    /// The store; what was asked for may have happened.
    Store(StoreError),
    /// It is no mini-app, or not one that may be.
    Invalid(Problems),
    /// Another one has the id.
    Exists(MiniAppId),
    /// One that was removed had the id.
    Removed(MiniAppId),
    /// The config's own, with the file that it stands in.
    Named(MiniAppId, Option<PathBuf>),
    /// One of the two signs in under the other's id.
    Namesake(MiniAppId, MiniAppId),
    /// None is known by that id.
    Unknown(MiniAppId),
    /// It is public.
    KeepsNoSecret(MiniAppId),
    /// It has no webhook address.
    NoWebhook(MiniAppId),
    /// It is not switched off.
    NotSuspended(MiniAppId),
    /// The reason is too long, or not one line of plain text.
    Reason,
    /// What would be written reads back as something else.
    Record(MiniAppId, String),
}

impl fmt::Display for RegistrarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistrarError::Store(error) => error.fmt(f),
            RegistrarError::Invalid(problems) => problems.fmt(f),
            RegistrarError::Exists(id) => {
                write!(f, "there is a mini-app {id} already; --replace puts this one in its place")
            }
            RegistrarError::Removed(id) => write!(
                f,
                "{id} was the id of a mini-app that has been removed, and what users allowed it is remembered by that id; \
                 --replace brings it back, for a mini-app of the same developer"
            ),
            RegistrarError::Named(id, Some(file)) => {
                write!(f, "{id} stands in the config: change it in {}, then reload", file.display())
            }
            RegistrarError::Named(id, None) => write!(f, "{id} stands in the config: change it there, then reload"),
            RegistrarError::Namesake(id, other) => write!(
                f,
                "{id} cannot be told from {other}, one being the name of the other's back end; take another id"
            ),
            RegistrarError::Unknown(id) => write!(f, "there is no mini-app {id}; `app list` shows what there is"),
            RegistrarError::KeepsNoSecret(id) => {
                write!(
                    f,
                    "{id} is public and keeps no secret; register it again with --replace and another --type first"
                )
            }
            RegistrarError::NoWebhook(id) => {
                write!(f, "{id} has no webhook address; register it again with --replace and --webhook-url first")
            }
            RegistrarError::NotSuspended(id) => write!(f, "{id} is not suspended"),
            RegistrarError::Reason => {
                write!(f, "--reason: too long, or not one line of plain text, expected at most {MAX_NAME} characters")
            }
            RegistrarError::Record(id, why) => write!(f, "mini-app {id}: {why}"),
        }
    }
}

impl std::error::Error for RegistrarError {}

impl From<StoreError> for RegistrarError {
    fn from(error: StoreError) -> RegistrarError {
        RegistrarError::Store(error)
    }
}

/// Reads mini-apps, with what their entries leave out added by the function that it is given.
pub type Source<'a> = dyn Fn(&mut dyn FnMut(&mut MiniApp)) -> Result<Vec<MiniApp>, Problems> + Sync + 'a;

/// What became of one mini-app that was registered.
#[derive(Debug)]
pub struct Added {
    /// Which one.
    pub id: MiniAppId,
    /// What happened.
    pub done: Done,
    /// Its new client secret, when it was given one.
    pub client_secret: Option<Secret>,
    /// Its new webhook secret, when it was given one.
    pub webhook_secret: Option<Secret>,
    /// What it may no longer do.
    pub lost: ScopeSet,
}

/// What happened to a mini-app that was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is new.
    Registered,
    /// It was put in place of what was there.
    Replaced,
    /// It was there just so.
    Unchanged,
}

/// What [`Registrar::rotate`] did.
#[derive(Debug)]
pub struct Rotated {
    /// The new secret.
    pub secret: Secret,
    /// Until when the old one is good too, seconds since the Unix epoch; `None`: it is not.
    pub old_until: Option<u64>,
}

/// New secrets of one mini-app.
#[derive(Default)]
struct Issued {
    client: Option<Secret>,
    webhook: Option<Secret>,
}

/// Registers mini-apps in the store.
pub struct Registrar {
    apps: AppStore,
    log: RevocationLog,
    keyring: Arc<Keyring>,
    clock: Clock,
    named: MiniApps,
    file: Option<PathBuf>,
}

impl Registrar {
    /// A registrar beside the mini-apps `named` by the config, which stand in `file`.
    pub fn new(
        apps: AppStore,
        log: RevocationLog,
        keyring: impl Into<Arc<Keyring>>,
        clock: Clock,
        (named, file): (MiniApps, Option<PathBuf>),
    ) -> Registrar {
        Registrar { apps, log, keyring: keyring.into(), clock, named, file }
    }

    /// Registers mini-apps, all or none. Who keeps a secret and has none is given one; whose webhooks go somewhere, too.
    /// With `replace` they take the place of those with the same ids, whose secrets they keep; one that is suspended stays so.
    ///
    /// # Errors
    /// What is wrong with the first of them that cannot be.
    pub async fn add(&self, source: &Source<'_>, replace: bool) -> Result<Vec<Added>, RegistrarError> {
        let now = self.clock.unix_secs();
        let (added, voided) = self.apps.update(|records| self.put(records, source, replace, now)).await?;
        for id in voided {
            self.log.append(Revoked::App(id)).await?;
        }
        Ok(added)
    }

    fn put(
        &self,
        records: &mut AppRecords,
        source: &Source<'_>,
        replace: bool,
        now: u64,
    ) -> Result<(Vec<Added>, Vec<MiniAppId>), RegistrarError> {
        let mut issued: BTreeMap<MiniAppId, Issued> = BTreeMap::new();
        let mut failed = None;
        let read = source(&mut |app| {
            let before = records.get(&app.id).filter(|before| replace && before.removed.is_none());
            let given = issued.entry(app.id.clone()).or_default();
            if let Err(error) = self.complete(app, before, given, now) {
                failed = Some(error);
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let (mut added, mut voided) = (Vec::new(), Vec::new());
        for app in read.map_err(RegistrarError::Invalid)? {
            self.admit(&app, records, replace)?;
            let before = records.get(&app.id).filter(|before| before.removed.is_none());
            let record = self.record(&app, before, now)?;
            let done = match before {
                None => Done::Registered,
                Some(before) if *before == record => Done::Unchanged,
                Some(_) => Done::Replaced,
            };
            let allowed = before.and_then(|before| before.app(self.keyring.sealer(), now).ok());
            let lost = allowed.map_or(ScopeSet::EMPTY, |before| before.scopes.difference(app.scopes));
            let removed = records.get(&app.id).is_some_and(|before| before.removed.is_some());
            // What it was allowed before it was removed stays void, also where that could not be written down then.
            if removed || app.suspended && before.is_none_or(|before| before.suspended.is_none()) {
                voided.push(app.id.clone());
            }
            let Issued { client, webhook } = issued.remove(&app.id).unwrap_or_default();
            records.insert(app.id.clone(), record);
            added.push(Added { id: app.id, done, client_secret: client, webhook_secret: webhook, lost });
        }
        Ok((added, voided))
    }

    /// Adds the secrets that the mini-app needs and nobody has given: those it had, or new ones.
    fn complete(
        &self,
        app: &mut MiniApp,
        before: Option<&AppRecord>,
        issued: &mut Issued,
        now: u64,
    ) -> Result<(), RegistrarError> {
        if app.client_type.has_secret() && app.secret_hashes.is_empty() {
            let held = before.map(|before| before.secrets.as_slice()).unwrap_or_default();
            app.secret_hashes = held.iter().filter(|held| held.is_valid(now)).map(|held| held.hash.0).collect();
            if app.secret_hashes.is_empty() {
                let secret = secrets::client_secret()?;
                app.secret_hashes.push(sha256(secret.expose().as_bytes()));
                issued.client = Some(secret);
            }
        }
        if app.webhook_url.is_some() && app.webhook_secret.is_none() {
            let held = before.map(|before| self.webhook_secret_of(&app.id, before)).transpose()?.flatten();
            app.webhook_secret = match held {
                Some(held) => Some(held),
                None => {
                    issued.webhook = Some(secrets::webhook_secret()?);
                    issued.webhook.clone()
                }
            };
        }
        Ok(())
    }

    fn admit(&self, app: &MiniApp, records: &AppRecords, replace: bool) -> Result<(), RegistrarError> {
        self.is_ours(&app.id)?;
        match records.get(&app.id) {
            Some(before) if !replace && before.removed.is_some() => {
                return Err(RegistrarError::Removed(app.id.clone()));
            }
            Some(_) if !replace => return Err(RegistrarError::Exists(app.id.clone())),
            _ => {}
        }
        let named = self.named.values().map(|other| (&other.id, other.client_type));
        let stored = records.iter().filter(|(_, record)| record.removed.is_none()).map(|(id, record)| {
            let client_type = record.registration.client_type.as_deref().and_then(ClientType::parse);
            (id, client_type.unwrap_or(ClientType::Public))
        });
        match namesake((&app.id, app.client_type), named.chain(stored)) {
            Some(other) => Err(RegistrarError::Namesake(app.id.clone(), other.clone())),
            None => Ok(()),
        }
    }

    fn record(&self, app: &MiniApp, before: Option<&AppRecord>, now: u64) -> Result<AppRecord, RegistrarError> {
        let mut record = AppRecord::new(Registration::of(app), now);
        let held = before.map(|before| before.secrets.as_slice()).unwrap_or_default();
        let secret = |hash: &[u8; 32]| {
            let known = held.iter().find(|held| held.hash.0 == *hash).cloned();
            known.unwrap_or(ClientSecret { hash: Digest(*hash), created: now, valid_until: None })
        };
        record.secrets = app.secret_hashes.iter().map(secret).collect();
        // Whoever names but the old secret means to go back to it: without one that stays there would soon be none.
        if record.secrets.iter().all(|secret| secret.valid_until.is_some()) {
            record.secrets.iter_mut().for_each(|secret| secret.valid_until = None);
        }
        if app.suspended {
            record.suspended = Some(Suspension { since: now, reason: None });
        }
        match before {
            // Sealed anew it would look changed.
            Some(before) if self.webhook_secret_of(&app.id, before)? == app.webhook_secret => {
                record.webhook_secret.clone_from(&before.webhook_secret);
            }
            _ => self.seal(&mut record, app.webhook_secret.as_ref())?,
        }
        // What cannot be read back must not be written: every edge would stumble over it.
        match record.app(self.keyring.sealer(), now) {
            Ok(read) if read == *app => {}
            Ok(_) => return Err(RegistrarError::Record(app.id.clone(), "it reads back as another one".to_owned())),
            Err(error) => return Err(RegistrarError::Record(app.id.clone(), error.to_string())),
        }
        if let Some(before) = before {
            (record.created, record.changed) = (before.created, before.changed);
            record.suspended = before.suspended.clone().or(record.suspended);
            if record != *before {
                record.changed = now;
            }
        }
        Ok(record)
    }

    /// Gives a mini-app another client secret. The newest of those before is good for `old_valid_for` besides; any older
    /// one ends now.
    ///
    /// # Errors
    /// When there is none of that id, or it keeps no secret.
    pub async fn rotate(&self, id: &MiniAppId, old_valid_for: Duration) -> Result<Rotated, RegistrarError> {
        let secret = secrets::client_secret()?;
        let (hash, now) = (Digest(sha256(secret.expose().as_bytes())), self.clock.unix_secs());
        let old_until = self
            .change(id, now, |record| {
                let app = record.app(self.keyring.sealer(), now);
                let app = app.map_err(|error| RegistrarError::Record(id.clone(), error.to_string()))?;
                if !app.client_type.has_secret() {
                    return Err(RegistrarError::KeepsNoSecret(id.clone()));
                }
                record.secrets.retain(|secret| secret.is_valid(now));
                let older = record.secrets.len().saturating_sub(MAX_SECRETS - 1);
                record.secrets.drain(..older);
                let until = now.saturating_add(old_valid_for.as_secs());
                for old in &mut record.secrets {
                    old.valid_until = Some(old.valid_until.map_or(until, |end| end.min(until)));
                }
                record.secrets.retain(|secret| secret.is_valid(now));
                let old_until = record.secrets.iter().filter_map(|old| old.valid_until).max();
                record.secrets.push(ClientSecret { hash, created: now, valid_until: None });
                Ok(old_until)
            })
            .await?;
        Ok(Rotated { secret, old_until })
    }

    /// Gives a mini-app another webhook secret, in place of the one before at once.
    ///
    /// # Errors
    /// When there is none of that id, or it has no webhook address.
    pub async fn rotate_webhook(&self, id: &MiniAppId) -> Result<Secret, RegistrarError> {
        let secret = secrets::webhook_secret()?;
        let put = |record: &mut AppRecord| {
            if record.registration.webhook_url.is_none() {
                return Err(RegistrarError::NoWebhook(id.clone()));
            }
            self.seal(record, Some(&secret))
        };
        self.change(id, self.clock.unix_secs(), put).await?;
        Ok(secret)
    }

    /// Switches a mini-app off: its tokens are void and it gets no others. Doing so again voids whatever there may be.
    ///
    /// # Errors
    /// When there is none of that id, or `reason` is no line of plain text.
    pub async fn suspend(&self, id: &MiniAppId, reason: Option<String>) -> Result<(), RegistrarError> {
        if reason.as_deref().is_some_and(|reason| !is_name(reason)) {
            return Err(RegistrarError::Reason);
        }
        let now = self.clock.unix_secs();
        let put = |record: &mut AppRecord| {
            let since = record.suspended.as_ref().map_or(now, |suspended| suspended.since);
            let before = record.suspended.take().and_then(|suspended| suspended.reason);
            record.suspended = Some(Suspension { since, reason: reason.clone().or(before) });
            Ok(())
        };
        self.change(id, now, put).await?;
        self.log.append(Revoked::App(id.clone())).await?;
        Ok(())
    }

    /// Switches a mini-app on again. What was issued before stays void.
    ///
    /// # Errors
    /// When there is none of that id, or it is not switched off.
    pub async fn resume(&self, id: &MiniAppId) -> Result<(), RegistrarError> {
        let off = |record: &mut AppRecord| match &record.suspended {
            Some(_) => Ok(()),
            None => Err(RegistrarError::NotSuspended(id.clone())),
        };
        self.change(id, self.clock.unix_secs(), off).await?;
        self.log.append(Revoked::App(id.clone())).await?;
        let on = |record: &mut AppRecord| {
            record.suspended = None;
            Ok(())
        };
        self.change(id, self.clock.unix_secs(), on).await
    }

    /// Removes a mini-app for good: its tokens are void, its secrets gone. Its id stays taken.
    ///
    /// # Errors
    /// When there is none of that id.
    pub async fn remove(&self, id: &MiniAppId) -> Result<(), RegistrarError> {
        let now = self.clock.unix_secs();
        let put = |record: &mut AppRecord| {
            record.removed = Some(now);
            record.secrets.clear();
            record.webhook_secret = None;
            Ok(())
        };
        self.change(id, now, put).await?;
        self.log.append(Revoked::App(id.clone())).await?;
        Ok(())
    }

    /// Seals every webhook secret under the current master key, after that was changed.
    ///
    /// # Errors
    /// When one opens under neither master key.
    pub async fn reseal(&self) -> Result<(), RegistrarError> {
        self.apps
            .update(|records| {
                for (id, record) in records {
                    let resealed = record.reseal(self.keyring.sealer());
                    resealed.map_err(|error| RegistrarError::Record(id.clone(), error.to_string()))?;
                }
                Ok(())
            })
            .await
    }

    async fn change<T>(
        &self,
        id: &MiniAppId,
        now: u64,
        change: impl Fn(&mut AppRecord) -> Result<T, RegistrarError>,
    ) -> Result<T, RegistrarError> {
        self.is_ours(id)?;
        self.apps
            .update(|records| {
                let record = records.get_mut(id).filter(|record| record.removed.is_none());
                let record = record.ok_or_else(|| RegistrarError::Unknown(id.clone()))?;
                let before = record.clone();
                let outcome = change(record)?;
                if *record != before {
                    record.changed = now;
                }
                Ok(outcome)
            })
            .await
    }

    fn is_ours(&self, id: &MiniAppId) -> Result<(), RegistrarError> {
        if self.named.contains_key(id) { Err(RegistrarError::Named(id.clone(), self.file.clone())) } else { Ok(()) }
    }

    fn webhook_secret_of(&self, id: &MiniAppId, record: &AppRecord) -> Result<Option<Secret>, RegistrarError> {
        let opened = record.open_webhook_secret(self.keyring.sealer());
        opened.map_err(|error: RecordError| RegistrarError::Record(id.clone(), error.to_string()))
    }

    fn seal(&self, record: &mut AppRecord, secret: Option<&Secret>) -> Result<(), RegistrarError> {
        let sealed = record.seal_webhook_secret(self.keyring.sealer(), secret);
        sealed.map_err(|error: SealError| RegistrarError::Store(StoreError::Internal(error.to_string())))
    }
}
