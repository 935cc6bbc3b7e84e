//! `POST /oauth2/token`: something that a user permitted becomes tokens (RFC 6749 section 3.2; protocol section 3).
//!
//! | file | `grant_type` |
//! |---|---|
//! | `code` | `authorization_code` |
//! | `refresh` | `refresh_token` |
//! | `device_code` | `urn:ietf:params:oauth:grant-type:device_code` |
//! | `exchange` | `urn:ietf:params:oauth:grant-type:token-exchange` |
//! | `issue` | what all four end with |

mod code;
mod device_code;
mod exchange;
mod issue;
mod refresh;

use crate::error::{OauthError, Refusal};
use crate::operations::{Call, Local, Services};
use crate::policy::Permit;

use super::{client_of, form_of, required};

const CODE: &str = "authorization_code";
const REFRESH: &str = "refresh_token";
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// What the endpoint takes.
pub const GRANT_TYPES: [&str; 4] = [CODE, REFRESH, DEVICE, EXCHANGE];

/// Answers with tokens.
pub async fn answer(permit: &Permit, services: &Services, call: &Call<'_>) -> Result<Local, Refusal> {
    let (client, form) = (client_of(call)?, form_of(permit)?);
    let tokens = match required(&form, "grant_type")? {
        CODE => code::redeem(services, client, &form, call.arrived_at).await?,
        REFRESH => refresh::rotate(services, client, &form).await?,
        DEVICE => device_code::poll(services, client, &form).await?,
        EXCHANGE => exchange::delegate(services, client, &form).await?,
        _ => {
            let message = format!("grant_type has to be one of {}.", GRANT_TYPES.join(", "));
            return Err(Refusal::oauth(OauthError::UnsupportedGrantType, message));
        }
    };
    Ok(Local::secret(tokens))
}

fn invalid_grant(message: &'static str, inside: &'static str) -> Refusal {
    Refusal::oauth(OauthError::InvalidGrant, message).inside(inside)
}
