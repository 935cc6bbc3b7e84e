//! Headers that stand on every answer, and what of a client's headers reaches the wallet.

use tmcp_edge::model::Scope;

use crate::edge::{APP, Setup, fresh_ip, fresh_user, mark, ordinary, shared};
use crate::upstream::{Reply, Scripted};
use crate::wire::{Answer, Request};

const SECURITY: [(&str, &str); 5] = [
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
    ("content-security-policy", "default-src 'self'; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
];

/// What protocol section 10 puts on every answer, each header once.
pub fn check_standing(answer: &Answer) {
    let page = answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
    for (name, value) in SECURITY {
        // The edge's own pages have a stricter policy, which names what they hold.
        if page && name.eq_ignore_ascii_case("content-security-policy") {
            let policy = answer.header("content-security-policy").unwrap();
            assert!(
                policy.starts_with("default-src 'none';") && policy.ends_with("frame-ancestors 'none'"),
                "{policy}"
            );
            continue;
        }
        assert_eq!(answer.all(name), [value], "{name} of {answer:?}");
    }
    assert_eq!(answer.all("x-tmcp-version"), ["v1.2.0"]);
    let trace = answer.header("x-trace-id").unwrap();
    assert!(trace.len() >= 16 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()), "{trace}");
    assert!(answer.header("x-protocol-operation").is_some());
    for leak in ["server", "x-powered-by", "via"] {
        assert_eq!(answer.header(leak), None);
    }
}

/// Names under which an upstream might take a client's word for the edge's.
const SPOOFS: &[(&str, &str)] = &[
    ("X-TMCP-User-Id", "@evil:tween.example"),
    ("x_tmcp_user_id", "@evil:tween.example"),
    ("X-TMCP_User-Id", "@evil:tween.example"),
    ("X-TMCP-User_Id", "@evil:tween.example"),
    ("X-TMCP-App-Id", "ma_evil"),
    ("X-TMCP-Scopes", "wallet:admin"),
    ("X-TMCP-Session-Id", "evil"),
    ("X-TMCP-Wallet-Id", "tw_evil"),
    ("X-TMCP-Admin", "evil"),
    ("X-Request-Id", "evil"),
    ("X-Protocol-Operation", "evil"),
    ("X-Real-IP", "6.6.6.6"),
    ("True-Client-IP", "6.6.6.6"),
    ("CF-Connecting-IP", "6.6.6.6"),
    ("Forwarded", "for=6.6.6.6"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Proto", "evil"),
    ("X-Forwarded-User", "evil"),
    ("X-Original-URL", "/wallet/v1/evil"),
    ("X-Rewrite-URL", "/wallet/v1/evil"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("Proxy", "evil.example"),
    ("Proxy-Authorization", "Basic evil"),
    ("Cookie", "session=evil"),
    ("TE", "trailers, evil"),
    ("Keep-Alive", "evil"),
    ("tracestate", "evil=1"),
];

#[test]
fn the_wallet_hears_who_calls_from_the_edge_alone() {
    let edge = shared();
    let (user, mark, ip) = (fresh_user(), mark(), fresh_ip());
    let token = edge.token_of(&user, APP, ordinary());
    let mut request = Request::get("/api/v1/wallet/balance").bearer(&token).header("x-mark", &mark);
    for (name, value) in SPOOFS {
        request = request.header(name, *value);
    }
    let answer = edge.send(request.header("x-forwarded-for", format!("6.6.6.6, {ip}")));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["user_id"], user.as_str());

    let seen = edge.at_wallet("x-mark", &mark);
    assert_eq!(seen.len(), 1);
    let headers = &seen[0].headers;
    assert!(
        !headers.iter().any(|(name, value)| name.contains('_') || value.contains("evil") || value.contains("6.6.6.6")),
        "{headers:#?}"
    );
    assert_eq!(headers["x-tmcp-user-id"], user.as_str());
    assert_eq!(headers["x-tmcp-app-id"], APP);
    assert_eq!(headers["x-tmcp-scopes"], ordinary().to_string());
    assert_eq!(headers["authorization"], format!("Bearer {token}"));
    assert_eq!(headers["x-forwarded-for"], ip);
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], "edge.test");
    assert_eq!(headers["x-trace-id"], answer.header("x-trace-id").unwrap());
    assert!(headers["x-request-id"].starts_with("req_"));
    assert!(headers["traceparent"].contains(&headers["x-trace-id"]), "{headers:#?}");
    for gone in ["cookie", "te", "keep-alive", "proxy", "upgrade", "x-tmcp-session-id", "x-tmcp-wallet-id"] {
        assert!(!headers.contains_key(gone), "{gone}: {headers:#?}");
    }
}

#[test]
fn connection_cannot_take_a_header_away() {
    let edge = shared();
    for nominated in [
        "X-TMCP-User-Id",
        "close, X-TMCP-App-Id",
        "Authorization",
        "Content-Type",
        "Content-Length",
        "Host",
        "X-Forwarded-For",
        "X-Request-Id",
        "traceparent",
        "keep-alive, Transfer-Encoding",
        "b@d name",
    ] {
        let mark = mark();
        let answer = edge.send(
            Request::get("/api/v1/wallet/balance")
                .bearer(&edge.full_token())
                .header("x-mark", &mark)
                .header("connection", nominated),
        );
        assert_eq!(answer.status, 400, "Connection: {nominated}: {}", answer.text());
        assert_eq!(edge.at_wallet("x-mark", &mark).len(), 0, "Connection: {nominated}");
    }
    let mark = mark();
    let answer = edge.send(
        Request::get("/api/v1/wallet/balance")
            .bearer(&edge.full_token())
            .header("x-mark", &mark)
            .header("x-hop", "one")
            .header("connection", "keep-alive, X-Hop"),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!edge.at_wallet("x-mark", &mark)[0].headers.contains_key("x-hop"), "a hop's own header goes no further");
}

