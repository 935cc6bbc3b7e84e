//! Authorization requests that wait for a user's answer ("consent sessions"). Each is answered once.

use std::sync::Arc;
use std::time::Duration;

use super::value::{self, Held};
use super::{Credential, Kind, index, partition};
use crate::model::oauth::{Consent, Digest};
use crate::model::{ScopeSet, UserId};
use crate::store::{Applied, Backend, Batch, Condition, Read, StoreError};

pub(super) const NAME: &str = "consent";

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

    /// Binds a question to the user who has proven who they are. `None`: it is somebody else's, or somebody was faster.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn identify(
        &self,
        session: &Credential,
        held: Held<Consent>,
        user: UserId,
        ttl: Duration,
    ) -> Result<Option<Held<Consent>>, StoreError> {
        if held.value.user.as_ref() == Some(&user) {
            return Ok(Some(held));
        }
        let Some(consent) = held.value.identified(user) else { return Ok(None) };
        let open = Open { hash: session.hash(), consent };
        let batch = Batch::new(partition(session.grant()))?
            .when(NAME, Condition::Is(held.version))
            .put(NAME, value::write(&open)?, Some(ttl))
            .relaxed();
        let version = batch.version;
        Ok(match self.store.apply(batch).await? {
            Applied::Done => Some(Held { value: open.consent, version }),
            Applied::Conflict { .. } => None,
        })
    }

    /// The user's yes to `scopes`: the question is gone and there is a grant with a code, both or neither. `None`: nobody
    /// has proven who they are, or it was answered before. `now` is in milliseconds since the Unix epoch, and `known` the
    /// last revocation that was known before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn approve(
        &self,
        session: &Credential,
        held: Held<Consent>,
        scopes: ScopeSet,
        (now, known): (u64, u64),
        code_ttl: Duration,
    ) -> Result<Option<Credential>, StoreError> {
        let code = Credential::another(Kind::Code, session.grant())?;
        let Some(grant) = held.value.approved(scopes, code.hash(), now, known) else { return Ok(None) };
        index::add(&*self.store, session.grant(), &grant).await?;
        let batch = Batch::new(partition(session.grant()))?.when(NAME, Condition::Is(held.version)).delete(NAME).put(
            super::grants::NAME,
            value::write(&grant)?,
            Some(code_ttl),
        );
        Ok((self.store.apply(batch).await? == Applied::Done).then_some(code))
    }

    /// The user's no. `false`: it was answered before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn refuse(&self, session: &Credential, held: &Held<Consent>) -> Result<bool, StoreError> {
        let batch =
            Batch::new(partition(session.grant()))?.when(NAME, Condition::Is(held.version)).delete(NAME).relaxed();
        Ok(self.store.apply(batch).await? == Applied::Done)
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Open {
    hash: Digest,
    consent: Consent,
}
