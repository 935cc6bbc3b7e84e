use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const TTL: Duration = Duration::from_secs(300);

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

fn lives(pairs: &[(&'static str, &str)]) -> Result<u64, Unstorable> {
    let vary = ["accept-language".to_owned()];
    freshness(StatusCode::OK, &headers(pairs), &vary, TTL).map(|freshness| freshness.lives.as_secs())
}

#[test]
fn an_answer_lives_as_long_as_the_config_says_and_no_longer() {
    assert_eq!(lives(&[]), Ok(300));
    assert_eq!(lives(&[("cache-control", "max-age=86400")]), Ok(300));
    assert_eq!(lives(&[("cache-control", "private, max-age=60")]), Ok(60));
    assert_eq!(lives(&[("cache-control", "Max-Age=\"60\"")]), Ok(60));
    assert_eq!(lives(&[("cache-control", "max-age=60, s-maxage=10")]), Ok(10));
    assert_eq!(lives(&[("cache-control", "max-age=60"), ("cache-control", "must-revalidate")]), Ok(60));
    assert_eq!(lives(&[("cache-control", "max-age=60"), ("age", "45")]), Ok(15));
    assert_eq!(lives(&[("cache-control", "public"), ("age", "45")]), Ok(300));
}

#[test]
fn what_the_upstream_forbids_is_not_kept() {
    for forbidding in ["no-store", "no-cache", "No-Store", "private, no-cache=\"set-cookie\"", "max-age=60,no-store"] {
        assert_eq!(lives(&[("cache-control", forbidding)]), Err(Unstorable::Forbidden), "{forbidding}");
    }
    for old in ["max-age=0", "max-age=", "max-age=-1", "max-age=soon", "max-age"] {
        assert_eq!(lives(&[("cache-control", old)]), Err(Unstorable::Old), "{old}");
    }
    assert_eq!(lives(&[("cache-control", "max-age=60"), ("age", "60")]), Err(Unstorable::Old));
    assert_eq!(lives(&[("set-cookie", "a=b")]), Err(Unstorable::Cookie));
    for status in [201, 203, 204, 206, 301, 304, 404, 500] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(freshness(status, &HeaderMap::new(), &[], TTL), Err(Unstorable::Status), "{status}");
    }
}

#[test]
fn expires_counts_from_date() {
    let date = ("date", "Sat, 20 Dec 2025 01:15:00 GMT");
    assert_eq!(lives(&[date, ("expires", "Sat, 20 Dec 2025 01:16:00 GMT")]), Ok(60));
    assert_eq!(lives(&[date, ("expires", "Sat, 20 Dec 2025 01:14:00 GMT")]), Err(Unstorable::Old));
    assert_eq!(lives(&[date, ("expires", "0")]), Err(Unstorable::Old));
    assert_eq!(lives(&[date, ("expires", "0"), ("cache-control", "max-age=9")]), Ok(9));
}

#[test]
fn an_answer_may_vary_by_what_is_in_the_key() {
    for known in ["Accept-Language", "accept-encoding, Authorization", "Accept,Origin"] {
        assert_eq!(lives(&[("vary", known)]), Ok(300), "{known}");
    }
    for unknown in ["*", "User-Agent", "accept-language, *", "accept-language, cookie", "\u{e9}"] {
        assert_eq!(lives(&[("vary", unknown)]), Err(Unstorable::Varies), "{unknown}");
    }
    assert_eq!(lives(&[("vary", "accept-language"), ("vary", "x-tenant")]), Err(Unstorable::Varies));
}

#[test]
fn requests_say_what_they_want() {
    let of = |method: Method, pairs: &[(&'static str, &str)]| RequestRule::of(&method, &headers(pairs));
    assert_eq!(of(Method::GET, &[]), RequestRule::LookAndFill);
    assert_eq!(of(Method::GET, &[("cache-control", "max-age=30")]), RequestRule::LookAndFill);
    assert_eq!(of(Method::HEAD, &[]), RequestRule::Look);
    for partial in ["range", "if-none-match", "if-modified-since", "if-range"] {
        assert_eq!(of(Method::GET, &[(partial, "x")]), RequestRule::Look, "{partial}");
    }
    for anew in ["no-cache", "no-store", "max-age=0", "foo, no-cache"] {
        assert_eq!(of(Method::GET, &[("cache-control", anew)]), RequestRule::Bypass, "{anew}");
    }
    assert_eq!(of(Method::GET, &[("pragma", "no-cache")]), RequestRule::Bypass);
    assert_eq!(of(Method::GET, &[("cookie", "a=b")]), RequestRule::Bypass);
    assert_eq!(of(Method::GET, &[("upgrade", "websocket")]), RequestRule::Bypass);
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        assert_eq!(of(method, &[]), RequestRule::Bypass);
    }
}

#[test]
fn headers_of_one_connection_are_not_kept() {
    let mut map = headers(&[
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("x-trace-id", "abc"),
        ("age", "3"),
        ("etag", "\"v1\""),
        ("content-type", "application/json"),
    ]);
    strip(&mut map);
    let mut left: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["content-type", "etag"]);
}

proptest! {
    #[test]
    fn no_header_makes_an_answer_live_longer(control in "[ -~]{0,40}", age in "[ -~]{0,10}", expires in "[ -~]{0,30}") {
        let map = headers(&[("cache-control", &control), ("age", &age), ("expires", &expires)]);
        if let Ok(freshness) = freshness(StatusCode::OK, &map, &[], TTL) {
            prop_assert!(freshness.lives <= TTL && !freshness.lives.is_zero());
            prop_assert!(!control.to_ascii_lowercase().split(',').any(|part| part.trim() == "no-store"));
        }
    }
}
