//! SIGTERM, SIGINT and SIGKILL.

use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpStream;

use super::client::{Connection, Load, get};
use super::process::{ALICE, Setup};
use super::upstream::Upstream;
use super::{eventually, until};

const BALANCE: &str = "/api/v1/wallet/balance";

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_turns_readiness_and_lets_requests_finish() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    let mut edge = setup.start().await;
    let token = setup.token(ALICE);
    let ready = async || reqwest::get(edge.admin_url("/readyz")).await.map(|answer| answer.status().as_u16());
    eventually("readiness says yes", async || ready().await.ok(), |status| *status == Some(200)).await;
    let mut held = Connection::open(edge.address).await;
    held.send(get("/partner/v1/held", &token)).await.unwrap();
    until("the request is under way", || partner.waiting() == 1).await;
    let mut idle = Connection::open(edge.address).await;
    assert!(!idle.ask(&get(BALANCE, &token)).await.unwrap().closes());

    edge.signal(Signal::TERM);
    eventually("readiness says no", async || ready().await.ok(), |status| *status == Some(503)).await;
    // While load balancers find out, everybody is still served, and told not to come back on the same connection.
    let mut late = Connection::open(edge.address).await;
    let answer = late.ask(&get(BALANCE, &token)).await.unwrap();
    assert!(answer.status == 200 && answer.closes(), "{answer:?}");
    until_refused(edge.address).await;
    // An idle connection's next request is its last.
    let answer = idle.ask(&get(BALANCE, &token)).await.unwrap();
    assert!(answer.status == 200 && answer.closes(), "{answer:?}");
    assert!(edge.is_running());
    partner.open_gate();
    assert_eq!(held.answer().await.unwrap().status, 200);
    let status = edge.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(edge.log().contains("every connection has ended"), "{}", edge.log());
    // Its access log is whole.
    let lines = std::fs::read_to_string(setup.folder().join("access.log")).unwrap();
    assert_eq!(lines.lines().count(), 4, "{lines}");
}

async fn until_refused(address: std::net::SocketAddr) {
    eventually("nothing more is accepted", async || TcpStream::connect(address).await.ok(), Option::is_none).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_drain_ends() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    setup.edge["server"]["drain"] = json!("1s");
    let mut edge = setup.start().await;
    let mut held = Connection::open(edge.address).await;
    held.send(get("/partner/v1/held", &setup.token(ALICE))).await.unwrap();
    until("the request is under way", || partner.waiting() == 1).await;
    edge.signal(Signal::TERM);
    assert_eq!(edge.ended().await.code(), Some(0));
    assert!(edge.log().contains("1 connections are cut"), "{}", edge.log());
    assert!(held.answer().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_and_a_second_sigterm_stop_at_once() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    setup.edge["server"]["drain"] = json!("1h");
    for signals in [&[Signal::INT][..], &[Signal::TERM, Signal::TERM], &[Signal::TERM, Signal::INT]] {
        let mut edge = setup.start().await;
        let mut held = Connection::open(edge.address).await;
        held.send(get("/partner/v1/held", &setup.token(ALICE))).await.unwrap();
        until("the request is under way", || partner.waiting() >= 1).await;
        for (count, signal) in signals.iter().enumerate() {
            until("the one before was taken", || edge.logged("draining") == count).await;
            edge.signal(*signal);
        }
        assert_eq!(edge.ended().await.code(), Some(0));
        assert!(edge.log().contains("stopped at once"), "{}", edge.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_edge_starts_again_on_its_state() {
    let wallet = Upstream::start("wallet");
    let setup = Setup::new(wallet.address);
    let mut edge = setup.start().await;
    let token = setup.token(ALICE);
    for _ in 0..3 {
        let load = Load::start(edge.address, &get(BALANCE, &token), 4, 1);
        load.more(50).await;
        edge.signal(Signal::KILL);
        edge.ended().await;
        drop(load.stop().await);
        edge = setup.start().await;
        // The same keys, so the same tokens are good.
        let answer = Connection::open(edge.address).await.ask(&get(BALANCE, &token)).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_is_rotated() {
    let wallet = Upstream::start("wallet");
    let setup = Setup::new(wallet.address);
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let (log, rotated) = (setup.folder().join("access.log"), setup.folder().join("access.log.1"));
    let lines = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().inspect(|line| assert!(serde_json::from_str::<serde_json::Value>(line).is_ok())).count()
    };
    let load = Load::start(edge.address, &get(BALANCE, &token), 4, 0);
    load.more(50).await;
    std::fs::rename(&log, &rotated).unwrap();
    load.more(50).await;
    assert!(!log.exists());
    edge.signal(Signal::USR1);
    until("the log is there again", || log.exists()).await;
    load.more(50).await;
    let (done, failed) = load.stop().await;
    assert!(failed.is_empty(), "{failed:?}");
    until("every request has its line", || lines(&log) + lines(&rotated) == done).await;
    assert!(lines(&rotated) >= 100 && lines(&log) >= 50);
}
