//! A wallet in trouble, and what of it the client sees (protocol sections 5, 7.7 and 9).

use std::time::Duration;

use serde_json::{Value, json};
use tmcp_edge::sandbox::faults::Fault;

use crate::edge::{Setup, Stopwatch, TestEdge, eventually, free_port, mark, shared};
use crate::headers::check_standing;
use crate::upstream::{Reply, Scripted, answer};
use crate::wire::{Answer, Request};

const BALANCE: &str = "/api/v1/wallet/balance";
const INITIATE: &str = "/api/v1/wallet/p2p/initiate";
const BODY: &str = r#"{"recipient":"@bob:tween.example","amount":1,"currency":"USD","idempotency_key":"key"}"#;

fn fault(path: &str) -> Fault {
    Fault { path: path.into(), status: None, body: None, delay_ms: 0, drop: false, times: None }
}

fn balance(edge: &TestEdge) -> Answer {
    edge.send(Request::get(BALANCE).bearer(&edge.full_token()))
}

fn pay(edge: &TestEdge) -> Answer {
    edge.send(Request::post(INITIATE, BODY).bearer(&edge.full_token()))
}

/// An edge whose breakers stay closed whatever happens.
fn patient() -> Setup {
    Setup::default().wallet("breaker: { window: 1000, failures: 1000 }")
}

#[test]
fn a_wallets_own_error_passes_with_the_protocols_status() {
    let error = |code: &str| json!({"error": {"code": code, "message": "In the wallet's words.", "details": {"a": 1}}});
    let cases: Vec<(&str, u16, Value, u16, &str)> = vec![
        ("402", 400, error("INSUFFICIENT_FUNDS"), 402, "INSUFFICIENT_FUNDS"),
        ("mapped", 500, error("RECIPIENT_NO_WALLET"), 404, "RECIPIENT_NO_WALLET"),
        ("mfa", 400, error("MFA_REQUIRED"), 428, "MFA_REQUIRED"),
        ("own", 409, error("CARD_EXPIRED"), 409, "CARD_EXPIRED"),
        ("teapot", 418, error("TEAPOT"), 418, "TEAPOT"),
        ("unlisted-5xx", 500, error("STACK_OVERFLOW"), 502, "UPSTREAM_ERROR"),
        ("odd-code", 400, error("no such thing"), 502, "UPSTREAM_ERROR"),
        ("no-code", 400, json!({"error": "bad"}), 502, "UPSTREAM_ERROR"),
        ("list", 400, json!([{"error": {"code": "NO_WALLET"}}]), 502, "UPSTREAM_ERROR"),
        ("framework", 422, json!({"detail": [{"loc": ["10.0.0.7"]}]}), 502, "UPSTREAM_ERROR"),
        ("503", 503, json!({"message": "10.0.0.7 is down"}), 502, "UPSTREAM_ERROR"),
    ];
    let edge = patient().start();
    for (name, status, body, expected, code) in &cases {
        let mut told = fault(&format!("/wallet/v1/p2p/{name}"));
        told.status = Some(http::StatusCode::from_u16(*status).unwrap());
        told.body = Some(body.clone());
        edge.wallet().desk.faults.set(told);
        let path = format!("/api/v1/wallet/p2p/{name}");
        let answer = edge.send(Request::get(&path).bearer(&edge.full_token()));
        assert_eq!(answer.verdict(), (*expected, (*code).to_owned()), "{name}: {}", answer.text());
        check_standing(&answer);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let error = &answer.json()["error"];
        assert!(error["request_id"].as_str().unwrap().starts_with("req_"), "{error}");
        if *code != "UPSTREAM_ERROR" {
            assert_eq!((&error["message"], &error["details"]), (&json!("In the wallet's words."), &json!({"a": 1})));
        }
        assert!(!answer.text().contains("10.0.0.7"), "{}", answer.text());
    }
}

