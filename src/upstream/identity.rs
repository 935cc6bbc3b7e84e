//! Whose Matrix access token is this? Asked afresh each time, where the answer opens something lasting: consent, token
//! exchange, the withdrawal of a permission (protocol section 3).
//!
//! The homeserver is asked, or the Matrix Authentication Service where the config names one. Its introspection calls
//! `sub` what is opaque to us, so the user is its `username` on our server (protocol section 11); and since that
//! service has other clients than chat applications, only tokens of the listed ones are taken.
//!
//! OpenID tokens are not Matrix access tokens: clients hand those to widgets, so a mini-app could approve itself.
//! Homeservers do not know them here, and neither does this file.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use regex::Regex;
use serde::Deserialize;
use url::form_urlencoded;

use super::egress::{Egress, Limits};
use super::homeserver::{Homeserver, WhoamiError};
use crate::config::{AppService, MatrixAuthService, Namespace};
use crate::error::{Challenge, Code, Refusal};
use crate::model::UserId;
use crate::model::matrix::Whoami;
use crate::model::token::looks_like_tep;

/// Longest token that anybody is asked about, bytes.
const MAX_TOKEN: usize = 4096;
/// An introspection's answer is a small object; it is given the time that a person waits for.
const LIMITS: Limits = Limits { total: Duration::from_secs(10), answer: 64 * 1024 };
/// The scope of tokens for the whole client-server API (MSC2967, and its name before that was stable). A guest's token,
/// or one for the service's own profile pages, has neither.
const API: [&str; 2] = ["urn:matrix:client:api:*", "urn:matrix:org.matrix.msc2967.client:api:*"];
/// What the scope that names a device begins with.
const DEVICE: [&str; 2] = ["urn:matrix:client:device:", "urn:matrix:org.matrix.msc2967.client:device:"];

/// Whose users are ours.
#[derive(Clone, Debug)]
pub struct UserRules {
    server_name: String,
    sender: Option<String>,
    namespaces: Vec<Regex>,
}

impl UserRules {
    /// Users of `server_name`, but not those of our own Application Service: whoever holds its `as_token` speaks for
    /// thousands of invented users.
    ///
    /// # Errors
    /// Names the namespace whose pattern is no regular expression.
    pub fn new(server_name: &str, service: Option<&AppService>) -> Result<UserRules, String> {
        let pattern = |namespace: &Namespace| {
            // Homeservers match from the beginning of the id, without asking that the end be reached.
            Regex::new(&format!("^(?:{})", namespace.regex))
                .map_err(|error| format!("namespaces.users: {}: {error}", namespace.regex))
        };
        Ok(UserRules {
            server_name: server_name.to_owned(),
            sender: service.map(|service| service.sender_localpart.clone()),
            namespaces: service.map(|s| s.users.iter().map(pattern).collect()).transpose()?.unwrap_or_default(),
        })
    }

    /// Lets our users pass.
    ///
    /// # Errors
    /// In words for the caller, why this one does not count.
    pub fn admit(&self, whoami: Whoami) -> Result<Whoami, &'static str> {
        let user = &whoami.user;
        if whoami.is_guest {
            return Err("Guests may not use this operation.");
        }
        if user.server() != self.server_name {
            return Err("Users of other servers may not use this operation.");
        }
        let service = self.sender.as_deref() == Some(user.localpart());
        if service || self.namespaces.iter().any(|pattern| pattern.is_match(user.as_str())) {
            return Err("Users of the application service may not use this operation.");
        }
        Ok(whoami)
    }
}

/// Who can say whose token it is.
#[derive(Clone, Debug)]
enum Source {
    Homeserver(Homeserver),
    Service { service: MatrixAuthService, egress: Arc<Egress> },
}

/// Knows whose a Matrix access token is.
#[derive(Clone, Debug)]
pub struct Identities {
    source: Source,
    rules: UserRules,
}

/// What an introspection says (RFC 7662 section 2.2), as far as it matters here.
#[derive(Deserialize)]
struct Introspected {
    active: bool,
    client_id: Option<String>,
    username: Option<String>,
    sub: Option<String>,
    #[serde(default)]
    scope: String,
}

impl Identities {
    /// Asks the homeserver.
    pub fn of_homeserver(homeserver: Homeserver, rules: UserRules) -> Identities {
        Identities { source: Source::Homeserver(homeserver), rules }
    }

