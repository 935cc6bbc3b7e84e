//! `GET /oauth2/authorize`: a client wants a user asked (RFC 6749 section 4.1.1, RFC 7636 section 4.3; protocol section 3).
//!
//! As long as it is not certain where the answer may go, errors are shown here and go nowhere: the edge is no open
//! redirector (RFC 9700 section 4.11). From then on they go to the client, with its `state` and our `iss` (RFC 9207).

use http::StatusCode;

use super::{invalid_request, scopes_of};
use crate::config::MiniApp;
use crate::config::oauth::SESSION;
use crate::error::{OauthError, Refusal};
use crate::metrics::{OauthFlow, OauthQuestion};
use crate::model::oauth::consent::address;
use crate::model::oauth::{Challenge, ClientId, Consent};
use crate::operations::{Call, Local, Services};
use crate::policy::{Form, Permit};
use crate::store::oauth::Questions;

/// Longest `state`, bytes.
const MAX_STATE: usize = 2048;

/// Checks the request and sends the user's browser to the consent page.
pub async fn answer(_permit: &Permit, services: &Services, call: &Call<'_>) -> Result<Local, Refusal> {
    let asked = ask(services, call).await;
    let question = asked.as_ref().map_or(OauthQuestion::Refused, |(question, _)| *question);
    services.metrics.oauth_questions.inc(OauthFlow::Code, question);
    asked.map(|(_, answer)| answer)
}

async fn ask(services: &Services, call: &Call<'_>) -> Result<(OauthQuestion, Local), Refusal> {
    let form = Form::parse(call.query.unwrap_or_default().as_bytes())?;
    let name = super::required(&form, "client_id")?;
    let registry = services.verifier.registry();
    let app = registry.resolve(name).and_then(|id| registry.get(&id));
    let app = app.ok_or_else(|| invalid_request("There is no such client. Whoever sent you here has to mend that."))?;
    if app.suspended {
        return Err(Refusal::oauth(OauthError::UnauthorizedClient, "The mini-app is suspended."));
    }
    let client = ClientId { backend: app.id.as_str() != name, app: app.id.clone() };
    let redirect = super::required(&form, "redirect_uri")?;
    if app.redirect_uri(redirect).is_none() {
        return Err(invalid_request("redirect_uri is none that the mini-app has registered."));
    }
    let state = form.get("state").filter(|state| state.len() <= MAX_STATE);
    let issuer = services.config.issuer();
    let consent = match checked(&form, client, &app, redirect, state, services.now()) {
        Ok(consent) => consent,
        Err(refusal) => {
            let error = refusal.oauth_error().unwrap_or(OauthError::InvalidRequest);
            let description = refusal.oauth_description();
            let answer = [("error", error.as_str()), ("error_description", description.as_str())];
            return Ok((OauthQuestion::Refused, Local::see_other(&address(redirect, state, issuer, &answer))?));
        }
    };
    let put = Questions::new(services.store.clone()).put(&consent, services.config.oauth.session_ttl).await;
    let session = match put.map_err(Refusal::from) {
        Ok(session) => session,
        Err(refusal) => {
            // A status cannot travel in a redirect, and whoever waits for one is to hear of it (RFC 6749 section 4.1.2.1).
            let unavailable = refusal.status() == StatusCode::SERVICE_UNAVAILABLE;
            let error = if unavailable { "temporarily_unavailable" } else { "server_error" };
            log::error!("an authorization request of {} cannot be kept: {refusal}", consent.client);
            let answer = [("error", error), ("error_description", "Try again shortly.")];
            return Ok((OauthQuestion::Failed, Local::see_other(&address(redirect, state, issuer, &answer))?));
        }
    };
    let page = match &services.config.oauth.consent_url {
        Some(template) => template.replace(SESSION, session.expose()),
        None => format!("{issuer}/oauth2/consent?session={}", session.expose()),
    };
    Ok((OauthQuestion::Put, Local::see_other(&page)?))
}

fn checked(
    form: &Form,
    client: ClientId,
    app: &MiniApp,
    redirect: &str,
    state: Option<&str>,
    now: u64,
) -> Result<Consent, Refusal> {
    if form.get("request").is_some() {
        return Err(Refusal::oauth(OauthError::RequestNotSupported, "request is not supported."));
    }
    if form.get("request_uri").is_some() {
        return Err(Refusal::oauth(OauthError::RequestUriNotSupported, "request_uri is not supported."));
    }
    if form.get("state") != state {
        return Err(invalid_request("state is too long."));
    }
    if super::required(form, "response_type")? != "code" {
        return Err(Refusal::oauth(OauthError::UnsupportedResponseType, "response_type has to be code."));
    }
    if form.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(invalid_request("response_mode has to be query."));
    }
    // Left out, the method would be `plain` (RFC 7636 section 4.3), which keeps nobody from anything.
    if form.get("code_challenge_method") != Some("S256") {
        return Err(invalid_request("PKCE is required: code_challenge_method has to be S256."));
    }
    let challenge = Challenge::parse(super::required(form, "code_challenge")?)
        .ok_or_else(|| invalid_request("code_challenge is not the base64url of a SHA-256."))?;
    let scopes = scopes_of(form.get("scope").unwrap_or_default(), app)?;
    let (redirect, state) = (redirect.to_owned(), state.map(str::to_owned));
    Ok(Consent { client, redirect, state, scopes, challenge, user: None, asked_at: now })
}
