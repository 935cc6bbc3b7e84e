//! What `tmcp-edge app` does. A change is in the store when the call returns; edges that are running notice within a
//! second.
//!
//! Switching a mini-app off is two things: its record, which keeps anything new from being issued, and an epoch in the
//! log of revocations, which voids what is out. The record comes first, so that nothing is issued after the epoch. An edge
//! that has heard of the epoch and not yet of the record could still issue in between; therefore switching on makes
//! another epoch first, and what was issued before a mini-app came back is void whoever issued it. Whatever breaks off in
//! between is made whole by asking again.
//!
//! A record that another release wrote stays as it is, and stands in nobody else's way.

mod add;
mod error;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::add::{Added, Done, Source};
pub use self::error::RegistrarError;
use super::secrets;
use crate::clock::Clock;
use crate::config::Secret;
use crate::config::miniapp::{MAX_SECRETS, is_line};
use crate::model::oauth::Digest;
use crate::model::{MiniAppId, Revoked};
use crate::policy::authn::MiniApps;
use crate::policy::keyring::Keyring;
use crate::store::StoreError;
use crate::store::apps::{AppRecord, AppRecords, AppStore, ClientSecret, RecordError, Suspension};
use crate::store::revocations::RevocationLog;
use crate::store::seal::{SealError, sha256};

/// What [`Registrar::rotate`] did.
#[derive(Debug)]
pub struct Rotated {
    /// The new secret.
    pub secret: Secret,
    /// Until when the old one is good too, seconds since the Unix epoch; `None`: it is not.
    pub old_until: Option<u64>,
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
        if reason.as_deref().is_some_and(|reason| !is_line(reason)) {
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

    /// Removes a mini-app for good: its tokens are void, its secrets gone. Its id stays taken. Doing so again voids whatever
    /// there may be.
    ///
    /// # Errors
    /// When there has been none of that id.
    pub async fn remove(&self, id: &MiniAppId) -> Result<(), RegistrarError> {
        self.is_ours(id)?;
        let now = self.clock.unix_secs();
        let put = |records: &mut AppRecords| {
            let record = known_mut(records, id)?.ok_or_else(|| RegistrarError::Unknown(id.clone()))?;
            if record.removed.is_none() {
                (record.removed, record.changed) = (Some(now), now);
                record.secrets.clear();
                record.webhook_secret = None;
            }
            Ok::<_, RegistrarError>(())
        };
        self.apps.update(put).await?;
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
                    let resealed = record.as_mut().map_err(|error| error.clone());
                    let resealed = resealed.and_then(|record| record.reseal(self.keyring.sealer()));
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
                let record = known_mut(records, id)?.filter(|record| record.removed.is_none());
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

fn known<'a>(records: &'a AppRecords, id: &MiniAppId) -> Result<Option<&'a AppRecord>, RegistrarError> {
    let unreadable = |error: &RecordError| RegistrarError::Record(id.clone(), error.to_string());
    records.get(id).map(|record| record.as_ref().map_err(unreadable)).transpose()
}

fn known_mut<'a>(records: &'a mut AppRecords, id: &MiniAppId) -> Result<Option<&'a mut AppRecord>, RegistrarError> {
    let unreadable = |error: &mut RecordError| RegistrarError::Record(id.clone(), error.to_string());
    records.get_mut(id).map(|record| record.as_mut().map_err(unreadable)).transpose()
}
