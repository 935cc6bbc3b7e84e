//! Registering mini-apps, or other ones in the place of those that are there.

use std::collections::BTreeMap;

use super::{Registrar, RegistrarError, known};
use crate::config::miniapp::namesake;
use crate::config::{MiniApp, Problems, Registration, Secret};
use crate::model::miniapp::ClientType;
use crate::model::oauth::Digest;
use crate::model::{MiniAppId, Revoked, ScopeSet};
use crate::policy::apps::secrets;
use crate::store::apps::{AppRecord, AppRecords, ClientSecret, Suspension};
use crate::store::seal::sha256;

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

/// One whose tokens are to be void.
struct Void {
    id: MiniAppId,
    /// Whether it was registered before.
    was_there: bool,
}

/// New secrets of one mini-app.
#[derive(Default)]
struct Issued {
    client: Option<Secret>,
    webhook: Option<Secret>,
}

impl Registrar {
    /// Registers mini-apps, all or none. Who keeps a secret and has none is given one; whose webhooks go somewhere, too.
    /// With `replace` they take the place of those with the same ids, whose secrets they keep; one that is suspended stays so.
    ///
    /// # Errors
    /// What is wrong with the first of them that cannot be.
    pub async fn add(&self, source: &Source<'_>, replace: bool) -> Result<Vec<Added>, RegistrarError> {
        let now = self.clock.unix_secs();
        // Nothing is issued to one that is not there, so what it was allowed before can be made void first. Where that
        // fails, no secret has been made that nobody would get to see.
        let (_, voided) = self.put(&mut self.apps.all().await?, source, replace, now)?;
        for void in voided.into_iter().filter(|void| !void.was_there) {
            self.log.append(Revoked::App(void.id)).await?;
        }
        let (added, voided) = self.apps.update(|records| self.put(records, source, replace, now)).await?;
        for void in voided.into_iter().filter(|void| void.was_there) {
            self.log.append(Revoked::App(void.id)).await?;
        }
        Ok(added)
    }

    fn put(
        &self,
        records: &mut AppRecords,
        source: &Source<'_>,
        replace: bool,
        now: u64,
    ) -> Result<(Vec<Added>, Vec<Void>), RegistrarError> {
        let mut issued: BTreeMap<MiniAppId, Issued> = BTreeMap::new();
        let mut failed = None;
        let read = source(&mut |app| {
            let given = issued.entry(app.id.clone()).or_default();
            let before =
                known(records, &app.id).map(|before| before.filter(|before| replace && before.removed.is_none()));
            if let Err(error) = before.and_then(|before| self.complete(app, before, given, now)) {
                failed = Some(error);
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let (mut added, mut voided) = (Vec::new(), Vec::new());
        for app in read.map_err(RegistrarError::Invalid)? {
            self.admit(&app, records, replace)?;
            let held = known(records, &app.id)?;
            let removed = held.is_some_and(|before| before.removed.is_some());
            let before = held.filter(|_| !removed);
            let record = self.record(&app, before, now)?;
            let done = match before {
                None => Done::Registered,
                Some(before) if *before == record => Done::Unchanged,
                Some(_) => Done::Replaced,
            };
            let allowed = before.and_then(|before| before.app(self.keyring.sealer(), now).ok());
            let lost = allowed.map_or(ScopeSet::EMPTY, |before| before.scopes.difference(app.scopes));
            // What it was allowed before it was removed stays void, also where that could not be written down then; so does
            // that of one which is switched off, whoever did so.
            if removed || app.suspended {
                voided.push(Void { id: app.id.clone(), was_there: before.is_some() });
            }
            let Issued { client, webhook } = issued.remove(&app.id).unwrap_or_default();
            records.insert(app.id.clone(), Ok(record));
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
        match known(records, &app.id)? {
            Some(before) if !replace && before.removed.is_some() => {
                return Err(RegistrarError::Removed(app.id.clone()));
            }
            Some(_) if !replace => return Err(RegistrarError::Exists(app.id.clone())),
            _ => {}
        }
        let named = self.named.values().map(|other| (&other.id, other.client_type));
        let stored = records.iter().filter_map(|(id, record)| match record {
            Ok(record) if record.removed.is_some() => None,
            Ok(record) => {
                let client_type = record.registration.client_type.as_deref().and_then(ClientType::parse);
                Some((id, client_type.unwrap_or(ClientType::Public)))
            }
            // It may have a back end.
            Err(_) => Some((id, ClientType::Hybrid)),
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
}
