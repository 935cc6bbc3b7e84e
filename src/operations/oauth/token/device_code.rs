//! `grant_type=urn:ietf:params:oauth:grant-type:device_code` (RFC 8628 section 3.4).

use super::{invalid_grant, issue, wallet};
use crate::error::{OauthError, Refusal};
use crate::model::oauth::{Grant, Poll};
use crate::operations::Services;
use crate::operations::oauth::{Moment, required};
use crate::policy::Form;
use crate::policy::authn::Client;
use crate::store::oauth::{Credential, Devices, Grants, Kind};
use crate::upstream::forward::Trace;

const REFUSED: &str = "The device code is not valid: redeemed before, or another client's.";

/// Tells a device how far its user is.
pub async fn poll(services: &Services, client: &Client, form: &Form, trace: &Trace) -> Result<String, Refusal> {
    let code = Credential::parse(Kind::Device, required(form, "device_code")?)
        .ok_or_else(|| invalid_grant(REFUSED, "malformed"))?;
    let (id, grants) = (code.grant(), Grants::new(services.store.clone()));
    let devices = Devices::new(services.store.clone());
    let moment = Moment::of(services);
    let Some(held) = devices.get(id).await? else {
        return Err(match grants.get(id).await? {
            Some(_) => invalid_grant(REFUSED, "redeemed before"),
            None => expired(),
        });
    };
    if held.value.hash != code.hash() || !client.id.may_use(&held.value.client) {
        return Err(invalid_grant(REFUSED, "another device's or client's"));
    }
    match held.value.clone().polled(moment.now) {
        Poll::Pending(device) => {
            // Two questions at once: the second one did not wait.
            let waited = devices.change(id, &held, &device, moment.now).await?;
            Err(if waited { pending() } else { slow_down() })
        }
        Poll::SlowDown(device) => {
            devices.change(id, &held, &device, moment.now).await?;
            Err(slow_down())
        }
        Poll::Denied => Err(denied()),
        Poll::Expired => Err(expired()),
        Poll::Granted(grant) => {
            // The yes may have been taken back before the device came for it.
            let grant = services.left_of(id, &grant).ok_or_else(denied)?;
            let refresh = Credential::another(Kind::Refresh, id)?;
            let grant = Grant { client: client.id.clone(), ..grant.begun(refresh.hash(), moment.now) };
            let grant = wallet::named(services, trace, grant).await;
            let answer = issue::answer(services, &client.app, (id, &grant), &refresh, grant.scopes, moment)?;
            if grants.from_device(id, &held, &grant, services.life(&grant, moment.now)).await? {
                Ok(answer)
            } else {
                Err(invalid_grant(REFUSED, "redeemed by another request at the same moment"))
            }
        }
    }
}

fn denied() -> Refusal {
    Refusal::oauth(OauthError::AccessDenied, "The user said no.")
}

fn pending() -> Refusal {
    Refusal::oauth(OauthError::AuthorizationPending, "The user has not answered yet.")
}

fn slow_down() -> Refusal {
    Refusal::oauth(OauthError::SlowDown, OauthError::SLOWER)
}

fn expired() -> Refusal {
    Refusal::oauth(OauthError::ExpiredToken, "The device code has expired. Begin again.")
}
