//! `POST /oauth2/device/authorization`: a device wants a user asked (RFC 8628 section 3.1; protocol section 3).

use serde_json::json;

use crate::error::{OauthError, Refusal};
use crate::metrics::{OauthFlow, OauthQuestion};
use crate::model::oauth::Device;
use crate::model::oauth::device::INTERVAL;
use crate::operations::{Call, Local, Services};
use crate::policy::Permit;
use crate::store::oauth::Devices;

use super::{client_of, form_of, scopes_of};

/// Gives the device a code to show and a code to ask with.
pub async fn answer(permit: &Permit, services: &Services, call: &Call<'_>) -> Result<Local, Refusal> {
    let begun = begin(permit, services, call).await;
    let question = if begun.is_ok() { OauthQuestion::Put } else { OauthQuestion::Refused };
    services.metrics.oauth_questions.inc(OauthFlow::Device, question);
    begun
}

async fn begin(permit: &Permit, services: &Services, call: &Call<'_>) -> Result<Local, Refusal> {
    let (client, form) = (client_of(call)?, form_of(permit)?);
    let scopes = scopes_of(form.get("scope").unwrap_or_default(), &client.app)?.difference(Device::NEVER);
    if scopes.is_empty() {
        return Err(Refusal::oauth(OauthError::InvalidScope, "A device is never given that scope."));
    }
    let ttl = services.config.oauth.device_ttl;
    let devices = Devices::new(services.store.clone());
    let (device_code, user_code) = devices.begin(client.id.clone(), scopes, services.now(), ttl).await?;
    let page = format!("{}/oauth2/device", services.config.issuer());
    let body = json!({
        "device_code": device_code.expose(),
        "user_code": user_code.to_string(),
        "verification_uri": page,
        "verification_uri_complete": format!("{page}?user_code={user_code}"),
        "expires_in": ttl.as_secs(),
        "interval": INTERVAL,
    });
    Ok(Local::secret(body.to_string()))
}
