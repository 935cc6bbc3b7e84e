//! Bodies of every size and framing: the wallet gets exactly the bytes that were judged, or nothing at all.

use std::time::Duration;

use serde_json::{Value, json};

use crate::edge::{Setup, Stopwatch, TestEdge, eventually, free_port, mark, shared};
use crate::wire::Request;

const INITIATE: &str = "/api/v1/wallet/p2p/initiate";
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A transfer that satisfies its schema, padded with white space to `size` bytes.
fn transfer(size: usize) -> Vec<u8> {
    let mut body =
        br#"{"recipient":"@bob:tween.example","amount":1.50,"currency":"USD","idempotency_key":"key-1""#.to_vec();
    body.resize(size.max(body.len() + 1) - 1, b' ');
    body.push(b'}');
    body
}

/// An edge with a row of its own for any kind of body, in front of the sandbox's recorder, over HTTP/1.1 or HTTP/2.
pub fn depot() -> &'static TestEdge {
    static DEPOT: std::sync::OnceLock<TestEdge> = std::sync::OnceLock::new();
    DEPOT.get_or_init(|| {
        let row = |name: &str| format!("  - {{ path: \"/{name}/v1/*\", methods: [POST, PUT], upstream: {name} }}\n");
        Setup::default()
            .main(&format!("tmcp_endpoints:\n{}{}", row("plain"), row("multiplexed")))
            .upstream("plain", "addresses: [\"{wallet}\"]\ntls: false\n")
            .upstream("multiplexed", "addresses: [\"{wallet}\"]\ntls: false\nhttp2: true\n")
            .start()
    })
}

/// Sizes on both sides of every boundary that a buffer on the way has.
const SIZES: [usize; 7] = [0, KIB, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 200 * KIB, 9 * MIB];

fn opaque(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + (at % 23) as u8).collect()
}

/// Exactly one request bears the mark, and it is this body with its exact length.
fn check_arrived(edge: &TestEdge, mark: &str, body: &[u8], place: &str) {
    let seen = edge.at_wallet("x-mark", mark);
    assert_eq!(seen.len(), 1, "{place}");
    // Not assert_eq: nobody wants to read nine megabytes.
    assert!(seen[0].body.as_bytes() == body, "{place}: {} bytes became {}", body.len(), seen[0].body.len());
    let length = seen[0].headers.get("content-length").map_or("0", String::as_str);
    assert_eq!(length, body.len().to_string(), "{place}");
    assert!(!seen[0].headers.contains_key("transfer-encoding"), "{place}: {:#?}", seen[0].headers);
    assert!(!seen[0].headers.contains_key("expect"), "{place}: {:#?}", seen[0].headers);
}

#[test]
fn a_transfer_of_any_size_arrives_byte_for_byte() {
    let edge = shared();
    let mut wire = edge.wire();
    for size in &SIZES[1..] {
        for chunk in [None, Some(7 * KIB), Some(100 * KIB)] {
            let (mark, body) = (mark(), transfer(*size));
            let request = Request::post(INITIATE, body.clone()).bearer(&edge.full_token()).header("x-mark", &mark);
            let request = chunk.map_or(request.clone(), |chunk| request.chunks_of(chunk));
            let place = format!("{size} bytes, chunks of {chunk:?}");
            // All on one connection: it survives every one of them.
            let answer = edge.send_on(&mut wire, request);
            assert_eq!(answer.status, 200, "{place}: {}", answer.text());
            check_arrived(edge, &mark, &body, &place);
        }
    }
}

#[test]
fn any_body_arrives_over_either_http_version() {
    let edge = depot();
    for upstream in ["plain", "multiplexed"] {
        let mut wire = edge.wire();
        for size in SIZES {
            for chunk in [None, Some(50 * KIB)] {
                let (mark, body) = (mark(), opaque(size));
                let mut request = Request::new("POST", &format!("/{upstream}/v1/x"))
                    .header("content-type", "multipart/form-data; boundary=x")
                    .bearer(&edge.full_token())
                    .header("x-mark", &mark)
                    .body(body.clone());
                request.chunked = chunk;
                let place = format!("{size} bytes to {upstream}, chunks of {chunk:?}");
                let answer = edge.send_on(&mut wire, request);
                // The recorder knows no such path, and says so.
                assert_eq!(answer.status, 404, "{place}: {}", answer.text());
                check_arrived(edge, &mark, &body, &place);
            }
        }
    }
}

