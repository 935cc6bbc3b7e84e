//! `grant_type=authorization_code` (RFC 6749 section 4.1.3, RFC 7636 section 4.5).

use super::{invalid_grant, issue, wallet};
use crate::error::Refusal;
use crate::metrics::Reused;
use crate::model::oauth::grant::{Redeemed, Redeemer};
use crate::model::oauth::{Digest, Verifier};
use crate::operations::oauth::{Moment, end, invalid_request, required};
use crate::operations::{Call, Services};
use crate::policy::Form;
use crate::policy::authn::Client;
use crate::store::oauth::{Credential, Grants, Kind};
use crate::store::seal::sha256;

const REFUSED: &str =
    "The code is not valid: expired, redeemed before, another client's, or sent to another redirect_uri.";

/// Redeems a code, once.
pub async fn redeem(services: &Services, client: &Client, form: &Form, call: &Call<'_>) -> Result<String, Refusal> {
    let (code, redirect) = (required(form, "code")?, required(form, "redirect_uri")?);
    let verifier = Verifier::parse(required(form, "code_verifier")?)
        .ok_or_else(|| invalid_request("code_verifier is not 43 to 128 unreserved characters."))?;
    let code = Credential::parse(Kind::Code, code).ok_or_else(|| invalid_grant(REFUSED, "malformed"))?;
    let (id, grants) = (code.grant(), Grants::new(services.store.clone()));
    let moment = Moment::of(services);
    let Some(held) = grants.get(id).await? else { return Err(invalid_grant(REFUSED, "no such grant")) };
    if held.value.ended {
        end(services, id).await?;
    }
    let Some(grant) = services.left_of(id, &held.value) else { return Err(invalid_grant(REFUSED, "withdrawn")) };
    if client.app.redirect_uri(redirect).is_none() {
        // Whoever listens there may be why it was taken out of the registration.
        return Err(invalid_grant(REFUSED, "the redirect URI is not registered any more"));
    }
    let refresh = Credential::another(Kind::Refresh, id)?;
    let by = Redeemer {
        client: &client.id,
        redirect,
        verifier: Digest(sha256(verifier.as_bytes())),
        code: code.hash(),
        arrived_at: call.arrived_at,
    };
    match grant.redeemed(&by, refresh.hash(), moment.now) {
        Redeemed::Done(grant) => {
            let grant = wallet::named(services, &call.trace, *grant).await;
            let answer = issue::answer(services, &client.app, (id, &grant), &refresh, grant.scopes, moment)?;
            if grants.change(id, &held, &grant, services.life(&grant, moment.now)).await? {
                Ok(answer)
            } else {
                Err(invalid_grant(REFUSED, "redeemed by another request at the same moment"))
            }
        }
        Redeemed::Raced => Err(invalid_grant(REFUSED, "redeemed by another request at the same moment")),
        Redeemed::Refused(why) => Err(invalid_grant(REFUSED, why)),
        Redeemed::Reused => {
            log::warn!("grant {id} of {}: its code was used twice, so it ends", client.id);
            services.metrics.oauth_reuse.inc(Reused::Code);
            end(services, id).await?;
            Err(invalid_grant(REFUSED, "used before: the grant has ended"))
        }
    }
}
