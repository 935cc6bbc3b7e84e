//! Signing keys change under load, on every edge, and nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use serde_json::Value;

use super::edges::{BALANCE, Fleet, user};
use super::servers::Server;

/// Mini-apps that refresh at one edge and call the next, without pause.
const CLIENTS: usize = 3;

/// The id of the key that signed a token.
fn kid(token: &str) -> String {
    let head = token.trim_start_matches("tep.").split('.').next().unwrap();
    let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap();
    head["kid"].as_str().unwrap().to_owned()
}

/// Refreshes and calls until it is told to stop; every token's key, in order.
async fn client(fleet: &Fleet, number: usize, stop: &AtomicBool, calls: &AtomicUsize) -> Vec<String> {
    let mut tokens = fleet.sign_in(&user(number)).await;
    let mut keys = Vec::new();
    for turn in number.. {
        let token = tokens.text("access_token");
        keys.push(kid(&token));
        let told = fleet.edge(turn).get(BALANCE, &token).await;
        assert_eq!(told.status, 200, "{told:?}");
        tokens = fleet.edge(turn + 1).refresh(&tokens.text("refresh_token")).await;
        calls.fetch_add(1, Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_under_load_fails_no_request() {
    let server = Server::start(&[]);
    let fleet = Fleet::on(&server).await;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients = join_all((0..CLIENTS).map(|number| client(&fleet, number, &stop, &calls)));
    let more = async || {
        let goal = calls.load(Ordering::Relaxed) + 5 * CLIENTS;
        while calls.load(Ordering::Relaxed) < goal {
            tokio::task::yield_now().await;
        }
    };
    let command = async |arguments: &[&str]| tokio::task::block_in_place(|| fleet.command(arguments));
    let operator = async {
        let mut all = fleet.edges[0].published().await;
        for _ in 0..2 {
            more().await;
            let new = command(&["keys", "new"]).await.split(' ').next().unwrap().to_owned();
            for edge in &fleet.edges {
                while !edge.published().await.contains(&new) {}
            }
            more().await;
            assert!(command(&["keys", "rotate"]).await.contains(&new));
            all.push(new);
            more().await;
        }
        stop.store(true, Ordering::Relaxed);
        all
    };
    let (used, announced) = tokio::join!(clients, operator);
    for used in used {
        let places: Vec<usize> =
            used.iter().map(|kid| announced.iter().position(|known| known == kid).unwrap()).collect();
        assert!(places.is_sorted(), "a key that signs no more was used again");
        assert_eq!(places.last(), Some(&2), "the last key signs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_was_told_of_signs_and_is_believed_at_once() {
    let server = Server::start(&[]);
    let fleet = Fleet::on(&server).await;
    // Without the push, edges learn of keys one after the other.
    server.ask::<()>("ACL SETUSER default -subscribe");
    server.ask::<i64>("CLIENT KILL TYPE pubsub");
    let signing = kid(&fleet.edges[0].token(&user(0)));
    fleet.command(&["keys", "revoke", &signing]);
    let token = fleet.edges[0].token(&user(0));
    assert_ne!(kid(&token), signing);
    for edge in &fleet.edges {
        let told = edge.get(BALANCE, &token).await;
        assert_eq!(told.status, 200, "{told:?}");
    }
}