#[test]
fn a_page_of_html_stays_inside() {
    let page = "<html><h1>Internal Server Error</h1><pre>at db.internal:5432 password=hunter2</pre></html>";
    let upstream = Scripted::start(move |seen| {
        let status = if seen.start.contains("404") { "404 Not Found" } else { "500 Internal Server Error" };
        Reply::Bytes(answer(status, "text/html", page))
    });
    let edge = patient().wallet_at(upstream.address).start();
    let mut wire = edge.wire();
    for path in [BALANCE, "/api/v1/wallet/p2p/404"] {
        let answer = edge.send_on(&mut wire, Request::get(path).bearer(&edge.full_token()));
        assert_eq!(answer.verdict(), (502, "UPSTREAM_ERROR".into()));
        for leak in ["html", "hunter2", "db.internal", "127.0.0.1", "Internal Server"] {
            assert!(!answer.text().contains(leak), "{leak}: {}", answer.text());
        }
        check_standing(&answer);
    }
    assert!(!edge.access_log_text().contains("hunter2"));
    assert!(!edge.log().contains("hunter2"));
}

#[test]
fn a_huge_or_broken_error_is_one_of_the_upstream() {
    let upstream = Scripted::start(|seen| {
        let path = seen.start.split(' ').nth(1).unwrap().to_owned();
        match path.rsplit('/').next().unwrap() {
            "huge" => {
                Reply::Bytes(answer("400 Bad Request", "application/json", &format!("\"{}\"", "x".repeat(1 << 20))))
            }
            "cut" => Reply::Last(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 100\r\n\r\n{\"error\"".to_vec()),
            "garbage" => Reply::Last(b"\x16\x03\x01 what is this\r\n\r\n".to_vec()),
            "empty" => Reply::Last(Vec::new()),
            "chunked" => {
                let body = r#"{"error":{"code":"NO_WALLET","message":"None yet."}}"#;
                let head = "HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n";
                Reply::Bytes(format!("{head}\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into())
            }
            "moved" => Reply::Bytes(
                b"HTTP/1.1 302 Found\r\nlocation: http://10.0.0.7/login\r\ncontent-length: 0\r\n\r\n".to_vec(),
            ),
            "switch" => Reply::Last(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nhello".to_vec()),
            "lengths" => {
                Reply::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\n{}xyz".to_vec())
            }
            "length" => Reply::Last(b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}".to_vec()),
            "split" => Reply::Last(b"HTTP/1.1 200 OK\r\nx: a\rX-Evil: b\r\ncontent-length: 2\r\n\r\n{}".to_vec()),
            "heads" => Reply::Last(
                format!("HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\n{{}}", "x: y\r\n".repeat(5000)).into(),
            ),
            "hint" => Reply::Bytes(
                [
                    b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".to_vec(),
                    answer("200 OK", "application/json", "{}"),
                ]
                .concat(),
            ),
            other => panic!("{other}"),
        }
    });
    let edge = patient().wallet_at(upstream.address).start();
    for (name, status, code) in [
        ("huge", 502, "UPSTREAM_ERROR"),
        ("cut", 502, "UPSTREAM_ERROR"),
        ("garbage", 502, "UPSTREAM_ERROR"),
        ("empty", 502, "UPSTREAM_ERROR"),
        ("chunked", 404, "NO_WALLET"),
        ("hint", 200, ""),
        ("moved", 502, "UPSTREAM_ERROR"),
        ("switch", 502, "UPSTREAM_ERROR"),
        ("lengths", 502, "UPSTREAM_ERROR"),
        ("length", 502, "UPSTREAM_ERROR"),
        ("split", 502, "UPSTREAM_ERROR"),
        ("heads", 502, "UPSTREAM_ERROR"),
    ] {
        let path = format!("/api/v1/wallet/p2p/{name}");
        let answer = edge.send(Request::get(&path).bearer(&edge.full_token()));
        assert_eq!(answer.verdict(), (status, code.into()), "{name}: {answer:?}");
        check_standing(&answer);
        assert_eq!(answer.header("location"), None);
    }
}

#[test]
fn a_wallet_that_does_not_answer_is_504() {
    let edge = patient().wallet("timeouts: { read: 300ms }").start();
    let mut late = fault("/wallet/v1");
    (late.delay_ms, late.times) = (2000, Some(2));
    edge.wallet().desk.faults.set(late);
    let mut wire = edge.wire();
    for request in [Request::post(INITIATE, BODY), Request::get(BALANCE)] {
        let started = Stopwatch::start();
        let answer = edge.send_on(&mut wire, request.bearer(&edge.full_token()));
        assert_eq!(answer.verdict(), (504, "UPSTREAM_TIMEOUT".into()), "{}", answer.text());
        assert!(started.elapsed() < Duration::from_millis(1900), "{:?}", started.elapsed());
        check_standing(&answer);
    }
    assert_eq!(edge.wallet().desk.recorder.all().len(), 2, "what may have happened is not asked for again");
    assert_eq!(edge.send_on(&mut wire, Request::get(BALANCE).bearer(&edge.full_token())).status, 200);
}

#[test]
fn a_dropped_payment_is_502_and_never_sent_twice() {
    let edge = patient().start();
    let mut dropped = fault("/wallet/v1/p2p");
    dropped.drop = true;
    edge.wallet().desk.faults.set(dropped);
    let mut wire = edge.wire();
    // On a fresh upstream connection, and on one that has served before.
    for _ in 0..3 {
        let mark = mark();
        let request = Request::post(INITIATE, BODY).bearer(&edge.full_token()).header("x-mark", &mark);
        let answer = edge.send_on(&mut wire, request);
        assert_eq!(answer.verdict(), (502, "UPSTREAM_ERROR".into()));
        assert_eq!(edge.at_wallet("x-mark", &mark).len(), 1);
        assert_eq!(edge.send_on(&mut wire, Request::get(BALANCE).bearer(&edge.full_token())).status, 200);
    }
}

/// A wallet that closes each connection when the second request on it has been read, without an answer.
fn fickle() -> Scripted {
    Scripted::start(|seen| {
        if seen.before == 0 {
            Reply::Bytes(answer("200 OK", "application/json", "{}"))
        } else {
            Reply::Last(Vec::new())
        }
    })
}

#[test]
fn on_a_stale_connection_a_get_is_tried_again_and_a_post_is_not() {
    // Whether a connection is in the pool again when the next request comes is a matter of luck, so there are several.
    let upstream = fickle();
    let edge = patient().wallet_at(upstream.address).start();
    let mut asked = 0;
    eventually("a GET on a stale connection", Duration::from_secs(10), || {
        let answer = balance(&edge);
        assert_eq!(answer.status, 200, "{}", answer.text());
        asked += 1;
        upstream.seen().len() > asked
    });
    assert_eq!(upstream.seen().len(), asked + 1, "one of them was sent twice, and once more is enough");

    let upstream = fickle();
    let edge = patient().wallet_at(upstream.address).start();
    let mut asked = 0;
    eventually("a POST on a stale connection", Duration::from_secs(10), || {
        let answer = pay(&edge);
        asked += 1;
        assert!(answer.status == 200 || answer.verdict() == (502, "UPSTREAM_ERROR".into()), "{}", answer.text());
        answer.status == 502
    });
    assert_eq!(upstream.seen().len(), asked, "each payment was sent once");
}

#[test]
fn another_address_is_tried_when_one_cannot_be_connected_to() {
    let upstream = Scripted::start(|_| Reply::Bytes(answer("200 OK", "application/json", "{}")));
    let edge = Setup::default()
        .wallet_at(free_port())
        .upstream("pair", &format!("addresses: [\"{}\", \"{}\"]\ntls: false\n", free_port(), upstream.address))
        .main("tmcp_endpoints:\n  - { path: \"/pair/v1/*\", methods: [GET, POST], upstream: pair }")
        .start();
    for round in 0..6 {
        for method in ["GET", "POST"] {
            let mut request = Request::new(method, "/pair/v1/x").bearer(&edge.full_token());
            if method == "POST" {
                request = request.header("content-type", "application/json").body("{\"n\":1}");
            }
            let before = upstream.seen().len();
            let answer = edge.send(request);
            assert_eq!(answer.status, 200, "{method} {round}: {}", answer.text());
            assert_eq!(upstream.seen().len(), before + 1);
        }
    }
}

#[test]
fn the_breaker_opens_tells_so_and_recovers() {
    let edge = Setup::default().wallet("breaker: { window: 10, failures: 5, open: 1s, trial_every: 100ms }").start();
    let mut broken = fault("/wallet/v1/balance");
    broken.status = Some(http::StatusCode::INTERNAL_SERVER_ERROR);
    edge.wallet().desk.faults.set(broken);
    for _ in 0..5 {
        assert_eq!(balance(&edge).status, 502);
    }
    let asked = edge.wallet().desk.recorder.all().len();
    let mut wire = edge.wire();
    for _ in 0..3 {
        let open = edge.send_on(&mut wire, Request::get(BALANCE).bearer(&edge.full_token()));
        assert_eq!(open.verdict(), (503, "SERVICE_UNAVAILABLE".into()), "{}", open.text());
        let error = &open.json()["error"];
        assert_eq!(error["circuit_state"], "OPEN");
        assert_eq!(error["retry_after"], open.number("retry-after"));
        assert!(open.number("retry-after") >= 1);
        check_standing(&open);
    }
    assert_eq!(edge.wallet().desk.recorder.all().len(), asked, "an open breaker spares the wallet");
    assert_eq!(pay(&edge).status, 200, "payments have a breaker of their own");

    edge.wallet().desk.faults.clear();
    eventually("the breaker to close", Duration::from_secs(10), || balance(&edge).status == 200);
    assert!((0..5).all(|_| balance(&edge).status == 200));
}

#[test]
fn what_the_wallet_refuses_does_not_open_the_breaker() {
    let edge = Setup::default().wallet("breaker: { window: 10, failures: 2, open: 60s }").start();
    for _ in 0..6 {
        let answer = edge.send(Request::get("/api/v1/wallet/p2p/nowhere").bearer(&edge.full_token()));
        assert_eq!(answer.verdict(), (404, "NOT_FOUND".into()));
    }
    assert_eq!(balance(&edge).status, 200);
}

#[test]
fn a_client_that_leaves_is_not_the_wallets_fault() {
    let edge = Setup::default().wallet("breaker: { window: 10, failures: 2, open: 60s }").start();
    let mut late = fault("/wallet/v1/balance");
    (late.delay_ms, late.times) = (500, Some(4));
    edge.wallet().desk.faults.set(late);
    for count in 1..=4 {
        let request = edge.dress(Request::get(BALANCE).bearer(&edge.full_token()));
        let mut wire = edge.wire();
        wire.write(request.head_bytes()).unwrap();
        eventually("the request at the wallet", Duration::from_secs(10), || {
            edge.wallet().desk.recorder.all().len() == count
        });
        drop(wire);
    }
    assert_eq!(balance(&edge).status, 200);
}

#[test]
fn the_wallets_own_paths_are_a_matter_of_config() {
    let edge = Setup::default().wallet("paths: tween").start();
    let mark = mark();
    let answer = edge.send(Request::get(BALANCE).bearer(&edge.full_token()).header("x-mark", &mark));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(edge.at_wallet("x-mark", &mark)[0].path, "/api/v1/tmcp/wallets/balance");
    assert_eq!(pay(&edge).status, 200);
}

#[test]
fn amounts_reach_the_wallet_as_they_were_written() {
    let edge = shared();
    for amount in ["5000.00", "0.10", "1", "1.5000", "49999.99"] {
        let mark = mark();
        let body = BODY.replace("\"amount\":1", &format!("\"amount\":{amount}"));
        let answer =
            edge.send(Request::post(INITIATE, body.clone()).bearer(&edge.full_token()).header("x-mark", &mark));
        assert_eq!(answer.status, 200, "{amount}: {}", answer.text());
        assert_eq!(edge.at_wallet("x-mark", &mark)[0].body, body);
    }
}

#[test]
fn a_switch_of_protocols_holds_from_its_first_byte() {
    let upstream = Scripted::start(|seen| {
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nwelcome";
        Reply::Bytes(if seen.before == 0 { switch.to_vec() } else { b"echo".to_vec() })
    });
    let edge = Setup::default()
        .upstream("socket", &format!("addresses: [\"{}\"]\ntls: false\n", upstream.address))
        .main("tmcp_endpoints:\n  - { path: \"/socket/v1/*\", methods: [GET], upstream: socket }")
        .start();
    for round in 0..100 {
        let request = Request::get("/socket/v1/x")
            .bearer(&edge.full_token())
            .header("connection", "Upgrade")
            .header("upgrade", "websocket");
        let mut wire = edge.wire();
        wire.write(edge.dress(request).head_bytes()).unwrap();
        assert_eq!(wire.answer().unwrap().status, 101);
        wire.write("whatever the new protocol says\r\n\r\n").unwrap();
        let heard = wire.take("welcomeecho".len());
        assert_eq!(heard.ok().as_deref(), Some(&b"welcomeecho"[..]), "round {round}");
    }
}
