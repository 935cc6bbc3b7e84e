//! `POST /oauth2/token`: something that a user permitted becomes tokens (RFC 6749 section 3.2; protocol section 3).
//!
//! | file | `grant_type` |
//! |---|---|
//! | `code` | `authorization_code` |
//! | `refresh` | `refresh_token` |
//! | `device_code` | `urn:ietf:params:oauth:grant-type:device_code` |
//! | `exchange` | `urn:ietf:params:oauth:grant-type:token-exchange` |
//! | `wallet` | which wallet the user has |
//! | `issue` | what all four end with |

mod code;
mod device_code;
mod exchange;
mod issue;
mod refresh;
mod wallet;

use crate::error::{OauthError, Refusal};
use crate::metrics::{GrantType, Issuance};
use crate::model::oauth::device::GRANT_TYPE as DEVICE;
use crate::operations::{Call, Local, Services};
use crate::policy::Permit;

use super::{client_of, form_of, required};

const CODE: &str = "authorization_code";
const REFRESH: &str = "refresh_token";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// What the endpoint takes.
pub const GRANT_TYPES: [&str; 4] = [CODE, REFRESH, DEVICE, EXCHANGE];

/// Answers with tokens.
pub async fn answer(permit: &Permit, services: &Services, call: &Call<'_>) -> Result<Local, Refusal> {
    let (client, form) = (client_of(call)?, form_of(permit)?);
    let (grant_type, tokens) = match required(&form, "grant_type")? {
        CODE => (GrantType::AuthorizationCode, code::redeem(services, client, &form, call).await),
        REFRESH => (GrantType::RefreshToken, refresh::rotate(services, client, &form, &call.trace).await),
        DEVICE => (GrantType::DeviceCode, device_code::poll(services, client, &form, &call.trace).await),
        EXCHANGE => (GrantType::TokenExchange, exchange::delegate(services, client, &form, &call.trace).await),
        _ => {
            let message = format!("grant_type has to be one of {}.", GRANT_TYPES.join(", "));
            return Err(Refusal::oauth(OauthError::UnsupportedGrantType, message));
        }
    };
    services.metrics.oauth_tokens.inc(grant_type, outcome(&tokens));
    tokens.map(Local::secret)
}

fn outcome(tokens: &Result<String, Refusal>) -> Issuance {
    let Err(refusal) = tokens else { return Issuance::Issued };
    match refusal.oauth_error() {
        Some(OauthError::AuthorizationPending) => Issuance::Pending,
        Some(OauthError::SlowDown) => Issuance::SlowDown,
        Some(OauthError::AccessDenied) => Issuance::Denied,
        Some(OauthError::ExpiredToken) => Issuance::Expired,
        Some(OauthError::ConsentRequired) => Issuance::ConsentRequired,
        _ if refusal.status().is_server_error() => Issuance::Failed,
        _ => Issuance::Refused,
    }
}

fn invalid_grant(message: &'static str, inside: &'static str) -> Refusal {
    Refusal::oauth(OauthError::InvalidGrant, message).inside(inside)
}
