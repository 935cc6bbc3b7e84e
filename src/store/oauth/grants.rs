//! Permissions, their codes and their refresh tokens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::value::{self, Held};
use super::{Credential, devices, index, partition, questions};
use crate::model::oauth::grant::REPEAT_WITHIN;
use crate::model::oauth::{Device, Digest, Grant, GrantId};
use crate::model::{MiniAppId, UserId};
use crate::store::revocations::GRANTS_FOR;
use crate::store::{Applied, Backend, Batch, Condition, Read, StoreError};

pub(super) const NAME: &str = "grant";
/// The last token answer, sealed by whoever wrote it, for a client that lost it.
const ANSWER: &str = "answer";
/// Written so that what stands beside it is known to be safe.
const CONFIRMED: &str = "confirmed";

/// Everybody's grants.
#[derive(Clone, Debug)]
pub struct Grants {
    pub(super) store: Arc<dyn Backend>,
}

impl Grants {
    /// Kept in `store`.
    pub fn new(store: Arc<dyn Backend>) -> Grants {
        Grants { store }
    }

    /// A grant, if it lives.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, id: GrantId) -> Result<Option<Held<Grant>>, StoreError> {
        self.read(id, Read::Latest).await
    }

    pub(super) async fn read(&self, id: GrantId, read: Read) -> Result<Option<Held<Grant>>, StoreError> {
        let entry = self.store.get(&partition(id), NAME, read).await?;
        entry.map(|entry| value::read("a grant", &entry)).transpose()
    }

    /// A user's grants that live at `now` (milliseconds since the Unix epoch), to one mini-app or to all.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn of_user(
        &self,
        user: &UserId,
        app: Option<&MiniAppId>,
        now: u64,
    ) -> Result<Vec<(GrantId, Held<Grant>)>, StoreError> {
        let mut found = Vec::new();
        for (app, id, noted_at) in index::list(&*self.store, user, app).await? {
            match self.get(id).await? {
                Some(grant) => found.push((id, grant)),
                None if !index::is_over(noted_at, now) => {}
                None => index::drop_entry(&*self.store, id, user, &app).await?,
            }
        }
        Ok(found)
    }

    /// A new grant, with its first refresh token.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create(&self, id: GrantId, grant: &Grant, ttl: Duration) -> Result<(), StoreError> {
        index::add(&*self.store, id, grant).await?;
        let batch = Batch::new(partition(id))?.when(NAME, Condition::Absent).put(NAME, value::write(grant)?, Some(ttl));
        match self.store.apply(batch).await? {
            Applied::Done => Ok(()),
            Applied::Conflict { .. } => Err(StoreError::Internal("a random id was drawn twice".to_owned())),
        }
    }

    /// A device's grant in place of the device. `false`: another request was faster.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn from_device(
        &self,
        id: GrantId,
        device: &Held<Device>,
        grant: &Grant,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        index::add(&*self.store, id, grant).await?;
        let batch = Batch::new(partition(id))?
            .when(devices::NAME, Condition::Is(device.version))
            .delete(devices::NAME)
            .put(NAME, value::write(grant)?, Some(ttl));
        Ok(self.store.apply(batch).await? == Applied::Done)
    }

    /// A grant changed, with the same life or another. `false`: somebody was faster.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn change(
        &self,
        id: GrantId,
        held: &Held<Grant>,
        changed: &Grant,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        if held.value.family.is_none() && changed.family.is_some() {
            index::add(&*self.store, id, changed).await?;
        }
        let batch = Batch::new(partition(id))?.when(NAME, Condition::Is(held.version)).put(
            NAME,
            value::write(changed)?,
            Some(ttl),
        );
        Ok(self.store.apply(batch).await? == Applied::Done)
    }

    /// A grant with another refresh token in force. `spent` is remembered as long as it would have lived, and `answer` as
    /// long as it may be asked for again. `false`: somebody was faster.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rotate(
        &self,
        id: GrantId,
        held: &Held<Grant>,
        rotated: &Grant,
        spent: Digest,
        answer: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        if rotated.family.as_ref().is_some_and(|family| index::lapses(&held.value, family.rotated_at)) {
            index::add(&*self.store, id, rotated).await?;
        }
        let batch = Batch::new(partition(id))?
            .when(NAME, Condition::Is(held.version))
            .put(NAME, value::write(rotated)?, Some(ttl))
            .put(spent_name(spent), &b"{\"v\":1}"[..], Some(ttl))
            .put(ANSWER, answer, Some(Duration::from_millis(REPEAT_WITHIN)));
        Ok(self.store.apply(batch).await? == Applied::Done)
    }

    /// Sees to it that a grant is safe as it was read. Whoever wrote it may have been told that it is not, and then its
    /// last answer must not be handed out: a fail-over could undo it. `false`: it has changed meanwhile.
    ///
    /// # Errors
    /// When the store fails, or cannot make it safe.
    pub async fn confirm(&self, id: GrantId, held: &Held<Grant>) -> Result<bool, StoreError> {
        let life = Some(Duration::from_millis(REPEAT_WITHIN));
        // Replicas and disks take writes in order: with this one they have all before it.
        let batch = Batch::new(partition(id))?.when(NAME, Condition::Is(held.version)).put(CONFIRMED, "1", life);
        Ok(self.store.apply(batch).await? == Applied::Done)
    }

    /// The last token answer, as long as it may be asked for again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_answer(&self, id: GrantId) -> Result<Option<Bytes>, StoreError> {
        Ok(self.store.get(&partition(id), ANSWER, Read::Latest).await?.map(|entry| entry.value))
    }

    /// Whether a refresh token was once in force, and is spent.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn was_spent(&self, token: &Credential) -> Result<bool, StoreError> {
        let name = spent_name(token.hash());
        Ok(self.store.get(&partition(token.grant()), &name, Read::Latest).await?.is_some())
    }

    /// Marks a grant as ended: its code and its refresh tokens are worth nothing from now on, and whoever ends it next finds
    /// that its access tokens may still be about. `None`: there is no such grant.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn close(&self, id: GrantId) -> Result<Option<Grant>, StoreError> {
        while let Some(held) = self.get(id).await? {
            let ended = Grant { ended: true, ..held.value.clone() };
            if held.value.ended || self.change(id, &held, &ended, GRANTS_FOR).await? {
                return Ok(Some(held.value));
            }
        }
        Ok(None)
    }

    /// Forgets a grant with its code and its refresh tokens. Its access tokens are for the revocations to void. `None`: it
    /// was gone before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end(&self, id: GrantId) -> Result<Option<Grant>, StoreError> {
        let Some(held) = self.get(id).await? else { return Ok(None) };
        let batch = Batch::new(partition(id))?
            .when(NAME, Condition::Present)
            .delete(NAME)
            .delete(ANSWER)
            .delete(devices::NAME)
            .delete(questions::TOLD);
        let ended = self.store.apply(batch).await? == Applied::Done;
        index::drop_entry(&*self.store, id, &held.value.user, &held.value.client.app).await?;
        Ok(ended.then_some(held.value))
    }
}

fn spent_name(hash: Digest) -> String {
    format!("spent/{hash}")
}
