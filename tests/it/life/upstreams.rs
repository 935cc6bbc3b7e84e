//! Upstreams that fall, rise, and are slow.

use http::StatusCode;
use serde_json::json;

use super::client::{Answer, Connection, Load, get, post};
use super::process::{ALICE, Edge, Setup};
use super::upstream::Upstream;
use super::{eventually, until};

const BALANCE: &str = "/api/v1/wallet/balance";
const HISTORY: &str = "/api/v1/wallet/transactions";
const TRANSFER: &str = "/api/v1/wallet/p2p/initiate";

async fn ask(edge: &Edge, request: &str) -> Answer {
    Connection::open(edge.address).await.ask(request).await.unwrap()
}

fn transfer(token: &str) -> String {
    let body = json!({"recipient": "@bob:tween.example", "amount": 5, "currency": "USD", "idempotency_key": "once"});
    let body = body.to_string();
    post(TRANSFER, token, body.len()) + &body
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_dies_and_nobody_notices() {
    let (mut one, mut two) = (Upstream::start("one"), Upstream::start("two"));
    let mut setup = Setup::new(one.address);
    let wallet = setup.upstreams.get_mut("wallet").unwrap();
    wallet["addresses"] = json!([one.address.to_string(), two.address.to_string()]);
    wallet["health"] = json!({"path": "/health", "every": "1s", "unhealthy_after": 1, "healthy_after": 1});
    wallet["breaker"] = json!({"window": 100, "failures": 100});
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    until("both are looked at", || one.checked() > 0 && two.checked() > 0).await;
    for _ in 0..4 {
        assert_eq!(ask(&edge, &get(BALANCE, &token)).await.status, 200);
    }
    assert!(!one.seen().is_empty() && !two.seen().is_empty(), "taken in turn");

    let load = Load::start(edge.address, &get(BALANCE, &token), 2, 1);
    load.more(50).await;
    one.kill();
    load.more(200).await;
    until("it is known to be dead", || edge.logged("is unhealthy") == 1).await;
    load.more(50).await;
    let already = one.seen().len();
    one.revive();
    until("it is known to be alive", || edge.logged("is healthy again") == 1).await;
    until("it is asked again", || one.seen().len() > already).await;
    let (done, failed) = load.stop().await;
    assert!(failed.is_empty(), "{} of {done} failed: {:?}", failed.len(), failed.first());

    // A payment goes to the living one too. On a connection that was open when the other died it would fail: it may
    // have been sent, and is not sent twice.
    two.kill();
    until("the other is known to be dead", || edge.logged("is unhealthy") == 2).await;
    for _ in 0..3 {
        let answer = ask(&edge, &transfer(&token)).await;
        assert_eq!((answer.status, &answer.json()["served_by"]), (200, &json!("one")), "{answer:?}");
    }
    one.kill();
    let answer = ask(&edge, &get(BALANCE, &token)).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &json!("UPSTREAM_ERROR")));
    two.revive();
    let balance = get(BALANCE, &token);
    let again = || ask(&edge, &balance);
    eventually("it is back", again, |answer| answer.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_no_more_is_given_up_and_found_again() {
    let mut wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address);
    let breaker = json!({"window": 4, "failures": 2, "open": "1s", "trial_every": "1s"});
    setup.upstreams.get_mut("wallet").unwrap()["breaker"] = breaker;
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let balance = get(BALANCE, &token);
    let again = || ask(&edge, &balance);
    assert_eq!(again().await.status, 200);
    wallet.kill();
    assert_eq!((again().await.status, again().await.status), (502, 502));
    let open = again().await;
    assert_eq!((open.status, &open.json()["error"]["circuit_state"]), (503, &json!("OPEN")));
    assert_eq!(open.header("retry-after"), Some("1"));
    // Only this class of operations.
    assert_eq!(ask(&edge, &transfer(&token)).await.status, 502);
    wallet.revive();
    eventually("it is back", again, |answer| answer.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn breakers_open_by_class_and_errors_are_not_passed_on() {
    let wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address);
    setup.upstreams.get_mut("wallet").unwrap()["breaker"] = json!({"window": 10, "failures": 5, "open": "1h"});
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    wallet.answers(StatusCode::INTERNAL_SERVER_ERROR);
    let mut connection = Connection::open(edge.address).await;
    for _ in 0..5 {
        let answer = connection.ask(&transfer(&token)).await.unwrap();
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &json!("UPSTREAM_ERROR")));
        assert!(!answer.body.contains("served_by") && !answer.closes(), "{answer:?}");
    }
    let open = connection.ask(&transfer(&token)).await.unwrap();
    assert_eq!((open.status, &open.json()["error"]["circuit_state"]), (503, &json!("OPEN")));
    // Never sent twice, and not sent at all once it was open.
    assert_eq!(wallet.seen().len(), 5);
    wallet.answers(StatusCode::OK);
    assert_eq!(connection.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
    assert_eq!(connection.ask(&get(HISTORY, &token)).await.unwrap().status, 200);
    assert_eq!(edge.metric(r#"breaker_state{class="payment",upstream="wallet"}"#).await, 2.0);
    assert_eq!(edge.metric(r#"breaker_state{class="read",upstream="wallet"}"#).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_out_is_a_504_and_the_request_is_not_sent_again() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    setup.upstreams.get_mut("partner").unwrap()["timeouts"]["read"] = json!("1s");
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    for request in [get("/partner/v1/held", &token), post("/partner/v1/held", &token, 2) + "{}"] {
        let answer = ask(&edge, &request).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &json!("UPSTREAM_TIMEOUT")), "{answer:?}");
    }
    assert_eq!(partner.seen().len(), 2);
}

/// An upstream that reads a request and hangs up, a number of times, and answers after that.
async fn rude(times: usize) -> (std::net::SocketAddr, std::sync::Arc<parking_lot::Mutex<Vec<String>>>) {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = std::sync::Arc::<parking_lot::Mutex<Vec<String>>>::default();
    let record = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let record = record.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                loop {
                    let (mut head, mut length) = (String::new(), 0);
                    while !head.ends_with("\r\n\r\n") {
                        let from = head.len();
                        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                        let line = head[from..].to_ascii_lowercase();
                        if let Some(value) = line.strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                    }
                    let mut body = vec![0; length];
                    stream.read_exact(&mut body).await.unwrap();
                    let number = {
                        let mut record = record.lock();
                        record.push(head.lines().next().unwrap().to_owned());
                        record.len()
                    };
                    if number <= times {
                        return;
                    }
                    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
                    stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_happen_twice_is_sent_twice() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    let breaker = json!({"window": 100, "failures": 100});
    for name in ["wallet", "partner"] {
        setup.upstreams.get_mut(name).unwrap()["breaker"] = breaker.clone();
    }
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    for (request, name, tries, status) in [
        (get(BALANCE, &token), "wallet", 2, 200),
        (transfer(&token), "wallet", 1, 502),
        (get("/partner/v1/a", &token), "partner", 2, 200),
        (post("/partner/v1/a", &token, 2) + "{}", "partner", 1, 502),
    ] {
        let (address, seen) = rude(1).await;
        setup.upstreams.get_mut(name).unwrap()["addresses"] = json!([address.to_string()]);
        setup.write();
        edge.reload().await;
        let answer = ask(&edge, &request).await;
        assert_eq!((answer.status, seen.lock().len()), (status, tries), "{request}");
    }
    // No more than twice.
    let (address, seen) = rude(5).await;
    setup.upstreams.get_mut("wallet").unwrap()["addresses"] = json!([address.to_string()]);
    setup.write();
    edge.reload().await;
    assert_eq!(ask(&edge, &get(BALANCE, &token)).await.status, 502);
    assert_eq!(seen.lock().len(), 2);
    // Not even once more where the config says so.
    setup.upstreams.get_mut("wallet").unwrap()["retries"] = json!(0);
    setup.write();
    edge.reload().await;
    assert_eq!(ask(&edge, &get(BALANCE, &token)).await.status, 502);
    assert_eq!(seen.lock().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_and_one_that_is_unknown_is_a_503() {
    let wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address).with_partner(&[wallet.address]);
    let port = wallet.address.port();
    setup.upstreams.get_mut("wallet").unwrap()["addresses"] = json!([format!("localhost:{port}")]);
    setup.upstreams.get_mut("partner").unwrap()["addresses"] = json!([format!("nowhere.invalid:{port}")]);
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let answer = ask(&edge, &get(BALANCE, &token)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(wallet.seen()[0].headers["host"], format!("localhost:{port}"));
    let answer = ask(&edge, &get("/partner/v1/a", &token)).await;
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_its_request_along() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let mut leaving = Connection::open(edge.address).await;
    leaving.send(get("/partner/v1/held", &token)).await.unwrap();
    until("it is under way", || partner.waiting() == 1).await;
    drop(leaving);
    let under_way = async || edge.metric("requests_in_flight").await;
    eventually("the edge has let go", under_way, |count| *count == 0.0).await;
    // No fault of the upstream's.
    assert_eq!(edge.metric(r#"breaker_state{class="other",upstream="partner"}"#).await, 0.0);
    partner.open_gate();
    assert_eq!(ask(&edge, &get("/partner/v1/held", &token)).await.status, 200);
}
