//! What `tmcp-edge keys` does. Each change is in the store when the call returns, which blocks until then but for
//! revoking, which a running edge does too; edges notice within a second.

use super::{Keyring, KeyringError, PURPOSE};
use crate::policy::authn::verifier::MAX_LIFETIME;
use crate::store;
use crate::store::keys::{KeyDocument, KeyRecord, KeyState};

/// Until a running edge has noticed that a key signs no more, with room to spare, seconds.
const NOTICE: u64 = 60;
/// How long revoked and retired keys stay listed, seconds.
const LISTED_FOR: u64 = 30 * 24 * 3600;

/// A line of `tmcp-edge keys list`. Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLine {
    /// Key id.
    pub kid: String,
    /// State; `None`: retired, every token that it signed has expired.
    pub state: Option<KeyState>,
    /// When it was made.
    pub created: u64,
    /// Since when it signs or when it began to.
    pub signs_since: Option<u64>,
    /// When the last token that it signed expires at the latest.
    pub accepted_until: Option<u64>,
    /// When it was revoked.
    pub revoked: Option<u64>,
}

/// What [`Keyring::rotate`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The key that signs now.
    pub signing: String,
    /// The key that signed until now, if any.
    pub retiring: Option<String>,
    /// For how many seconds the new key has been announced. Verifiers that keep our key set for longer than that do not
    /// know it yet, which the caller should say.
    pub announced_for: u64,
}

impl Keyring {
    /// Makes a key and announces it. Returns its id.
    ///
    /// # Errors
    /// When the ring cannot be read or written.
    pub fn announce(&self, now: u64) -> Result<String, KeyringError> {
        // Made beforehand: it takes a while.
        let record = self.new_record(now)?;
        let kid = record.kid.clone();
        self.change(now, |document| {
            document.keys.push(record.clone());
            Ok(kid.clone())
        })
    }

    /// Sees to it that a key signs, as the first start needs it: an announced one if there is one, else a new one.
    /// Returns its id if that changed anything.
    ///
    /// # Errors
    /// When the ring cannot be read or written.
    pub fn ensure_signing_key(&self, now: u64) -> Result<Option<String>, KeyringError> {
        if self.ring.load().signing.is_some() {
            return Ok(None);
        }
        self.change(now, |document| self.promote(document, now))
    }

    /// The oldest announced key begins to sign; the one that signed until now retires.
    ///
    /// # Errors
    /// [`KeyringError::NothingAnnounced`], or when the ring cannot be read or written.
    pub fn rotate(&self, now: u64) -> Result<Rotated, KeyringError> {
        self.change(now, |document| {
            let next = document.keys.iter().find(|key| key.state == KeyState::Announced);
            let next = next.ok_or(KeyringError::NothingAnnounced)?;
            let announced_for = now.saturating_sub(next.created);
            let mut retiring = None;
            for key in document.keys.iter_mut().filter(|key| key.state == KeyState::Signing) {
                key.state = KeyState::Retiring;
                key.accepted_until = Some(now + MAX_LIFETIME + NOTICE);
                retiring = Some(key.kid.clone());
            }
            let signing = self.promote(document, now)?.ok_or(KeyringError::NothingAnnounced)?;
            Ok(Rotated { signing, retiring, announced_for })
        })
    }

    /// Revokes a key at once: its tokens are void and its private part is destroyed. If it was the one that signs,
    /// another takes its place. Returns the id of the key that signs now, if that changed.
    ///
    /// # Errors
    /// [`KeyringError::NoSuchKey`], or when the ring cannot be read or written.
    pub async fn revoke(&self, kid: &str, now: u64) -> Result<Option<String>, KeyringError> {
        self.changed(now, |document| {
            let key = document.keys.iter_mut().find(|key| key.kid == kid);
            let key = key.ok_or_else(|| KeyringError::NoSuchKey(kid.to_owned()))?;
            let signed = key.state == KeyState::Signing;
            key.state = KeyState::Revoked;
            key.revoked = Some(key.revoked.unwrap_or(now));
            key.sealed = None;
            if signed { self.promote(document, now) } else { Ok(None) }
        })
        .await
    }

    /// The ring's keys, oldest first.
    ///
    /// # Errors
    /// When the ring cannot be read.
    pub fn list(&self, now: u64) -> Result<Vec<KeyLine>, KeyringError> {
        let (document, _) = store::blocking(self.keys.read())?;
        let line = |key: KeyRecord| KeyLine {
            state: Some(key.state).filter(|_| key.revoked.is_some() || key.accepted_until.is_none_or(|t| now < t)),
            kid: key.kid,
            created: key.created,
            signs_since: key.signs_since,
            accepted_until: key.accepted_until,
            revoked: key.revoked,
        };
        Ok(document.keys.into_iter().map(line).collect())
    }

    /// Makes the oldest announced key sign, or a new one when none is announced. Does nothing when one signs already.
    fn promote(&self, document: &mut KeyDocument, now: u64) -> Result<Option<String>, KeyringError> {
        if document.keys.iter().any(|key| key.state == KeyState::Signing) {
            return Ok(None);
        }
        if !document.keys.iter().any(|key| key.state == KeyState::Announced) {
            let fresh = self.new_record(now)?;
            document.keys.push(fresh);
        }
        let next = document.keys.iter_mut().find(|key| key.state == KeyState::Announced);
        Ok(next.map(|key| {
            key.state = KeyState::Signing;
            key.signs_since = Some(now);
            key.kid.clone()
        }))
    }

    fn change<T: Send>(
        &self,
        now: u64,
        change: impl FnMut(&mut KeyDocument) -> Result<T, KeyringError> + Send,
    ) -> Result<T, KeyringError> {
        store::blocking(self.changed(now, change))
    }

    async fn changed<T: Send>(
        &self,
        now: u64,
        mut change: impl FnMut(&mut KeyDocument) -> Result<T, KeyringError> + Send,
    ) -> Result<T, KeyringError> {
        let outcome = self
            .keys
            .update(|document| {
                self.check_master_key(document)?;
                document.master_key = self.sealer.fingerprint();
                let done = |at: Option<u64>| at.is_some_and(|at| at + LISTED_FOR < now);
                document.keys.retain(|key| !done(key.revoked) && !done(key.accepted_until));
                // A retired key's private part has nothing left to do.
                let retired = |key: &&mut KeyRecord| key.accepted_until.is_some_and(|until| until <= now);
                document.keys.iter_mut().filter(retired).for_each(|key| key.sealed = None);
                for key in &mut document.keys {
                    self.seal_afresh(key)?;
                }
                change(document)
            })
            .await?;
        self.refresh().await?;
        Ok(outcome)
    }

    /// Seals every key under the current master key, after the master key was changed. So does every other change of the
    /// ring: a ring is never sealed under two.
    ///
    /// # Errors
    /// When a key does not open under either master key, or the file cannot be written.
    pub fn reseal(&self, now: u64) -> Result<(), KeyringError> {
        self.change(now, |_| Ok(()))
    }

    fn seal_afresh(&self, key: &mut KeyRecord) -> Result<(), KeyringError> {
        let Some(sealed) = &key.sealed else { return Ok(()) };
        let fresh = self.sealer.seals_afresh(PURPOSE, &key.kid, sealed);
        let fresh = fresh.map_err(|error| KeyringError::Key { kid: key.kid.clone(), reason: error.to_string() })?;
        if fresh.is_some() {
            key.sealed = fresh;
        }
        Ok(())
    }
}
