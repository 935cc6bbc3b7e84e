//! `run --upgrade` and SIGQUIT: one process takes over from another.

use rustix::process::Signal;
use serde_json::json;

use super::client::{Connection, Load, get, post};
use super::process::{ALICE, Edge, Setup, free_address};
use super::tls::{Authority, h2_client};
use super::upstream::Upstream;
use super::{eventually, until};

const BALANCE: &str = "/api/v1/wallet/balance";

/// Starts a successor of `old` and sees it take over.
pub async fn upgrade(setup: &Setup, old: &Edge) -> Edge {
    let mut new = setup.spawn(&["--upgrade"]);
    let socket = setup.folder().join("upgrade.sock");
    until("the successor waits", || {
        assert!(new.is_running(), "{}", new.log());
        socket.exists()
    })
    .await;
    old.signal(Signal::QUIT);
    until("the successor has taken over", || {
        assert_eq!(old.logged("SIGQUIT refused"), 0, "{}", old.log());
        old.logged("a successor has taken over") == 1
    })
    .await;
    new
}

#[tokio::test(flavor = "multi_thread")]
async fn three_upgrades_under_load_fail_no_request() {
    let wallet = Upstream::start("wallet");
    let setup = Setup::new(wallet.address);
    let mut edge = setup.start().await;
    let load = Load::start(edge.address, &get(BALANCE, &setup.token(ALICE)), 6, 2);
    for _ in 0..3 {
        load.more(100).await;
        let successor = upgrade(&setup, &edge).await;
        load.more(100).await;
        assert!(edge.ended().await.success());
        assert!(edge.log().contains("every connection has ended"), "{}", edge.log());
        edge = successor;
        edge.reload().await;
    }
    load.more(100).await;
    let (done, failed) = load.stop().await;
    assert!(failed.is_empty(), "{} of {done} failed: {:?}", failed.len(), failed.first());
    println!("{done} requests through 3 upgrades, none failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_ends_well_in_the_old_process() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let authority = Authority::new();
    let secure = free_address();
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    let pair = authority.sign(setup.folder(), "edge.test");
    setup.edge["server"]["listen"].as_array_mut().unwrap().push(json!({"address": secure.to_string(), "tls": pair}));
    let mut old = setup.start().await;
    let token = setup.token(ALICE);

    let body = vec![b' '; 2 << 20];
    let body = [&body[..], b"{}"].concat();
    let mut upload = Connection::open(old.address).await;
    upload.send(post("/partner/v1/upload", &token, body.len())).await.unwrap();
    upload.send(&body[..1 << 20]).await.unwrap();
    let mut held = Connection::open(old.address).await;
    held.send(get("/partner/v1/held", &token)).await.unwrap();
    let h2 = h2_client(&authority, secure);
    let ask = |path: &str| h2.get(format!("https://edge.test:{}{path}", secure.port())).bearer_auth(&token).send();
    let stream = tokio::spawn(ask("/partner/v1/held-stream"));
    until("both are under way", || partner.waiting() == 2).await;

    let _new = upgrade(&setup, &old).await;
    // The new process serves; the old one still has what it had.
    let answer = Connection::open(old.address).await.ask(&get(BALANCE, &token)).await.unwrap();
    assert_eq!(answer.status, 200);
    let answer = ask(BALANCE).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (http::StatusCode::OK, http::Version::HTTP_2));
    assert!(old.is_running());
    upload.send(&body[1 << 20..]).await.unwrap();
    let answer = upload.answer().await.unwrap();
    assert_eq!((answer.status, &answer.json()["body"]), (200, &json!(body.len())), "{answer:?}");
    partner.open_gate();
    assert_eq!(held.answer().await.unwrap().status, 200);
    let answer = stream.await.unwrap().unwrap();
    assert_eq!((answer.status(), answer.version()), (http::StatusCode::OK, http::Version::HTTP_2));
    assert!(old.ended().await.success());
    assert!(old.log().contains("every connection has ended"), "{}", old.log());
}

