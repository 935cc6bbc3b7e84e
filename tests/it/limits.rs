//! How much is too much: rate limits, failed authentications, floods and requests under way (protocol section 8).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tmcp_edge::clock::Clock;
use tmcp_edge::model::Scope;

use crate::edge::{APP, OFFICIAL_APP, Setup, Stopwatch, eventually, fresh_ip, fresh_user, ordinary, shared};
use crate::wire::{Answer, Request};

const INITIATE: &str = "/api/v1/wallet/p2p/initiate";
const BALANCE: &str = "/api/v1/wallet/balance";

fn pay(token: &str) -> Request {
    let body = json!({"recipient": "@bob:tween.example", "amount": 1, "currency": "USD", "idempotency_key": "same"});
    Request::post(INITIATE, body.to_string()).bearer(token)
}

fn is_limited(answer: &Answer) -> bool {
    if answer.status == 429 {
        assert_eq!(answer.code(), "RATE_LIMIT_EXCEEDED");
        assert!(answer.number("retry-after") >= 1);
    }
    answer.status == 429
}

/// The same below `/oauth2/`, where errors have the shape of RFC 6749 section 5.2.
fn is_limited_in_oauth(answer: &Answer) -> bool {
    if answer.status == 429 {
        assert!(answer.json()["error"].is_string(), "{}", answer.text());
        assert!(answer.number("retry-after") >= 1);
    }
    answer.status == 429
}

