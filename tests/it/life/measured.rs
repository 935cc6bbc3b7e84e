//! What takes minutes: asked for by name, `cargo test --test it measured -- --ignored --nocapture`. With
//! `TMCP_EDGE_BINARY` it looks at another build, such as the release's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;

use super::client::{Connection, Load, get, post};
use super::process::{ALICE, Setup, free_address};
use super::tls::{Authority, h2_client};
use super::until;
use super::upgrade::upgrade;
use super::upstream::Upstream;

const BALANCE: &str = "/api/v1/wallet/balance";

/// What runs beside the ordinary load.
#[derive(Clone, Default)]
struct Side {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
}

impl Side {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn count(&self, result: Result<u16, String>) {
        match result {
            Ok(200) => drop(self.done.fetch_add(1, Ordering::Relaxed)),
            other => self.failed.lock().push(format!("{other:?}")),
        }
    }
}

/// Streams on HTTP/2 connections.
fn streams(side: &Side, client: &reqwest::Client, url: &str, token: &str) -> JoinHandle<()> {
    let request = client.get(url).bearer_auth(token);
    let side = side.clone();
    tokio::spawn(async move {
        while !side.is_over() {
            let answer = request.try_clone().unwrap().send().await;
            side.count(answer.map(|answer| answer.status().as_u16()).map_err(|error| format!("{error:?}")));
        }
    })
}

/// Uploads of 30 s, one after the other.
fn uploads(side: &Side, address: std::net::SocketAddr, token: &str) -> JoinHandle<()> {
    let head = post("/partner/v1/upload", token, 30 * 999 + 2);
    let side = side.clone();
    tokio::spawn(async move {
        while !side.is_over() {
            let mut connection = Connection::open(address).await;
            let whole = async {
                connection.send(&head).await?;
                let mut pace = tokio::time::interval(Duration::from_secs(1));
                for _ in 0..30 {
                    pace.tick().await;
                    connection.send([b' '; 999]).await?;
                }
                connection.send("{}").await?;
                connection.answer().await
            };
            let answer = whole.await;
            side.count(answer.map(|answer| answer.status).map_err(|error| error.to_string()));
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn two_hundred_thousand_requests_through_reloads_and_upgrades() {
    let (wallet, partner, authority) = (Upstream::start("wallet"), Upstream::start("partner"), Authority::new());
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    setup.edge["server"]["drain"] = json!("60s");
    setup.edge["tmcp_endpoints"][0]["methods"] = json!(["GET", "POST"]);
    let secure = free_address();
    let pair = authority.sign(setup.folder(), "edge.test");
    setup.edge["server"]["listen"].as_array_mut().unwrap().push(json!({"address": secure.to_string(), "tls": pair}));
    let mut edge = setup.start().await;
    let token = setup.token(ALICE);
    let begun = tokio::time::Instant::now();

    let (h2, slow) = (Side::default(), Side::default());
    let client = h2_client(&authority, secure);
    let url = format!("https://edge.test:{}{BALANCE}", secure.port());
    let mut sides: Vec<_> = (0..4).map(|_| streams(&h2, &client, &url, &token)).collect();
    sides.extend((0..3).map(|_| uploads(&slow, edge.address, &token)));
    let load = Load::start(edge.address, &get(BALANCE, &token), 6, 2);
    let goal = 200_000;
    let steps = 23;
    let mut old = Vec::new();
    for step in 1..=steps {
        if step % 7 == 0 {
            let successor = upgrade(&setup, &edge).await;
            old.push(std::mem::replace(&mut edge, successor));
        } else {
            setup.edge["rate_limits"]["default"]["burst"] = json!(1_000_000 - step);
            setup.upstreams.get_mut("wallet").unwrap()["timeouts"]["read"] = json!(format!("{}s", 30 + step));
            setup.write();
            edge.reload().await;
        }
        while load.done() + h2.done.load(Ordering::Relaxed) < goal / steps * step {
            load.more(100).await;
        }
    }
    let (done, mut failed) = load.stop().await;
    for side in [&h2, &slow] {
        side.stop.store(true, Ordering::Relaxed);
    }
    for side in sides {
        side.await.unwrap();
    }
    for process in &mut old {
        assert!(process.ended().await.success());
        assert!(process.log().contains("every connection has ended"), "{}", process.log());
    }
    let (streamed, uploaded) = (h2.done.load(Ordering::Relaxed), slow.done.load(Ordering::Relaxed));
    let all = done + streamed + uploaded;
    println!(
        "{all} requests ({streamed} HTTP/2 streams, {uploaded} uploads of 30 s) through {} reloads and {} upgrades in \
         {:.0} s",
        steps - old.len(),
        old.len(),
        begun.elapsed().as_secs_f64()
    );
    failed.extend(h2.failed.lock().drain(..).chain(slow.failed.lock().drain(..)));
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.iter().take(3).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures rather than tests"]
async fn start_reload_and_memory() {
    let wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address).with_partner(&[wallet.address]);
    let token = setup.token(ALICE);
    setup.write();
    let begun = tokio::time::Instant::now();
    let edge = setup.start().await;
    assert_eq!(Connection::open(edge.address).await.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
    println!("start to first answer: {} ms", begun.elapsed().as_millis());
    println!("RSS idle: {:.1} MB", edge.rss());

    let row = |number: usize| {
        json!({
            "path": format!("/partner/v{number}/{{order}}/items/*"), "methods": ["GET"], "scopes": ["user:read"],
            "upstream": "partner",
        })
    };
    setup.edge["tmcp_endpoints"] = (0..5000).map(row).collect();
    setup.write();
    let begun = tokio::time::Instant::now();
    edge.reload().await;
    println!("reload with 5000 routes, as seen in the log: {} ms", begun.elapsed().as_millis());
    println!("RSS with 5000 routes: {:.1} MB", edge.rss());

    let mut idle = Vec::new();
    let mut setup = Setup::new(wallet.address);
    setup.edge["server"]["limits"]["connections"] = json!(10_000);
    setup.edge["server"]["limits"]["per_ip"] = json!(20_000);
    setup.edge["server"]["limits"]["keepalive"] = json!("10m");
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    for _ in 0..8_500 {
        let mut connection = Connection::open(edge.address).await;
        assert_eq!(connection.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
        idle.push(connection);
    }
    until("they are all open", || idle.len() == 8_500).await;
    println!("RSS with {} idle connections: {:.1} MB", idle.len(), edge.rss());
}
