//! `grant_type=urn:ietf:params:oauth:grant-type:token-exchange`: a Matrix session becomes a mini-app's (RFC 8693 section
//! 2.1; protocol section 3, "Matrix session delegation").
//!
//! Nobody is asked here, so nothing is given that the user has not approved before; what is missing, the answer names.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{issue, wallet};
use crate::error::{Code, OauthError, Refusal};
use crate::model::oauth::{Grant, Via};
use crate::model::{RoomId, ScopeSet, UserId};
use crate::operations::Services;
use crate::operations::oauth::{Moment, invalid_request, required, scopes_of};
use crate::policy::Form;
use crate::policy::authn::Client;
use crate::store::oauth::{Approvals, Credential, Grants, Kind};
use crate::upstream::forward::Trace;
use crate::upstream::homeserver::RoomError;

/// What a Matrix access token is to RFC 8693.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// A delegated session can be refreshed for so long (protocol section 3).
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// Longest `launch_source`, bytes.
const MAX_LAUNCH_SOURCE: usize = 64;

#[derive(Default, Deserialize)]
struct Context {
    room_id: Option<String>,
    launch_source: Option<String>,
}

/// Tokens for the user whose Matrix access token was shown.
pub async fn delegate(services: &Services, client: &Client, form: &Form, trace: &Trace) -> Result<String, Refusal> {
    let token = required(form, "subject_token")?;
    check(form, client)?;
    let context = context(form)?;
    let asked = form.get("scope").map(|list| scopes_of(list, &client.app)).transpose()?;

    // What is taken back from here on, wherever that is, takes the session along.
    services.look().await?;
    let moment = Moment::of(services);
    let identities = services.identities.as_ref().ok_or_else(|| {
        Refusal::new(Code::ServiceUnavailable, "Matrix access tokens cannot be checked here.")
            .inside("no homeserver upstream is configured")
    })?;
    let user = identities.whose(token).await.map_err(of_subject)?.user;

    let app = &client.app;
    let free = app.preapproved_scopes.union(ScopeSet::UNASKED);
    let approved = Approvals::new(services.store.clone()).of(&user, &app.id).await?.union(free);
    let scopes = asked.unwrap_or_else(|| approved.intersection(app.allowed_scopes()));
    let missing = scopes.difference(approved);
    if !missing.is_empty() {
        return Err(consent_required(services, missing, scopes.intersection(free)));
    }
    if let Some(room) = &context.room {
        check_room(services, room, &user).await?;
    }

    let refresh = Credential::first(Kind::Refresh)?;
    let grant = Grant {
        room: context.room,
        launch_source: context.launch_source,
        ends_at: Some(moment.now + u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX)),
        ..Grant::given(client.id.clone(), user, scopes, Via::Delegation, (moment.now, moment.known))
    };
    let grant = wallet::named(services, trace, grant).await;
    let (id, grant) = (refresh.grant(), grant.begun(refresh.hash(), moment.now));
    let answer = issue::answer(services, app, (id, &grant), &refresh, scopes, moment)?;
    Grants::new(services.store.clone()).create(id, &grant, services.life(&grant, moment.now)).await?;
    Ok(answer)
}

fn check(form: &Form, client: &Client) -> Result<(), Refusal> {
    if required(form, "subject_token_type")? != ACCESS_TOKEN {
        return Err(invalid_request(format!("subject_token_type has to be {ACCESS_TOKEN}.")));
    }
    if form.get("requested_token_type").is_some_and(|kind| kind != issue::TEP) {
        return Err(invalid_request(format!("requested_token_type has to be {}.", issue::TEP)));
    }
    if form.get("actor_token").is_some() || form.get("actor_token_type").is_some() {
        return Err(invalid_request("actor_token is not supported."));
    }
    let ours = |audience: &str| audience == client.app.id.as_str() || audience == "tmcp-server";
    if form.get("resource").is_some() || form.get("audience").is_some_and(|audience| !ours(audience)) {
        return Err(Refusal::oauth(
            OauthError::InvalidTarget,
            "Tokens are for the mini-app itself, and for this server.",
        ));
    }
    Ok(())
}

struct Checked {
    room: Option<RoomId>,
    launch_source: Option<String>,
}

fn context(form: &Form) -> Result<Checked, Refusal> {
    let read = |json: &str| serde_json::from_str(json);
    let context: Context = form.get("miniapp_context").map(read).transpose().map_or_else(
        |_| Err(invalid_request("miniapp_context is not a JSON object with room_id and launch_source.")),
        |context| Ok(context.unwrap_or_default()),
    )?;
    let room = context.room_id.as_deref().map(RoomId::parse).transpose();
    let room = room.map_err(|_| invalid_request("miniapp_context.room_id is not a room id."))?;
    let plain = |source: &String| source.len() <= MAX_LAUNCH_SOURCE && source.bytes().all(|b| b.is_ascii_graphic());
    if context.launch_source.as_ref().is_some_and(|source| !plain(source)) {
        return Err(invalid_request("miniapp_context.launch_source is no plain word."));
    }
    Ok(Checked { room, launch_source: context.launch_source })
}

/// The user has to be in the room that the token will name (protocol section 2).
async fn check_room(services: &Services, room: &RoomId, user: &UserId) -> Result<(), Refusal> {
    let no = |why| {
        invalid_request("The user is not in the room of miniapp_context, or that cannot be confirmed.").inside(why)
    };
    let Some(homeserver) = &services.homeserver else { return Err(no("no homeserver upstream is configured")) };
    match homeserver.share_room(room, user, user).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(no("not joined")),
        Err(RoomError::NotAskable) => Err(no("our bot is not in that room")),
        Err(RoomError::Unavailable(refusal)) => Err(refusal),
    }
}

/// What is wrong with the subject's token, in this endpoint's words: `invalid_request` for one that is no good, and for one
/// of somebody who is not served (RFC 8693 section 2.2.2). That nobody could be asked stays what it is.
fn of_subject(refusal: Refusal) -> Refusal {
    match refusal.code() {
        Code::InvalidToken => invalid_request("The subject_token is not a valid Matrix access token."),
        Code::Forbidden => invalid_request(refusal.message().to_owned()),
        _ => refusal,
    }
}

fn consent_required(services: &Services, missing: ScopeSet, free: ScopeSet) -> Refusal {
    let list = |set: ScopeSet| set.iter().map(|scope| Value::from(scope.as_str())).collect::<Vec<_>>();
    Refusal::oauth(OauthError::ConsentRequired, "The user has not approved these scopes yet.")
        .field("consent_required_scopes", list(missing))
        .field("pre_approved_scopes", list(free))
        .field("consent_ui_endpoint", format!("{}/oauth2/authorize", services.config.issuer()))
}
