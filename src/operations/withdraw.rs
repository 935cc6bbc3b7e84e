//! A user takes a permission back (protocol section 2): what was approved is forgotten, and every access token of the
//! user for that mini-app is void. Grants end with their codes and refresh tokens.
//!
//! When a part is taken back, access tokens end all the same: each says what it may for as long as it lives. The grants
//! stay, with what is left, so the mini-app fetches another token by its refresh token, and the user, who has just said
//! what it may keep, is not asked again.
//!
//! The log of revocations decides what is in force, so all of this is one entry in it: a grant lacks the scopes that the log
//! took back since it was given, whatever its record says. Nothing that is void has to be brought back to life for the
//! rest to go on, which could undo what somebody else revokes at the same moment.

use super::Services;
use crate::error::{Code, Refusal};
use crate::model::{MiniAppId, Revoked, ScopeSet, UserId};

/// Takes `scopes` back from `app`, or everything. Says what had been approved and is no longer.
///
/// First comes the revocation, so that nothing is in force that was taken back, wherever this breaks off. Approvals go with it
/// ([`RevocationLog::append`](crate::store::revocations::RevocationLog::append)).
///
/// # Errors
/// 404 `MINIAPP_NOT_FOUND` for one that nobody knows; 503 when the store does not answer, and what was not done is done by
/// asking again.
pub async fn withdraw(
    services: &Services,
    user: &UserId,
    app: &MiniAppId,
    scopes: Option<ScopeSet>,
) -> Result<ScopeSet, Refusal> {
    let (grants, now) = (services.grants(), services.now());
    let approved = services.approvals().of(user, app).await?;
    if services.app(app).is_none() && approved.is_empty() && grants.of_user(user, Some(app), now).await?.is_empty() {
        // What nobody has registered, and nobody was allowed, must not fill the log of revocations.
        return Err(Refusal::new(Code::MiniappNotFound, "There is no such mini-app, and it was allowed nothing."));
    }
    let revoked = scopes.map_or(approved, |scopes| scopes.intersection(approved));
    let what = match scopes {
        None => Revoked::Pair(user.clone(), app.clone()),
        Some(scopes) => Revoked::Scopes(user.clone(), app.clone(), scopes),
    };
    services.revocations.revoke(what).await?;
    for (id, held) in grants.of_user(user, Some(app), now).await? {
        if services.left_of(id, &held.value).is_none() {
            grants.end(id).await?;
        }
    }
    Ok(revoked)
}
