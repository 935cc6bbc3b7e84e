//! Who may ask the admin address, and from where.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;

use super::Admin;
use super::api::refuse;
use super::listener::Peer;
use crate::config::Admin as Access;
use crate::error::Code;

/// Who asks, for the audit line.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    /// The name of the token.
    pub name: String,
    /// The socket's other end.
    pub peer: SocketAddr,
}

/// Whether the asker showed a token, or need not have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trusted(pub bool);

/// Paths that are answered without a token wherever the listener is.
const PROBES: &[&str] = &["/healthz", "/readyz"];

pub(super) async fn guard(
    State(admin): State<Admin>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let access = admin.inner.control.access();
    let headers = request.headers();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let changes = !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS);
    let needs_token = changes || !access.address.ip().is_loopback();

    if !host_is_ours(headers, request.uri(), &access) {
        let message = "This Host is not answered here. List it in server.admin.hosts if it should be.";
        return secured(refuse(&admin, Code::Forbidden, message));
    }
    // A browser says where a request comes from; pages of others have no business here, with or without a token.
    if changes && is_cross_site(headers) {
        return secured(refuse(&admin, Code::Forbidden, "Requests from other sites are not answered here."));
    }
    let holder = bearer(headers).and_then(|token| token_holder(&access, token));
    let probe = PROBES.contains(&path.as_str()) && !changes;
    if needs_token && holder.is_none() && !probe {
        if changes || headers.contains_key(AUTHORIZATION) {
            log::warn!(target: "tmcp_edge::audit", "refused method={method} path={path:?} from={peer} reason=token");
        }
        let message = match access.tokens.is_empty() {
            true => "This needs an admin token, and the config names none (server.admin.tokens_file).",
            false => "This needs an admin token: Authorization: Bearer ….",
        };
        let mut response = refuse(&admin, Code::InvalidToken, message);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return secured(response);
    }
    request.extensions_mut().insert(Trusted(!needs_token || holder.is_some()));
    let asker = Asker { name: holder.unwrap_or_else(|| "nobody".to_owned()), peer };
    request.extensions_mut().insert(asker.clone());
    let response = next.run(request).await;
    if changes {
        let (name, status) = (asker.name, response.status().as_u16());
        log::info!(target: "tmcp_edge::audit", "method={method} path={path:?} by={name:?} from={peer} status={status}");
    }
    secured(response)
}

/// Whether the request is meant for us. A literal address cannot be made to point elsewhere, so every one is taken: a
/// probe that comes by the pod's address, a tunnel that ends somewhere else.
fn host_is_ours(headers: &HeaderMap, uri: &Uri, access: &Access) -> bool {
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
        || access.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host) || ours.eq_ignore_ascii_case(&name))
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

/// The name of whoever holds the token. Every token is compared, each in constant time, so that the time does not tell
/// which one came near.
fn token_holder(access: &Access, token: &[u8]) -> Option<String> {
    let mut holder = None;
    for ours in &access.tokens {
        if ours.token.matches(token) {
            holder = Some(ours.name.clone());
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
