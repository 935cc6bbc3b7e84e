//! Which grants a user has.
//!
//! The list lies in another partition than the grants. An entry is written before its grant is, so no grant is missing
//! from it; readers look at the grant itself, so an entry without one is nothing.

use std::time::Duration;

use super::Place;
use crate::model::oauth::{Grant, GrantId};
use crate::model::{MiniAppId, UserId};
use crate::store::{Backend, Batch, Partition, Read, StoreError};

/// Longer than any grant lives without being used: `tokens.refresh_ttl` is a year at most.
const TTL: Duration = Duration::from_secs(366 * 86_400);
/// Entries that are read at a time.
const PAGE: usize = 500;

fn partition(user: &UserId) -> Partition {
    Place::Grants.of(user.as_str())
}

/// Notes a grant that is about to be made, or is used.
pub(super) async fn add(store: &dyn Backend, id: GrantId, grant: &Grant) -> Result<(), StoreError> {
    let name = format!("{}/{id}", grant.client.app);
    store.apply(Batch::new(partition(&grant.user))?.put(name, &b"{\"v\":1}"[..], Some(TTL))).await.map(drop)
}

/// Forgets a grant that is no more.
pub(super) async fn drop_entry(
    store: &dyn Backend,
    id: GrantId,
    user: &UserId,
    app: &MiniAppId,
) -> Result<(), StoreError> {
    store.apply(Batch::new(partition(user))?.delete(format!("{app}/{id}")).relaxed()).await.map(drop)
}

/// The ids that are noted for a user, of one mini-app or of all.
pub(super) async fn list(
    store: &dyn Backend,
    user: &UserId,
    app: Option<&MiniAppId>,
) -> Result<Vec<(MiniAppId, GrantId)>, StoreError> {
    let (partition, prefix) = (partition(user), app.map_or_else(String::new, |app| format!("{app}/")));
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = store.scan(&partition, &prefix, after.as_deref(), PAGE, Read::Latest).await?;
        let last = page.len() < PAGE;
        after = page.last().map(|(name, _)| name.clone());
        found.extend(page.iter().filter_map(|(name, _)| {
            let (app, id) = name.split_once('/')?;
            Some((MiniAppId::parse(app).ok()?, GrantId::parse(id)?))
        }));
        if last {
            return Ok(found);
        }
    }
}
