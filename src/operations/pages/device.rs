//! `GET, POST /oauth2/device`: a device showed a code, and its user types it here (RFC 8628 section 3.3).
//!
//! Whoever guesses has little chance: codes have 34 bits, one has to have signed in, an address may ask some fifteen times
//! a minute, every wrong code counts as a failed authentication of its address, and five of them end the visit, or are
//! all that a chat app's user has in ten minutes. A code in the address is only filled in, never followed: somebody may
//! have sent the link, so the person has to look at it, and then at who asks for what.

use askama::Template;
use http::StatusCode;
use serde_json::json;

use super::asked::Asked;
use super::browser::Browser;
use super::consent;
use super::frame::{Frame, Leads, show, with_cookie};
use super::notice;
use super::pending::{Decided, Question};
use super::sign_in::{self, Place};
use crate::error::{Code, Refusal};
use crate::model::UserId;
use crate::operations::{Call, Local, Services};
use crate::policy::Permit;

const PATH: &str = "/oauth2/device";

#[derive(Template)]
#[template(path = "device.html")]
struct Page<'a> {
    frame: Frame,
    user_code: &'a str,
    fault: Option<&'a str>,
}

/// Asks for the code, shows what the device wants, or takes the answer.
///
/// # Errors
/// 403 for a form of another site's; 401 for a Matrix access token that is no good.
pub async fn answer(permit: &Permit, services: &Services, call: &Call<'_>) -> Result<Local, Refusal> {
    let asked = &Asked::of(permit, call)?;
    let code = asked.parameter("user_code").unwrap_or_default();
    let known = services.look().await?;
    if let Some(user) = asked.user(services).await? {
        let (guesses, now) = (services.guesses(), services.clock.unix_secs());
        if let Some(wait) = guesses.typed(&user, now).await? {
            return Err(Refusal::new(Code::RateLimitExceeded, "Too many wrong codes. Wait a while.").retry_after(wait));
        }
        let Some(question) = Question::device(services, code).await? else {
            asked.guessed(services);
            return Err(unknown());
        };
        guesses.right(&user, now).await?;
        return consent::native(services, asked, question.for_user(services, user).await?, known).await;
    }
    let browser = Browser::of(asked.headers, &services.config.public_url)?;
    let hidden = if code.is_empty() { Vec::new() } else { vec![("user_code", code.to_owned())] };
    let purpose = "A device asks to use your account.".to_owned();
    let place = Place { path: PATH, hidden, purpose };
    let posted = asked.posted();
    if posted {
        let proof = asked.field("csrf").unwrap_or_default();
        browser.check(asked.headers, &services.config.public_url, PATH, proof)?;
        if let Some(done) = sign_in::act(services, &browser, &place, asked).await? {
            return Ok(done);
        }
    }
    let Some(user) = sign_in::who(services, &browser).await? else {
        return sign_in::page(services, &browser, &place);
    };
    if !posted {
        return form(services, &browser, &user, StatusCode::OK, code, None);
    }
    let (visits, now) = (services.visits(), services.clock.unix_secs());
    if !visits.typed(browser.cookie(), now).await? {
        return sign_in::page(services, &browser, &place);
    }
    let Some(question) = Question::device(services, code).await? else {
        asked.guessed(services);
        let fault = Some("No device waits for this code. Codes are good for some minutes: look at the device again.");
        return form(services, &browser, &user, StatusCode::NOT_FOUND, code, fault);
    };
    visits.right(browser.cookie(), now).await?;
    let asking = question.for_user(services, user.clone()).await?;
    let frame = place.frame(services, &browser, Some(&user));
    match asked.field("action") {
        Some("approve" | "deny") => {
            let name = asking.app().name.clone();
            match consent::decide(services, asked, asking, known).await? {
                Decided::Allowed(_) => {
                    let text = format!("{name} is connected on your device. It may take some seconds to notice.");
                    notice::done(frame, "Your device is connected", &text, "You can close this page.")
                }
                Decided::Refused(_) => {
                    let text = format!("{name} was not allowed anything.");
                    notice::done(frame, "Not connected", &text, "You can close this page.")
                }
            }
        }
        _ => consent::page(frame, &asking),
    }
}

fn form(
    services: &Services,
    browser: &Browser,
    user: &UserId,
    status: StatusCode,
    user_code: &str,
    fault: Option<&str>,
) -> Result<Local, Refusal> {
    // The code stands in the form's own field here.
    let frame = Frame::of(&services.config, browser, Some(user), PATH, Vec::new());
    Ok(with_cookie(show(status, &Page { frame, user_code, fault }, [], Leads::Back)?, browser.set_cookie()?))
}

fn unknown() -> Refusal {
    Refusal::new(Code::NotFound, "No device waits for this code.")
        .details(json!({"errors": [{"parameter": "user_code", "expected": "the code that a device shows now"}]}))
}
