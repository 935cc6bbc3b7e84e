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
/// All tokens and grants are made void first, so that nothing is in force that was taken back, wherever this breaks off.
/// Then approvals go, so that nothing new comes of them, and once more everything is made void: what came of them in
/// between. A grant that is to stay holds again once it has been made smaller.
///
/// # Errors
/// When the store does not answer. What was not done is done by asking again.
pub async fn withdraw(
    services: &Services,
    user: &UserId,
    app: &MiniAppId,
    scopes: Option<ScopeSet>,
) -> Result<ScopeSet, Refusal> {
    let (approvals, grants) = (services.approvals(), services.grants());
    let approved = approvals.of(user, app).await?;
    let revoked = scopes.map_or(approved, |scopes| scopes.intersection(approved));
    // What others have revoked must not come back to life below.
    services.revocations.look().await?;
    let mut staying = Vec::new();
    if scopes.is_some() {
        let known = grants.of_user(user, Some(app)).await?.into_iter();
        staying.extend(known.filter(|(id, held)| !services.is_withdrawn(*id, &held.value)).map(|(id, _)| id));
    }
    let everything = Revoked::Pair(user.clone(), app.clone());
    services.revocations.revoke(everything.clone()).await?;
    approvals.remove(user, app, revoked).await?;
    for (id, _) in grants.of_user(user, Some(app)).await? {
        if !staying.contains(&id) {
            grants.end(id).await?;
        }
    }
    let revocation = services.revocations.revoke(everything).await?;
    services.revocations.look().await?;
    for id in staying {
        reduce(services, id, scopes.unwrap_or_default(), revocation.number).await?;
    }
    Ok(revoked)
}

/// Takes `scopes` out of a grant that the revocation of that number has made void, and so lets the rest be used again.
async fn reduce(services: &Services, id: GrantId, scopes: ScopeSet, revocation: u64) -> Result<(), Refusal> {
    let (grants, revocations) = (services.grants(), services.verifier.revocations());
    while let Some(held) = grants.get(id).await? {
        let (grant, now) = (held.value.clone(), services.clock.unix().as_millis());
        let gone = revocations.end_besides_pair(&id.to_string(), &grant.user, &grant.client.app, grant.holds_from);
        let rest = if gone || grant.ended { None } else { grant.without(scopes, revocation) };
        let Some(rest) = rest else {
            grants.end(id).await?;
            break;
        };
        let ttl = services.life(&rest, u64::try_from(now).unwrap_or(u64::MAX));
        if grants.change(id, &held, &rest, ttl).await? {
            break;
        }
        // It was used at the same moment; what that fetched is void.
    }
    Ok(())
}
