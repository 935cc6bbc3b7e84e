//! `validation_rules`, `cache` and `cors` (brief 4.4 and 7.1).

use std::time::Duration;

use url::Url;

use super::map::Map;
use super::reader::Value;
use super::types::{CacheSize, Caches, Sanitization, Validation};

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;

/// Reads `validation_rules`.
pub(super) fn rules(m: &mut Map<'_>) -> Validation {
    let types = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"];
    Validation {
        max_request_size: m.or("max_request_size", 10 << 20, |v| v.size(KB..=1024 * MB)),
        max_header_size: m.or("max_header_size", 8 << 10, |v| v.size(KB..=MB)),
        allowed_content_types: m.or("allowed_content_types", types.map(str::to_owned).to_vec(), |v| {
            v.list("a list of content types", content_type)
        }),
        sanitization: m.section("sanitization", |m| Sanitization {
            remove_html: m.or("remove_html", true, |v| v.flag()),
            trim_strings: m.or("trim_strings", true, |v| v.flag()),
            normalize_unicode: m.or("normalize_unicode", true, |v| v.flag()),
        }),
    }
}

fn content_type(value: &Value<'_>) -> Option<String> {
    value.parsed("a content type such as application/json, without parameters", |text| {
        let (kind, subtype) = text.split_once('/')?;
        (is_token(kind) && is_token(subtype) && kind != "*" && subtype != "*").then(|| text.to_ascii_lowercase())
    })
}

/// Whether `text` is a token of RFC 9110 section 5.6.2, such as a header's name.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Reads `cache`.
pub(super) fn caches(m: &mut Map<'_>) -> Caches {
    let (response, vary_by) = m.section("response_cache", |m| {
        let size = cache(m, 300, 100);
        let vary_by = m.or("vary_by", vec!["authorization".to_owned(), "accept-language".to_owned()], |v| {
            v.list("a list of header names", |v| {
                v.parsed("a header's name", |text| is_token(text).then(|| text.to_ascii_lowercase()))
            })
        });
        (size, vary_by)
    });
    Caches {
        response,
        vary_by,
        auth: m.section("auth_cache", |m| cache(m, 60, 50)),
        rate_limit: m.section("rate_limit_cache", |m| cache(m, 3600, 200)),
    }
}

fn cache(m: &mut Map<'_>, ttl: u64, megabytes: usize) -> CacheSize {
    let day = Duration::from_secs(86_400);
    CacheSize {
        ttl: m.or("ttl", Duration::from_secs(ttl), |v| v.duration(Duration::from_secs(1)..=day)),
        max_size: m.or("max_size", megabytes << 20, |v| v.size(64 * KB..=1 << 40)),
    }
}

/// Reads `cors`.
pub(super) fn cors(m: &mut Map<'_>) -> Vec<String> {
    m.or("origins", Vec::new(), |v| v.list("a list of origins", origin))
}

/// An origin as browsers write it: `scheme://host` or `scheme://host:port`, so that it can be compared as text.
fn origin(value: &Value<'_>) -> Option<String> {
    let expected = "an origin as browsers send it: scheme://host or scheme://host:port, in lower case, without a path";
    value.parsed(expected, |text| {
        let url = Url::parse(text).ok()?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let as_sent =
            format!("{}://{}{port}", url.scheme(), url.host_str().filter(|host| !host.is_empty() && *host != "*")?);
        (as_sent == text).then_some(as_sent)
    })
}
