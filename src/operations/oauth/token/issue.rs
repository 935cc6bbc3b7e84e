//! The token answer (RFC 6749 section 5.1, RFC 8693 section 2.2.1; protocol section 3).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::config::MiniApp;
use crate::error::Refusal;
use crate::model::ScopeSet;
use crate::model::oauth::{Grant, GrantId, Via};
use crate::operations::Services;
use crate::operations::oauth::Moment;
use crate::policy::keyring::TokenRequest;
use crate::store::oauth::Credential;

/// RFC 8693 section 3, ours.
pub const TEP: &str = "urn:tmcp:params:oauth:token-type:tep";

#[derive(Serialize)]
struct Tokens<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_in: u64,
    refresh_token: &'a str,
    scope: String,
    user_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    wallet_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delegated_session: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preapproved_scopes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    privileged: Option<bool>,
}

/// An access token for `scopes` of `grant`, no more than the mini-app still has registered, and the answer that it goes
/// out in.
pub fn answer(
    services: &Services,
    app: &MiniApp,
    (id, grant): (GrantId, &Grant),
    refresh: &Credential,
    scopes: ScopeSet,
    Moment { now, known }: Moment,
) -> Result<String, Refusal> {
    let scopes = scopes.intersection(grant.scopes).intersection(app.allowed_scopes());
    let seconds = now / 1000;
    let left = grant.ends_at.map_or(u64::MAX, |end| end.saturating_sub(now) / 1000).max(1);
    let ttl = services.config.tokens.access_ttl.as_secs().min(left);
    let privileged = app.official();
    let wallet = grant.wallet.as_deref().filter(|_| scopes.intersects(ScopeSet::WALLET));
    let request = TokenRequest {
        grant_id: Some(id.to_string()),
        wallet_id: wallet.map(str::to_owned),
        room: grant.room.clone(),
        launch_source: grant.launch_source.clone(),
        known: Some(known),
        privileged_until: privileged.then_some(seconds + ttl),
        ..TokenRequest::new(grant.user.clone(), app.id.clone(), scopes, ttl)
    };
    let token = services.keyring.mint(services.config.issuer(), &request, seconds);
    let token = token.map_err(|error| Refusal::internal(error.to_string()))?;
    let delegated = grant.via == Via::Delegation;
    let tokens = Tokens {
        access_token: &token,
        token_type: "Bearer",
        expires_in: ttl,
        refresh_token: refresh.expose(),
        scope: scopes.to_string(),
        user_id: grant.user.as_str(),
        wallet_id: wallet,
        issued_token_type: delegated.then_some(TEP),
        delegated_session: delegated.then_some(true),
        preapproved_scopes: privileged.then(|| app.preapproved_scopes.to_string()),
        privileged: privileged.then_some(true),
    };
    serde_json::to_string(&tokens).map_err(|error| Refusal::internal(error.to_string()))
}

/// The scopes that a kept answer is for.
pub fn scopes_of_answer(kept: &str) -> Result<ScopeSet, Refusal> {
    #[derive(Deserialize)]
    struct Kept<'a> {
        #[serde(borrow)]
        scope: Cow<'a, str>,
    }
    let kept: Kept<'_> =
        serde_json::from_str(kept).map_err(|error| Refusal::internal(format!("a kept token answer: {error}")))?;
    Ok(ScopeSet::from_list(&kept.scope))
}