#[test]
fn forty_at_once_and_then_one_every_two_seconds() {
    let edge = shared();
    let token = edge.full_token();
    let (admitted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let started = Stopwatch::start();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut wire = edge.wire();
                for _ in 0..8 {
                    let answer = edge.send_on(&mut wire, pay(&token));
                    if is_limited(&answer) { &refused } else { &admitted }.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let refilled = started.elapsed().as_secs() as usize / 2 + 1;
    let admitted = admitted.into_inner();
    assert!((40..=40 + refilled).contains(&admitted), "{admitted} were let through, {refilled} at most refilled");
    assert_eq!(admitted + refused.into_inner(), 64);

    // What the refusal says is true: after that time it works, and just before it does not.
    let refusal = edge.send(pay(&token));
    assert!(is_limited(&refusal));
    let (asked, wait) = (Stopwatch::start(), refusal.number("retry-after"));
    assert!(wait <= 2, "{wait}");
    let body = refusal.json();
    assert_eq!(body["error"]["retry_after"], wait);
    assert_eq!((&body["error"]["limit"], &body["error"]["window"]), (&json!(30), &json!("1 minute")));
    assert_eq!((refusal.number("x-ratelimit-limit"), refusal.number("x-ratelimit-remaining")), (30, 0));
    assert_eq!((refusal.number("x-ratelimit-burst"), refusal.number("x-ratelimit-burst-remaining")), (10, 0));
    eventually("the time of Retry-After", Duration::from_secs(5), || asked.elapsed() >= Duration::from_secs(wait));
    assert_eq!(edge.send(pay(&token)).status, 200, "after Retry-After");
}

#[test]
fn every_limited_answer_says_how_the_caller_stands() {
    let edge = shared();
    let token = edge.full_token();
    let unix = Clock::system().unix_secs();
    for (request, limit) in [
        (Request::get(BALANCE), 100),
        (Request::new("HEAD", BALANCE), 100),
        (Request::get("/api/v1/wallet/p2p/nowhere"), 100),
        (Request::get("/api/v1/capabilities"), 100),
        (Request::get("/api/v1/storage"), 100),
        (Request::post(INITIATE, "{}"), 30),
        (Request::post(INITIATE, "{"), 30),
        (Request::get("/oauth2/authorize"), 10),
        (Request::get("/oauth2/jwks.json"), 100),
    ] {
        let answer = edge.send(request.clone().bearer(&token));
        let place = format!("{} {}: {}", request.method, request.target, answer.status);
        assert_eq!(answer.number("x-ratelimit-limit"), limit, "{place}");
        assert!(answer.number("x-ratelimit-remaining") < limit, "{place}");
        let after = answer.number("x-ratelimit-reset-after");
        assert!(after <= 60, "{place}");
        let reset = answer.number("x-ratelimit-reset");
        assert!((unix..=unix + 90).contains(&reset), "{place}: {reset}");
    }
}

#[test]
fn a_bucket_belongs_to_app_and_user_and_payments_to_the_user() {
    let edge = shared();
    let (user, other) = (fresh_user(), fresh_user());
    let here = edge.token_of(&user, APP, ordinary());
    let there = edge.token_of(&user, OFFICIAL_APP, ordinary());
    let somebody = edge.token_of(&other, APP, ordinary());
    let left = |token: &str, request: Request| {
        let answer = edge.send(request.bearer(token));
        answer.number("x-ratelimit-remaining") + answer.number("x-ratelimit-burst-remaining")
    };
    // A second token of the same user in the same app is no way around either.
    let again = edge.token_of(&user, APP, ordinary());
    assert_eq!(left(&here, Request::get(BALANCE)), 119);
    assert_eq!(left(&again, Request::get(BALANCE)), 118);
    assert_eq!(left(&there, Request::get(BALANCE)), 119);
    assert_eq!(left(&somebody, Request::get(BALANCE)), 119);
    let payment = || Request::post(INITIATE, "{}");
    assert_eq!(left(&here, payment()), 39);
    assert_eq!(left(&there, payment()), 38, "another app, the same user's money");
    assert_eq!(left(&somebody, payment()), 39);
}

#[test]
fn without_a_token_the_address_counts() {
    let edge = shared();
    let (here, there) = (fresh_ip(), fresh_ip());
    let ask = |ip: &str| edge.send(Request::get("/oauth2/authorize").header("x-forwarded-for", ip));
    for _ in 0..15 {
        assert_eq!(ask(&here).status, 400);
    }
    assert!(is_limited_in_oauth(&ask(&here)));
    // What the client itself wrote before the last hop moves no bucket.
    assert!(is_limited_in_oauth(&ask(&format!("{there}, {here}"))));
    assert_eq!(ask(&there).status, 400);
    // IPv6 clients have a /64 each.
    for last in 1..=15 {
        assert_eq!(ask(&format!("2001:db8:0:1::{last:x}")).status, 400);
    }
    assert!(is_limited_in_oauth(&ask("2001:db8:0:1:ffff::1")));
    assert_eq!(ask("2001:db8:0:2::1").status, 400);
}

#[test]
fn config_changes_limits() {
    let edge = Setup::default()
        .main(
            "rate_limits:\n  default: { requests_per_minute: 3, burst: 1 }\n  \
             payment_operations: { requests_per_minute: 2, burst: 0, report_only: true }\n  \
             storage: { requests_per_minute: 4, burst: 0, algorithm: sliding_window }\n\
             rate_limit_overrides:\n  - { app: ma_bank_001, policy: default, requests_per_minute: 6, burst: 2 }",
        )
        .start();
    let allowed = |request: &dyn Fn() -> Request, token: &str| {
        (0..12).take_while(|_| !is_limited(&edge.send(request().bearer(token)))).count()
    };
    let user = fresh_user();
    let (shop, bank) = (edge.token_of(&user, APP, ordinary()), edge.token_of(&user, OFFICIAL_APP, ordinary()));
    assert_eq!(allowed(&|| Request::get(BALANCE), &shop), 4);
    assert_eq!(allowed(&|| Request::get(BALANCE), &bank), 8, "an override");
    assert_eq!(allowed(&|| Request::get("/api/v1/storage"), &shop), 4, "a sliding window");
    let answers: Vec<Answer> = (0..5).map(|_| edge.send(pay(&shop))).collect();
    assert!(answers.iter().all(|answer| answer.status == 200), "report_only refuses nothing");
}

#[test]
fn a_batch_costs_as_much_as_it_holds() {
    let edge = shared();
    let token = edge.token(&[Scope::WalletPay]);
    let batch = |size: usize| {
        let ids: Vec<String> = (0..size).map(|id| format!("@batch{id}:tween.example")).collect();
        let body = json!({"user_ids": ids, "room_id": crate::edge::ROOM}).to_string();
        edge.send(Request::post("/api/v1/wallet/resolve/batch", body).bearer(&token))
    };
    let first = batch(70);
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.number("x-ratelimit-remaining") + first.number("x-ratelimit-burst-remaining"), 50);
    let second = batch(70);
    assert!(is_limited(&second), "{}", second.text());
    // What was refused cost nothing.
    let third = batch(50);
    assert_eq!((third.status, third.number("x-ratelimit-burst-remaining")), (200, 0), "{}", third.text());
}

#[test]
fn failed_authentications_shut_their_address_out() {
    let edge = Setup::default().limits(", failed_auth_per_minute: 5").start();
    let (guesser, innocent) = (fresh_ip(), fresh_ip());
    let good = edge.full_token();
    let ask = |ip: &str, token: &str| edge.send(Request::get(BALANCE).bearer(token).header("x-forwarded-for", ip));
    for _ in 0..5 {
        assert_eq!(ask(&guesser, "tep.a.b.c").status, 401);
    }
    let shut = ask(&guesser, "tep.a.b.c");
    assert!(is_limited(&shut), "{}", shut.text());
    crate::headers::check_standing(&shut);
    assert!(is_limited(&ask(&guesser, &good)), "nothing from there is looked at");
    assert_eq!(ask(&innocent, &good).status, 200);
    // Client secrets and Matrix tokens are guessed just as well.
    for wrong in [
        Request::post("/api/v1/payments/pay_1/refund", "{}").header("authorization", "Basic bWFfc2hvcF8wMDE6eA=="),
        Request::post("/api/v1/wallet/register", "{}").bearer("syt_nobody"),
        Request::get(BALANCE),
    ] {
        let ip = fresh_ip();
        let statuses: Vec<u16> =
            (0..7).map(|_| edge.send(wrong.clone().header("x-forwarded-for", &ip)).status).collect();
        assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429], "{wrong:?}");
    }
    // And so is the homeserver's token, which is refused in its own way.
    let ip = fresh_ip();
    let transaction = Request::new("PUT", "/_matrix/app/v1/transactions/1").header("x-forwarded-for", &ip);
    let guess = transaction.header("content-type", "application/json").body(r#"{"events":[]}"#).bearer("wrong");
    let statuses: Vec<u16> = (0..7).map(|_| edge.send(guess.clone()).status).collect();
    assert_eq!(statuses, [403, 403, 403, 403, 403, 429, 429]);
    // A scope that is missing is no guess.
    let (ip, narrow) = (fresh_ip(), edge.token(&[Scope::UserRead]));
    assert!((0..8).all(|_| ask(&ip, &narrow).status == 403));
}

#[test]
fn a_flood_from_one_address_is_held_off() {
    let edge = Setup::default().limits(", requests_per_second_per_ip: 20").start();
    let (flood, innocent) = (fresh_ip(), fresh_ip());
    let mut wire = edge.wire();
    let started = Stopwatch::start();
    let refused = (0..60)
        .filter(|_| is_limited(&edge.send_on(&mut wire, Request::get("/nowhere").header("x-forwarded-for", &flood))))
        .count();
    let most = 20 * (started.elapsed().as_secs() as usize + 2);
    assert!(refused >= 60_usize.saturating_sub(most), "{refused} of 60 in {:?}", started.elapsed());
    assert_eq!(edge.send(Request::get("/nowhere").header("x-forwarded-for", &innocent)).status, 404);
}
