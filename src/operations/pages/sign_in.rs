//! Proving who one is in a browser: with the password, at the homeserver, where the config lets people do that.
//!
//! A browser that a mini-app's site opened cannot show the chat app's access token, so a person without the chat app at
//! hand signs in at the homeserver. The edge passes the password on, keeps neither it nor the session that the homeserver
//! opens, and remembers for some minutes who sits there. A wrong password is a failed authentication of its address, as
//! everywhere.

use std::net::IpAddr;

use askama::Template;
use http::StatusCode;

use super::asked::Asked;
use super::browser::Browser;
use super::frame::{Frame, Leads, show, with_cookie};
use crate::config::SignIn;
use crate::error::{Code, Refusal};
use crate::model::UserId;
use crate::operations::{Local, Services};

/// The `action` of the button "Not you?".
pub const SIGN_OUT: &str = "sign_out";

#[derive(Template)]
#[template(path = "sign_in.html")]
struct Page<'a> {
    frame: Frame,
    purpose: &'a str,
    fault: Option<&'a str>,
    offered: bool,
    user: &'a str,
}

/// A page that is for somebody who has signed in: where it is, and what it has to be told again.
pub struct Place {
    /// Its path.
    pub path: &'static str,
    /// What its forms carry; as a query it leads back to the page.
    pub hidden: Vec<(&'static str, String)>,
    /// Why one has to sign in, for the person.
    pub purpose: String,
}

impl Place {
    /// Leads back to the page.
    pub fn address(&self) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.hidden).finish();
        if query.is_empty() { self.path.to_owned() } else { format!("{}?{query}", self.path) }
    }

    /// The frame of the page itself.
    pub fn frame(&self, services: &Services, browser: &Browser, user: Option<&UserId>) -> Frame {
        Frame::of(&services.config, browser, user, self.path, self.hidden.clone())
    }
}

/// Who has signed in with this browser, unless an operator has revoked everything of theirs since: then it may be somebody
/// else who did.
///
/// # Errors
/// 503 when the store does not say.
pub async fn who(services: &Services, browser: &Browser) -> Result<Option<UserId>, Refusal> {
    let visit = services.visits().user(browser.cookie()).await?;
    let revocations = services.verifier.revocations();
    Ok(visit.filter(|(user, known)| !revocations.revoked_user(user, *known)).map(|(user, _)| user))
}

/// Who has signed in with this browser, whatever has been revoked since: what was put to them was put to nobody else.
///
/// # Errors
/// 503 when the store does not say.
pub async fn was(services: &Services, browser: &Browser) -> Result<Option<UserId>, Refusal> {
    Ok(services.visits().user(browser.cookie()).await?.map(|(user, _)| user))
}

/// The page that asks for name and password.
///
/// # Errors
/// When the template fails.
pub fn page(services: &Services, browser: &Browser, place: &Place) -> Result<Local, Refusal> {
    form(services, browser, place, StatusCode::OK, "", None)
}

/// What the page's form sent: signs in or out when it was about that, else `None`.
///
/// # Errors
/// 403 when signing in is not offered; 503 when the homeserver or the store does not answer.
pub async fn act(
    services: &Services,
    browser: &Browser,
    place: &Place,
    asked: &Asked<'_>,
) -> Result<Option<Local>, Refusal> {
    match asked.field("action") {
        Some(SIGN_OUT) => {
            services.visits().end(browser.cookie()).await?;
            Ok(Some(Local::see_other(&place.address())?))
        }
        Some("sign_in") => {
            let name = asked.field("user").unwrap_or_default().trim();
            let known = services.look().await?;
            match check(services, name, asked.field("password").unwrap_or_default(), asked.client()).await? {
                Some(user) => {
                    let renewed = browser.renew()?;
                    // Who sat there before does no more, wherever the cookie has got to.
                    services.visits().end(browser.cookie()).await?;
                    services.visits().begin(renewed.cookie(), &user, services.clock.unix_secs(), known).await?;
                    Ok(Some(with_cookie(Local::see_other(&place.address())?, renewed.set_cookie()?)))
                }
                None => {
                    asked.guessed(services);
                    let fault = Some("This user name and password do not go together.");
                    form(services, browser, place, StatusCode::FORBIDDEN, name, fault).map(Some)
                }
            }
        }
        _ => Ok(None),
    }
}

async fn check(services: &Services, name: &str, password: &str, client: IpAddr) -> Result<Option<UserId>, Refusal> {
    let (true, Some(homeserver), Some(identities)) =
        (services.config.oauth.sign_in == SignIn::Homeserver, &services.homeserver, &services.identities)
    else {
        return Err(Refusal::new(Code::Forbidden, "This server does not let you sign in in a browser."));
    };
    if name.is_empty() || password.is_empty() {
        return Ok(None);
    }
    match homeserver.sign_in(name, password, client).await? {
        Some(whoami) => identities.admit(whoami).map(|whoami| Some(whoami.user)),
        None => Ok(None),
    }
}

fn form(
    services: &Services,
    browser: &Browser,
    place: &Place,
    status: StatusCode,
    user: &str,
    fault: Option<&str>,
) -> Result<Local, Refusal> {
    let offered = services.config.oauth.sign_in == SignIn::Homeserver && services.homeserver.is_some();
    let frame = place.frame(services, browser, None);
    let page = Page { frame, purpose: &place.purpose, fault, offered, user };
    Ok(with_cookie(show(status, &page, [], Leads::Back)?, browser.set_cookie()?))
}
