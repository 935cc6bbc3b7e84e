//! How soon a revocation is in force at every edge, and what an edge does that cannot know.
//!
//! `./test --test it fleet::revocation -- --nocapture` prints what it measured.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tmcp_edge::model::UserId;

use super::edges::{BALANCE, EDGES, Fleet, Member, ORDERS, Told, user};
use super::relay::Way;
use super::servers::Server;
use crate::edge::Stopwatch;
use crate::life::process::APP;

const INITIATE: &str = "/api/v1/wallet/p2p/initiate";

/// Asks again and again until `over` says of an answer that it is the one; how long after the start it came.
async fn asks(edge: &Member, clock: &Stopwatch, token: &str, over: impl Fn(&Told) -> bool) -> Duration {
    loop {
        let told = edge.get(BALANCE, token).await;
        if over(&told) {
            return clock.elapsed();
        }
        assert_eq!(told.status, 200, "{told:?}");
    }
}

/// Asks again and again until money is withheld. When the last call that was admitted was sent, and when the first refusal
/// came: the edge began to refuse in between.
async fn until_withheld(edge: &Member, clock: &Stopwatch, token: &str) -> (Duration, Duration) {
    let mut admitted = Duration::ZERO;
    loop {
        let sent = clock.elapsed();
        let told = edge.get(BALANCE, token).await;
        match told.status {
            200 => admitted = sent,
            503 => return (admitted, clock.elapsed()),
            _ => panic!("{told:?}"),
        }
    }
}

fn is_void(told: &Told) -> bool {
    told.status == 401
}

/// Warms every edge's cache with a token, revokes it while all of them are asked, and says how long after the
/// revocation was acknowledged each of them refused: nothing, when that was before.
async fn measure(fleet: &Fleet, what: &str, token: &str, revoke: impl Future<Output = ()>) -> Duration {
    for edge in &fleet.edges {
        assert_eq!(edge.get(BALANCE, token).await.status, 200, "{what}");
    }
    let clock = Stopwatch::start();
    let asking = join_all(fleet.edges.iter().map(|edge| asks(edge, &clock, token, is_void)));
    let revoking = async {
        revoke.await;
        clock.elapsed()
    };
    let (refused, acknowledged) = tokio::join!(asking, revoking);
    report(what, refused, acknowledged)
}

fn report(what: &str, refused: Vec<Duration>, acknowledged: Duration) -> Duration {
    let after: Vec<Duration> = refused.iter().map(|refused| refused.saturating_sub(acknowledged)).collect();
    let shown: Vec<String> = after.iter().map(|after| format!("{:4} ms", after.as_millis())).collect();
    println!("{what:<28} refused after {}", shown.join(", "));
    after.into_iter().max().unwrap()
}

/// Runs a command beside the requests.
async fn command(fleet: &Fleet, arguments: &[&str]) {
    tokio::task::block_in_place(|| fleet.command(arguments));
}

fn claim(token: &str, name: &str) -> String {
    use base64::Engine as _;
    let payload = token.trim_start_matches("tep.").split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    claims[name].as_str().unwrap().to_owned()
}

async fn everything_that_revokes(fleet: &Fleet) -> Duration {
    let minted = |number: usize| fleet.edges[0].token(&user(number));
    let mut worst = Vec::new();
    let mut took = |time| worst.push(time);

    let token = minted(1);
    took(measure(fleet, "revoke --user", &token, command(fleet, &["revoke", "--user", user(1).as_str()])).await);
    let (token, id) = (minted(2), user(2));
    let pair = ["revoke", "--user", id.as_str(), "--app", APP];
    took(measure(fleet, "revoke --user --app", &token, command(fleet, &pair)).await);
    let token = minted(3);
    let jti = claim(&token, "jti");
    took(measure(fleet, "revoke --token", &token, command(fleet, &["revoke", "--token", &jti])).await);

    let tokens = fleet.sign_in(&user(4)).await;
    let (token, refresh) = (tokens.text("access_token"), tokens.text("refresh_token"));
    let grant = claim(&token, "grant_id");
    took(measure(fleet, "revoke --grant", &token, command(fleet, &["revoke", "--grant", &grant])).await);
    for edge in &fleet.edges {
        assert_eq!(edge.refresh(&refresh).await.status, 400, "its refresh token");
    }

    let tokens = fleet.sign_in(&user(5)).await;
    let (token, refresh) = (tokens.text("access_token"), tokens.text("refresh_token"));
    let given_back = async {
        assert_eq!(fleet.edges[1].form("/oauth2/revoke", &[("token", &refresh)]).await.status, 200);
    };
    took(measure(fleet, "POST /oauth2/revoke", &token, given_back).await);

    let token = fleet.sign_in(&user(6)).await.text("access_token");
    let taken_back = async {
        let (matrix_token, body) = (fleet.matrix_token(&user(6)), json!({"miniapp_id": APP}));
        let told = fleet.edges[2].post("/api/v1/auth/revoke", &matrix_token, &body).await;
        assert_eq!(told.status, 200, "{told:?}");
    };
    took(measure(fleet, "POST /api/v1/auth/revoke", &token, taken_back).await);

    let token = minted(1);
    let kid = fleet.edges[0].published().await.pop().unwrap();
    took(measure(fleet, "keys revoke", &token, command(fleet, &["keys", "revoke", &kid])).await);
    took(payments_off(fleet, &minted(1)).await);

    let token = minted(7);
    took(measure(fleet, "revoke --app", &token, command(fleet, &["revoke", "--app", APP])).await);
    assert_eq!(fleet.edges[1].get(BALANCE, &minted(7)).await.status, 200, "what is issued after it is good");
    worst.into_iter().max().unwrap()
}