    /// Asks a Matrix Authentication Service.
    pub fn of_service(service: MatrixAuthService, egress: Arc<Egress>, rules: UserRules) -> Identities {
        Identities { source: Source::Service { service, egress }, rules }
    }

    /// Lets our users pass, whoever vouches for them.
    ///
    /// # Errors
    /// 403 `FORBIDDEN` for guests, our own service's users and other servers' users.
    pub fn admit(&self, whoami: Whoami) -> Result<Whoami, Refusal> {
        self.rules.admit(whoami).map_err(|why| Refusal::new(Code::Forbidden, why))
    }

    /// Whose token it is now.
    ///
    /// # Errors
    /// 401 `INVALID_TOKEN` for nobody's, and for a TEP token, which nobody else gets to see; 403 `FORBIDDEN` for guests,
    /// our own service's users, other servers' users, and clients that do not host mini-apps; 503 when it cannot be found
    /// out, which says nothing about the token.
    pub async fn whose(&self, token: &str) -> Result<Whoami, Refusal> {
        if looks_like_tep(token) {
            return Err(unknown("This operation takes a Matrix access token, not a TEP token.", "a TEP token"));
        }
        if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(rejected("a token that no homeserver issues"));
        }
        let whoami = match &self.source {
            Source::Homeserver(homeserver) => homeserver.whoami(token).await.map_err(|error| match error {
                WhoamiError::Rejected { .. } => rejected("the homeserver does not know it"),
                WhoamiError::Unavailable(refusal) => unavailable(refusal),
            })?,
            Source::Service { service, egress } => self.introspect(service, egress, token).await?,
        };
        self.admit(whoami)
    }

    async fn introspect(&self, service: &MatrixAuthService, egress: &Egress, token: &str) -> Result<Whoami, Refusal> {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("token", token), ("token_type_hint", "access_token")])
            .finish();
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, basic(service)?),
            (CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
        ]);
        let answer = egress
            .send(Method::POST, &service.introspection_url, headers, Bytes::from(form), LIMITS)
            .await
            .map_err(unavailable)?;
        if answer.status != StatusCode::OK {
            return Err(unavailable(format!("introspection: {}", answer.status)));
        }
        let said: Introspected =
            serde_json::from_slice(&answer.body).map_err(|error| unavailable(format!("introspection: {error}")))?;
        self.believe(service, said)
    }

    fn believe(&self, service: &MatrixAuthService, said: Introspected) -> Result<Whoami, Refusal> {
        if !said.active {
            return Err(rejected("introspection: not active"));
        }
        // Any other client of that service (a mini-app's web site, say) must not approve in a user's name.
        if !said.client_id.as_ref().is_some_and(|client| service.host_clients.contains(client)) {
            return Err(Refusal::new(Code::Forbidden, "Tokens of this client may not use this operation.")
                .inside("introspection: the token's client is not among host_clients"));
        }
        if !said.scope.split(' ').any(|scope| API.contains(&scope)) {
            return Err(Refusal::new(Code::Forbidden, "This token is not for the Matrix client API.")
                .inside("introspection: the token lacks the client API's scope"));
        }
        let user = match (&said.username, &said.sub) {
            (Some(username), _) => UserId::parse(&format!("@{username}:{}", self.rules.server_name)),
            (None, Some(sub)) => UserId::parse(sub),
            (None, None) => return Err(unavailable("introspection: neither username nor sub")),
        };
        let user = user.map_err(|error| unavailable(format!("introspection: the user: {error}")))?;
        let device = |scope: &str| DEVICE.iter().find_map(|prefix| scope.strip_prefix(prefix)).map(str::to_owned);
        Ok(Whoami { user, device_id: said.scope.split(' ').find_map(device), is_guest: false })
    }
}

/// RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
fn basic(service: &MatrixAuthService) -> Result<HeaderValue, Refusal> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(&service.client_id), encoded(service.client_secret.expose()));
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
        .map_err(|error| Refusal::internal(error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn rejected(inside: &'static str) -> Refusal {
    unknown("The Matrix access token is not valid.", inside)
}

fn unknown(message: &'static str, inside: &'static str) -> Refusal {
    Refusal::new(Code::InvalidToken, message).challenge(Challenge::BearerInvalid).inside(inside)
}

fn unavailable(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::ServiceUnavailable, "It cannot be found out whose access token this is. Try again.")
        .retry_after(5)
        .inside(why.to_string())
}

#[cfg(test)]
mod tests;
