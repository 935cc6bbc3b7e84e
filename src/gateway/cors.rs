//! Cross-origin calls from browsers (Fetch standard, "CORS protocol"): off unless the config lists origins.
//!
//! The edge answers preflights itself, before authentication: browsers send them without credentials. Credentials are
//! bearer tokens that a script adds itself, so `Access-Control-Allow-Credentials` is never sent.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::response::Answer;

/// The request's origin, when the config lets it call.
pub fn allowed_origin(headers: &HeaderMap, origins: &[String]) -> Option<HeaderValue> {
    if origins.is_empty() {
        return None;
    }
    let origin = headers.get(ORIGIN)?;
    origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// The answer to a preflight of an allowed origin; `None` when the request is not one.
pub fn preflight(method: &Method, headers: &HeaderMap) -> Option<Answer> {
    if *method != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let answer = Answer { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: bytes::Bytes::new() };
    Some(
        answer
            .with(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE"))
            .with(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Authorization, Content-Type, X-Trace-Id"))
            .with(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
    )
}
