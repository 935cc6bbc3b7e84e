//! `POST /oauth2/introspect`: is this token good, and for what? (RFC 7662 section 2; protocol section 3)
//!
//! A client learns of its own tokens, a resource server of the config of everybody's. Of any other token all that is said
//! is that it is not active.

use serde_json::{Value, json};

use crate::error::{Challenge, Code, Refusal};
use crate::metrics::Introspection;
use crate::model::MiniAppId;
use crate::operations::{Call, Local, Services};
use crate::policy::Permit;
use crate::policy::authn::{Caller, Fault};
use crate::store::oauth::{Credential, Grants, Kind};

use super::{form_of, required};

/// What is to be known of the token.
pub async fn answer(permit: &Permit, services: &Services, call: &Call<'_>) -> Result<Local, Refusal> {
    let may_see = match call.caller {
        Caller::ResourceServer(_) => None,
        Caller::Client(client) => Some(&client.app.id),
        _ => {
            let message = "Introspection is for clients that authenticate.";
            return Err(Refusal::new(Code::InvalidToken, message).challenge(Challenge::Basic));
        }
    };
    if !services.verifier.revocations().is_current(services.clock.tick()) {
        // Whoever asks is about to let the token do something.
        return Err(Refusal::new(Code::ServiceUnavailable, "What has been revoked is not known at present.")
            .retry_after(1)
            .inside("the log of revocations has not been seen for more than a second"));
    }
    let form = form_of(permit)?;
    let token = required(&form, "token")?;
    let found = match (Credential::parse(Kind::Refresh, token), may_see) {
        (Some(refresh), Some(app)) => of_refresh(services, &refresh, app).await?,
        // Nobody shows one to a resource server but by mistake; it must not pass for an access token there.
        (Some(_), None) => None,
        (None, _) => of_access(services, token, may_see).await?,
    };
    let result = if found.is_some() { Introspection::Active } else { Introspection::Inactive };
    services.metrics.oauth_introspections.inc(result);
    Ok(Local::secret(found.unwrap_or_else(|| json!({"active": false})).to_string()))
}

async fn of_access(services: &Services, token: &str, may_see: Option<&MiniAppId>) -> Result<Option<Value>, Refusal> {
    let verified = match services.verifier.examine(token, services.clock.unix_secs()).await {
        Ok(verified) => verified,
        Err(fault @ Fault::NoKeys(_)) => return Err(fault.into()),
        Err(_) => return Ok(None),
    };
    let claims = &verified.claims;
    if may_see.is_some_and(|app| *app != claims.app) {
        return Ok(None);
    }
    Ok(Some(json!({
        "active": true,
        "token_type": "Bearer",
        "scope": claims.scopes.to_string(),
        "client_id": claims.app.as_str(),
        "app_id": claims.app.as_str(),
        "username": claims.user.as_str(),
        "sub": claims.user.as_str(),
        "aud": claims.app.as_str(),
        "iss": claims.issuer,
        "iat": claims.issued_at,
        "exp": claims.expires_at,
        "jti": claims.jti,
        "grant_id": claims.grant_id,
    })))
}

async fn of_refresh(services: &Services, token: &Credential, may_see: &MiniAppId) -> Result<Option<Value>, Refusal> {
    let Some(held) = Grants::new(services.store.clone()).get(token.grant()).await? else { return Ok(None) };
    let grant = &held.value;
    let in_force = grant.family.as_ref().is_some_and(|family| family.current == token.hash());
    if !in_force || *may_see != grant.client.app {
        return Ok(None);
    }
    let Some(grant) = services.left_of(token.grant(), grant) else { return Ok(None) };
    // As the next refresh would see it: what the mini-app has given up is not given any more.
    let Some(app) = services.active_app(&grant.client.app) else { return Ok(None) };
    let scopes = grant.scopes.intersection(app.allowed_scopes());
    Ok(Some(json!({
        "active": true,
        "scope": scopes.to_string(),
        "client_id": grant.client.app.as_str(),
        "app_id": grant.client.app.as_str(),
        "username": grant.user.as_str(),
        "sub": grant.user.as_str(),
        "iss": services.config.issuer(),
        "grant_id": token.grant().to_string(),
    })))
}
