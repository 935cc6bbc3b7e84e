//! Authorization requests that wait for a user's answer ("consent sessions"). Each is answered once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::value::{self, Held};
use super::{Credential, Kind, index, partition};
use crate::model::oauth::{Consent, Digest};
use crate::model::{ScopeSet, UserId};
use crate::store::{Applied, Backend, Batch, Condition, Read, StoreError, Version};

pub(super) const NAME: &str = "consent";
/// What the user was told, sealed by whoever wrote it, for a browser that dropped it.
pub(super) const TOLD: &str = "told";

/// Everybody's open questions.
#[derive(Clone, Debug)]
pub struct Questions {
    store: Arc<dyn Backend>,
}

impl Questions {
    /// Kept in `store`.
    pub fn new(store: Arc<dyn Backend>) -> Questions {
        Questions { store }
    }

    /// Puts a question, which waits for `ttl`. The credential goes into the consent page's address.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put(&self, consent: &Consent, ttl: Duration) -> Result<Credential, StoreError> {
        let session = Credential::first(Kind::Consent)?;
        // What is lost in a power cut, the user asks for again.
        let batch = Batch::new(partition(session.grant()))?
            .when(NAME, Condition::Absent)
            .put(NAME, value::write(&Open { hash: session.hash(), consent: consent.clone() })?, Some(ttl))
            .relaxed();
        match self.store.apply(batch).await? {
            Applied::Done => Ok(session),
            Applied::Conflict { .. } => Err(StoreError::Internal("a random id was drawn twice".to_owned())),
        }
    }

    /// The question of that session, as long as it is open.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, session: &Credential) -> Result<Option<Held<Consent>>, StoreError> {
        let Some(entry) = self.store.get(&partition(session.grant()), NAME, Read::Latest).await? else {
            return Ok(None);
        };
        let open: Held<Open> = value::read("a consent session", &entry)?;
        let ours = open.value.hash == session.hash();
        Ok(ours.then_some(Held { value: open.value.consent, version: open.version }))
    }

    /// Binds a question to the user who has proven who they are. `None`: it is somebody else's, or answered.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn identify(
        &self,
        session: &Credential,
        mut held: Held<Consent>,
        user: UserId,
        ttl: Duration,
    ) -> Result<Option<Held<Consent>>, StoreError> {
        while held.value.user.as_ref() != Some(&user) {
            let Some(consent) = held.value.identified(user.clone()) else { return Ok(None) };
            if let Some(bound) = self.replace(session, held.version, consent, ttl).await? {
                return Ok(Some(bound));
            }
            // Somebody was faster, perhaps the same user in another tab.
            let Some(now) = self.get(session).await? else { return Ok(None) };
            held = now;
        }
        Ok(Some(held))
    }

    /// `user` gives a question back that is bound to them: whoever proves next who they are may have it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn release(&self, session: &Credential, user: &UserId, ttl: Duration) -> Result<(), StoreError> {
        while let Some(held) = self.get(session).await?
            && held.value.user.as_ref() == Some(user)
        {
            let consent = Consent { user: None, ..held.value };
            if self.replace(session, held.version, consent, ttl).await?.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// An open question changed; `None`: somebody was faster.
    async fn replace(
        &self,
        session: &Credential,
        version: Version,
        consent: Consent,
        ttl: Duration,
    ) -> Result<Option<Held<Consent>>, StoreError> {
        let open = Open { hash: session.hash(), consent };
        let batch = Batch::new(partition(session.grant()))?
            .when(NAME, Condition::Is(version))
            .put(NAME, value::write(&open)?, Some(ttl))
            .relaxed();
        let version = batch.version;
        let done = self.store.apply(batch).await? == Applied::Done;
        Ok(done.then_some(Held { value: open.consent, version }))
    }

    /// The user's yes to `scopes`: the question is gone and there is a grant with `code`, both or neither. `told` is kept
    /// as long as the code. `false`: nobody has proven who they are, or it was answered before. `now` is in milliseconds
    /// since the Unix epoch, and `known` the last revocation that was known before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn approve(
        &self,
        session: &Credential,
        held: Held<Consent>,
        (scopes, code): (ScopeSet, &Credential),
        told: Bytes,
        (now, known): (u64, u64),
        code_ttl: Duration,
    ) -> Result<bool, StoreError> {
        let Some(grant) = held.value.approved(scopes, code.hash(), now, known) else { return Ok(false) };
        index::add(&*self.store, session.grant(), &grant).await?;
        let batch = Batch::new(partition(session.grant()))?
            .when(NAME, Condition::Is(held.version))
            .delete(NAME)
            .put(super::grants::NAME, value::write(&grant)?, Some(code_ttl))
            .put(TOLD, told, Some(code_ttl));
        Ok(self.store.apply(batch).await? == Applied::Done)
    }

    /// The user's no; `told` is kept for `ttl`. `false`: it was answered before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn refuse(
        &self,
        session: &Credential,
        held: &Held<Consent>,
        told: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let batch = Batch::new(partition(session.grant()))?
            .when(NAME, Condition::Is(held.version))
            .delete(NAME)
            .put(TOLD, told, Some(ttl))
            .relaxed();
        Ok(self.store.apply(batch).await? == Applied::Done)
    }

    /// What the user was told who answered a question not long ago.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn told(&self, session: &Credential) -> Result<Option<Bytes>, StoreError> {
        Ok(self.store.get(&partition(session.grant()), TOLD, Read::Latest).await?.map(|entry| entry.value))
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Open {
    hash: Digest,
    consent: Consent,
}
