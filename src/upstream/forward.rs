//! Header rules, both directions: what of a client's headers reaches an upstream, and what of an upstream's reaches
//! a client (protocol section 10).
//!
//! Towards the upstream the rule is: whatever the upstream might take for the edge's own word is taken out, then the
//! edge says it. That covers identity and trace headers, forwarding headers in every dialect, headers that rewrite the
//! method or path, and any name with an underscore: servers that turn names into environment variables (CGI, WSGI,
//! Rack) cannot tell `X_TMCP_User_Id` from ours. Credentials go only where they are meant for: see [`Credential`].
//!
//! A client may nominate headers as hop-by-hop in `Connection`, and Pingora removes those before this module runs. It
//! must not remove what the request was admitted by, so [`check_nominations`] refuses such a request at the door.
//!
//! Each direction looks at every header once; most requests lose none or two.

mod caller;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::http::RequestHeader;
use smallvec::SmallVec;

pub use self::caller::{Identity, Origin, Trace, name};
use crate::error::{Code, Refusal};
use crate::model::rows::{Answer, Auth};

/// How much of the message is the upstream's own business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The wallet, or a row that the config adds: the edge answers for what the client sees.
    Guarded,
    /// The homeserver's own API: cookies, CORS and security headers are left to it.
    Raw,
}

/// What becomes of the client's `Authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// It goes along.
    Forward,
    /// It stays here; the upstream learns the identity alone.
    Withhold,
}

/// What the caller proved itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing that the edge looked at.
    None,
    /// A TEP token.
    Tep,
    /// A Matrix access token.
    Matrix,
    /// A client's id and secret.
    ClientSecret,
}

impl Credential {
    /// The rule. The wallet verifies TEP tokens itself (protocol section 11), so it gets them; it must never see a
    /// Matrix access token, which would let it act as the user everywhere, nor a client's secret. The homeserver gets
    /// what is meant for it. An upstream that a config adds gets only what the edge did not look at.
    pub fn rule(answer: Answer, auth: Auth, proof: Proof) -> Credential {
        match (answer, auth, proof) {
            (Answer::Homeserver, Auth::Upstream, _) => Credential::Forward,
            (Answer::Wallet | Answer::WalletChecked, _, Proof::Tep) => Credential::Forward,
            (_, Auth::Public | Auth::Upstream, Proof::None) => Credential::Forward,
            _ => Credential::Withhold,
        }
    }
}

/// Everything that shapes a request on its way to an upstream.
#[derive(Clone, Copy, Debug)]
pub struct Passage<'a> {
    /// How much is the upstream's own business.
    pub manner: Manner,
    /// What becomes of `Authorization`.
    pub credential: Credential,
    /// Who the caller is; the default for raw rows.
    pub identity: &'a Identity,
    /// The request's ids.
    pub trace: &'a Trace,
    /// Where it came from.
    pub origin: &'a Origin,
    /// `Host` of the upstream's address.
    pub host: &'a HeaderValue,
}

/// Names to take out; nearly always a handful at most.
type Names = SmallVec<[HeaderName; 8]>;