#[test]
fn any_body_arrives_from_an_http_2_client() {
    let edge = depot();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = h2_client(edge);
        for upstream in ["plain", "multiplexed"] {
            for size in SIZES {
                for streamed in [false, true] {
                    let (mark, body) = (mark(), opaque(size));
                    let place = format!("{size} bytes over HTTP/2 to {upstream}, without a length: {streamed}");
                    let sent = if streamed { stream_of(body.clone()) } else { body.clone().into() };
                    let answer = client
                        .post(format!("https://localhost:{}/{upstream}/v1/x", edge.tls.port()))
                        .bearer_auth(edge.full_token())
                        .header("content-type", "multipart/form-data; boundary=x")
                        .header("x-forwarded-for", crate::edge::fresh_ip())
                        .header("x-mark", &mark)
                        .body(sent)
                        .send()
                        .await
                        .unwrap();
                    assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 404), "{place}");
                    check_arrived(edge, &mark, &body, &place);
                }
            }
        }
    });
}

/// A client that speaks HTTP/2 only because TLS lets it.
fn h2_client(edge: &TestEdge) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(edge.certificate().as_bytes()).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only([certificate]).build().unwrap()
}

/// A body whose length nobody says.
fn stream_of(body: Vec<u8>) -> reqwest::Body {
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> = body.chunks(30_000).map(|chunk| Ok(chunk.to_vec())).collect();
    reqwest::Body::wrap_stream(futures::stream::iter(chunks))
}

#[test]
fn http_2_refusals_leave_the_connection_and_the_bodies_alone() {
    let edge = shared();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = h2_client(edge);
        let post = |token: Option<String>, kind: &str, body: Vec<u8>| {
            let request = client
                .post(format!("https://localhost:{}{INITIATE}", edge.tls.port()))
                .header("x-forwarded-for", crate::edge::fresh_ip())
                .header("content-type", kind.to_owned());
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            let request = request.body(body);
            async move {
                let answer = request.send().await.unwrap();
                let status = answer.status().as_u16();
                (status, serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap())
            }
        };
        let json = "application/json";
        let (status, body) = post(None, json, transfer(KIB)).await;
        assert_eq!((status, &body["error"]["code"]), (401, &json!("INVALID_TOKEN")));
        let (status, body) = post(Some(edge.full_token()), "text/plain", transfer(40 * KIB)).await;
        assert_eq!((status, &body["error"]["code"]), (415, &json!("UNSUPPORTED_MEDIA_TYPE")));
        let (status, body) = post(Some(edge.full_token()), json, b"{}".to_vec()).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("VALIDATION_FAILED")));
        let (status, body) = post(Some(edge.full_token()), json, transfer(11 * MIB)).await;
        assert_eq!((status, &body["error"]["code"]), (413, &json!("PAYLOAD_TOO_LARGE")));
        let (status, body) = post(Some(edge.full_token()), json, transfer(KIB)).await;
        assert_eq!(status, 200, "{body}");
    });
}

#[test]
fn too_much_is_413_however_it_is_framed() {
    let edge = shared();
    for chunk in [None, Some(MIB)] {
        let mark = mark();
        let mut request =
            Request::post(INITIATE, transfer(11 * MIB)).bearer(&edge.full_token()).header("x-mark", &mark);
        request.chunked = chunk;
        let answer = edge.send(request);
        assert_eq!(answer.verdict(), (413, "PAYLOAD_TOO_LARGE".into()), "chunks of {chunk:?}");
        assert_eq!(answer.json()["error"]["details"]["max_bytes"], 10 * MIB);
        crate::headers::check_standing(&answer);
        assert!(edge.at_wallet("x-mark", &mark).is_empty());
    }
    // Right at the limit, and one byte over it.
    assert_eq!(edge.send(Request::post(INITIATE, transfer(10 * MIB)).bearer(&edge.full_token())).status, 200);
    assert_eq!(edge.send(Request::post(INITIATE, transfer(10 * MIB + 1)).bearer(&edge.full_token())).status, 413);
}

