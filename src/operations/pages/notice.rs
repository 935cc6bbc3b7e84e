//! A page that says one thing: why something did not work and what to do, or that it is done.

use askama::Template;
use http::StatusCode;

use super::frame::{Frame, Leads, show};
use crate::error::{Code, Refusal};
use crate::operations::Local;

#[derive(Template)]
#[template(path = "notice.html")]
struct Notice<'a> {
    frame: Frame,
    title: &'a str,
    text: &'a str,
    next: &'a str,
    code: Option<&'a str>,
}

/// A refusal as a page for people. `request_id` finds it in the log.
///
/// # Errors
/// When the template fails, which is our own failure.
pub fn of_refusal(refusal: &Refusal, server_name: &str, request_id: &str) -> Result<Local, Refusal> {
    let wait;
    let (title, next) = match (refusal.status(), refusal.code(), refusal.retry_after_seconds()) {
        (StatusCode::TOO_MANY_REQUESTS, _, Some(seconds)) => {
            wait = format!("Wait for {seconds} seconds, then load this page again.");
            ("That was a little fast", wait.as_str())
        }
        (_, Code::NotFound, _) => {
            ("This request is no longer good", "Go back to the mini-app. If it does not go on there, start again.")
        }
        (status, _, _) if status.is_server_error() => {
            ("This does not work at the moment", "It is not your fault. Wait a little, then load this page again.")
        }
        _ => ("This did not work", "Go back to the mini-app and start again."),
    };
    let frame = Frame::plain(server_name);
    let page = Notice { frame, title, text: refusal.message(), next, code: Some(request_id) };
    show(refusal.status(), &page, [], Leads::Back)
}

/// That something is done.
///
/// # Errors
/// When the template fails, which is our own failure.
pub fn done(frame: Frame, title: &str, text: &str, next: &str) -> Result<Local, Refusal> {
    show(StatusCode::OK, &Notice { frame, title, text, next, code: None }, [], Leads::Back)
}