/// A successor may wait for minutes, and what it has read by then be old.
#[tokio::test(flavor = "multi_thread")]
async fn a_successor_knows_what_has_changed_while_it_waited() {
    let wallet = Upstream::start("wallet");
    let setup = Setup::new(wallet.address);
    let mut old = setup.start().await;
    let successor = setup.spawn(&["--upgrade"]);
    let socket = setup.folder().join("upgrade.sock");
    until("the successor waits", || socket.exists()).await;
    let done = setup.command(&["keys", "new"]);
    assert!(done.status.success(), "{done:?}");
    let told = String::from_utf8(done.stdout).unwrap();
    let kid = told.split(' ').next().unwrap();
    let keys = async || {
        let answer = Connection::open(successor.address).await.ask(&get("/oauth2/jwks.json", "none")).await.unwrap();
        answer.body
    };
    // A connection may still get to the process that goes, so that one has to know it first.
    eventually("the old process knows the key", &keys, |keys| keys.contains(kid)).await;
    old.signal(Signal::QUIT);
    until("the successor has taken over", || old.logged("a successor has taken over") == 1).await;
    loop {
        let ended = !old.is_running();
        let keys = keys().await;
        assert!(keys.contains(kid), "{keys:?}");
        if ended {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_successor_nothing_happens() {
    let wallet = Upstream::start("wallet");
    let setup = Setup::new(wallet.address);
    let mut edge = setup.start().await;
    let token = setup.token(ALICE);
    let mut connection = Connection::open(edge.address).await;
    assert_eq!(connection.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
    edge.signal(Signal::QUIT);
    until("SIGQUIT was refused", || edge.logged("SIGQUIT refused") == 1).await;
    assert!(edge.log().contains("run --upgrade"), "{}", edge.log());
    assert!(edge.is_running());
    let answer = connection.ask(&get(BALANCE, &token)).await.unwrap();
    assert!(answer.status == 200 && !answer.closes(), "{answer:?}");
    assert_eq!(Connection::open(edge.address).await.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_cannot_start_changes_nothing() {
    let wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address);
    let mut edge = setup.start().await;
    let token = setup.token(ALICE);
    let load = Load::start(edge.address, &get(BALANCE, &token), 2, 1);
    // It finds out only once it has the sockets: one of its addresses is taken.
    let taken = std::net::TcpListener::bind(free_address()).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    setup.edge["server"]["listen"].as_array_mut().unwrap().push(json!({"address": address}));
    setup.write();
    let mut successor = setup.spawn(&["--upgrade"]);
    let socket = setup.folder().join("upgrade.sock");
    until("the successor waits", || socket.exists()).await;
    edge.signal(Signal::QUIT);
    assert!(!successor.ended().await.success());
    assert!(successor.log().contains(&address), "{}", successor.log());
    until("the hand-over was given up", || edge.logged("SIGQUIT refused") == 1).await;
    load.more(100).await;
    assert!(edge.is_running());
    let (done, failed) = load.stop().await;
    assert!(failed.is_empty(), "{} of {done} failed: {:?}", failed.len(), failed.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_waits_can_be_stopped() {
    let wallet = Upstream::start("wallet");
    let setup = Setup::new(wallet.address);
    let edge = setup.start().await;
    let socket = setup.folder().join("upgrade.sock");
    for signal in [Signal::TERM, Signal::INT] {
        let mut successor = setup.spawn(&["--upgrade"]);
        until("the successor waits", || socket.exists()).await;
        // Meant for the other process, it ends nobody.
        successor.signal(Signal::QUIT);
        until("it said so", || successor.logged("HandOver ignored") == 1).await;
        successor.signal(signal);
        assert!(successor.ended().await.success());
        assert!(!socket.exists());
    }
    // One that is killed leaves its socket behind, in nobody's way.
    let mut killed = setup.spawn(&["--upgrade"]);
    until("the successor waits", || socket.exists()).await;
    killed.signal(Signal::KILL);
    killed.ended().await;
    assert!(socket.exists());
    edge.signal(Signal::QUIT);
    until("SIGQUIT was refused", || edge.logged("SIGQUIT refused") == 1).await;
    let load = Load::start(edge.address, &get(BALANCE, &setup.token(ALICE)), 2, 1);
    load.more(10).await;
    let mut successor = setup.spawn(&["--upgrade"]);
    until("the successor waits", || successor.log().contains("waiting at")).await;
    edge.signal(Signal::QUIT);
    until("it has taken over", || edge.logged("a successor has taken over") == 1).await;
    load.more(10).await;
    assert!(successor.is_running());
    assert_eq!(load.stop().await.1, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_brings_its_own_config_and_readiness_never_falters() {
    let wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address);
    let mut old = setup.start().await;
    let token = setup.token(ALICE);
    let probes = tokio::spawn({
        let (admin, log) = (old.admin, old.log_file());
        let probe = format!("GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        async move {
            let (mut count, mut wrong) = (0, Vec::new());
            while !std::fs::read_to_string(&log).unwrap().contains("every connection has ended") {
                // A connection of its own for each, as probes do.
                match Connection::open(admin).await.ask(&probe).await {
                    Ok(answer) if answer.status == 200 => count += 1,
                    other => wrong.push(format!("{other:?}")),
                }
            }
            (count, wrong)
        }
    });
    let added = free_address();
    setup.edge["server"]["listen"].as_array_mut().unwrap().push(json!({"address": added.to_string()}));
    setup.edge["rate_limits"]["default"]["requests_per_minute"] = json!(777);
    setup.write();
    let new = upgrade(&setup, &old).await;
    assert!(old.ended().await.success());
    for address in [new.address, added] {
        let answer = Connection::open(address).await.ask(&get(BALANCE, &token)).await.unwrap();
        assert_eq!((answer.status, answer.header("x-ratelimit-limit")), (200, Some("777")));
    }
    let (count, wrong) = probes.await.unwrap();
    assert!(count > 10 && wrong.is_empty(), "{count} {wrong:?}");
}
