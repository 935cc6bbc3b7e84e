//! `POST /api/v1/auth/revoke`: a user withdraws a mini-app's permission, in part or whole (protocol section 2).

use serde::Deserialize;
use serde_json::json;

use super::withdraw::withdraw;
use super::{Call, Local, Services};
use crate::clock::rfc3339;
use crate::error::{Code, Refusal};
use crate::model::{MiniAppId, Scope, ScopeSet, UserId};
use crate::policy::Permit;
use crate::policy::authn::Caller;
use crate::policy::authn::bearer::{self, Credential};

#[derive(Default, Deserialize)]
struct Body {
    miniapp_id: Option<String>,
    scopes: Option<Vec<String>>,
    reason: Option<String>,
}

/// Withdraws, and says what was revoked.
///
/// A Matrix access token is asked about once more, afresh: an answer that is a minute old may be of a session that its
/// user has ended since.
///
/// # Errors
/// 400 for an unknown scope or an empty list, or a Matrix token without a mini-app; 404 for a mini-app that is not registered
/// and was allowed nothing; 403 for another mini-app's TEP token; 401 and 503 as
/// for every token.
pub async fn answer(permit: &Permit, services: &Services, call: &Call<'_>) -> Result<Local, Refusal> {
    let body: Body = match permit.body().filter(|body| !body.is_empty()) {
        Some(body) => serde_json::from_slice(body).map_err(|error| Refusal::internal(error.to_string()))?,
        None => Body::default(),
    };
    let named = body.miniapp_id.as_deref().map(MiniAppId::parse).transpose();
    let named = named.map_err(|error| invalid("/miniapp_id", error.expected))?;
    let (user, app): (UserId, MiniAppId) = match call.caller {
        Caller::Tep(token) => {
            let own = token.claims.app.clone();
            if named.is_some_and(|named| named != own) {
                return Err(Refusal::new(
                    Code::Forbidden,
                    "A mini-app's token withdraws that mini-app's permission alone.",
                ));
            }
            (token.claims.user.clone(), own)
        }
        _ => {
            let Credential::Bearer(token) = bearer::credential(call.headers)? else { return Err(bearer::missing()) };
            let user = services.identify(token).await?;
            (user, named.ok_or_else(|| invalid("/miniapp_id", "the mini-app whose permission is withdrawn"))?)
        }
    };
    let scopes = body.scopes.map(|scopes| {
        let read = |name: &String| Scope::parse(name).ok_or_else(|| invalid("/scopes", "scopes of the protocol"));
        scopes.iter().map(read).collect::<Result<ScopeSet, Refusal>>()
    });
    let scopes = scopes.transpose()?;
    if scopes.is_some_and(ScopeSet::is_empty) {
        // To mean everything by nothing would be a surprise of the worse kind.
        return Err(invalid("/scopes", "at least one scope, or no list at all for everything"));
    }
    let revoked = withdraw(services, &user, &app, scopes).await?;
    let revoked: Vec<&str> = revoked.iter().map(Scope::as_str).collect();
    Ok(Local::secret(
        json!({
            "miniapp_id": app.as_str(), "user_id": user.as_str(), "revoked_scopes": revoked,
            "revoked_at": rfc3339(services.clock.unix_secs()), "reason": body.reason,
        })
        .to_string(),
    ))
}

fn invalid(pointer: &'static str, expected: &str) -> Refusal {
    Refusal::new(Code::ValidationFailed, "The request body is not what this operation takes.")
        .details(json!({"errors": [{"pointer": pointer, "expected": expected}]}))
}
