//! A user takes a permission back (protocol section 2): what was approved is forgotten, grants end with their refresh
//! tokens, and access tokens that are out there are void.

use std::time::Duration;

use crate::error::Refusal;
use crate::model::{MiniAppId, Revoked, ScopeSet, UserId};
use crate::operations::Services;

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
        // Somebody may be refreshing at this moment: then it is looked at again.
        while let Some(held) = grants.get(id).await? {
            let left = scopes.and_then(|scopes| held.value.clone().without(scopes));
            let Some(left) = left else {
                grants.end(id).await?;
                break;
            };
            if left == held.value || grants.change(id, &held, &left, life(services, &left)).await? {
                break;
            }
        }
    }
    services.revocations.revoke(Revoked::Pair(user.clone(), app.clone())).await?;
    Ok(revoked)
}

fn life(services: &Services, grant: &crate::model::oauth::Grant) -> Duration {
    let now = services.clock.unix();
    let code = grant.family.is_none();
    let most = if code { services.config.oauth.code_ttl } else { services.config.tokens.refresh_ttl };
    grant
        .ends_at
        .map_or(most, |ends| Duration::from_millis(ends).saturating_sub(now).clamp(Duration::from_millis(1), most))
}
