//! One path, one reading: whatever two servers could read differently is refused, and the wallet never sees it.

use crate::edge::{mark, shared};
use crate::wire::{Answer, Wire};

/// Targets that must not reach the wallet, as bytes.
pub const TRICKS: &[&[u8]] = &[
    b"/api/v1/wallet/../wallet/balance",
    b"/api/v1/wallet/./balance",
    b"/api/v1/wallet/%2e%2e/wallet/balance",
    b"/api/v1/wallet/%2E/balance",
    b"/api/v1/wallet/.%2e/wallet/balance",
    b"/api/v1/wallet/%2e./wallet/balance",
    b"/api/v1/wallet/..;/wallet/balance",
    b"/api/v1/wallet/..%3b/wallet/balance",
    b"/api/v1/wallet/%252e%252e/wallet/balance",
    b"/api/v1/capabilities/../wallet/balance",
    b"/oauth2/jwks.json/../../api/v1/wallet/balance",
    b"//api/v1/wallet/balance",
    b"/api//v1/wallet/balance",
    b"/api/v1/wallet//balance",
    b"/api/v1/wallet/balance//",
    b"/api/v1/wallet/balance/",
    b"/api/v1/wallet/balance;x=1",
    b"/api/v1/wallet;x=1/balance",
    b"/api/v1/wallet/balance%3bx",
    b"/api/v1/wallet%2fbalance",
    b"/api/v1/wallet%2Fbalance",
    b"/api%2fv1/wallet/balance",
    b"%2fapi/v1/wallet/balance",
    b"/api/v1/wallet%5cbalance",
    b"/api\\v1\\wallet\\balance",
    b"/api/v1/wallet\\..\\wallet/balance",
    b"/API/V1/WALLET/BALANCE",
    b"/api/v1/wallet/Balance",
    b"/api/v1/wallet/balance%00",
    b"/api/v1/wallet/balance%00.json",
    b"/api/v1/wallet/balance\x00",
    b"/api/v1/wallet/balance%0a",
    b"/api/v1/wallet/balance%0d%0aX-TMCP-User-Id:%20@evil:tween.example",
    b"/api/v1/wallet/balance%09",
    b"/api/v1/wallet/balance%20",
    b"/api/v1/wallet/balance%ff",
    b"/api/v1/wallet/balance\xff",
    b"/api/v1/wallet/%c0%ae%c0%ae/wallet/balance",
    b"/api/v1/wallet/%e0%80%ae/balance",
    b"/api/v1/wallet/%ef%bc%8e%ef%bc%8e/balance",
    b"/api/v1/wallet/balance%",
    b"/api/v1/wallet/balance%2",
    b"/api/v1/wallet/balance%zz",
    b"/api/v1/wallet/balance%u0041",
    b"/api/v1/wallet/p2p/x%2f..%2f..%2fbalance",
    b"/api/v1/wallet/p2p/x%2faccept",
    b"/api/v1/wallet/p2p/..%2fbalance",
    b"/api/v1/wallet/p2p/%2e%2e%2fbalance",
    b"/api/v1/wallet/p2p/..",
    b"/api/v1/wallet/p2p/%2e%2e",
    b"/api/v1/wallet/p2p/",
    b"/api/v1/wallet/p2p/x;y",
    b"/api/v1/wallet/resolve/@a%2f..%2f..%2fbalance?room_id=!chat:tween.example",
    b"/api/v1/payments/..%2fwallet%2fbalance",
    b"api/v1/wallet/balance",
    b"*",
    b"",
    b"http://edge.test@evil.example/api/v1/wallet/balance",
    b"http://other.test/api/v1/wallet/balance",
    b"/api/v1/tmcp/wallet/balance",
    b"/wallet/v1/../../api/v1/wallet/balance",
    b"/_sandbox/requests",
    b"/wallet/v1/..%2f..%2f_sandbox/requests",
    b"/health",
];