async fn payments_off(fleet: &Fleet, token: &str) -> Duration {
    let pays = async |edge: &Member| {
        let order =
            json!({"recipient": "@bob:tween.example", "amount": 1, "currency": "USD", "idempotency_key": "one"});
        edge.post(INITIATE, token, &order).await
    };
    let off = |told: &Told| {
        let says = told.body["error"]["message"].as_str().unwrap_or_default();
        told.status == 503 && says == "Payments are switched off at present."
    };
    for edge in &fleet.edges {
        let told = pays(edge).await;
        assert!(!matches!(told.status, 401 | 403 | 500..), "{told:?}");
    }
    let clock = Stopwatch::start();
    let asking = join_all(fleet.edges.iter().map(async |edge| {
        while !off(&pays(edge).await) {}
        clock.elapsed()
    }));
    let revoking = async {
        command(fleet, &["revoke", "--payments", "off"]).await;
        clock.elapsed()
    };
    let (refused, acknowledged) = tokio::join!(asking, revoking);
    assert_eq!(fleet.edges[0].get(BALANCE, token).await.status, 200, "only payments");
    command(fleet, &["revoke", "--payments", "on"]).await;
    for edge in &fleet.edges {
        while off(&pays(edge).await) {}
    }
    report("revoke --payments off", refused, acknowledged)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_revoked_is_refused_everywhere() {
    let server = Server::start(&[]);
    let fleet = Fleet::on(&server).await;
    let worst = everything_that_revokes(&fleet).await;
    println!("worst, with the push           {} ms", worst.as_millis());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_push_looking_finds_it() {
    let server = Server::start(&[]);
    let fleet = Fleet::on(&server).await;
    server.ask::<()>("ACL SETUSER default -subscribe");
    server.ask::<i64>("CLIENT KILL TYPE pubsub");
    let worst = everything_that_revokes(&fleet).await;
    println!("worst, with the push lost      {} ms", worst.as_millis());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_cut_off_refuses_money_and_serves_the_rest() {
    let server = Server::start(&[]);
    let fleet = Fleet::relayed(&server).await;
    let cut = &fleet.edges[EDGES - 1];
    for (number, way) in [(1, Way::Refused), (2, Way::Silent)] {
        let (revoked, other) = (fleet.edges[0].token(&user(number)), fleet.edges[0].token(&user(0)));
        for edge in &fleet.edges {
            assert_eq!((edge.get(BALANCE, &revoked).await.status, edge.get(ORDERS, &other).await.status), (200, 200));
        }
        let clock = Stopwatch::start();
        cut.relay().set(way);
        let (admitted, refused) = until_withheld(cut, &clock, &revoked).await;
        println!(
            "{:<28} last wallet call admitted was sent {} ms after, first refusal came {} ms after",
            format!("{way:?}"),
            admitted.as_millis(),
            refused.as_millis()
        );
        revoke_elsewhere(&fleet, &user(number), &revoked).await;

        let told = cut.get(BALANCE, &revoked).await;
        assert_eq!((told.status, &told.body["error"]["code"]), (503, &"SERVICE_UNAVAILABLE".into()), "{told:?}");
        assert_eq!(cut.get(BALANCE, &other).await.status, 503, "whoever's token it is");
        assert_eq!(cut.get(ORDERS, &other).await.status, 200, "what is no wallet's goes on");
        let told = cut.refresh("tmcp_rt_anything").await;
        assert!(matches!(told.status, 400 | 503), "{told:?}");

        cut.relay().set(Way::Open);
        while cut.get(BALANCE, &other).await.status != 200 {}
        assert_eq!(cut.get(BALANCE, &revoked).await.status, 401, "it knows what it has missed");
    }
}

/// Revokes what a user has, while the last edge knows nothing of it.
async fn revoke_elsewhere(fleet: &Fleet, user: &UserId, token: &str) {
    command(fleet, &["revoke", "--user", user.as_str()]).await;
    for edge in &fleet.edges[..EDGES - 1] {
        while edge.get(BALANCE, token).await.status != 401 {}
    }
}
