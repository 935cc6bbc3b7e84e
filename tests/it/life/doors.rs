//! What connections may do: time, number, memory.

use serde_json::json;

use super::client::{Connection, get, post};
use super::process::{ALICE, Edge, Setup};
use super::tls::{Authority, h2_client};
use super::upstream::Upstream;
use super::{eventually, until};

const BALANCE: &str = "/api/v1/wallet/balance";

async fn edge_with(limits: serde_json::Value) -> (Upstream, Upstream, Setup, Edge, String) {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    for (name, value) in limits.as_object().unwrap() {
        setup.edge["server"]["limits"][name] = value.clone();
    }
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    (wallet, partner, setup, edge, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dripped_header_is_cut_and_others_are_not() {
    let (wallet, _partner, _setup, edge, token) = edge_with(json!({"header_timeout": "1s"})).await;
    let dripping = Connection::open(edge.address).await;
    let begun = tokio::time::Instant::now();
    let (reader, mut writer) = dripping.0.into_inner().into_split();
    let drip = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let mut pace = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            pace.tick().await;
            if writer.write_all(b"G").await.is_err() {
                return;
            }
        }
    });
    let mut reader = tokio::io::BufReader::new(reader);
    let mut got = Vec::new();
    // While the one drips, another keeps its connection for longer than a header may take.
    let mut kept = Connection::open(edge.address).await;
    assert_eq!(kept.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
    let _cut = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut got).await;
    assert!(begun.elapsed() >= std::time::Duration::from_secs(1) && begun.elapsed() < super::PATIENCE);
    assert!(!got.starts_with(b"HTTP/1.1 2"));
    drip.await.unwrap();
    assert_eq!(kept.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
    assert_eq!(wallet.seen().len(), 2);
    assert_eq!(edge.metric(r#"connections_refused_total{reason="slow"}"#).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_in_time_is_a_408() {
    let (wallet, partner, _setup, edge, token) = edge_with(json!({"body_timeout": "1s"})).await;
    // Read whole by the edge, and streamed through it.
    for path in ["/api/v1/wallet/p2p/initiate", "/partner/v1/upload"] {
        for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
            let mut slow = Connection::open(edge.address).await;
            let head = post(path, &token, 0).replace("Content-Length: 0", framing);
            slow.send(head).await.unwrap();
            slow.send(if framing.starts_with('C') { "{\"re" } else { "4\r\n{\"re\r\n" }).await.unwrap();
            let answer = slow.answer().await.unwrap();
            assert_eq!((answer.status, answer.closes()), (408, true), "{path} {framing}: {answer:?}");
            assert!(slow.rest().await.is_empty());
        }
    }
    assert!(wallet.seen().is_empty() && partner.seen().is_empty());
    // One that keeps coming, but for too long as a whole.
    let mut dripping = Connection::open(edge.address).await;
    dripping.send(post("/api/v1/wallet/p2p/initiate", &token, 1000)).await.unwrap();
    let (mut reader, mut writer) = dripping.0.get_mut().split();
    let answer = async {
        let mut got = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut reader, &mut got).await.unwrap();
        got
    };
    let drip = async {
        let mut pace = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            pace.tick().await;
            if tokio::io::AsyncWriteExt::write_all(&mut writer, b" ").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        got = answer => assert_eq!(&got, b"HTTP/1.1 408"),
        () = drip => unreachable!("it drips for ever"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_and_wishes_are_heard() {
    let (_wallet, partner, _setup, edge, token) = edge_with(json!({"keepalive": "1s", "keepalive_requests": 3})).await;
    let mut idle = Connection::open(edge.address).await;
    let answer = idle.ask(&get(BALANCE, &token)).await.unwrap();
    assert!(answer.status == 200 && !answer.closes());
    let begun = tokio::time::Instant::now();
    // A request takes longer than that without being idle.
    let mut busy = Connection::open(edge.address).await;
    busy.send(get("/partner/v1/held", &token)).await.unwrap();
    assert!(idle.rest().await.is_empty());
    assert!(begun.elapsed() < super::PATIENCE);
    assert_eq!(partner.waiting(), 1);
    partner.open_gate();
    assert_eq!(busy.answer().await.unwrap().status, 200);

    // A client that never says anything is let go as well.
    let mut silent = Connection::open(edge.address).await;
    assert!(silent.rest().await.is_empty());

    let mut polite = Connection::open(edge.address).await;
    let last = get(BALANCE, &token).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    assert!(polite.ask(&last).await.unwrap().closes());
    assert!(polite.rest().await.is_empty());

    let mut many = Connection::open(edge.address).await;
    let mut closes = Vec::new();
    for _ in 0..3 {
        closes.push(many.ask(&get(BALANCE, &token)).await.unwrap().closes());
    }
    assert_eq!(closes, [false, false, true]);
    assert!(many.rest().await.is_empty());
}

/// Opens connections until one is not served, and returns those that are.
async fn fill(edge: &Edge, source: &str, token: &str) -> Vec<Connection> {
    let mut served = Vec::new();
    loop {
        let Ok(mut connection) = Connection::open_from(source, edge.address).await else { return served };
        match connection.ask(&get(BALANCE, token)).await {
            Ok(answer) => assert!(answer.status == 200 && !answer.closes(), "{answer:?}"),
            Err(_) => return served,
        }
        served.push(connection);
        assert!(served.len() < 100, "no cap");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_capped_per_address() {
    let (_wallet, _partner, mut setup, edge, token) = edge_with(json!({"per_ip": 6})).await;
    let mut one = fill(&edge, "127.0.0.2", &token).await;
    assert_eq!(one.len(), 6);
    // Another address has its own allowance.
    let two = fill(&edge, "127.0.0.3", &token).await;
    assert_eq!(two.len(), 6);
    // What ends makes room.
    drop(one.pop());
    let again = eventually("there is room again", || fill(&edge, "127.0.0.2", &token), |held| !held.is_empty()).await;
    assert_eq!(again.len(), 1);
    // By a reload, for new connections.
    setup.edge["server"]["limits"]["per_ip"] = json!(8);
    setup.write();
    edge.reload().await;
    assert_eq!(fill(&edge, "127.0.0.2", &token).await.len(), 2);
    assert!(edge.metric(r#"connections_refused_total{reason="per_ip"}"#).await >= 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_capped_in_all() {
    let (_wallet, partner, _setup, edge, token) = edge_with(json!({"connections": 10})).await;
    let mut held = Vec::new();
    for number in 1..=8 {
        let mut connection = Connection::open(edge.address).await;
        connection.send(get("/partner/v1/held", &token)).await.unwrap();
        held.push(connection);
        until("it is under way", || partner.waiting() == number).await;
    }
    // Near the cap a connection is good for one answer.
    let mut ninth = Connection::open(edge.address).await;
    let answer = ninth.ask(&get(BALANCE, &token)).await.unwrap();
    assert!(answer.status == 200 && answer.closes(), "{answer:?}");
    for number in 9..=10 {
        let mut connection = Connection::open(edge.address).await;
        connection.send(get("/partner/v1/held", &token)).await.unwrap();
        held.push(connection);
        until("it is under way", || partner.waiting() == number).await;
    }
    let mut eleventh = Connection::open(edge.address).await;
    let _sent = eleventh.send(get(BALANCE, &token)).await;
    assert!(eleventh.answer().await.is_err());
    assert_eq!(edge.metric(r#"connections_refused_total{reason="total"}"#).await, 1.0);
    partner.open_gate();
    for connection in &mut held {
        assert_eq!(connection.answer().await.unwrap().status, 200);
    }
    drop(held);
    let free = async || match Connection::open(edge.address).await.ask(&get(BALANCE, &token)).await {
        Ok(answer) => !answer.closes(),
        Err(_) => false,
    };
    eventually("there is room again", free, |free| *free).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_address_at_once_are_capped() {
    let (_wallet, partner, _setup, edge, token) = edge_with(json!({"in_flight_per_ip": 3})).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut connection = Connection::open(edge.address).await;
        connection.send(get("/partner/v1/held", &token)).await.unwrap();
        held.push(connection);
    }
    until("three are under way", || partner.waiting() == 3).await;
    let mut fourth = Connection::open(edge.address).await;
    let answer = fourth.ask(&get(BALANCE, &token)).await.unwrap();
    assert!(answer.status == 429 && answer.header("retry-after").is_some(), "{answer:?}");
    let mut other = Connection::open_from("127.0.0.2", edge.address).await.unwrap();
    assert_eq!(other.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
    // One that leaves is not counted for ever.
    drop(held.pop());
    let free = async || Connection::open(edge.address).await.ask(&get(BALANCE, &token)).await.unwrap().status;
    eventually("its place is free", free, |status| *status == 200).await;
    partner.open_gate();
    for connection in &mut held {
        assert_eq!(connection.answer().await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_the_budget_are_shed() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    setup.edge["validation_rules"] = json!({"max_request_size": "64KB"});
    setup.edge["server"]["limits"]["buffered_bodies"] = json!("100KB");
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let transfer =
        json!({"recipient": "@bob:tween.example", "amount": 5, "currency": "USD", "idempotency_key": "once"});
    let transfer = format!("{}{transfer}", " ".repeat(60_000));
    let path = "/api/v1/wallet/p2p/initiate";
    let mut first = Connection::open(edge.address).await;
    first.send(post(path, &token, transfer.len())).await.unwrap();
    first.send(&transfer[..50_000]).await.unwrap();
    let used = async || edge.metric("buffered_body_bytes").await;
    eventually("the first one has its share", used, |bytes| *bytes > 0.0).await;
    // There is not enough left for another.
    let try_another = async || {
        let mut second = Connection::open(edge.address).await;
        second.ask(&(post(path, &token, transfer.len()) + &transfer)).await.unwrap()
    };
    let answer = try_another().await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    // What needs no room is served.
    assert_eq!(Connection::open(edge.address).await.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
    first.send(&transfer[50_000..]).await.unwrap();
    assert_eq!(first.answer().await.unwrap().status, 200);
    eventually("the share was given back", used, |bytes| *bytes == 0.0).await;
    assert_eq!(try_another().await.status, 200);
    eventually("the share was given back", used, |bytes| *bytes == 0.0).await;
    // Also when the client goes away in the middle.
    let mut gone = Connection::open(edge.address).await;
    gone.send(post(path, &token, transfer.len())).await.unwrap();
    gone.send(&transfer[..50_000]).await.unwrap();
    eventually("it has its share", used, |bytes| *bytes > 0.0).await;
    assert_eq!(try_another().await.status, 503);
    drop(gone);
    eventually("the share was given back", used, |bytes| *bytes == 0.0).await;
    assert_eq!(try_another().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_http2_that_does_not_come_in_time_is_a_408() {
    let (wallet, partner, authority) = (Upstream::start("wallet"), Upstream::start("partner"), Authority::new());
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    setup.edge["server"]["limits"]["body_timeout"] = json!("1s");
    setup.edge["server"]["listen"][0]["tls"] = authority.sign(setup.folder(), "edge.test");
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let client = h2_client(&authority, edge.address);
    for path in ["/api/v1/wallet/p2p/initiate", "/partner/v1/upload"] {
        let begun = futures::stream::iter([Ok::<_, std::io::Error>("{\"re")]);
        let body = futures::StreamExt::chain(begun, futures::stream::pending());
        let url = format!("https://edge.test:{}{path}", edge.address.port());
        let request = client.post(url).bearer_auth(&token).header("content-type", "application/json");
        let answer = request.body(reqwest::Body::wrap_stream(body)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (408, http::Version::HTTP_2), "{path}");
    }
    assert!(wallet.seen().is_empty() && partner.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_let_go() {
    let (_wallet, partner, _setup, edge, token) = edge_with(json!({"body_timeout": "1s"})).await;
    partner.answers_at_length(64 << 20);
    let mut lazy = Connection::open(edge.address).await;
    lazy.send(get("/partner/v1/a", &token)).await.unwrap();
    until("it is under way", || partner.seen().len() == 1).await;
    let under_way = async || edge.metric("requests_in_flight").await;
    eventually("the edge has let go", under_way, |count| *count == 0.0).await;
    assert_eq!(edge.metric("connections_open").await, 0.0);
    assert_eq!(edge.metric(r#"breaker_state{class="other",upstream="partner"}"#).await, 0.0);
    // One that reads gets it all.
    let mut eager = Connection::open(edge.address).await;
    let answer = eager.ask(&get("/partner/v1/a", &token)).await.unwrap();
    assert!(answer.status == 200 && answer.body.len() > 64 << 20);
}
