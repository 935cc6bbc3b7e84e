//! Callers other than TEP tokens: the homeserver, Matrix users, a mini-app's back end.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tmcp_edge::sandbox::faults::Fault;

use crate::edge::{APP, Setup, Stopwatch, TestEdge, mark, shared};
use crate::headers::check_standing;
use crate::wire::{Answer, Request};

const TRANSACTION: &str = "/_matrix/app/v1/transactions/1";
const REGISTER: &str = "/api/v1/wallet/register";

fn transaction(path: &str) -> Request {
    Request::new("PUT", path).header("content-type", "application/json").body(r#"{"events":[]}"#)
}

fn errcode(answer: &Answer) -> String {
    let body: Value = answer.json();
    assert!(body["error"].is_string(), "not a Matrix error: {body}");
    body["errcode"].as_str().unwrap().to_owned()
}

#[test]
fn the_homeserver_proves_itself_by_its_token() {
    let edge = shared();
    let good = edge.hs_token.clone();
    for path in [TRANSACTION, "/transactions/1"] {
        let none = edge.send(transaction(path));
        assert_eq!((none.status, errcode(&none)), (401, "M_UNAUTHORIZED".into()), "{path}");
        check_standing(&none);
        for wrong in
            ["wrong".to_owned(), good[1..].to_owned(), format!("{good}x"), good.to_uppercase(), edge.full_token()]
        {
            let answer = edge.send(transaction(path).bearer(&wrong));
            assert_eq!((answer.status, errcode(&answer)), (403, "M_FORBIDDEN".into()), "{path} {wrong}");
        }
        let right = edge.send(transaction(path).bearer(&good));
        assert_eq!((right.status, errcode(&right)), (501, "M_UNRECOGNIZED".into()), "{path}");
        let query = edge.send(transaction(&format!("{path}?access_token={good}")));
        assert_eq!(query.status, 401, "the query form is off unless configured");
        for answer in [&none, &right, &query] {
            assert!(!answer.text().contains(&good));
        }
    }
    for (method, path) in [
        ("GET", "/_matrix/app/v1/users/@_tmcp_x:tween.example"),
        ("GET", "/_matrix/app/v1/rooms/%23x:tween.example"),
        ("GET", "/_matrix/app/v1/thirdparty/protocol/x"),
        ("GET", "/users/@_tmcp_x:tween.example"),
        ("GET", "/rooms/%23x:tween.example"),
    ] {
        let answer = edge.send(Request::new(method, path).bearer(&good));
        assert_eq!((answer.status, errcode(&answer)), (501, "M_UNRECOGNIZED".into()), "{path}");
        let answer = edge.send(Request::new(method, path).bearer("wrong"));
        assert_eq!((answer.status, errcode(&answer)), (403, "M_FORBIDDEN".into()), "{path}");
    }
}

#[test]
fn a_transaction_is_never_refused_for_what_it_holds() {
    let edge = shared();
    for (kind, body) in [
        ("application/json", vec![b' '; 12 << 20]),
        ("application/json", b"{\"a\":1,\"a\":2}".to_vec()),
        ("application/json", b"\xff not json".to_vec()),
        ("text/plain", b"{}".to_vec()),
    ] {
        let length = body.len();
        let request = Request::new("PUT", TRANSACTION).header("content-type", kind).body(body).bearer(&edge.hs_token);
        assert_eq!(edge.send(request).status, 501, "{kind}, {length} bytes");
    }
    // The token is looked at before the body: who has none is told without sending it.
    let request = edge.dress(Request::new("PUT", TRANSACTION).body(vec![b' '; 60 << 20]).bearer("wrong"));
    let mut wire = edge.wire();
    let started = Stopwatch::start();
    wire.write(request.head_bytes()).unwrap();
    assert_eq!(wire.answer().unwrap().status, 403);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn the_query_form_where_configured() {
    let edge = Setup::default().appservice(", query_token: true").start();
    let answer = edge.send(transaction(&format!("/transactions/1?access_token={}", edge.hs_token)));
    assert_eq!(answer.status, 501, "{}", answer.text());
    assert_eq!(edge.send(transaction("/transactions/1?access_token=wrong")).status, 403);
    assert!(!edge.log().contains(&edge.hs_token) && !edge.access_log_text().contains(&edge.hs_token));
}

fn whoamis(edge: &TestEdge) -> usize {
    edge.homeserver().desk.recorder.all().iter().filter(|request| request.path.ends_with("/whoami")).count()
}

#[test]
fn a_matrix_token_is_asked_about_once_and_goes_no_further() {
    let edge = Setup::default().start();
    let alice = edge.matrix_token("alice");
    let mark = mark();
    for _ in 0..3 {
        let answer = edge.send(Request::post(REGISTER, "{}").bearer(&alice).header("x-mark", &mark));
        assert_eq!(
            (answer.status, &answer.json()["user_id"]),
            (200, &"@alice:tween.example".into()),
            "{}",
            answer.text()
        );
    }
    assert_eq!(whoamis(&edge), 1);
    let seen = edge.at_wallet("x-mark", &mark);
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].headers["x-tmcp-user-id"], "@alice:tween.example");
    for gone in ["authorization", "x-tmcp-app-id", "x-tmcp-scopes"] {
        assert!(!seen[0].headers.contains_key(gone), "{gone}");
    }
    assert!(!format!("{seen:?}").contains(&alice), "the wallet saw the Matrix token");

    // Refusals are remembered as well.
    for _ in 0..3 {
        let answer = edge.send(Request::post(REGISTER, "{}").bearer("syt_nobody"));
        assert_eq!(answer.verdict(), (401, "INVALID_TOKEN".into()));
        assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    }
    assert_eq!(whoamis(&edge), 2);
}

