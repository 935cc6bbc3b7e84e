//! Which grants a user has.
//!
//! The list lies in another partition than the grants. An entry is written before its grant is, so no grant is missing
//! from it; readers look at the grant itself, so an entry without one is nothing.

use std::time::Duration;

use super::Place;
use crate::model::oauth::{Grant, GrantId};
use crate::model::{MiniAppId, UserId};
use crate::store::{Backend, Batch, Partition, Read, StoreError};

/// Longer than any grant lives without being used: `tokens.refresh_ttl` is a year at most, in milliseconds.
const UNUSED: u64 = 366 * 86_400_000;
/// As long as somebody may take to redeem a code, and more, in milliseconds.
const UNREDEEMED: u64 = 3_600_000;
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
    read: Read,
) -> Result<Vec<String>, StoreError> {
    let prefix = app.map_or_else(String::new, |app| format!("{app}/"));
    let page = store.scan(&partition(user), &prefix, after, limit, read).await?;
    Ok(page.into_iter().map(|(name, _)| name).collect())
}

/// Notes a grant that is about to be made, or whose code is about to be redeemed.
pub(super) async fn add(store: &dyn Backend, id: GrantId, grant: &Grant) -> Result<(), StoreError> {
    let life = match (&grant.family, grant.ends_at) {
        (None, _) => UNREDEEMED,
        (Some(_), Some(end)) => end.saturating_sub(grant.granted_at).saturating_add(UNREDEEMED),
        // Twice that, so that it need not be noted again at every use: see `lapses`.
        (Some(_), None) => 2 * UNUSED,
    };
    let name = format!("{}/{id}", grant.client.app);
    let batch = Batch::new(partition(&grant.user))?.put(name, &b"{\"v\":1}"[..], Some(Duration::from_millis(life)));
    store.apply(batch).await.map(drop)
}

/// Whether a grant that was used, and is used again at `now`, has to be noted once more: one whose entry is older than a
/// year. So much is left of it then that it lasts until the use after this one.
pub(super) fn lapses(used: &Grant, now: u64) -> bool {
    let years = |at: u64| at.saturating_sub(used.granted_at) / UNUSED;
    used.family.as_ref().is_some_and(|family| years(family.rotated_at) != years(now))
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
        let names = page(store, user, app, after.as_deref(), PAGE, Read::Latest).await?;
        found.extend(names.iter().filter_map(|name| read_name(name)));
        let last = names.len() < PAGE;
        after = names.into_iter().last();
        if last {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ScopeSet;
    use crate::model::oauth::{ClientId, Digest, Via};

    /// Whatever the pauses, none of them longer than a refresh token lives, an entry outlives them.
    #[test]
    fn an_entry_lasts_as_long_as_its_grant_is_used() {
        let grant = Grant::given(
            ClientId::of(MiniAppId::parse("ma_shop").unwrap()),
            UserId::parse("@alice:tween.example").unwrap(),
            ScopeSet::EMPTY,
            Via::Code,
            (1_000, 0),
        );
        const DAY: u64 = 86_400_000;
        for days in [1, 179, 180, 244, 365] {
            let mut used = grant.clone().begun(Digest([1; 32]), grant.granted_at);
            let mut noted_at = grant.granted_at;
            for uses in 1..1_000 {
                let now = grant.granted_at + uses * days * DAY;
                assert!(now < noted_at + 2 * UNUSED, "every {days} days, use {uses}");
                if lapses(&used, now) {
                    noted_at = now;
                }
                used = used.rotated(Digest([2; 32]), now);
            }
        }
    }
}
