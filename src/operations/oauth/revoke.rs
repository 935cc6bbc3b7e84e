//! `POST /oauth2/revoke`: a client gives a token back (RFC 7009 section 2; protocol section 3).
//!
//! A refresh token takes its whole grant along, access tokens included. What is not a token of this client's is answered
//! as if it had been one: the client wants it to be worth nothing, and to this client it is (RFC 7009 section 2.2).

use crate::error::{OauthError, Refusal};
use crate::model::Revoked;
use crate::model::oauth::GrantId;
use crate::model::token::TepClaims;
use crate::operations::{Call, Local, Services};
use crate::policy::Permit;
use crate::policy::authn::{Client, Fault};
use crate::store::oauth::{Credential, Grants, Kind};

use super::{client_of, end, form_of, required};

/// Makes the token worth nothing.
pub async fn answer(permit: &Permit, services: &Services, call: &Call<'_>) -> Result<Local, Refusal> {
    let (client, form) = (client_of(call)?, form_of(permit)?);
    let token = required(&form, "token")?;
    if let Some(refresh) = Credential::parse(Kind::Refresh, token) {
        let grants = Grants::new(services.store.clone());
        if let Some(held) = grants.get(refresh.grant()).await?
            && client.id.may_use(&held.value.client)
        {
            // Knowing the grant's id, which every access token tells, is not enough.
            let family = held.value.family.as_ref();
            let in_force = family.is_some_and(|family| family.current == refresh.hash());
            if in_force || grants.was_spent(&refresh).await? {
                end(services, refresh.grant()).await?;
            }
        }
    } else {
        match services.verifier.examine(token, services.clock.unix_secs()).await {
            Ok(verified)
                if verified.claims.app == client.app.id && is_its(services, client, &verified.claims).await? =>
            {
                let (jti, expires_at) = (verified.claims.jti.clone(), verified.claims.expires_at);
                let jti = jti.ok_or_else(nameless)?;
                services.revocations.revoke(Revoked::Token { jti, expires_at }).await?;
            }
            // Nobody knows whether it is one: not the moment to say that it is worth nothing (RFC 7009 section 2.2.1).
            Err(fault @ Fault::NoKeys(_)) => return Err(fault.into()),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(Local::secret("{}"))
}

/// Whether an access token of a client's mini-app is the client's own: the front of a hybrid one, which shows no secret, must
/// not be able to end what its back end has.
async fn is_its(services: &Services, client: &Client, claims: &TepClaims) -> Result<bool, Refusal> {
    let grant = claims.grant_id.as_deref().filter(|_| claims.issuer == services.config.issuer());
    let Some(id) = grant.and_then(GrantId::parse) else { return Ok(true) };
    let held = services.grants().get(id).await?;
    Ok(held.is_none_or(|held| client.id.may_use(&held.value.client)))
}

/// A trusted issuer's token that bears no name of its own stays good. A `grant_id` in it is the issuer's, and may be
/// spelled like one of ours that is another mini-app's.
fn nameless() -> Refusal {
    let message = "A token without jti cannot be revoked here; its issuer has to do it, or it expires.";
    Refusal::oauth(OauthError::UnsupportedTokenType, message)
}
