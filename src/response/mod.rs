//! The only writer to the client: local answers and refusals.
//!
//! Headers that stand on every answer (protocol section 10) are built once, as values whose cloning is a counter.
//! Refusals are written here and nowhere else, in the shape that the path's protocol speaks: TMCP's error object,
//! or Matrix's on Matrix paths (protocol sections 6 and 9).

mod write;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER, STRICT_TRANSPORT_SECURITY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::error::{Challenge, Code, Refusal};
use crate::operations::{Local, pages};

/// The protocol version of every answer.
pub const TMCP_VERSION: &str = "v1.2.0";
/// `X-Trace-Id`.
pub const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
/// `X-TMCP-Version`.
pub const X_TMCP_VERSION: HeaderName = HeaderName::from_static("x-tmcp-version");
/// `X-Protocol-Operation`.
pub const X_PROTOCOL_OPERATION: HeaderName = HeaderName::from_static("x-protocol-operation");

/// The five security headers of brief 6.1, on every answer.
pub const SECURITY: [(HeaderName, HeaderValue); 5] = [
    (STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000; includeSubDomains")),
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'; frame-ancestors 'none'")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin")),
];

pub use write::{Facts, decorate, head, replace, send};

/// Which protocol's error shape a path speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"error": {…}}` (protocol section 9).
    Tmcp,
    /// `{"errcode": …, "error": …}` (Matrix client-server API, "Standard error response").
    Matrix,
    /// `{"error": …, "error_description": …}` (RFC 6749 section 5.2, protocol section 3).
    Oauth,
}

impl Shape {
    /// The shape for a raw request path. Old homeservers call without `/_matrix/app/v1` before the path.
    pub fn of_path(path: &str) -> Shape {
        let matrix = ["/_matrix/", "/transactions/", "/users/", "/rooms/"];
        if path.starts_with("/oauth2/") {
            Shape::Oauth
        } else if matrix.iter().any(|prefix| path.starts_with(prefix)) {
            Shape::Matrix
        } else {
            Shape::Tmcp
        }
    }
}

/// An answer of the edge's own.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Headers besides those of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A JSON answer.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Answer { status, headers, body: body.into() }
    }

    /// What an operation answered.
    pub fn local(local: Local) -> Answer {
        let Local { status, headers, body } = local;
        let mut answer = Answer { status, headers, body };
        if !answer.headers.iter().any(|(name, _)| *name == CONTENT_TYPE) && !answer.body.is_empty() {
            answer.headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        answer
    }

    /// Adds a header.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.headers.push((name, value));
        self
    }
}

/// What a refusal looks like to the client. `request_id` and `unix` go into the body.
pub fn refusal(refusal: &Refusal, shape: Shape, request_id: &str, unix: u64) -> Answer {
    let body = match shape {
        Shape::Tmcp => tmcp_body(refusal, request_id, unix),
        Shape::Matrix => matrix_body(refusal),
        Shape::Oauth => oauth_body(refusal),
    };
    let mut answer = Answer::json(refusal.status(), body.to_string());
    answer.headers.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    if let Some(seconds) = refusal.retry_after_seconds() {
        answer.headers.push((RETRY_AFTER, HeaderValue::from(seconds)));
    }
    if let Some(challenge) = refusal.challenge_kind() {
        answer.headers.push((WWW_AUTHENTICATE, challenge_value(challenge)));
    }
    answer.headers.extend(refusal.headers().iter().cloned());
    answer
}

/// The same refusal as a page for people: status and headers stay. Should the page fail, the answer is what it was.
pub fn as_page(answer: Answer, refusal: &Refusal, server_name: &str, request_id: &str) -> Answer {
    let Ok(page) = pages::notice::of_refusal(refusal, server_name, request_id) else { return answer };
    let mut page = Answer::local(page);
    let kept = answer.headers.into_iter().filter(|(name, _)| *name != CONTENT_TYPE && *name != CACHE_CONTROL);
    page.headers.extend(kept);
    page
}

fn tmcp_body(refusal: &Refusal, request_id: &str, unix: u64) -> Value {
    let mut error = Map::new();
    error.insert("code".into(), refusal.code_text().into());
    error.insert("message".into(), refusal.message().into());
    if let Some(details) = refusal.details_value() {
        error.insert("details".into(), details.clone());
    }
    if let Some(seconds) = refusal.retry_after_seconds() {
        error.insert("retry_after".into(), seconds.into());
    }
    for (name, value) in refusal.fields() {
        error.insert((*name).into(), value.clone());
    }
    error.insert("request_id".into(), request_id.into());
    error.insert("timestamp".into(), clock::rfc3339(unix).into());
    json!({ "error": error })
}

fn matrix_body(refusal: &Refusal) -> Value {
    let errcode = match refusal.code() {
        Code::InvalidToken => "M_UNAUTHORIZED",
        Code::Forbidden | Code::InvalidScope => "M_FORBIDDEN",
        Code::NotFound | Code::MethodNotAllowed | Code::NotImplemented => "M_UNRECOGNIZED",
        Code::RateLimitExceeded => "M_LIMIT_EXCEEDED",
        Code::PayloadTooLarge => "M_TOO_LARGE",
        Code::ValidationFailed => "M_BAD_JSON",
        _ => "M_UNKNOWN",
    };
    let mut body = json!({"errcode": errcode, "error": refusal.message()});
    if let (Some(seconds), Some(object)) = (refusal.retry_after_seconds(), body.as_object_mut()) {
        object.insert("retry_after_ms".into(), (seconds * 1000).into());
    }
    body
}

/// Where a refusal is not the endpoint's own, the registered error that says most of it.
fn oauth_body(refusal: &Refusal) -> Value {
    let error = match refusal.oauth_error() {
        Some(error) => error.as_str(),
        None => match refusal.code() {
            Code::InvalidToken if refusal.challenge_kind() == Some(Challenge::Basic) => "invalid_client",
            Code::InvalidToken => "invalid_token",
            Code::Forbidden | Code::InvalidScope | Code::AccountSuspended | Code::UserSuspended => "access_denied",
            Code::RateLimitExceeded | Code::ServiceUnavailable | Code::UpstreamTimeout => "temporarily_unavailable",
            Code::InternalError | Code::NotImplemented | Code::UpstreamError => "server_error",
            _ => "invalid_request",
        },
    };
    let mut body = json!({"error": error, "error_description": refusal.oauth_description()});
    if let Some(object) = body.as_object_mut() {
        object.extend(refusal.fields().iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    }
    body
}

fn challenge_value(challenge: Challenge) -> HeaderValue {
    HeaderValue::from_static(match challenge {
        Challenge::Bearer => "Bearer realm=\"tmcp\"",
        Challenge::BearerInvalid => "Bearer realm=\"tmcp\", error=\"invalid_token\"",
        Challenge::BearerScope => "Bearer realm=\"tmcp\", error=\"insufficient_scope\"",
        Challenge::Basic => "Basic realm=\"tmcp\", charset=\"UTF-8\"",
    })
}