/// The headers with which a request whose body is at hand goes to its upstream: those of the client that may, and the
/// edge's own. Framing is left to whoever knows the body.
pub fn whole_request(client: &HeaderMap, passage: &Passage<'_>) -> HeaderMap {
    let nominated = nominated(client);
    let mut headers = HeaderMap::with_capacity(client.keys_len() + 14);
    for (name, value) in client {
        if reaches_upstream(name, passage) && !is_framing(name) && !nominated.contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    say(&mut headers, passage);
    headers
}

/// Headers that say how a message is carried on its connection, and how long it is.
fn is_framing(name: &HeaderName) -> bool {
    [header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING, header::CONTENT_LENGTH].contains(name)
}

/// Rewrites the headers of a request that Pingora forwards as it streams by. Pingora has dealt with `Connection`,
/// `Upgrade` and `Transfer-Encoding` before; the path is [`super::templates`]'s.
pub fn request(head: &mut RequestHeader, passage: &Passage<'_>) {
    // Pingora keeps the client's spelling of names in a second map beside the headers; going through it would cost an
    // allocation for every header that is added. Names are case-insensitive, so the spelling is let go.
    let (mut parts, ()) = http::Request::new(()).into_parts();
    let send_end_stream = head.send_end_stream().unwrap_or(true);
    parts.version = head.version;
    let mut parts: http::request::Parts = std::mem::replace(head, RequestHeader::from(parts)).into();
    request_headers(&mut parts.headers, passage);
    *head = RequestHeader::from(parts);
    head.set_send_end_stream(send_end_stream);
}

/// The same on a plain header map.
pub fn request_headers(headers: &mut HeaderMap, passage: &Passage<'_>) {
    let doomed: Names = headers.keys().filter(|name| !reaches_upstream(name, passage)).cloned().collect();
    for name in &doomed {
        headers.remove(name);
    }
    headers.reserve(12);
    say(headers, passage);
}

/// What the edge itself tells an upstream.
fn say(headers: &mut HeaderMap, passage: &Passage<'_>) {
    headers.insert(header::HOST, passage.host.clone());
    passage.identity.write(headers);
    passage.trace.write(headers);
    headers.insert(name::FORWARDED_FOR, passage.origin.client.clone());
    headers
        .insert(name::FORWARDED_PROTO, HeaderValue::from_static(if passage.origin.https { "https" } else { "http" }));
    if let Some(host) = &passage.origin.host {
        headers.insert(name::FORWARDED_HOST, host.clone());
    }
}

/// Headers of a call that the edge makes for a caller: identity, ids and, where the upstream may have it, the caller's
/// credential.
pub fn caller_headers(identity: &Identity, trace: &Trace, authorization: Option<&HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    identity.write(&mut headers);
    trace.write(&mut headers);
    if let Some(authorization) = authorization {
        headers.insert(header::AUTHORIZATION, authorization.clone());
    }
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers
}

fn reaches_upstream(name: &HeaderName, passage: &Passage<'_>) -> bool {
    let text = name.as_str();
    let guarded = passage.manner == Manner::Guarded;
    if text.contains('_') {
        return false;
    }
    match text.as_bytes().first() {
        Some(b'a') if *name == header::AUTHORIZATION => passage.credential == Credential::Forward,
        // A wallet's error is read by the edge, so it must not come compressed; the edge compresses where asked to.
        Some(b'a') if *name == header::ACCEPT_ENCODING => !guarded,
        Some(b'c') if *name == header::COOKIE => !guarded,
        Some(b'c') if text.starts_with("cf-connecting-ip") || text == "client-ip" || text == "cluster-client-ip" => {
            false
        }
        // The edge has read the body of a guarded row already, and asked for it itself.
        Some(b'e') if *name == header::EXPECT => !guarded,
        Some(b'f') if matches!(text, "forwarded" | "forwarded-for" | "fastly-client-ip") => false,
        Some(b'h') if text == "http2-settings" => false,
        Some(b'k') if text == "keep-alive" => false,
        // `Proxy` itself is httpoxy: as an environment variable it becomes HTTP_PROXY.
        Some(b'p') if text == "proxy" || text.starts_with("proxy-") => false,
        Some(b't') if matches!(text, "te" | "trailer" | "traceparent" | "tracestate" | "true-client-ip") => false,
        Some(b'x') => !is_ours_to_say(text),
        _ => true,
    }
}

/// Headers starting with `x-` that an upstream would take for the edge's word, or that change what the request means.
fn is_ours_to_say(text: &str) -> bool {
    const FAMILIES: &[&str] = &["x-tmcp-", "x-forwarded", "x-internal-", "x-original-", "x-rewrite-"];
    matches!(
        text,
        "x-request-id"
            | "x-trace-id"
            | "x-protocol-operation"
            | "x-real-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "x-originating-ip"
            | "x-remote-ip"
            | "x-remote-addr"
            | "x-host"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
            | "x-accel-redirect"
            | "x-sendfile"
    ) || FAMILIES.iter().any(|family| text.starts_with(family))
}

/// Refuses a request whose `Connection` nominates for removal what it is judged by: the upstream would see another
/// request than the one that was admitted. Nominating anything else is the client's right (RFC 9110 section 7.6.1).
pub fn check_nominations(headers: &HeaderMap) -> Result<(), Refusal> {
    let connection = headers.get_all(header::CONNECTION);
    for token in connection.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let token = token.trim_ascii();
        let harmless: &[&[u8]] = &[b"", b"close", b"keep-alive", b"upgrade", b"te", b"trailer", b"http2-settings"];
        if harmless.iter().any(|option| token.eq_ignore_ascii_case(option)) {
            continue;
        }
        let name = HeaderName::from_bytes(token).ok();
        if name.is_none_or(|name| is_judged_by(&name)) {
            return Err(Refusal::new(
                Code::ValidationFailed,
                "The Connection header names a field that must reach the service.",
            )
            .inside(format!("Connection nominates {:?}", String::from_utf8_lossy(token)))
            .close());
        }
    }
    Ok(())
}

