//! Which grants a user has.
//!
//! The list lies in another partition than the grants. An entry is written before its grant is, so no grant is missing
//! from it; readers look at the grant itself, so an entry without one is nothing. Nor is it dropped by one who finds it so
//! before the grant can no longer come.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Place, value};
use crate::model::oauth::{Grant, GrantId};
use crate::model::{MiniAppId, UserId};
use crate::store::{Backend, Batch, Entry, Partition, Read, StoreError};

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

/// What an entry says.
#[derive(Default, Serialize, Deserialize)]
struct Noted {
    /// When its grant was about to be made, milliseconds since the Unix epoch.
    #[serde(default)]
    at: u64,
}

/// Up to `limit` entries of a user that come after the one named `after`, by name.
pub(super) async fn page(
    store: &dyn Backend,
    user: &UserId,
    app: Option<&MiniAppId>,
    after: Option<&str>,
    limit: usize,
    read: Read,
) -> Result<Vec<(String, Entry)>, StoreError> {
    let prefix = app.map_or_else(String::new, |app| format!("{app}/"));
    store.scan(&partition(user), &prefix, after, limit, read).await
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
    let noted = value::write(&Noted { at: grant.granted_at })?;
    let batch = Batch::new(partition(&grant.user))?.put(name, noted, Some(Duration::from_millis(life)));
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

/// Whether an entry whose grant is not there may be dropped at `now`: the grant is not just being made.
pub(super) fn is_over(noted_at: u64, now: u64) -> bool {
    now.saturating_sub(noted_at) > UNREDEEMED
}

/// The ids that are noted for a user, of one mini-app or of all, each with the time when it was noted.
pub(super) async fn list(
    store: &dyn Backend,
    user: &UserId,
    app: Option<&MiniAppId>,
) -> Result<Vec<(MiniAppId, GrantId, u64)>, StoreError> {
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let entries = page(store, user, app, after.as_deref(), PAGE, Read::Latest).await?;
        for (name, entry) in &entries {
            if let Some((app, id)) = read_name(name) {
                // One that a later release wrote, or that is damaged, is kept: its name says all that is needed.
                let at =
                    value::read::<Noted>("an entry of a user's list", entry).map_or(u64::MAX, |noted| noted.value.at);
                found.push((app, id, at));
            }
        }
        let last = entries.len() < PAGE;
        after = entries.into_iter().last().map(|(name, _)| name);
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