#[test]
fn expecting_100_continue_gets_one_and_only_when_the_body_is_wanted() {
    let edge = shared();
    for size in [KIB, 200 * KIB] {
        let (mark, body) = (mark(), transfer(size));
        let request = Request::post(INITIATE, body.clone())
            .bearer(&edge.full_token())
            .header("expect", "100-continue")
            .header("x-mark", &mark);
        let request = edge.dress(request);
        let mut wire = edge.wire();
        wire.write(request.head_bytes()).unwrap();
        let mut interim = [0; 25];
        std::io::Read::read_exact(&mut wire.stream(), &mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        wire.write(request.body_bytes()).unwrap();
        let answer = wire.answer().unwrap();
        assert_eq!((answer.status, wire.interim.len()), (200, 0), "a second 100 came: {:?}", wire.interim);
        check_arrived(edge, &mark, &body, "expected");
        assert_eq!(edge.send_on(&mut wire, Request::get("/oauth2/jwks.json")).status, 200, "the connection lives on");
    }
    // Whoever is refused is told at once, and need not send the body.
    for (request, status) in [
        (Request::post(INITIATE, transfer(KIB)), 401),
        (Request::post(INITIATE, transfer(11 * MIB)).bearer(&edge.full_token()), 413),
        (
            Request::new("POST", INITIATE).header("content-type", "text/xml").body("<a/>").bearer(&edge.full_token()),
            415,
        ),
    ] {
        let request = edge.dress(request.header("expect", "100-continue"));
        let mut wire = edge.wire();
        let started = Stopwatch::start();
        wire.write(request.head_bytes()).unwrap();
        let answer = wire.answer().unwrap();
        assert_eq!((answer.status, wire.interim.len()), (status, 0), "{}", answer.text());
        assert!(started.elapsed() < Duration::from_millis(1500), "{status} took {:?}", started.elapsed());
    }
}

#[test]
fn keep_alive_survives_refusals() {
    let edge = Setup::default().main("validation_rules: { max_request_size: 32KB }").start();
    let mut wire = edge.wire();
    let token = || edge.full_token();
    let post = |body: Vec<u8>| Request::post(INITIATE, body);
    let refusals = || {
        vec![
            (post(transfer(KIB)), 401),
            (post(transfer(KIB)).bearer("tep.x.y.z"), 401),
            (post(transfer(40 * KIB)).bearer(&token()), 413),
            (
                Request::new("POST", INITIATE)
                    .header("content-type", "text/plain")
                    .body(transfer(KIB))
                    .bearer(&token()),
                415,
            ),
            (Request::new("POST", INITIATE).body(transfer(KIB)).bearer(&token()), 415),
            (post(transfer(KIB)).header("content-encoding", "gzip").bearer(&token()), 415),
            (post(b"{}".to_vec()).bearer(&token()), 400),
            (post(b"{".to_vec()).bearer(&token()), 400),
            (post(Vec::new()).bearer(&token()), 400),
            (post(transfer(KIB)).chunks_of(100).header("content-encoding", "br").bearer(&token()), 415),
            (Request::post("/nowhere", transfer(KIB)).bearer(&token()), 404),
            (Request::new("PUT", INITIATE).body(transfer(KIB)).bearer(&token()), 405),
            (Request::get("/api/v1/wallet/balance").bearer(&token()).body("x"), 400),
            (Request::post("/oauth2/token", "x=1"), 415),
        ]
    };
    for (request, status) in refusals() {
        let place = format!("{request:?}");
        let answer = edge.send_on(&mut wire, request);
        assert_eq!(answer.status, status, "{} {place}", answer.text());
        crate::headers::check_standing(&answer);
        assert_ne!(answer.header("connection"), Some("close"), "{status}: {place}");
        // The next request on the connection is read from where it begins.
        let next = edge.send_on(&mut wire, Request::get("/oauth2/jwks.json"));
        assert_eq!(next.status, 200, "after {status}: {}", next.text());
    }
}

#[test]
fn a_client_that_leaves_half_way_leaves_nothing_behind() {
    let edge = shared();
    let mark = mark();
    for chunked in [false, true] {
        let mut request =
            Request::post(INITIATE, transfer(100 * KIB)).bearer(&edge.full_token()).header("x-mark", &mark);
        request.chunked = chunked.then_some(10 * KIB);
        let request = edge.dress(request);
        let mut wire = edge.wire();
        wire.write(request.head_bytes()).unwrap();
        wire.write(&request.body_bytes()[..50 * KIB]).unwrap();
        drop(wire);
    }
    // Whoever stays is served meanwhile and afterwards.
    let answer = edge.send(Request::post(INITIATE, transfer(KIB)).bearer(&edge.full_token()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(edge.at_wallet("x-mark", &mark).is_empty(), "half a body reached the wallet");
}

#[test]
fn a_dead_wallet_is_502_and_the_connection_stays() {
    let edge = Setup::default().wallet_at(free_port()).wallet("breaker: { window: 100, failures: 100 }").start();
    let mut wire = edge.wire();
    for size in [KIB, 100 * KIB, MIB] {
        let answer = edge.send_on(&mut wire, Request::post(INITIATE, transfer(size)).bearer(&edge.full_token()));
        assert_eq!(answer.verdict(), (502, "UPSTREAM_ERROR".into()));
        crate::headers::check_standing(&answer);
        assert_eq!(answer.header("x-ratelimit-limit"), Some("30"));
        let answer = edge.send_on(&mut wire, Request::get("/api/v1/wallet/balance").bearer(&edge.full_token()));
        assert_eq!(answer.verdict(), (502, "UPSTREAM_ERROR".into()));
        assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    }
}

#[test]
fn every_failing_field_is_named() {
    let edge = shared();
    let body = json!({"recipient": "bob", "amount": -5, "currency": "usd", "note": 7, "room_id": "#chat:x"});
    let answer = edge.send(Request::post(INITIATE, body.to_string()).bearer(&edge.full_token()));
    assert_eq!(answer.verdict(), (400, "VALIDATION_FAILED".into()));
    let errors = answer.json()["error"]["details"]["errors"].as_array().unwrap().clone();
    let mut pointers: Vec<&str> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    pointers.dedup();
    assert_eq!(
        pointers,
        ["/amount", "/currency", "/idempotency_key", "/note", "/recipient", "/room_id"],
        "{errors:#?}"
    );
    assert!(errors.iter().all(|error| error["rule"].is_string() && error["message"].is_string()), "{errors:#?}");
}

#[test]
fn sanitising_changes_the_text_and_nothing_else() {
    let edge = shared();
    for (sent, arrives) in [
        ("\"  <b>hi</b> there  \"", "\"hi there\""),
        ("\"I <3 you, a < b\"", "\"I <3 you, a < b\""),
        ("\"<script>alert(1)</script>ok\"", "\"ok\""),
        ("\"cafe\\u0301\"", "\"café\""),
        ("\"plain\"", "\"plain\""),
    ] {
        let body = |note: &str| {
            format!(
                "{{ \"amount\" : 5000.00,\t\"note\":{note} , \"extra\": \"<i>left</i>\",\"recipient\":\"@bob:tween.example\",\n \
                 \"currency\":\"USD\",\"idempotency_key\":\"key-1\", \"precise\": 1.0e-7}}"
            )
        };
        let mark = mark();
        let request = Request::post(INITIATE, body(sent)).bearer(&edge.full_token()).header("x-mark", &mark);
        let answer = edge.send(request);
        assert_eq!(answer.status, 200, "{sent}: {}", answer.text());
        check_arrived(edge, &mark, body(arrives).as_bytes(), sent);
    }
}

#[test]
fn a_second_factor_stands_in_no_log() {
    let edge = shared();
    let pin = "918273645";
    let body = json!({
        "challenge_id": "mfa_1", "method": "transaction_pin", "credentials": {"pin": pin},
        "device_id": "dev_1", "timestamp": "2026-01-31T12:00:00Z",
    });
    let token = edge.full_token();
    let mut traces = Vec::new();
    for (body, query) in
        [(body.to_string(), ""), (body.to_string().replace("mfa_1", ""), ""), (body.to_string(), "?pin=918273645")]
    {
        let path = format!("/api/v1/payments/pay_1/mfa/verify{query}");
        let answer = edge.send(Request::post(&path, body).bearer(&token));
        assert!(matches!(answer.status, 400 | 404), "{}", answer.text());
        assert!(!answer.text().contains(pin), "{}", answer.text());
        traces.push(answer.header("x-trace-id").unwrap().to_owned());
    }
    eventually("the requests' log lines", Duration::from_secs(10), || {
        let log = edge.access_log_text();
        traces.iter().all(|trace| log.contains(trace))
    });
    let logs = edge.access_log_text() + &edge.log();
    for secret in [pin, token.as_str(), token.rsplit('.').next().unwrap()] {
        assert!(!logs.contains(secret), "a secret is in a log");
    }
    let line = edge.access_log().into_iter().find(|line| line.to_string().contains(&traces[0])).unwrap();
    assert!(line.to_string().contains("payment_mfa_verify"), "{line}");
}
