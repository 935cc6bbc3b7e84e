//! Headers of every answer, and writing one that the edge makes itself.

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, ETAG, LAST_MODIFIED, ORIGIN,
    TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::{Answer, SECURITY, TMCP_VERSION, X_PROTOCOL_OPERATION, X_TMCP_VERSION, X_TRACE_ID};
use crate::policy::rate_limit::Report;

/// What the headers of an answer tell about its request.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The operation's name, or that of a row which the config adds.
    pub operation: HeaderValue,
    /// The trace's id.
    pub trace_id: HeaderValue,
    /// How the caller stands with its limits, when the route has any.
    pub limit: Option<&'a Report>,
    /// What the response cache said (`X-Cache`), when the route is cached.
    pub cache: Option<&'static str>,
    /// The origin that may read the answer (CORS).
    pub origin: Option<&'a HeaderValue>,
    /// Keep stricter security headers that the upstream sent (raw rows, protocol section 10).
    pub keep_upstream_security: bool,
}

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const ALLOW_ORIGIN: HeaderName = http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
const EXPOSE: HeaderName = http::header::ACCESS_CONTROL_EXPOSE_HEADERS;
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Retry-After, X-Trace-Id, X-TMCP-Version, X-Protocol-Operation, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, \
     X-RateLimit-Reset-After, X-Cache",
);

/// A head of these headers. Pingora would keep the spelling of names in a second map beside the headers, at the price of
/// an allocation for each of the dozen that every answer has; names are case-insensitive, so there is none.
pub fn head(status: StatusCode, headers: HeaderMap) -> ResponseHeader {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = status;
    // Ours, not that of the connection to the upstream (RFC 9110 section 2.5).
    parts.version = Version::HTTP_11;
    parts.headers = headers;
    parts.into()
}

/// Sets the headers that stand on every answer (protocol section 10).
pub fn decorate(headers: &mut HeaderMap, facts: &Facts<'_>) {
    headers.reserve(18);
    for (name, value) in SECURITY {
        if !(facts.keep_upstream_security && headers.contains_key(&name)) {
            headers.insert(name, value);
        }
    }
    headers.insert(X_TRACE_ID, facts.trace_id.clone());
    headers.insert(X_TMCP_VERSION, HeaderValue::from_static(TMCP_VERSION));
    headers.insert(X_PROTOCOL_OPERATION, facts.operation.clone());
    if let Some(report) = facts.limit {
        report.write(&mut |name, value| drop(headers.insert(name, value)));
    }
    if let Some(cache) = facts.cache {
        headers.insert(X_CACHE, HeaderValue::from_static(cache));
    }
    if let Some(origin) = facts.origin {
        headers.insert(ALLOW_ORIGIN, origin.clone());
        headers.append(VARY, HeaderValue::from(ORIGIN));
        headers.insert(EXPOSE, EXPOSED);
    }
}

/// Writes an answer of the edge's own. A `HEAD` request gets the header alone.
pub async fn send(session: &mut Session, answer: Answer, facts: &Facts<'_>) -> Result<()> {
    let mut headers = HeaderMap::with_capacity(24);
    for (name, value) in answer.headers {
        headers.append(name, value);
    }
    // A page of ours needs a policy of its own (protocol section 10).
    let own_policy = headers.remove(CONTENT_SECURITY_POLICY);
    decorate(&mut headers, facts);
    if let Some(policy) = own_policy {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    // 304 would have to say how long the whole answer is, which is not for it to tell (RFC 9110 section 8.6).
    if answer.status != StatusCode::NO_CONTENT && answer.status != StatusCode::NOT_MODIFIED {
        // An answer without a length would end with the connection on HTTP/1.1.
        headers.insert(CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
    }
    let header = head(answer.status, headers);
    let body = if session.req_header().method == Method::HEAD { Bytes::new() } else { answer.body };
    session.write_response_header(Box::new(header), body.is_empty()).await?;
    if !body.is_empty() {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// Turns an upstream's answer, already decorated, into `answer`: its status, its body, its headers.
pub fn replace(mut header: ResponseHeader, answer: Answer) -> (ResponseHeader, Bytes) {
    for gone in [CONTENT_ENCODING, CONTENT_RANGE, ETAG, LAST_MODIFIED, TRANSFER_ENCODING] {
        header.remove_header(&gone);
    }
    // These can fail only for statuses and names that are malformed, and ours are constants.
    let _ = header.set_status(answer.status);
    for (name, value) in answer.headers {
        let _ = header.insert_header(name, value);
    }
    let _ = header.insert_header(CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
    (header, answer.body)
}
