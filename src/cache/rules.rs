//! What may be looked up and what may be kept (RFC 9111).
//!
//! Each entry is one caller's, so for this purpose we are a private cache on the caller's behalf: `private`
//! answers, and answers to requests with `Authorization`, may be kept. `s-maxage` is heeded besides `max-age`, whichever
//! is shorter: an upstream that says either means that the answer is old after that. Nothing makes an entry live longer
//! than the config says, nothing stale is served, and nothing is revalidated.

use std::time::Duration;

use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, COOKIE, DATE, EXPIRES, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, PRAGMA, RANGE, SET_COOKIE, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};

/// Request headers that answers commonly vary by, kept apart whatever the config says: one caller seldom sends
/// several values, and without them an upstream that compresses could never be cached.
pub(super) const ALWAYS_VARY: &[&str] = &["accept", "accept-encoding", "origin"];

/// What a request's method and headers allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestRule {
    /// Neither to be answered from the cache nor to be kept.
    Bypass,
    /// May be answered from the cache; what the upstream answers is not the whole answer, and is not kept.
    Look,
    /// May be answered from the cache and kept.
    LookAndFill,
}

impl RequestRule {
    /// The rule for a request.
    pub fn of(method: &Method, headers: &HeaderMap) -> RequestRule {
        let asks_anew = || {
            let tokens = directives(headers, &CACHE_CONTROL);
            let none = |token: (&str, Option<&str>)| match token {
                ("no-cache" | "no-store", _) => true,
                ("max-age", Some(seconds)) => seconds.parse() == Ok(0u64),
                _ => false,
            };
            tokens.into_iter().any(none) || directives(headers, &PRAGMA).iter().any(|(name, _)| *name == "no-cache")
        };
        // A cookie would be a second identity, one that the key knows nothing about.
        let has = |name| headers.contains_key(name);
        if (method != Method::GET && method != Method::HEAD) || has(UPGRADE) || has(COOKIE) || asks_anew() {
            return RequestRule::Bypass;
        }
        let partial = [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
        if method == Method::HEAD || partial.into_iter().any(has) {
            return RequestRule::Look;
        }
        RequestRule::LookAndFill
    }
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstorable {
    /// Its status is not 200.
    Status,
    /// The upstream forbids it.
    Forbidden,
    /// It sets a cookie.
    Cookie,
    /// It varies by something that is not in the key.
    Varies,
    /// It is old already.
    Old,
    /// It is larger than one entry may be.
    TooLarge,
    /// It did not come to its end, or is not as long as it said.
    Incomplete,
}

impl Unstorable {
    /// Whether the next answer will probably be no different, so that others need not wait for it.
    pub(super) fn lasts(self) -> bool {
        !matches!(self, Unstorable::Status | Unstorable::Incomplete)
    }
}

/// How long an answer may be kept, and how old it is already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Freshness {
    /// From now on.
    pub lives: Duration,
    /// Before now.
    pub age: Duration,
}

/// Whether and for how long an answer may be kept, at most for `ttl`.
pub(super) fn freshness(
    status: StatusCode,
    headers: &HeaderMap,
    vary_by: &[String],
    ttl: Duration,
) -> Result<Freshness, Unstorable> {
    if status != StatusCode::OK {
        return Err(Unstorable::Status);
    }
    if headers.contains_key(SET_COOKIE) {
        return Err(Unstorable::Cookie);
    }
    let known = |name: &str| {
        // The caller's identity is part of every key.
        name == AUTHORIZATION.as_str() || ALWAYS_VARY.contains(&name) || vary_by.iter().any(|by| by == name)
    };
    if !directives(headers, &VARY).iter().all(|(name, _)| known(&name.to_ascii_lowercase())) {
        return Err(Unstorable::Varies);
    }
    let mut longest = None;
    for (name, value) in directives(headers, &CACHE_CONTROL) {
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Err(Unstorable::Forbidden),
            "max-age" | "s-maxage" => {
                // What cannot be read is taken for "old already" (RFC 9111 section 4.2.1).
                let seconds = value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
                longest = Some(longest.map_or(seconds, |longest: u64| longest.min(seconds)));
            }
            _ => {}
        }
    }
    let longest = longest.map(Duration::from_secs).or_else(|| expires(headers));
    let age = single(headers, &AGE).and_then(|age| age.parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
    let lives = longest.map_or(ttl, |longest| longest.saturating_sub(age).min(ttl));
    if lives.is_zero() { Err(Unstorable::Old) } else { Ok(Freshness { lives, age }) }
}

/// The life that `Expires` gives, counted from `Date`; none at all when either cannot be read.
fn expires(headers: &HeaderMap) -> Option<Duration> {
    headers.get(EXPIRES)?;
    let date = |name| single(headers, name).and_then(|text| httpdate::parse_http_date(text).ok());
    let life = date(&EXPIRES).zip(date(&DATE)).and_then(|(end, start)| end.duration_since(start).ok());
    Some(life.unwrap_or(Duration::ZERO))
}

/// The length that an answer says it has.
pub(super) fn content_length(headers: &HeaderMap) -> Option<usize> {
    single(headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok())
}

/// The members of a list header, each with what stands after `=`. A value that is not text is a member of its own, which
/// nobody knows: unknown members forbid in `Vary` and mean nothing in `Cache-Control`.
fn directives<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<(&'a str, Option<&'a str>)> {
    let mut all = Vec::new();
    for value in headers.get_all(name) {
        let Ok(text) = value.to_str() else {
            all.push(("\u{fffd}", None));
            continue;
        };
        for member in text.split(',') {
            let (name, value) = match member.split_once('=') {
                Some((name, value)) => (name, Some(value.trim().trim_matches('"'))),
                None => (member, None),
            };
            if !name.trim().is_empty() {
                all.push((name.trim(), value));
            }
        }
    }
    all
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// Headers that belong to one connection or one request and are not kept.
pub(super) fn strip(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> =
        directives(headers, &http::header::CONNECTION).iter().filter_map(|(name, _)| name.parse().ok()).collect();
    for name in nominated {
        headers.remove(name);
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "age",
        "x-cache",
        "x-trace-id",
        "x-request-id",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "retry-after",
    ] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;
