//! Who may ask the admin address, and from where.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::Admin;
use super::answer::{Refused, written};
use super::endpoints::{Access, Endpoint};
use super::listener::Peer;
use crate::clock::rfc3339;
use crate::config::Admin as Configured;
use crate::error::{Challenge, Code, Refusal};
use crate::model::Role;
use crate::model::audit::AuditTarget;
use crate::store::audit::LOG_TARGET;
use crate::telemetry::RequestId;

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    /// The name of the token; `nobody` without one.
    pub name: String,
    /// What the token's holder may do; `None` without one.
    pub role: Option<Role>,
    /// Whether the listener is on loopback, where looking takes no token.
    pub at_home: bool,
    /// The socket's other end.
    pub peer: SocketAddr,
    /// The request, as answers and audit lines name it.
    pub request_id: RequestId,
}

impl Asker {
    /// Whether the asker may know how the edge stands.
    pub(super) fn may_look(&self) -> bool {
        self.role.is_some() || self.at_home
    }
}

/// Paths that are answered without a token wherever the listener is.
const PROBES: &[&str] = &["/healthz", "/readyz"];
/// The header that names the request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Stands in front of everything, unknown paths included: where the request comes from, and whose token it bears.
pub(super) async fn guard(
    State(admin): State<Admin>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let configured = admin.inner.control.access();
    let request_id = RequestId::new();
    let holder = bearer(request.headers()).and_then(|token| token_holder(&configured, token));
    let (name, role) = holder.map_or_else(|| ("nobody".to_owned(), None), |(name, role)| (name, Some(role)));
    let at_home = configured.address.ip().is_loopback();
    let asker = Asker { name, role, at_home, peer, request_id };
    let response = match check(&admin, &configured, &asker, &request) {
        Ok(()) => {
            request.extensions_mut().insert(asker);
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    };
    let mut response = secured(written(&admin, &request_id, response));
    response.headers_mut().insert(REQUEST_ID, request_id.header());
    response
}

fn check(admin: &Admin, configured: &Configured, asker: &Asker, request: &Request) -> Result<(), Refused> {
    let (headers, path) = (request.headers(), request.uri().path());
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !host_is_ours(headers, request.uri(), configured) {
        let message = "This Host is not answered here. List it in server.admin.hosts if it should be.";
        return Err(Refusal::new(Code::Forbidden, message).into());
    }
    // A browser says where a request comes from; pages of others have no business here, with or without a token.
    if changes && is_cross_site(headers) {
        return Err(Refusal::new(Code::Forbidden, "Requests from other sites are not answered here.").into());
    }
    let probe = PROBES.contains(&path) && !changes;
    let needs_token = changes || !(asker.at_home || probe);
    if needs_token && asker.role.is_none() {
        if changes || headers.contains_key(AUTHORIZATION) {
            // Not in the store: strangers are not to fill it.
            let told = json!({
                "at": rfc3339(admin.inner.clock.unix_secs()), "outcome": "refused", "reason": "no valid token", "method": request.method().as_str(),
                "path": AuditTarget::of("path", path).0.remove("path"), "from": asker.peer.to_string(), "request_id": asker.request_id.as_str(),
            });
            log::warn!(target: LOG_TARGET, "{told}");
        }
        return Err(token_missing(configured));
    }
    Ok(())
}

fn token_missing(configured: &Configured) -> Refused {
    let message = match configured.tokens.is_empty() {
        true => "This needs an admin token, and the config names none (server.admin.tokens_file).",
        false => "This needs an admin token: Authorization: Bearer ….",
    };
    Refusal::new(Code::InvalidToken, message).challenge(Challenge::Bearer).into()
}

/// Stands in front of one endpoint: whether the asker's role is large enough for it.
pub(super) async fn role(
    State((admin, endpoint)): State<(Admin, &'static Endpoint)>,
    request: Request,
    next: Next,
) -> Response {
    let Some(asker) = request.extensions().get::<Asker>() else {
        return Refused::from(Refusal::internal("a request came past the guard")).into_response();
    };
    let needed = match endpoint.access {
        Access::Anybody => return next.run(request).await,
        Access::Look if asker.may_look() => return next.run(request).await,
        Access::Look => Role::Viewer,
        Access::Role(needed) => needed,
    };
    match asker.role {
        // A change that has begun is finished, and told of in its audit line, whether or not its asker waits for it.
        Some(held) if held >= needed && endpoint.action.is_some() => match tokio::spawn(next.run(request)).await {
            Ok(response) => response,
            Err(error) => {
                Refused::from(Refusal::internal(format!("a change ended by itself: {error}"))).into_response()
            }
        },
        Some(held) if held >= needed => next.run(request).await,
        Some(held) => {
            let refusal = Refusal::new(
                Code::Forbidden,
                format!("This needs the role {needed}; the token {} has the role {held}.", asker.name),
            );
            if let Some(action) = endpoint.action {
                let target = AuditTarget::of("method", &endpoint.method).and("path", request.uri().path());
                let change = asker.change(action, target);
                let reason = format!("needs the role {needed}");
                admin.inner.control.records().audit().refused(change, reason).await;
            }
            let details = json!({ "needed": needed.as_str(), "held": held.as_str() });
            Refused::from(refusal.details(details)).into_response()
        }
        None => token_missing(&admin.inner.control.access()).into_response(),
    }
}

/// Whether the request is meant for us. A literal address cannot be made to point elsewhere, so every one is taken: a
/// probe that comes by the pod's address, a tunnel that ends somewhere else.
fn host_is_ours(headers: &HeaderMap, uri: &Uri, configured: &Configured) -> bool {
    let mut sent = headers.get_all(HOST).iter();
    let host = match (sent.next(), sent.next()) {
        (Some(host), None) => host.to_str().ok(),
        // HTTP/2 has it in the URI.
        (None, None) => uri.authority().map(|authority| authority.as_str()),
        _ => None,
    };
    let Some(host) = host else { return false };
    let name = without_port(host).to_ascii_lowercase();
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    literal.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || configured.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host) || ours.eq_ignore_ascii_case(&name))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Whether a browser says that the request comes from a page of somebody else.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let elsewhere =
        text(HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site != "same-origin" && site != "none");
    let host = text(HOST).unwrap_or_default();
    let origin = text(ORIGIN).is_some_and(|origin| {
        let after_scheme = origin.split_once("://").map_or("", |(_, rest)| rest);
        !after_scheme.eq_ignore_ascii_case(host)
    });
    elsewhere || origin
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Who holds the token. Every token is compared, each in constant time, so that the time does not tell which one came near.
fn token_holder(configured: &Configured, token: &[u8]) -> Option<(String, Role)> {
    let mut holder = None;
    for ours in &configured.tokens {
        if ours.token.matches(token) {
            holder = Some((ours.name.clone(), ours.role));
        }
    }
    holder
}

/// Adds the five security headers (brief 6.1) where the page has not set its own, and keeps answers out of caches.
fn secured(mut response: Response) -> Response {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (HeaderName::from_static("strict-transport-security"), "max-age=31536000; includeSubDomains"),
        (CONTENT_SECURITY_POLICY, "default-src 'self'; frame-ancestors 'none'"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
        (HeaderName::from_static("referrer-policy"), "strict-origin-when-cross-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
