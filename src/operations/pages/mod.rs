//! The edge's own pages: where a user says what a mini-app may do, and takes it back (protocol section 3).
//!
//! | file | |
//! |---|---|
//! | `consent` | may this mini-app have that? As a page, and as JSON for chat apps |
//! | `device` | the same for a device that showed a code |
//! | `apps` | what one has allowed |
//! | `asked` | what a page is asked |
//! | `sign_in` | proving who one is, where the config lets a browser do that |
//! | `browser` | the cookie, and that a form comes from our own page |
//! | `frame` | what every page has around it, and the headers that it needs |
//! | `notice` | a page that says one thing: why something did not work, or that it is done |
//! | `pending` | what is being decided on, and what a decision sets off |
//!
//! Pages are whole documents made here, with one style sheet inside and no script: they work in any browser, and their
//! policy can forbid everything else. What they show of others (names, addresses) is escaped by the templates.

pub mod apps;
mod asked;
pub mod browser;
pub mod consent;
pub mod device;
mod frame;
pub mod notice;
mod pending;
mod sign_in;

use http::header;
use http::request::Parts;

/// Where people come with their browsers. `authorize` has no page of its own, but what is wrong with a request is told
/// there.
const PATHS: [&str; 4] = ["/oauth2/authorize", "/oauth2/consent", "/oauth2/device", "/oauth2/apps"];

/// Whether a person asks, with a browser, rather than a program: a refusal is then a page.
pub fn for_people(head: &Parts) -> bool {
    let accept = head.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let browser = accept.split(',').any(|one| one.trim().starts_with("text/html"));
    browser && !head.headers.contains_key(header::AUTHORIZATION) && PATHS.contains(&head.uri.path())
}