fn is_judged_by(name: &HeaderName) -> bool {
    let text = name.as_str();
    text.starts_with("content-")
        || text.starts_with("access-control-")
        || text.starts_with("sec-")
        || text.contains('_')
        || is_ours_to_say(text)
        || matches!(
            text,
            "accept"
                | "accept-language"
                | "authorization"
                | "cache-control"
                | "cookie"
                | "expect"
                | "forwarded"
                | "host"
                | "idempotency-key"
                | "origin"
                | "range"
                | "referer"
                | "traceparent"
                | "tracestate"
                | "transfer-encoding"
                | "user-agent"
                | "x-idempotency-key"
        )
}

/// The headers of an upstream's answer that reach the client, with room for those that the edge adds.
pub fn answer_headers(upstream: &HeaderMap, status: StatusCode, manner: Manner) -> HeaderMap {
    // An upgrade's answer is made of the very headers that are hop-by-hop elsewhere.
    let upgraded = status == StatusCode::SWITCHING_PROTOCOLS;
    let mut nominated = if upgraded { Names::new() } else { nominated(upstream) };
    // Framing is Pingora's; an upstream that nominates it is confused, and obeying would break the answer.
    nominated.retain(|name| *name != header::CONTENT_LENGTH && *name != header::CONTENT_TYPE);
    let mut headers = HeaderMap::with_capacity(upstream.keys_len() + 20);
    for (name, value) in upstream {
        if reaches_client(name, manner, upgraded) && !nominated.contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// Fields that `Connection` says to be of one hop only (RFC 9110 section 7.6.1).
fn nominated(headers: &HeaderMap) -> Names {
    let tokens = headers.get_all(header::CONNECTION).into_iter();
    let tokens = tokens.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok()).collect()
}

fn reaches_client(name: &HeaderName, manner: Manner, upgraded: bool) -> bool {
    let text = name.as_str();
    let guarded = manner == Manner::Guarded;
    match text.as_bytes().first() {
        // Alternative services would lead clients past the edge.
        Some(b'a') if *name == header::ALT_SVC => false,
        Some(b'a') if text.starts_with("access-control-") => !guarded,
        Some(b'c') if *name == header::CONNECTION => upgraded,
        Some(b'c') if *name == header::CONTENT_SECURITY_POLICY => !guarded,
        Some(b'c') if matches!(text, "clear-site-data" | "content-location") => !guarded,
        Some(b'k') if text == "keep-alive" => false,
        // Where the upstream's own paths lead says nothing to our clients, and shows its address.
        Some(b'l') if *name == header::LOCATION => !guarded,
        Some(b'p') if text.starts_with("proxy-") => false,
        Some(b'r') if matches!(text, "referrer-policy" | "refresh") => !guarded,
        Some(b's') if *name == header::SERVER => false,
        Some(b's') if matches!(text, "set-cookie" | "strict-transport-security") => !guarded,
        Some(b't') if matches!(text, "te" | "trailer" | "traceparent" | "tracestate") => false,
        Some(b'u') if *name == header::UPGRADE => upgraded,
        Some(b'v') if *name == header::VIA => false,
        Some(b'w') if *name == header::WWW_AUTHENTICATE => !guarded,
        Some(b'x') => match text {
            "x-powered-by"
            | "x-runtime"
            | "x-request-id"
            | "x-trace-id"
            | "x-protocol-operation"
            | "x-cache"
            | "x-accel-redirect"
            | "x-sendfile" => false,
            "x-content-type-options" | "x-frame-options" => !guarded,
            _ => !["x-tmcp-", "x-ratelimit-", "x-aspnet", "x-internal-"].iter().any(|family| text.starts_with(family)),
        },
        _ => true,
    }
}

#[cfg(test)]
mod tests;
