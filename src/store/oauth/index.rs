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

/// The mini-app and the grant that an entry is about.
pub(super) fn read_name(name: &str) -> Option<(MiniAppId, GrantId)> {
    let (app, id) = name.split_once('/')?;
    Some((MiniAppId::parse(app).ok()?, GrantId::parse(id)?))
}

/// Up to `limit` entries of a user that come after the one named `after`, with their names.
pub(super) async fn page(
    store: &dyn Backend,
    user: &UserId,
    app: Option<&MiniAppId>,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let prefix = app.map_or_else(String::new, |app| format!("{app}/"));
    let page = store.scan(&partition(user), &prefix, after, limit, Read::Latest).await?;
    Ok(page.into_iter().map(|(name, _)| name).collect())
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
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let names = page(store, user, app, after.as_deref(), PAGE).await?;
        found.extend(names.iter().filter_map(|name| read_name(name)));
        let last = names.len() < PAGE;
        after = names.into_iter().last();
        if last {
            return Ok(found);
        }
    }
}
