//! Trace context: whose work a request is part of (W3C Trace Context, `X-Trace-Id`; protocol section 10).
//!
//! A client may not choose ids: it could make its requests look like somebody else's, or make a collector join what
//! does not belong together. Only what a trusted proxy sends is taken over, and only when it is well formed; everybody
//! else's request starts a trace of its own. Headers of either kind are removed before a request goes on, `tracestate`
//! included, and ours are added.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::random::{next, write_hex};

/// `traceparent`.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `X-Trace-Id`.
pub const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// Longest `X-Trace-Id` that is taken over, bytes.
const LONGEST: usize = 64;

/// The id of a trace as answers, logs and upstreams see it: 1 to 64 of `A-Z a-z 0-9 _ -`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId {
    bytes: [u8; LONGEST],
    len: u8,
}

impl TraceId {
    /// The id, when it is well formed.
    pub fn parse(text: &[u8]) -> Option<TraceId> {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if text.is_empty() || !text.iter().all(fits) {
            return None;
        }
        let mut bytes = [0; LONGEST];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(TraceId { bytes, len: text.len() as u8 })
    }

    fn of(w3c: u128) -> TraceId {
        let mut bytes = [0; LONGEST];
        write_hex(&w3c.to_be_bytes(), &mut bytes);
        TraceId { bytes, len: 32 }
    }

    /// The id's bytes, which are ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The id as a header's value.
    pub fn header(&self) -> HeaderValue {
        ascii(self.as_bytes())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({})", self.as_str())
    }
}

/// A `traceparent`: which trace, which span of it is ours to hang below, whether it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; never zero.
    pub trace: u128,
    /// The span; never zero.
    pub span: u64,
    /// Whether the caller records it.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads a header's value (W3C Trace Context section 3.2). Strict: lower-case hex, exactly the four fields in
    /// version 00, further ones only in a later version, never version ff, never ids of zero.
    pub fn parse(value: &[u8]) -> Option<TraceParent> {
        let (fields, more) = value.split_at_checked(55)?;
        let dashes = [2, 35, 52].iter().all(|at| fields.get(*at) == Some(&b'-'));
        let version = hex(fields.get(..2)?)?;
        let length_fits = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more.first() == Some(&b'-'),
        };
        let trace = hex(fields.get(3..35)?)?;
        let span = hex(fields.get(36..52)?)? as u64;
        let flags = hex(fields.get(53..55)?)?;
        let good = dashes && length_fits && trace != 0 && span != 0;
        good.then_some(TraceParent { trace, span, sampled: flags & 1 == 1 })
    }

    /// What a call of ours is told: a span of its own in the same trace when that is recorded, else the request's.
    pub fn of_call(self) -> TraceParent {
        if self.sampled { TraceParent { span: some_id(), ..self } } else { self }
    }

    /// The header's value, version 00.
    pub fn header(&self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        if let Some(to) = text.get_mut(3..35) {
            write_hex(&self.trace.to_be_bytes(), to);
        }
        if let Some(to) = text.get_mut(36..52) {
            write_hex(&self.span.to_be_bytes(), to);
        }
        if let (true, Some(last)) = (self.sampled, text.last_mut()) {
            *last = b'1';
        }
        ascii(&text)
    }
}

/// A number from lower-case hex digits; at most 32 of them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// Bytes that are known to be printable ASCII as a header's value.
fn ascii(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

/// A number that is not zero.
fn some_id() -> u64 {
    loop {
        let id = next();
        if id != 0 {
            return id;
        }
    }
}

/// The trace context of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The id that answers and logs show.
    pub id: TraceId,
    /// What goes on to the upstream: the trace and our span. Its trace is [`TraceContext::id`] unless a trusted proxy
    /// named the trace with an `X-Trace-Id` that is not 32 hex digits, or sent both headers with different ids.
    pub own: TraceParent,
    /// The span of the trusted proxy that called us, if it named one.
    pub parent: Option<u64>,
}

impl TraceContext {
    /// The context of a request with these headers. `trusted`: whether the peer is a trusted proxy. `sampled`: whether
    /// a trace that starts here is recorded, which is so when spans are exported.
    pub fn of(headers: &HeaderMap, trusted: bool, sampled: bool) -> TraceContext {
        if !trusted {
            return TraceContext::new(sampled);
        }
        let given = single(headers, &TRACEPARENT).and_then(TraceParent::parse);
        let named = single(headers, &X_TRACE_ID).and_then(TraceId::parse);
        let trace = match (given, named) {
            (Some(parent), _) => parent.trace,
            (None, Some(id)) if id.len == 32 => hex(id.as_bytes()).filter(|id| *id != 0).unwrap_or_else(new_trace),
            (None, _) => new_trace(),
        };
        let sampled = given.map_or(sampled, |parent| parent.sampled);
        TraceContext {
            id: named.unwrap_or_else(|| TraceId::of(trace)),
            own: TraceParent { trace, span: some_id(), sampled },
            parent: given.map(|parent| parent.span),
        }
    }

    /// A trace that starts here.
    pub fn new(sampled: bool) -> TraceContext {
        let trace = new_trace();
        TraceContext { id: TraceId::of(trace), own: TraceParent { trace, span: some_id(), sampled }, parent: None }
    }
}

fn new_trace() -> u128 {
    u128::from(some_id()) << 64 | u128::from(next())
}

/// The header's value when there is exactly one: two are a contradiction, and neither is taken.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

/// The id of one request: `req_` and 24 hex digits. Errors carry it, and so do logs and `X-Request-Id`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 28]);

impl RequestId {
    /// A new one.
    pub fn new() -> RequestId {
        let mut text = *b"req_000000000000000000000000";
        let random = u128::from(next()) << 64 | u128::from(next());
        if let Some(to) = text.get_mut(4..) {
            write_hex(&random.to_be_bytes(), to);
        }
        RequestId(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The id as a header's value.
    pub fn header(&self) -> HeaderValue {
        ascii(&self.0)
    }
}

impl Default for RequestId {
    fn default() -> Self {
        RequestId::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