#[test]
fn an_upgrade_that_the_route_does_not_take_is_not_passed_on() {
    let edge = shared();
    for (upgrade, connection) in [("h2c", "Upgrade, HTTP2-Settings"), ("websocket", "Upgrade")] {
        let mark = mark();
        let answer = edge.send(
            Request::get("/api/v1/wallet/balance")
                .bearer(&edge.full_token())
                .header("x-mark", &mark)
                .header("upgrade", upgrade)
                .header("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
                .header("sec-websocket-version", "13")
                .header("connection", connection),
        );
        assert_eq!(answer.status, 200, "{upgrade}: {}", answer.text());
        let seen = edge.at_wallet("x-mark", &mark);
        for gone in ["upgrade", "http2-settings", "connection"] {
            assert!(!seen[0].headers.contains_key(gone), "{gone}: {:#?}", seen[0].headers);
        }
    }
}

#[test]
fn a_trace_is_taken_over_when_it_is_well_formed() {
    let edge = shared();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let ask = |traceparent: &str| {
        let answer = edge
            .send(Request::get("/api/v1/wallet/balance").bearer(&edge.full_token()).header("traceparent", traceparent));
        answer.header("x-trace-id").unwrap().to_owned()
    };
    assert_eq!(ask(&format!("00-{trace}-b7ad6b7169203331-01")), trace);
    for bad in [
        format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
        format!("00-{trace}-b7ad6b7169203331"),
        format!("ff-{trace}-b7ad6b7169203331-01"),
        format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()),
        format!("00-{trace}-b7ad6b7169203331-01, x"),
    ] {
        assert_ne!(ask(&bad), trace, "{bad}");
    }
}

#[test]
fn what_a_wallet_says_beyond_its_answer_stays_behind() {
    let upstream = Scripted::start(|_| {
        let body = r#"{"wallet_id":"tw_1"}"#;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: Wallet/9.9\r\nx-powered-by: PHP\r\nvia: 1.1 inner\r\n\
            set-cookie: a=b\r\nx-tmcp-user-id: @x:y\r\nx-internal-host: 10.0.0.7\r\nx-frame-options: ALLOWALL\r\n\
            content-security-policy: default-src *\r\nstrict-transport-security: max-age=0\r\nreferrer-policy: unsafe-url\r\n\
            x-ratelimit-limit: 1\r\naccess-control-allow-origin: *\r\nalt-svc: h3=\":443\"\r\nx-trace-id: evil\r\n\
            x-wallet-note: kept\r\netag: \"v1\"\r\n";
        Reply::Bytes(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into())
    });
    let edge = Setup::default().wallet_at(upstream.address).start();
    let answer = edge.send(Request::get("/api/v1/wallet/balance").bearer(&edge.token(&[Scope::WalletBalance])));
    assert_eq!((answer.status, answer.text()), (200, r#"{"wallet_id":"tw_1"}"#.into()));
    check_standing(&answer);
    for gone in ["set-cookie", "x-tmcp-user-id", "x-internal-host", "access-control-allow-origin", "alt-svc"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(answer.number("x-ratelimit-limit"), 100);
    assert_eq!((answer.header("x-wallet-note"), answer.header("etag")), (Some("kept"), Some("\"v1\"")));
}

#[test]
fn origins_are_let_in_one_by_one_and_nobody_by_default() {
    let preflight = |origin: &str| {
        Request::new("OPTIONS", "/api/v1/wallet/balance")
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "authorization")
    };
    let get = |token: &str, origin: &str| Request::get("/api/v1/wallet/balance").bearer(token).header("origin", origin);
    let allow = "access-control-allow-origin";

    let off = shared();
    assert_eq!(off.send(preflight("https://shop.example")).status, 405);
    assert_eq!(off.send(get(&off.full_token(), "https://shop.example")).header(allow), None);

    let on = Setup::default().main("cors: { origins: [\"https://shop.example\"] }").start();
    let answer = on.send(preflight("https://shop.example"));
    assert_eq!((answer.status, answer.header(allow)), (204, Some("https://shop.example")));
    check_standing(&answer);
    let names = answer.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
    assert!(names.contains("authorization") && names.contains("content-type"), "{names}");
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let answer = on.send(get(&on.full_token(), "https://shop.example"));
    assert_eq!((answer.status, answer.header(allow)), (200, Some("https://shop.example")));
    assert!(answer.all("vary").iter().any(|vary| vary.eq_ignore_ascii_case("origin")));
    let refused = on.send(Request::get("/api/v1/wallet/balance").header("origin", "https://shop.example"));
    assert_eq!((refused.status, refused.header(allow)), (401, Some("https://shop.example")), "a script may read why");
    for other in ["https://evil.example", "http://shop.example", "https://shop.example.evil.example", "null"] {
        assert_eq!(on.send(preflight(other)).header(allow), None, "{other}");
        assert_eq!(on.send(get(&on.full_token(), other)).header(allow), None, "{other}");
    }
}
