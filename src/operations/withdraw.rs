//! A user takes a permission back (protocol section 2): what was approved is forgotten, grants end with their refresh
//! tokens, and every access token of the user for that mini-app is void.
//!
//! That is so when one scope is taken back, too: a token says what it may for as long as it lives. What is still approved
//! the mini-app gets again without a question.

use super::Services;
use crate::error::Refusal;
use crate::model::{MiniAppId, Revoked, ScopeSet, UserId};

/// Takes `scopes` back from `app`, or everything. Says what had been approved and is no longer.
///
/// Approvals go first, so that nothing new comes of them while the rest is ended. Tokens are voided last: what a grant
/// still issued until then is older than that.
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
    let grants = services.grants();
    for (id, _) in grants.of_user(user, Some(app)).await? {
        grants.end(id).await?;
    }
    services.revocations.revoke(Revoked::Pair(user.clone(), app.clone())).await?;
    Ok(revoked)
}
