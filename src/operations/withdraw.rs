//! A user takes a permission back (protocol section 2): what was approved is forgotten, and every access token of the
//! user for that mini-app is void. Grants end with their codes and refresh tokens.
//!
//! When a part is taken back, access tokens end all the same: each says what it may for as long as it lives. The grants
//! stay, with what is left, so the mini-app fetches another token by its refresh token, and the user, who has just said
//! what it may keep, is not asked again.

use super::Services;
use crate::error::Refusal;
use crate::model::oauth::GrantId;
use crate::model::{MiniAppId, Revoked, ScopeSet, UserId};

/// Takes `scopes` back from `app`, or everything. Says what had been approved and is no longer.
///
/// Approvals go first, so that nothing new comes of them while the rest is ended. A grant that is to stay is void from
/// the revocation until it has been made smaller, so that a failure in between leaves nothing in force that was taken
/// back.
///
/// # Errors
/// When the store does not answer. What was not done is done by asking again.
pub async fn withdraw(
    services: &Services,
    user: &UserId,
    app: &MiniAppId,
    scopes: Option<ScopeSet>,
) -> Result<ScopeSet, Refusal> {
    let approved = services.approvals().of(user, app).await?;
    let revoked = scopes.map_or(approved, |scopes| scopes.intersection(approved));
    services.approvals().remove(user, app, revoked).await?;
    // What others have revoked must not come back to life below.
    services.revocations.look().await?;
    let (grants, mut staying) = (services.grants(), Vec::new());
    for (id, held) in grants.of_user(user, Some(app)).await? {
        if scopes.is_none() || services.is_withdrawn(id, &held.value) {
            grants.end(id).await?;
        } else {
            staying.push(id);
        }
    }
    let revocation = services.revocations.revoke(Revoked::Pair(user.clone(), app.clone())).await?;
    for id in staying {
        reduce(services, id, scopes.unwrap_or_default(), revocation.number).await?;
    }
    Ok(revoked)
}

/// Takes `scopes` out of a grant that the revocation of that number has made void, and so lets the rest be used again.
async fn reduce(services: &Services, id: GrantId, scopes: ScopeSet, revocation: u64) -> Result<(), Refusal> {
    let grants = services.grants();
    while let Some(held) = grants.get(id).await? {
        let now = u64::try_from(services.clock.unix().as_millis()).unwrap_or(u64::MAX);
        let Some(rest) = held.value.clone().without(scopes, revocation) else {
            grants.end(id).await?;
            break;
        };
        if grants.change(id, &held, &rest, services.life(&rest, now)).await? {
            break;
        }
        // It was used at the same moment; what that fetched is void.
    }
    Ok(())
}
