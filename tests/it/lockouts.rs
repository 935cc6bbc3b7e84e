//! Who goes too far is kept out: `ACCOUNT_SUSPENDED` and `PAYMENT_LOCKED` (protocol sections 8 and 9).

use serde_json::{Value, json};
use tmcp_edge::clock::{Clock, rfc3339};
use tmcp_edge::sandbox::faults::Fault;

use crate::edge::{ADMIN_TOKEN, APP, OFFICIAL_APP, Setup, TestEdge, fresh_user, ordinary, shared};
use crate::headers::check_standing;
use crate::wire::{Answer, Request};

const BALANCE: &str = "/api/v1/wallet/balance";
const INITIATE: &str = "/api/v1/wallet/p2p/initiate";

fn edge(yaml: &str) -> TestEdge {
    Setup::default().main(yaml).start()
}

fn pay(amount: u32, key: usize) -> Request {
    let body = json!({
        "recipient": "@bob:tween.example", "amount": amount, "currency": "USD", "idempotency_key": format!("k{key}"),
    });
    Request::post(INITIATE, body.to_string())
}

/// The whole of an answer to somebody who is kept out for about `seconds`.
fn check_kept_out(answer: &Answer, code: &str, detail: &str, seconds: u64) {
    assert_eq!((answer.status, answer.code().as_str()), (403, code), "{}", answer.text());
    check_standing(answer);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let left = answer.number("retry-after");
    assert!((seconds - 120..=seconds).contains(&left), "{left}");
    let error = &answer.json()["error"];
    assert_eq!(error["retry_after"], left);
    let until = error["details"][detail].as_str().unwrap_or_else(|| panic!("{error}")).to_owned();
    let now = Clock::system().unix_secs();
    assert!((now..=now + seconds + 1).any(|second| rfc3339(second) == until), "{until}");
    assert!(error["message"].as_str().unwrap().contains(&until), "{error}");
    assert!(error["request_id"].as_str().unwrap().starts_with("req_") && error["timestamp"].is_string());
}

#[test]
fn ten_calls_over_a_limit_suspend_the_caller() {
    let edge = edge(
        "rate_limits:\n  default: { requests_per_minute: 1, burst: 1 }\n  \
         storage: { requests_per_minute: 1, burst: 0, report_only: true }\n\
         lockouts: { account_suspension: { violations: 10 } }",
    );
    let (user, other) = (fresh_user(), fresh_user());
    let token = edge.token_of(&user, APP, ordinary());
    let balance = |token: &str| edge.send(Request::get(BALANCE).bearer(token));
    // What only reports is no violation, however often.
    for _ in 0..15 {
        assert_ne!(edge.send(Request::get("/api/v1/storage").bearer(&token)).status, 403);
    }
    assert_eq!([balance(&token).status, balance(&token).status], [200, 200]);
    for violation in 1..10 {
        let answer = balance(&token);
        assert_eq!((answer.status, &answer.json()["error"]["details"]), (429, &Value::Null), "{violation}");
        assert!(answer.number("retry-after") <= 60);
    }
    // The tenth says what comes of it: before then it is no use to try again.
    let tenth = balance(&token);
    assert_eq!((tenth.status, tenth.code().as_str()), (429, "RATE_LIMIT_EXCEEDED"));
    assert!(tenth.json()["error"]["details"]["suspended_until"].is_string(), "{}", tenth.text());
    assert!((3500..=3600).contains(&tenth.number("retry-after")));

    check_kept_out(&balance(&token), "ACCOUNT_SUSPENDED", "suspended_until", 3600);
    // Everything the caller does, with any of its tokens, and the wallet is not asked.
    let again = edge.token_of(&user, APP, ordinary());
    let mark = crate::edge::mark();
    for request in [Request::get("/api/v1/storage"), pay(1, 1), Request::get("/api/v1/capabilities")] {
        let answer = edge.send(request.bearer(&again).header("x-mark", &mark));
        assert_eq!((answer.status, answer.code().as_str()), (403, "ACCOUNT_SUSPENDED"));
    }
    assert!(edge.at_wallet("x-mark", &mark).is_empty());
    // And nobody else.
    for token in [edge.token_of(&user, OFFICIAL_APP, ordinary()), edge.token_of(&other, APP, ordinary())] {
        assert_eq!(balance(&token).status, 200);
    }

    // An operator sees it, and lets the caller in again.
    let who = format!("?user={user}&app={APP}");
    let shown = edge.at_admin(ADMIN_TOKEN, Request::get(&format!("/api/v1/lockouts{who}")));
    let standing = &shown.json()[0];
    assert_eq!(
        (&standing["lockout"], &standing["strikes"]),
        (&json!("account_suspension"), &json!(10)),
        "{}",
        shown.text()
    );
    assert!(standing["until"].is_string());
    let lifted = edge.at_admin(
        ADMIN_TOKEN,
        Request::post("/api/v1/lockouts/lift", json!({"user": user.as_str(), "app": APP}).to_string()),
    );
    assert_eq!((lifted.status, lifted.json()), (200, json!({"lifted": true})));
    assert_ne!(balance(&token).status, 403);
    let after = edge.at_admin(ADMIN_TOKEN, Request::get(&format!("/api/v1/lockouts{who}")));
    assert_eq!(after.json()[0]["until"], Value::Null);
}