#[test]
fn tricks_end_in_a_refusal_and_never_at_the_wallet() {
    let edge = shared();
    let (token, mark) = (edge.full_token(), mark());
    let send = |target: &[u8]| {
        let mut wire = Wire::to(edge.address);
        let mut request = b"GET ".to_vec();
        request.extend(target);
        let ip = crate::edge::fresh_ip();
        request.extend(
            format!(
                " HTTP/1.1\r\nHost: edge.test\r\nAuthorization: Bearer {token}\r\nX-Mark: {mark}\r\nX-Forwarded-For: {ip}\r\n\r\n"
            )
            .bytes(),
        );
        wire.write(request).unwrap();
        wire.answer()
    };
    for trick in TRICKS {
        // Pingora closes without a word on some that are not HTTP; that is a refusal, too.
        if let Ok(answer) = send(trick) {
            let place = String::from_utf8_lossy(trick).into_owned();
            assert!(matches!(answer.status, 400 | 404), "{place}: {} {}", answer.status, answer.text());
            // What no hook sees has no body; everything else is in the protocol's words, or in OAuth's below `/oauth2/`.
            let told = |answer: &Answer| match place.starts_with("/oauth2/") {
                true => answer.json()["error"].is_string(),
                false => !answer.code().is_empty(),
            };
            assert!(answer.body.is_empty() || told(&answer), "{place}: {}", answer.text());
        }
    }
    let seen = edge.at_wallet("x-mark", &mark);
    assert!(seen.is_empty(), "{:?}", seen.iter().map(|request| &request.path).collect::<Vec<_>>());

    let answer = send(b"/api/v1/wallet/balance").unwrap();
    assert_eq!((answer.status, edge.at_wallet("x-mark", &mark).len()), (200, 1), "what is meant does arrive");
}

#[test]
fn what_is_authorised_is_what_is_forwarded() {
    let edge = shared();
    for (sent, arrives) in [
        ("/api/v1/wallet/balance", "/wallet/v1/balance"),
        ("/wallet/v1/balance", "/wallet/v1/balance"),
        ("/api/v1/wallet/balanc%65", "/wallet/v1/balance"),
        ("http://edge.test/api/v1/wallet/balance", "/wallet/v1/balance"),
        ("/api/v1/wallet/transactions?limit=5&offset=%30", "/wallet/v1/transactions?limit=5&offset=%30"),
        ("/api/v1/wallet/p2p/a%20b%3F", "/wallet/v1/p2p/a%20b%3F"),
        ("/api/v1/wallet/p2p/%41", "/wallet/v1/p2p/%41"),
        ("/api/v1/payments/pay_1", "/api/v1/payments/pay_1"),
    ] {
        let mark = mark();
        let answer = edge.send(crate::wire::Request::get(sent).bearer(&edge.full_token()).header("x-mark", &mark));
        assert!(matches!(answer.status, 200 | 404), "{sent}: {} {}", answer.status, answer.text());
        let seen: Vec<String> = edge.at_wallet("x-mark", &mark).iter().map(|request| request.path.clone()).collect();
        assert_eq!(seen, [arrives], "{sent}");
    }
}

#[test]
fn rows_of_a_config_have_one_reading_too() {
    let edge = crate::bodies::depot();
    let post = |target: &str, mark: &str| {
        let request = crate::wire::Request::post(target, "{}").bearer(&edge.full_token()).header("x-mark", mark);
        edge.send(request)
    };
    for trick in [
        "/plain/v1/../../wallet/v1/balance",
        "/plain/v1/%2e%2e/%2e%2e/wallet/v1/balance",
        "/plain/v1/..%2f..%2fwallet/v1/balance",
        "/plain/v1/x%2f..%2f..%2f..%2fwallet",
        "/plain/v1/..;/x",
        "/plain/v1/x%5c..%5cy",
        "/plain/v1/x\\..\\y",
        "/plain/v1//x",
        "/plain/v1/x%00",
        "/plain/v1/x%0d%0aX:y",
        "/plain/v1/%ff",
        "/plain/v1/./x",
        "/plain/v1",
        "/PLAIN/v1/x",
    ] {
        let mark = mark();
        let answer = post(trick, &mark);
        assert!(matches!(answer.status, 400 | 404) && !answer.code().is_empty(), "{trick}: {}", answer.text());
        assert!(edge.at_wallet("x-mark", &mark).is_empty(), "{trick}");
    }
    for plain in ["/plain/v1/x", "/plain/v1/x/y/z?q=%2e%2e/..", "/plain/v1/a%20b/%C3%A9", "/plain/v1/x/"] {
        let mark = mark();
        post(plain, &mark);
        let seen = edge.at_wallet("x-mark", &mark);
        assert_eq!(seen.iter().map(|request| request.path.as_str()).collect::<Vec<_>>(), [plain]);
        assert!(!seen[0].headers.contains_key("authorization"), "a TEP token is for the wallet alone");
        assert!(seen[0].headers.contains_key("x-tmcp-user-id"));
    }
}
