//! Requests that two parsers could split differently: each is refused, or reaches the wallet once and well formed.

use tmcp_edge::sandbox::recorder::Recorded;

use crate::edge::{TestEdge, fresh_ip, mark, shared};
use crate::wire::{Request, Wire};

const BODY: &str = r#"{"recipient":"@bob:tween.example","amount":1.00,"currency":"USD","idempotency_key":"key-1"}"#;

/// What one attempt needs: a mark for what may arrive, another for what must not.
struct Attempt<'e> {
    edge: &'e TestEdge,
    token: String,
    ip: String,
    mark: String,
    hidden: String,
}

impl<'e> Attempt<'e> {
    fn new(edge: &'e TestEdge) -> Self {
        Attempt { edge, token: edge.full_token(), ip: fresh_ip(), mark: mark(), hidden: mark() }
    }

    /// A request that an attacker would like to see taken out of another one's body.
    fn smuggled(&self) -> String {
        format!(
            "GET /wallet/v1/balance HTTP/1.1\r\nHost: edge.test\r\nX-TMCP-User-Id: @evil:tween.example\r\nX-Mark: {}\r\n\r\n",
            self.hidden
        )
    }

    /// Headers that let a request in.
    fn admitting(&self) -> String {
        format!(
            "Authorization: Bearer {}\r\nX-Forwarded-For: {}\r\nX-Mark: {}\r\nContent-Type: application/json\r\n",
            self.token, self.ip, self.mark
        )
    }

    /// Sends bytes, reads the first answer, and asks for another one on the same connection. Says how the first ended.
    fn send(&self, bytes: &[u8]) -> Option<u16> {
        let mut wire = Wire::to(self.edge.address);
        let _ = wire.write(bytes);
        let first = wire.answer().ok();
        let closes = first.as_ref().is_none_or(|answer| answer.header("connection") == Some("close"));
        if closes {
            let rest = String::from_utf8_lossy(&wire.rest()).into_owned();
            assert!(!rest.contains("HTTP/1.1"), "a second answer came: {rest}");
        } else {
            // The connection stays: then what is asked next is answered, and nothing in between.
            let probe = Request::get("/oauth2/jwks.json").header("x-forwarded-for", fresh_ip());
            wire.write(probe.head_bytes()).unwrap();
            let next = wire.answer();
            assert!(next.is_err() || next.as_ref().unwrap().text().contains("\"keys\""), "out of step: {next:?}");
        }
        first.map(|answer| answer.status)
    }

    fn arrived(&self) -> Vec<std::sync::Arc<Recorded>> {
        let hidden = self.edge.at_wallet("x-mark", &self.hidden);
        assert!(hidden.is_empty(), "what was hidden came through: {hidden:#?}");
        let evil: Vec<_> = self.edge.at_wallet("x-tmcp-user-id", "@evil:tween.example");
        assert!(evil.is_empty(), "{evil:#?}");
        self.edge.at_wallet("x-mark", &self.mark)
    }
}

