//! `GET, POST /oauth2/apps`: what one has allowed, and taking it back.
//!
//! A mini-app stands here for what was approved and for what it has been granted: some scopes nobody is asked about, and a
//! withdrawal that failed half-way leaves grants without approvals, to be ended by withdrawing once more.

use std::collections::BTreeMap;

use askama::Template;
use http::StatusCode;
use url::Url;

use super::asked::Asked;
use super::browser::Browser;
use super::frame::{APPS, AppCard, Frame, Leads, show, with_cookie};
use super::sign_in::{self, Place};
use crate::clock::rfc3339;
use crate::config::MiniApp;
use crate::error::{Code, Refusal};
use crate::model::{MiniAppId, Scope, ScopeSet, UserId, wording};
use crate::operations::withdraw::withdraw;
use crate::operations::{Call, Local, Services};
use crate::policy::Permit;
use crate::store::oauth::approvals::Approved;

#[derive(Template)]
#[template(path = "apps.html")]
struct Page<'a> {
    frame: Frame,
    told: Option<&'a str>,
    apps: Vec<App>,
}

struct App {
    id: String,
    name: String,
    letter: String,
    developer: Option<String>,
    icon: Option<Url>,
    scopes: Vec<Line>,
}

struct Line {
    name: &'static str,
    what: &'static str,
    since: String,
    /// Whether it can be taken back by itself: what nobody is asked about, the mini-app would have again at once.
    own: bool,
}

/// Shows what the user has allowed, or takes something back.
///
/// # Errors
/// 403 for a form of another site's; 503 when the store does not answer.
pub async fn answer(permit: &Permit, services: &Services, call: &Call<'_>) -> Result<Local, Refusal> {
    let asked = &Asked::of(permit, call)?;
    let browser = Browser::of(asked.headers, &services.config.public_url)?;
    let purpose = "See which mini-apps may use your account, and take it back.".to_owned();
    let place = Place { path: APPS, hidden: Vec::new(), purpose };
    let posted = asked.posted();
    if posted {
        let proof = asked.field("csrf").unwrap_or_default();
        browser.check(asked.headers, &services.config.public_url, APPS, proof)?;
        if let Some(done) = sign_in::act(services, &browser, &place, asked).await? {
            return Ok(done);
        }
    }
    let Some(user) = sign_in::who(services, &browser).await? else {
        return sign_in::page(services, &browser, &place);
    };
    if posted {
        let taken = take_back(services, asked, &user).await?;
        // A page of its own, so that loading it again takes nothing back a second time.
        return Local::see_other(&format!("{APPS}?taken={taken}"));
    }
    let told = match asked.parameter("taken") {
        Some("app") => Some("The mini-app is disconnected."),
        Some("scope") => Some("Taken back. The mini-app cannot do this any more; what else you allowed, it still may."),
        _ => None,
    };
    let allowed = allowed(services, &user).await?;
    let apps: Vec<App> =
        allowed.into_iter().map(|(id, scopes)| App::of(services.app(&id).as_deref(), &id, &scopes)).collect();
    let icons: Vec<Url> = apps.iter().filter_map(|app| app.icon.clone()).collect();
    let page = Page { frame: place.frame(services, &browser, Some(&user)), told, apps };
    Ok(with_cookie(show(StatusCode::OK, &page, &icons, Leads::Back)?, browser.set_cookie()?))
}

/// What mini-apps may do in the user's name, and since when: what was approved, and what grants in force hold.
async fn allowed(services: &Services, user: &UserId) -> Result<BTreeMap<MiniAppId, Approved>, Refusal> {
    let mut allowed = services.approvals().list(user).await?;
    for (id, held) in services.grants().of_user(user, None, services.now()).await? {
        if let Some(grant) = services.left_of(id, &held.value) {
            let app = allowed.entry(grant.client.app).or_default();
            for scope in grant.scopes.iter() {
                app.entry(scope).or_insert(grant.granted_at / 1000);
            }
        }
    }
    Ok(allowed)
}

async fn take_back(services: &Services, asked: &Asked<'_>, user: &UserId) -> Result<&'static str, Refusal> {
    let fault = |what: &str| Refusal::new(Code::ValidationFailed, format!("The form names no {what}."));
    let app = asked.field("miniapp_id").and_then(|id| MiniAppId::parse(id).ok()).ok_or_else(|| fault("mini-app"))?;
    match asked.field("action") {
        Some("drop_app") => withdraw(services, user, &app, None).await.map(|_| "app"),
        Some("drop_scope") => {
            let scope = asked.field("scope").and_then(Scope::parse).ok_or_else(|| fault("scope"))?;
            withdraw(services, user, &app, Some(ScopeSet::of(&[scope]))).await.map(|_| "scope")
        }
        _ => Err(fault("action")),
    }
}

impl App {
    /// A mini-app that is not registered any more is shown by its id: what it was allowed stays the user's to take back.
    fn of(app: Option<&MiniApp>, id: &MiniAppId, allowed: &Approved) -> App {
        let free = app.map_or(ScopeSet::EMPTY, |app| app.preapproved_scopes).union(ScopeSet::UNASKED);
        let line = |(scope, since): (&Scope, &u64)| Line {
            name: scope.as_str(),
            what: wording::description(*scope),
            since: rfc3339(*since).chars().take(10).collect(),
            own: !free.contains(*scope),
        };
        let card = app.map(AppCard::of);
        let name = card.as_ref().map_or_else(|| id.to_string(), |card| card.name.clone());
        App {
            id: id.to_string(),
            letter: name.chars().next().map(|first| first.to_uppercase().to_string()).unwrap_or_default(),
            name,
            developer: card.as_ref().and_then(|card| card.developer.clone()),
            icon: card.and_then(|card| card.icon),
            scopes: allowed.iter().map(line).collect(),
        }
    }
}