#[test]
fn a_client_is_a_caller_too_and_an_address_is_none() {
    let edge = edge(
        "rate_limits: { oauth_endpoints: { requests_per_hour: 1, burst: 0 } }\n\
         lockouts: { account_suspension: { violations: 2 } }",
    );
    let introspect = |basic: &str| {
        let request =
            Request::new("POST", "/oauth2/introspect").header("content-type", "application/x-www-form-urlencoded");
        edge.send(request.header("authorization", basic).body("token=x"))
    };
    let statuses: Vec<u16> = (0..4).map(|_| introspect(&edge.basic()).status).collect();
    assert_eq!(statuses, [200, 429, 429, 403]);
    // Below /oauth2/ in the words of RFC 6749.
    let kept_out = introspect(&edge.basic());
    check_standing(&kept_out);
    assert_eq!(kept_out.json()["error"], "access_denied");
    assert!(kept_out.json()["error_description"].as_str().unwrap().contains("suspended this caller until 2"));
    assert!((3500..=3600).contains(&kept_out.number("retry-after")));
    assert_eq!(introspect("Basic bWFfc2hvcF8wMDE6eA==").status, 401, "who has no secret is told nothing of it");
    let address = crate::edge::fresh_ip();
    let authorize = || edge.send(Request::get("/oauth2/authorize").header("x-forwarded-for", &address));
    let statuses: Vec<u16> = (0..6).map(|_| authorize().status).collect();
    assert_eq!(statuses, [400, 429, 429, 429, 429, 429]);
}

/// Has the wallet answer the next payment with an error of its own.
fn next_answer(edge: &TestEdge, status: u16, body: Option<Value>) {
    let status = http::StatusCode::from_u16(status).unwrap();
    let path = "/wallet/v1/p2p".to_owned();
    edge.wallet().desk.faults.set(Fault { path, status: Some(status), body, delay_ms: 0, drop: false, times: Some(1) });
}

#[test]
fn five_failed_payments_lock_what_spends() {
    let edge = edge("lockouts: { payment_lock: {} }");
    let user = fresh_user();
    let (here, there) = (edge.token_of(&user, APP, ordinary()), edge.token_of(&user, OFFICIAL_APP, ordinary()));
    // What the wallet did wrong is not the user's failure.
    for number in 0..4 {
        next_answer(&edge, 500, None);
        assert_eq!(edge.send(pay(1, number).bearer(&here)).status, 502);
    }
    let refused = |code: &str| Some(json!({"error": {"code": code, "message": "No."}}));
    for (status, code) in [(401, "MFA_FAILED"), (402, "INSUFFICIENT_FUNDS"), (400, "PAYMENT_FAILED")] {
        next_answer(&edge, status, refused(code));
        let answer = edge.send(pay(1, 10).bearer(&here));
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
    }
    // These are no failed payments either.
    for (status, code) in [(404, "RECIPIENT_NO_WALLET"), (429, "MFA_LOCKED"), (409, "DUPLICATE_TRANSACTION")] {
        next_answer(&edge, status, refused(code));
        assert_eq!(edge.send(pay(1, 11).bearer(&here)).code(), code);
    }
    // The fourth and the fifth in earnest: more than there is, from another mini-app.
    for number in 20..22 {
        let answer = edge.send(pay(99_000_000, number).bearer(&there));
        assert!(["INSUFFICIENT_FUNDS", "PAYMENT_FAILED"].contains(&answer.code().as_str()), "{}", answer.text());
    }
    for token in [&here, &there] {
        check_kept_out(&edge.send(pay(1, 30).bearer(token)), "PAYMENT_LOCKED", "locked_until", 900);
        assert_eq!(edge.send(Request::get(BALANCE).bearer(token)).status, 200, "looking goes on");
    }
    let body = json!({"signature": "MEUCIQ", "device_id": "d", "timestamp": "2025-12-20T01:15:00Z"}).to_string();
    let authorize = Request::post("/api/v1/payments/pay_1/authorize", body).bearer(&here);
    assert_eq!(edge.send(authorize).code(), "PAYMENT_LOCKED");
    let accept = Request::post("/api/v1/wallet/p2p/p2p_1/accept", "{}").bearer(&here);
    assert_ne!(edge.send(accept).code(), "PAYMENT_LOCKED", "being paid goes on");
    let somebody = edge.full_token();
    assert_eq!(edge.send(pay(1, 40).bearer(&somebody)).status, 200);
}

#[test]
fn both_are_off_unless_a_config_turns_them_on() {
    let edge = shared();
    let token = edge.full_token();
    let codes: Vec<String> = (0..12).map(|key| edge.send(pay(99_000_000, key).bearer(&token)).code()).collect();
    assert!(codes.iter().all(|code| code == "INSUFFICIENT_FUNDS" || code == "PAYMENT_FAILED"), "{codes:?}");
}