/// Framing headers and a body, `{body}` and `{smuggled}` filled in, and whether it has to be refused.
const POSTS: &[(&str, &str, bool)] = &[
    // The two lengths.
    ("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n{smuggled}", true),
    ("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "{chunked}{smuggled}", true),
    ("Content-Length: {length}\r\nContent-Length: 5\r\n", "{body}{smuggled}", true),
    ("Content-Length: 0\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    ("Content-Length: {length}\r\nContent-Length: {length}\r\n", "{body}", false),
    ("Content-Length: {length}, {length}\r\n", "{body}", true),
    ("Content-Length: +{length}\r\n", "{body}", true),
    ("Content-Length: -1\r\n", "{body}{smuggled}", true),
    ("Content-Length: 0x5b\r\n", "{body}", true),
    ("Content-Length: {length} 5\r\n", "{body}{smuggled}", true),
    ("Content-Length: {length};x\r\n", "{body}", true),
    ("Content-Length:\r\n", "{smuggled}", true),
    ("Content-Length: 18446744073709551707\r\n", "{body}{smuggled}", true),
    (" Content-Length : {length}\r\n", "{body}{smuggled}", true),
    ("Content-Length : {length}\r\n", "{body}{smuggled}", true),
    ("Content-Length\t: {length}\r\n", "{body}{smuggled}", true),
    ("Content_Length: 5\r\nContent-Length: {length}\r\n", "{body}", false),
    ("X: y\r\n Content-Length: 5\r\nContent-Length: {length}\r\n", "{body}", true),
    ("X: y\r\n\tTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    // Transfer codings.
    ("Transfer-Encoding: chunked\r\n", "{chunked}", false),
    ("Transfer-Encoding: Chunked\r\n", "{chunked}", false),
    ("Transfer-Encoding: gzip\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: gzip, chunked\r\n", "{chunked}", true),
    ("Transfer-Encoding: chunked, identity\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: identity\r\n", "{body}{smuggled}", true),
    ("Transfer-Encoding: identity\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    ("Transfer-Encoding: xchunked\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: chunked, chunked\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: \"chunked\"\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: chunked;q=1\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: chunked,\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding:\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding:\x0bchunked\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding : chunked\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: chun\r\n ked\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding\r\n: chunked\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n", "{chunked}", true),
    ("Transfer-Encoding:\tchunked\r\n", "{chunked}{smuggled}", false),
    ("Transfer-Encoding: chunked\x0b\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: \x00chunked\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: chunked\0\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: \u{ff}chunked\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    ("Transfer-Encoding\0: chunked\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    ("Transfer-Encoding\u{b}: chunked\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    ("\u{b}Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    ("Transfer_Encoding: chunked\r\nContent-Length: {length}\r\n", "{body}{smuggled}", false),
    ("X-Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n", "{body}{smuggled}", false),
    ("TE: chunked\r\nContent-Length: {length}\r\n", "{body}{smuggled}", false),
    ("Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n", "{chunked}{smuggled}", true),
    ("Transfer-Encoding: chunked, cow\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    ("X: y\rTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    ("X: y\r\rTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    ("X: y\nTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    ("Content-Length: 00{length}\r\n", "{body}{smuggled}", false),
    ("Content-Length: {length}.0\r\n", "{body}{smuggled}", true),
    ("Content-Length: {length}e0\r\n", "{body}{smuggled}", true),
    ("Content-Length: \"{length}\"\r\n", "{body}{smuggled}", true),
    ("Content-Length: {length}\u{b}\r\n", "{body}{smuggled}", true),
    ("Content-Length\0: 0\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    ("Content-Length: {length}\r\nContent-Length : 0\r\n", "{body}{smuggled}", true),
    ("Expect: 100-continue\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n", "{chunked}{smuggled}", true),
    ("Expect: 200-ok\r\nContent-Length: {length}\r\n", "{body}{smuggled}", false),
    ("Connection: Content-Length\r\nContent-Length: {length}\r\n", "{body}{smuggled}", false),
    ("Connection: close, X-TMCP-User-Id\r\nContent-Length: {length}\r\n", "{body}{smuggled}", false),
    (
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: {length}\r\n",
        "{body}{smuggled}",
        false,
    ),
    ("X-HTTP-Method-Override: GET\r\nContent-Length: {length}\r\n", "{body}{smuggled}", false),
    ("Content-Encoding: gzip\r\nContent-Length: {length}\r\n", "{body}{smuggled}", true),
    // Chunks.
    ("Transfer-Encoding: chunked\r\n", "{chunk-size};ext=1\r\n{body}\r\n0\r\n\r\n", false),
    ("Transfer-Encoding: chunked\r\n", "{chunk-size};\nxx\r\n{body}\r\n0\r\n\r\n{smuggled}", false),
    ("Transfer-Encoding: chunked\r\n", "{chunk-size}\n{body}\n0\n\n{smuggled}", false),
    ("Transfer-Encoding: chunked\r\n", "0x{chunk-size}\r\n{body}\r\n0\r\n\r\n", true),
    ("Transfer-Encoding: chunked\r\n", "+{chunk-size}\r\n{body}\r\n0\r\n\r\n", true),
    ("Transfer-Encoding: chunked\r\n", "-1\r\n{body}\r\n0\r\n\r\n{smuggled}", true),
    ("Transfer-Encoding: chunked\r\n", "1000000000000005b\r\n{body}\r\n0\r\n\r\n{smuggled}", true),
    ("Transfer-Encoding: chunked\r\n", "{chunk-size}\r\n{body}XX0\r\n\r\n{smuggled}", true),
    ("Transfer-Encoding: chunked\r\n", "{chunked-open}0\r\nX-TMCP-User-Id: @evil:tween.example\r\n\r\n", false),
    ("Transfer-Encoding: chunked\r\n", "zz\r\n{smuggled}", true),
    ("Transfer-Encoding: chunked\r\n", " {chunk-size}\r\n{body}\r\n0\r\n\r\n{smuggled}", false),
    ("Transfer-Encoding: chunked\r\n", "{chunk-size} \r\n{body}\r\n0\r\n\r\n{smuggled}", false),
    ("Transfer-Encoding: chunked\r\n", "{chunk-size}_0\r\n{body}\r\n0\r\n\r\n{smuggled}", true),
    ("Transfer-Encoding: chunked\r\n", "{chunk-size}\r\n{body}0\r\n\r\n{smuggled}", true),
    ("Transfer-Encoding: chunked\r\n", "\r\n{chunk-size}\r\n{body}\r\n0\r\n\r\n{smuggled}", true),
    ("Transfer-Encoding: chunked\r\n", "0\r\nContent-Length: 5\r\n\r\n{smuggled}", true),
    ("Transfer-Encoding: chunked\r\n", "{chunked-open}0\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}", false),
    ("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\n{body}{smuggled}", true),
    // What follows a whole request.
    ("Content-Length: {length}\r\n", "{body}{smuggled}", false),
    ("Transfer-Encoding: chunked\r\n", "{chunked}{smuggled}", false),
    ("Content-Length: {length}\r\n", "{body}\r\n\r\n{smuggled}", false),
    ("Content-Length: {length}\r\nExpect: 100-continue\r\n", "{body}{smuggled}", false),
    ("Content-Length: {length}\r\nConnection: close\r\n", "{body}{smuggled}", false),
    ("Content-Length: {length}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", "{body}{smuggled}", false),
    ("Content-Length: {length}\r\nHost: other.test\r\n", "{body}", true),
    ("Content-Length: {length}\r\nX: a\rb\r\n", "{body}", true),
    ("Content-Length: {length}\r\nX: a\0b\r\n", "{body}", true),
    ("Content-Length: {length}\r\nb@d: x\r\n", "{body}", true),
    ("Content-Length: {length}\r\nno colon\r\n", "{body}", true),
    ("Content-Length: {length}\r\n: no name\r\n", "{body}", true),
    ("Content-Length: {length}\r\nX: y\nX-TMCP-User-Id: @evil:tween.example\r\n", "{body}", true),
];

#[test]
fn a_post_is_refused_or_arrives_once_and_whole() {
    let edge = shared();
    for (framing, payload, refused) in POSTS {
        let attempt = Attempt::new(edge);
        let size = format!("{:x}", BODY.len());
        let open = format!("{size}\r\n{BODY}\r\n");
        let fill = |text: &str| {
            text.replace("{length}", &BODY.len().to_string())
                .replace("{chunked}", &format!("{open}0\r\n\r\n"))
                .replace("{chunked-open}", &open)
                .replace("{chunk-size}", &size)
                .replace("{body}", BODY)
                .replace("{smuggled}", &attempt.smuggled())
        };
        let head = format!("POST /api/v1/wallet/p2p/initiate HTTP/1.1\r\nHost: edge.test\r\n{}", attempt.admitting());
        // A space before the first header is a fold of the line before it.
        let status = attempt.send(format!("{head}{}\r\n{}", fill(framing), fill(payload)).as_bytes());
        let arrived = attempt.arrived();
        let place = format!("{framing:?} {payload:?}: {status:?}, {} arrived", arrived.len());
        if *refused {
            assert!(arrived.is_empty(), "{place}");
            assert!(status.is_none_or(|status| (400..500).contains(&status)), "{place}");
        } else {
            assert!(arrived.len() <= 1, "{place}");
            if status == Some(200) {
                assert_eq!(arrived[0].body, BODY, "{place}");
                assert_eq!(arrived[0].headers["content-length"], BODY.len().to_string(), "{place}");
                assert!(!arrived[0].headers.contains_key("transfer-encoding"), "{place}");
            } else {
                assert_eq!((status.map(|status| status / 100), arrived.len()), (Some(4), 0), "{place}");
            }
        }
    }
}

#[test]
fn well_formed_framing_is_taken() {
    let edge = shared();
    for (framing, payload) in [
        (format!("Content-Length: {}\r\n", BODY.len()), BODY.to_owned()),
        ("Transfer-Encoding: chunked\r\n".to_owned(), format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len())),
    ] {
        let attempt = Attempt::new(edge);
        let head = format!("POST /api/v1/wallet/p2p/initiate HTTP/1.1\r\nHost: edge.test\r\n{}", attempt.admitting());
        assert_eq!(attempt.send(format!("{head}{framing}\r\n{payload}").as_bytes()), Some(200), "{framing}");
        assert_eq!(attempt.arrived().len(), 1);
    }
}

#[test]
fn whole_requests_that_are_not_http_1_1_reach_nobody() {
    let edge = shared();
    for (start, rest) in [
        ("GET /api/v1/wallet/balance", ""),
        ("GET /api/v1/wallet/balance HTTP/0.9", ""),
        ("GET /api/v1/wallet/balance HTTP/2.7", ""),
        ("GET /api/v1/wallet/balance http/1.1", ""),
        ("GET /api/v1/wallet/balance HTTP/1.1 HTTP/1.1", ""),
        ("GET\t/api/v1/wallet/balance\tHTTP/1.1", ""),
        (" GET /api/v1/wallet/balance HTTP/1.1", ""),
        ("get /api/v1/wallet/balance HTTP/1.1", ""),
        ("G@T /api/v1/wallet/balance HTTP/1.1", ""),
        ("CONNECT wallet:80 HTTP/1.1", ""),
        ("CONNECT /api/v1/wallet/balance HTTP/1.1", ""),
        ("PRI * HTTP/2.0", "SM\r\n\r\n"),
        ("TRACE /api/v1/wallet/balance HTTP/1.1", ""),
        ("POST /api/v1/wallet/balance HTTP/1.1", ""),
    ] {
        let attempt = Attempt::new(edge);
        let text = format!("{start}\r\nHost: edge.test\r\n{}\r\n{rest}{}", attempt.admitting(), attempt.smuggled());
        let status = attempt.send(text.as_bytes());
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "{start}: {status:?}");
        assert!(attempt.arrived().is_empty(), "{start}");
    }
}

#[test]
fn a_body_where_none_is_taken_hides_nothing() {
    let edge = shared();
    for method in ["GET", "HEAD", "DELETE"] {
        for chunked in [false, true] {
            let attempt = Attempt::new(edge);
            let hidden = attempt.smuggled();
            let path = if method == "DELETE" { "/api/v1/storage/key" } else { "/api/v1/wallet/balance" };
            let mut text = format!("{method} {path} HTTP/1.1\r\nHost: edge.test\r\n{}", attempt.admitting());
            text += &if chunked {
                format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len())
            } else {
                format!("Content-Length: {}\r\n\r\n{hidden}", hidden.len())
            };
            let mut wire = Wire::to(edge.address);
            wire.write(text).unwrap();
            let answer = wire.answer_to(method == "HEAD").unwrap();
            assert_eq!(answer.status, 400, "{method} chunked {chunked}: {}", answer.text());
            assert!(attempt.arrived().is_empty(), "{method} chunked {chunked}");
        }
    }
}

#[test]
fn headers_over_the_limit_are_431() {
    let edge = shared();
    for (length, status) in [(6 << 10, 200), (9 << 10, 431), (200 << 10, 431)] {
        let mark = mark();
        let answer = edge.send(
            Request::get("/api/v1/wallet/balance")
                .bearer(&edge.full_token())
                .header("x-mark", &mark)
                .header("x-padding", "x".repeat(length)),
        );
        assert_eq!(answer.status, status, "{length}: {}", answer.text());
        assert_eq!(edge.at_wallet("x-mark", &mark).len(), usize::from(status == 200));
        if status == 431 {
            assert_eq!(answer.code(), "HEADERS_TOO_LARGE");
            crate::headers::check_standing(&answer);
        }
    }
}

#[test]
fn what_cannot_be_parsed_is_not_repeated_in_a_log() {
    let edge = shared();
    let secret = format!("unparsable{}", mark());
    for text in [
        format!(
            "GET /api/v1/wallet/balance?token={secret} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {secret}\r\nb@d : x\r\n\r\n"
        ),
        format!("GET /?{secret} HTTP/9.9\r\nHost: a\r\n\r\n"),
        format!("{secret}\r\n\r\n"),
        format!("POST /x HTTP/1.1\r\nHost: a\r\nCookie: {secret}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    ] {
        let mut wire = Wire::to(edge.address);
        wire.write(text).unwrap();
        assert!(wire.answer().is_ok_and(|answer| answer.status == 400));
    }
    assert!(!edge.log().contains(&secret), "{}", edge.log());
    assert!(!edge.access_log_text().contains(&secret));
}

#[test]
fn old_and_odd_requests_are_answered_or_refused() {
    let edge = shared();
    let send = |start: &str, host: &str| {
        let attempt = Attempt::new(edge);
        let mut wire = Wire::to(edge.address);
        wire.write(format!("{start}\r\n{host}{}\r\n", attempt.admitting())).unwrap();
        let answer = wire.answer().ok();
        (answer.map(|answer| answer.status), attempt.arrived().len())
    };
    let get = "GET /api/v1/wallet/balance HTTP/1.1";
    assert_eq!(send(get, "Host: edge.test\r\n"), (Some(200), 1));
    for host in
        ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: a@b\r\n"]
    {
        assert_eq!(send(get, host), (Some(400), 0), "{host:?}");
    }
    assert_eq!(send("GET /api/v1/wallet/balance HTTP/1.0", "Host: edge.test\r\n"), (Some(200), 1));
    // More headers than any client sends.
    let many: String = (0..300).map(|at| format!("x{at}: y\r\n")).collect();
    let (status, arrived) = send(get, &format!("Host: a\r\n{many}"));
    assert!(matches!(status, Some(400 | 431)) && arrived == 0, "{status:?}");
}