#[test]
fn what_is_no_matrix_token_never_reaches_the_homeserver() {
    let edge = Setup::default().start();
    let tep = edge.full_token();
    for wrong in ["tøken".to_owned(), "a b".to_owned(), String::new(), "x".repeat(5000), tep.clone(), edge.basic()] {
        let answer = edge.send(Request::post(REGISTER, "{}").bearer(&wrong));
        assert_eq!(answer.verdict(), (401, "INVALID_TOKEN".into()), "{wrong}");
    }
    assert_eq!(whoamis(&edge), 0);
    assert!(!format!("{:?}", edge.homeserver().desk.recorder.all()).contains(&tep));
}

#[test]
fn a_homeserver_in_trouble_signs_nobody_out() {
    let edge = Setup::default().start();
    for (status, drop) in [(Some(http::StatusCode::INTERNAL_SERVER_ERROR), false), (None, true)] {
        let fault = Fault { path: "/_matrix".into(), status, body: None, delay_ms: 0, drop, times: Some(2) };
        edge.homeserver().desk.faults.set(fault);
        let answer = edge.send(Request::post(REGISTER, "{}").bearer(&edge.matrix_token("bob")));
        assert_eq!(answer.verdict(), (503, "SERVICE_UNAVAILABLE".into()), "{}", answer.text());
        assert!(answer.number("retry-after") >= 1);
        edge.homeserver().desk.faults.clear();
    }
    assert_eq!(edge.send(Request::post(REGISTER, "{}").bearer(&edge.matrix_token("bob"))).status, 200);
}

