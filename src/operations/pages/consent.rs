//! `GET, POST /oauth2/consent`: may this mini-app have that (protocol section 3, "Consent data")?
//!
//! A browser gets a page; a chat app that shows the question itself sends its Matrix access token and gets JSON. Both
//! name the question by `session`, which `authorize` put into the address, and answer it once.

use askama::Template;
use http::StatusCode;
use serde_json::json;
use url::Url;

use super::asked::Asked;
use super::browser::Browser;
use super::frame::{APPS, AppCard, Frame, Leads, show, with_cookie};
use super::pending::{self, Asking, Decided, NO, Question, YES};
use super::sign_in::{self, Place};
use crate::error::{Code, Refusal};
use crate::model::scope::Sensitivity;
use crate::model::{Scope, ScopeSet, wording};
use crate::operations::{Call, Local, Services};
use crate::policy::Permit;

const PATH: &str = "/oauth2/consent";

/// A scope on a page.
pub(super) struct ScopeLine {
    name: &'static str,
    what: &'static str,
    note: Option<&'static str>,
    high: bool,
    critical: bool,
}

impl ScopeLine {
    fn of(scope: Scope) -> ScopeLine {
        let sensitivity = scope.sensitivity();
        ScopeLine {
            name: scope.as_str(),
            what: wording::description(scope),
            note: wording::note(scope),
            high: sensitivity == Sensitivity::High,
            critical: sensitivity == Sensitivity::Critical,
        }
    }
}

#[derive(Template)]
#[template(path = "consent.html")]
struct Page {
    frame: Frame,
    app: AppCard,
    device: bool,
    asked: Vec<ScopeLine>,
    known: Vec<ScopeLine>,
    goes_to: Option<String>,
}

/// Shows the question, or takes the answer.
///
/// # Errors
/// 404 for a question that is unknown, over or answered; 403 for a form of another site's, or another user's question;
/// 401 for a Matrix access token that is no good.
pub async fn answer(permit: &Permit, services: &Services, call: &Call<'_>) -> Result<Local, Refusal> {
    let asked = &Asked::of(permit, call)?;
    let session = asked.parameter("session").ok_or_else(|| {
        Refusal::new(
            Code::ValidationFailed,
            "The address names no session: it is where an authorization request leads.",
        )
    })?;
    let Some(question) = Question::consent(services, session).await? else {
        return again(services, asked, session).await;
    };
    let known = services.look().await?;
    if let Some(user) = asked.user(services).await? {
        return native(services, asked, question.for_user(services, user).await?, known).await;
    }
    let browser = Browser::of(asked.headers, &services.config.public_url)?;
    let place = Place {
        path: PATH,
        hidden: vec![("session", session.to_owned())],
        purpose: format!("{} asks to use your account.", question.app().name),
    };
    if asked.posted() {
        let proof = asked.field("csrf").unwrap_or_default();
        browser.check(asked.headers, &services.config.public_url, PATH, proof)?;
        if asked.field("action") == Some(sign_in::SIGN_OUT)
            && let Some(user) = sign_in::was(services, &browser).await?
        {
            question.give_back(services, &user).await?;
        }
        if let Some(done) = sign_in::act(services, &browser, &place, asked).await? {
            return Ok(done);
        }
    }
    let Some(user) = sign_in::who(services, &browser).await? else {
        return sign_in::page(services, &browser, &place);
    };
    let asking = question.for_user(services, user).await?.hold(services).await?;
    if asked.posted() {
        let target = decide(services, asked, asking, known).await?.target();
        return Local::see_other(target.as_deref().unwrap_or(APPS));
    }
    let frame = place.frame(services, &browser, Some(asking.user()));
    let page = page(frame, &asking);
    Ok(with_cookie(page?, browser.set_cookie()?))
}

/// The question is gone: whoever has just answered it, and now says the same again, is told the same again.
async fn again(services: &Services, asked: &Asked<'_>, session: &str) -> Result<Local, Refusal> {
    if !asked.posted() {
        return Err(pending::over());
    }
    let said = |field| asked.field(field).filter(|said| [YES, NO].contains(said)).ok_or_else(pending::over);
    if let Some(user) = asked.user(services).await? {
        return Ok(answered(pending::again(services, session, &user, said("decision")?).await?));
    }
    let browser = Browser::of(asked.headers, &services.config.public_url)?;
    browser.check(asked.headers, &services.config.public_url, PATH, asked.field("csrf").unwrap_or_default())?;
    let user = sign_in::who(services, &browser).await?.ok_or_else(pending::over)?;
    let decided = pending::again(services, session, &user, said("action")?).await?;
    Local::see_other(decided.target().as_deref().unwrap_or(APPS))
}

