//! Conditional requests, answered from what is kept (RFC 9110 section 13, RFC 9111 section 4.3.2).
//!
//! Only the two conditions that a cache may look at: whether the caller has this answer already. The others protect a
//! resource from lost updates, and are for the origin alone.

use http::header::{
    CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderName};

use super::Entry;

/// What a 304 repeats of the answer that it stands for (RFC 9110 section 15.4.5). `Last-Modified` is for those who have
/// no better validator.
const REPEATED: [HeaderName; 7] = [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY];

impl Entry {
    /// Whether the caller says that it has this very answer, so that 304 without a body will do.
    pub fn is_held_by(&self, request: &HeaderMap) -> bool {
        if request.contains_key(IF_NONE_MATCH) {
            // Decides alone: the date is for those who do not know the entity tag.
            return self.headers.get(ETAG).is_some_and(|own| names(request, own.as_bytes()));
        }
        let date = |headers: &HeaderMap, name| {
            let mut values = headers.get_all(name).iter();
            let value = values.next().filter(|_| values.next().is_none())?;
            httpdate::parse_http_date(value.to_str().ok()?).ok()
        };
        match (date(request, IF_MODIFIED_SINCE), date(&self.headers, LAST_MODIFIED)) {
            (Some(held), Some(own)) => own <= held,
            _ => false,
        }
    }

    /// The headers of a 304.
    pub fn held_headers(&self) -> HeaderMap {
        let repeated = self.headers.iter().filter(|(name, _)| REPEATED.contains(name));
        repeated.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// Whether `If-None-Match` names the tag, by weak comparison, or any tag there is.
fn names(request: &HeaderMap, own: &[u8]) -> bool {
    let mut values = request.get_all(IF_NONE_MATCH).iter().map(|value| value.as_bytes());
    values.any(|list| list.trim_ascii() == b"*" || tags(list).any(|tag| tag == opaque(own)))
}

/// The tags of a list, each with its quotes and without its `W/`. Tags may hold commas.
fn tags(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let start = list.iter().position(|byte| *byte == b'"')?;
        let length = list.get(start + 1..)?.iter().position(|byte| *byte == b'"')? + 2;
        let tag = list.get(start..start + length)?;
        list = list.get(start + length..)?;
        Some(tag)
    })
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;
    use crate::clock::Clock;

    const MONDAY: &str = "Mon, 23 Nov 2026 08:00:00 GMT";
    const TUESDAY: &str = "Tue, 24 Nov 2026 08:00:00 GMT";

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn entry(pairs: &[(HeaderName, &str)]) -> Entry {
        let now = Clock::system().tick();
        Entry { headers: headers(pairs), body: Bytes::new(), stored: now, expires: now, age: Duration::ZERO }
    }

    fn held(answer: &[(HeaderName, &str)], request: &[(HeaderName, &str)]) -> bool {
        entry(answer).is_held_by(&headers(request))
    }

    #[test]
    fn a_tag_is_compared_weakly_and_as_a_whole() {
        for own in ["\"a,b\"", "W/\"a,b\""] {
            for request in ["\"a,b\"", "W/\"a,b\"", "\"x\", \"a,b\"", "*", " * ", "W/\"x\",W/\"a,b\",\"y\""] {
                assert!(held(&[(ETAG, own)], &[(IF_NONE_MATCH, request)]), "{own} {request}");
            }
            for request in ["\"a\"", "a,b", "\"A,B\"", "", "\"", "\"a,b", "W/", "\"a\",\"b\""] {
                assert!(!held(&[(ETAG, own)], &[(IF_NONE_MATCH, request)]), "{own} {request}");
            }
        }
        assert!(!held(&[], &[(IF_NONE_MATCH, "*")]), "without a tag nobody can tell a change from none");
        let mut two = headers(&[(IF_NONE_MATCH, "\"x\"")]);
        two.append(IF_NONE_MATCH, HeaderValue::from_static("\"a\""));
        assert!(entry(&[(ETAG, "\"a\"")]).is_held_by(&two));
    }

    #[test]
    fn a_date_counts_where_no_tag_is_named() {
        let answer = [(LAST_MODIFIED, MONDAY), (ETAG, "\"a\"")];
        assert!(held(&answer, &[(IF_MODIFIED_SINCE, MONDAY)]));
        assert!(held(&answer, &[(IF_MODIFIED_SINCE, TUESDAY)]));
        assert!(!held(&[(LAST_MODIFIED, TUESDAY)], &[(IF_MODIFIED_SINCE, MONDAY)]));
        assert!(!held(&answer, &[(IF_MODIFIED_SINCE, MONDAY), (IF_NONE_MATCH, "\"b\"")]));
        assert!(!held(&answer, &[(IF_MODIFIED_SINCE, "yesterday")]));
        assert!(!held(&[(ETAG, "\"a\"")], &[(IF_MODIFIED_SINCE, MONDAY)]));
        assert!(!held(&answer, &[]));
    }

    #[test]
    fn a_304_repeats_validators_and_says_nothing_of_the_body() {
        let answer = entry(&[
            (ETAG, "\"a\""),
            (VARY, "accept"),
            (http::header::CONTENT_TYPE, "application/json"),
            (http::header::CONTENT_LENGTH, "2"),
        ]);
        assert_eq!(answer.held_headers(), headers(&[(ETAG, "\"a\""), (VARY, "accept")]));
    }
}