#[test]
fn a_merchants_back_end_proves_itself_by_its_secret() {
    let edge = shared();
    let refund = |authorization: &str| {
        Request::post(
            "/api/v1/payments/pay_1/refund",
            r#"{"amount":1.00,"currency":"USD","reason":"x","idempotency_key":"k"}"#,
        )
        .header("authorization", authorization)
    };
    let mark = mark();
    let answer = edge.send(refund(&edge.basic()).header("x-mark", &mark));
    assert_eq!(answer.verdict(), (404, "NOT_FOUND".into()), "the wallet knows no such payment: {}", answer.text());
    let seen = edge.at_wallet("x-mark", &mark);
    assert_eq!(seen[0].headers["x-tmcp-app-id"], APP);
    assert!(!seen[0].headers.contains_key("x-tmcp-user-id") && !seen[0].headers.contains_key("authorization"));
    assert!(!format!("{seen:?}").contains(&edge.client_secret));

    let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
    for wrong in [
        basic(&format!("{APP}:wrong")),
        basic(&format!("ma_bank_001:{}", edge.client_secret)),
        basic(&edge.client_secret),
        "Basic !!!".to_owned(),
        format!("Bearer {}", edge.full_token()),
    ] {
        let answer = edge.send(refund(&wrong));
        assert_eq!(answer.verdict(), (401, "INVALID_TOKEN".into()), "{wrong}");
        assert!(answer.header("www-authenticate").is_some());
    }
    let status = edge.send(Request::get("/api/v1/payments/pay_1").header("authorization", edge.basic()));
    assert_eq!(status.verdict(), (404, "NOT_FOUND".into()), "{}", status.text());
}

#[test]
fn tokens_that_were_tampered_with_are_refused() {
    let edge = shared();
    let good = edge.full_token();
    let parts: Vec<&str> = good.strip_prefix("tep.").unwrap().split('.').collect();
    let encode = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
    let decode = |part: &str| String::from_utf8(base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let (header, claims) = (decode(parts[0]), decode(parts[1]));
    let with =
        |header: &str, claims: &str, signature: &str| format!("tep.{}.{}.{signature}", encode(header), encode(claims));
    let balance = |token: &str| edge.send(Request::get("/api/v1/wallet/balance").bearer(token));
    for (why, token) in [
        ("alg none", with(&header.replace("RS256", "none"), &claims, "")),
        ("alg None", with(&header.replace("RS256", "None"), &claims, parts[2])),
        ("HS256", with(&header.replace("RS256", "HS256"), &claims, parts[2])),
        ("another user", with(&header, &claims.replace("@user", "@root"), parts[2])),
        ("more scopes", with(&header, &claims.replace("user:read ", "wallet:admin "), parts[2])),
        ("kid path", with(&header.replacen("\"kid\":\"", "\"kid\":\"../../", 1), &claims, parts[2])),
        ("jku", with(&header.replacen('{', "{\"jku\":\"http://127.0.0.1:1/jwks\",", 1), &claims, parts[2])),
        ("crit", with(&header.replacen('{', "{\"crit\":[\"exp\"],", 1), &claims, parts[2])),
        ("no signature", format!("tep.{}.{}.", parts[0], parts[1])),
        ("two parts", format!("tep.{}.{}", parts[0], parts[1])),
        ("five parts", format!("{good}.x.y")),
        ("twice the prefix", format!("tep.{good}")),
        ("padding", format!("{good}=")),
        ("white space", format!("{good} x")),
        ("two tokens", format!("{good},{good}")),
    ] {
        let answer = balance(&token);
        assert_eq!(answer.verdict(), (401, "INVALID_TOKEN".into()), "{why}: {}", answer.text());
    }
    assert_eq!(balance(&good).status, 200);
    assert_eq!(balance(good.strip_prefix("tep.").unwrap()).status, 200, "the prefix may be absent");
    let twice = Request::get("/api/v1/wallet/balance").bearer(&good).bearer(&good);
    assert_eq!(edge.send(twice).status, 401, "two Authorization headers");
    for other in ["Basic", "Token", "bearer:", "Bearer\t"] {
        let request = Request::get("/api/v1/wallet/balance").header("authorization", format!("{other} {good}"));
        assert_eq!(edge.send(request).status, 401, "{other}");
    }
}
