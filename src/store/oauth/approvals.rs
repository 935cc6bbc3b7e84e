//! What users have approved: per (user, mini-app, scope), with the time (protocol section 3).
//!
//! All of one user's approvals are a partition, so that the user's own page is one scan. Each approval is a value of its
//! own: two pages open side by side add to each other and cannot undo what the other one did.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Place;
use crate::model::{MiniAppId, Scope, ScopeSet, UserId};
use crate::store::{Backend, Batch, Partition, Read, StoreError};

/// More than mini-apps and scopes of any one user; asked for in one go.
const PAGE: usize = 500;

/// The approvals of everybody.
#[derive(Clone, Debug)]
pub struct Approvals {
    store: Arc<dyn Backend>,
}

/// What one user has approved for one mini-app: scopes with the time of approval, seconds since the Unix epoch.
pub type Approved = BTreeMap<Scope, u64>;

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    at: u64,
}

impl Approvals {
    /// Kept in `store`.
    pub fn new(store: Arc<dyn Backend>) -> Approvals {
        Approvals { store }
    }

    /// What `user` has approved for `app`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn of(&self, user: &UserId, app: &MiniAppId) -> Result<ScopeSet, StoreError> {
        let listed = self.scan(user, &prefix(app)).await?;
        Ok(listed.into_values().flat_map(BTreeMap::into_keys).collect())
    }

    /// Everything that `user` has approved, by mini-app.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, user: &UserId) -> Result<BTreeMap<MiniAppId, Approved>, StoreError> {
        self.scan(user, "").await
    }

    /// Remembers that `user` approved `scopes` for `app` at `at`. What had been approved before keeps its time.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn add(&self, user: &UserId, app: &MiniAppId, scopes: ScopeSet, at: u64) -> Result<(), StoreError> {
        let new = scopes.difference(self.of(user, app).await?);
        if new.is_empty() {
            return Ok(());
        }
        let value =
            serde_json::to_vec(&Stored { v: 1, at }).map_err(|error| StoreError::Internal(error.to_string()))?;
        let batch = Batch::new(partition(user))?;
        let batch = new.iter().fold(batch, |batch, scope| batch.put(name(app, scope), value.clone(), None));
        self.store.apply(batch).await.map(drop)
    }

    /// Forgets that `user` approved `scopes` for `app`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove(&self, user: &UserId, app: &MiniAppId, scopes: ScopeSet) -> Result<(), StoreError> {
        let batch = scopes.iter().fold(Batch::new(partition(user))?, |batch, scope| batch.delete(name(app, scope)));
        self.store.apply(batch).await.map(drop)
    }

    async fn scan(&self, user: &UserId, prefix: &str) -> Result<BTreeMap<MiniAppId, Approved>, StoreError> {
        let partition = partition(user);
        let mut listed: BTreeMap<MiniAppId, Approved> = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.scan(&partition, prefix, after.as_deref(), PAGE, Read::Latest).await?;
            let last = page.len() < PAGE;
            after = page.last().map(|(name, _)| name.clone());
            for (name, entry) in page {
                let stored: Stored = serde_json::from_slice(&entry.value)
                    .map_err(|error| StoreError::Malformed(format!("an approval: {error}")))?;
                // A scope that a later release knows is for that release to show.
                if let Some((app, scope)) = name.split_once('/')
                    && let (Ok(app), Some(scope)) = (MiniAppId::parse(app), Scope::parse(scope))
                {
                    listed.entry(app).or_default().insert(scope, stored.at);
                }
            }
            if last {
                return Ok(listed);
            }
        }
    }
}

fn partition(user: &UserId) -> Partition {
    Place::Approvals.of(user.as_str())
}

/// Neither a mini-app's id nor a scope has a slash in it.
fn prefix(app: &MiniAppId) -> String {
    format!("{app}/")
}

fn name(app: &MiniAppId, scope: Scope) -> String {
    format!("{app}/{scope}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config;
    use crate::metrics::Metrics;
    use crate::store;

    #[tokio::test]
    async fn approvals_are_kept_apart_and_keep_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let place = config::Store::Embedded { path: folder.path().join("store") };
        let metrics = Arc::new(Metrics::new(&[]).unwrap());
        let approvals = Approvals::new(store::open(&place, &Clock::system(), &metrics).unwrap().store);
        let [alice, bob] = ["@alice:tween.example", "@bob:tween.example"].map(|user| UserId::parse(user).unwrap());
        // One id is the beginning of the other.
        let [shop, shop1] = ["ma_shop", "ma_shop1"].map(|app| MiniAppId::parse(app).unwrap());
        let of = ScopeSet::from_list;
        approvals.add(&alice, &shop, of("user:read"), 100).await.unwrap();
        approvals.add(&alice, &shop, of("user:read wallet:balance"), 200).await.unwrap();
        approvals.add(&alice, &shop1, of("wallet:pay"), 300).await.unwrap();
        assert_eq!(approvals.of(&alice, &shop).await.unwrap(), of("user:read wallet:balance"));
        assert_eq!(approvals.of(&bob, &shop).await.unwrap(), ScopeSet::EMPTY);
        let listed = approvals.list(&alice).await.unwrap();
        assert_eq!(listed[&shop], BTreeMap::from([(Scope::UserRead, 100), (Scope::WalletBalance, 200)]));
        approvals.remove(&alice, &shop, of("user:read wallet:pay")).await.unwrap();
        assert_eq!(approvals.of(&alice, &shop).await.unwrap(), of("wallet:balance"));
        assert_eq!(approvals.of(&alice, &shop1).await.unwrap(), of("wallet:pay"));
    }
}
