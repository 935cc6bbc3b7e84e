//! What every page has around it, and the headers that it needs.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderValue, StatusCode};
use url::{Host, Url};

use super::browser::Browser;
use crate::config::{Config, MiniApp};
use crate::error::Refusal;
use crate::model::UserId;
use crate::operations::Local;
use crate::store::seal::sha256;

/// The one style sheet. It stands in the page itself: no second request, which would count against the caller's limit.
const STYLE: &str = include_str!("../../../templates/page.css");
/// How the policy names it.
static STYLE_SOURCE: LazyLock<String> =
    LazyLock::new(|| format!("'sha256-{}'", STANDARD.encode(sha256(STYLE.as_bytes()))));

/// The path of the user's own page.
pub const APPS: &str = "/oauth2/apps";

/// What every template is given.
pub struct Frame {
    /// The style sheet.
    pub style: &'static str,
    /// Where the user is at home.
    pub server_name: String,
    /// Who has signed in.
    pub user: Option<String>,
    /// Where the page's forms go.
    pub action: &'static str,
    /// What each of its forms carries.
    pub hidden: Vec<(&'static str, String)>,
    /// The user's own page.
    pub apps: &'static str,
}

impl Frame {
    /// A page without forms.
    pub fn plain(server_name: &str) -> Frame {
        let server_name = server_name.to_owned();
        Frame { style: STYLE, server_name, user: None, action: "", hidden: Vec::new(), apps: APPS }
    }

    /// A page whose forms go to `action` and carry `hidden`, and the proof that they are ours.
    pub fn of(
        config: &Config,
        browser: &Browser,
        user: Option<&UserId>,
        action: &'static str,
        mut hidden: Vec<(&'static str, String)>,
    ) -> Frame {
        hidden.push(("csrf", browser.proof(action)));
        Frame { user: user.map(UserId::to_string), action, hidden, ..Frame::plain(&config.server_name) }
    }
}

/// How a mini-app is shown.
pub struct AppCard {
    /// Its name.
    pub name: String,
    /// What stands for its picture where it has none.
    pub letter: String,
    /// Who makes it.
    pub developer: Option<String>,
    /// Its picture.
    pub icon: Option<Url>,
    /// Whether the platform has looked at it.
    pub verified: bool,
}

impl AppCard {
    /// As the registry knows it.
    pub fn of(app: &MiniApp) -> AppCard {
        AppCard {
            name: app.name.clone(),
            letter: app.name.chars().next().map(|first| first.to_uppercase().to_string()).unwrap_or_default(),
            developer: app.developer.clone(),
            icon: app.icon_url.clone(),
            verified: app.verified(),
        }
    }
}

/// Where the forms of a page lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To ourselves.
    Back,
    /// Through us to a mini-app, and from there wherever that leads on.
    On,
}

/// Writes a page. `icons` may be shown in it.
///
/// # Errors
/// When the template fails, which is our own failure.
pub fn show<'a>(
    status: StatusCode,
    page: &impl Template,
    icons: impl IntoIterator<Item = &'a Url>,
    leads: Leads,
) -> Result<Local, Refusal> {
    let body = page.render().map_err(|error| Refusal::internal(format!("a page: {error}")))?;
    let policy = policy(icons, leads);
    let policy = HeaderValue::from_str(&policy).map_err(|error| Refusal::internal(error.to_string()))?;
    let headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, policy),
        // What one user is shown is nobody else's, and the way back must not show it again.
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok(Local { status, headers, body: body.into() })
}

/// Adds the browser's cookie to an answer, when it has to be set.
pub fn with_cookie(mut local: Local, cookie: Option<HeaderValue>) -> Local {
    local.headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    local
}

/// Nothing but what the page needs. Chromium holds every redirect that follows a form against `form-action`, not only
/// the first, and a mini-app may well lead on to another site or into an app of its own; where a decision leads there, the
/// directive would have to name places that nobody knows. What it guards against, forms that somebody else wrote into a
/// page, the templates do not let in.
fn policy<'a>(icons: impl IntoIterator<Item = &'a Url>, leads: Leads) -> String {
    let mut images: Vec<String> = icons.into_iter().map(source).collect();
    images.sort_unstable();
    images.dedup();
    if images.is_empty() {
        images.push("'none'".to_owned());
    }
    let forms = match leads {
        Leads::Back => " form-action 'self';",
        Leads::On => "",
    };
    format!(
        "default-src 'none'; style-src {}; img-src {};{forms} base-uri 'none'; frame-ancestors 'none'",
        *STYLE_SOURCE,
        images.join(" ")
    )
}

/// An address as a source of a policy (CSP level 3, section 2.3.1): scheme and host; the scheme alone where there is no
/// host, or one that the grammar cannot spell (IPv6 literals).
fn source(address: &Url) -> String {
    match (address.host(), address.port()) {
        (None | Some(Host::Ipv6(_)), _) => format!("{}:", address.scheme()),
        // A host of a private scheme is part of an opaque name.
        _ if !matches!(address.scheme(), "http" | "https") => format!("{}:", address.scheme()),
        (Some(host), None) => format!("{}://{host}", address.scheme()),
        (Some(host), Some(port)) => format!("{}://{host}:{port}", address.scheme()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_names_where_pictures_are() {
        for (icon, expected) in [
            ("https://shop.example/icon.png?x=1;script-src", "https://shop.example"),
            ("https://shop.example:8443/", "https://shop.example:8443"),
            ("http://127.0.0.1:7777/icon", "http://127.0.0.1:7777"),
            ("http://[::1]:7777/icon", "http:"),
        ] {
            let policy = policy([&Url::parse(icon).unwrap()], Leads::Back);
            assert!(policy.contains(&format!("img-src {expected}; form-action 'self';")), "{policy}");
            assert!(policy.contains("default-src 'none'") && policy.ends_with("frame-ancestors 'none'"), "{policy}");
            assert_eq!(policy.matches("script-src").count(), 0, "{policy}");
        }
        assert!(!policy([], Leads::On).contains("form-action"));
    }
}