/// The question as a page.
pub(super) fn page(frame: Frame, asking: &Asking) -> Result<Local, Refusal> {
    let app = AppCard::of(asking.app());
    let icon = app.icon.clone();
    let lines = |scopes: ScopeSet| scopes.iter().map(ScopeLine::of).collect();
    let page = Page {
        frame,
        app,
        device: asking.is_device(),
        asked: lines(asking.new_scopes()),
        known: lines(asking.known_scopes()),
        goes_to: asking.target().map(place_of),
    };
    let leads = if asking.is_device() { Leads::Back } else { Leads::On };
    show(StatusCode::OK, &page, &icon, leads)
}

/// Takes the answer of a page: what is ticked is approved.
pub(super) async fn decide(
    services: &Services,
    asked: &Asked<'_>,
    asking: Asking,
    known: u64,
) -> Result<Decided, Refusal> {
    match asked.field("action") {
        Some(YES) => {
            let is_ticked = |scope: &Scope| asked.field(scope.as_str()).is_some();
            let ticked: ScopeSet = asking.new_scopes().iter().filter(is_ticked).collect();
            let shown = asked.field("shown").map(ScopeSet::from_list).unwrap_or_default();
            let unticked: ScopeSet = shown.iter().filter(|scope| !is_ticked(scope)).collect();
            asking.approve(services, (ticked, unticked), known).await
        }
        Some(NO) => asking.deny(services).await,
        _ => Err(Refusal::new(Code::ValidationFailed, "The form says neither yes nor no.")),
    }
}

/// The same for a chat app: GET says what is asked, POST takes `decision` and the approved `scope` (all, when left away).
pub(super) async fn native(
    services: &Services,
    asked: &Asked<'_>,
    asking: Asking,
    known: u64,
) -> Result<Local, Refusal> {
    if !asked.posted() {
        return Ok(Local::secret(data(&asking).to_string()));
    }
    let decided = match asked.field("decision") {
        Some(YES) => {
            let asking = asking.hold(services).await?;
            let scopes = asked.field("scope").map_or(asking.new_scopes(), ScopeSet::from_list);
            asking.approve(services, (scopes, ScopeSet::EMPTY), known).await?
        }
        Some(NO) => asking.hold(services).await?.deny(services).await?,
        _ => {
            return Err(Refusal::new(Code::ValidationFailed, "decision has to be approve or deny.").details(
                json!({"errors": [{"pointer": "/decision", "rule": "enum", "expected": "approve or deny"}]}),
            ));
        }
    };
    Ok(answered(decided))
}

fn answered(decided: Decided) -> Local {
    Local::secret(json!({"redirect_uri": decided.target()}).to_string())
}

/// The consent data of protocol section 3.
fn data(asking: &Asking) -> serde_json::Value {
    let app = asking.app();
    let scope = |scope: Scope, approved: bool| {
        json!({
            "scope": scope.as_str(), "description": wording::description(scope), "sensitivity": scope.sensitivity().as_str(),
            "note": wording::note(scope), "approved": approved,
        })
    };
    let scopes: Vec<_> = (asking.new_scopes().iter().map(|s| scope(s, false)))
        .chain(asking.known_scopes().iter().map(|s| scope(s, true)))
        .collect();
    json!({
        "mini_app": {
            "id": app.id.as_str(), "name": app.name, "developer": app.developer, "icon_url": app.icon_url.as_ref().map(Url::as_str), "verified": app.verified(),
        },
        "requested_scopes": scopes,
        "user_id": asking.user().as_str(),
        "redirect_uri": asking.target().map(Url::as_str),
    })
}

/// Where one returns to, for a person.
fn place_of(target: &Url) -> String {
    match (target.scheme(), target.host_str()) {
        ("http" | "https", Some(host)) => host.to_owned(),
        (scheme, _) => format!("the app that opens {scheme}: links"),
    }
}
