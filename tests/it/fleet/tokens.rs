//! What one edge issues is good at every other, once.

use futures::future::join_all;

use super::edges::{BALANCE, Fleet, Told, user};
use super::servers::Server;

const AT_ONCE: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn what_one_edge_issues_the_others_take() {
    let server = Server::start(&[]);
    let fleet = Fleet::on(&server).await;
    let mut tokens = fleet.sign_in(&user(0)).await;
    for turn in 0..6 {
        for edge in &fleet.edges {
            let balance = edge.get(BALANCE, &tokens.text("access_token")).await;
            assert_eq!((balance.status, &balance.body["user_id"]), (200, &user(0).as_str().into()), "{balance:?}");
        }
        tokens = fleet.edge(turn).refresh(&tokens.text("refresh_token")).await;
    }
    let minted = fleet.edges[0].token(&user(1));
    assert_eq!(fleet.edges[2].get(BALANCE, &minted).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_at_once_over_three_edges_one_succeeds() {
    let server = Server::start(&[]);
    let fleet = Fleet::on(&server).await;
    let code = fleet.code(&user(0)).await;
    let redeemed = join_all((0..AT_ONCE).map(|turn| fleet.edge(turn).redeem(&code))).await;
    let (good, refused): (Vec<Told>, Vec<Told>) = redeemed.into_iter().partition(|told| told.status == 200);
    assert_eq!(good.len(), 1);
    assert!(refused.iter().all(|told| told.status == 400 && told.body["error"] == "invalid_grant"), "{refused:?}");

    let token = fleet.sign_in(&user(0)).await.text("refresh_token");
    let pairs = join_all((0..AT_ONCE).map(|turn| fleet.edge(turn).refresh(&token))).await;
    assert!(pairs.iter().all(|pair| *pair == pairs[0]), "one pair for all: {pairs:?}");
    let next = fleet.edges[1].refresh(&pairs[0].text("refresh_token")).await;
    assert_eq!(next.status, 200, "{next:?}");
    // A spent token that comes again, at whatever edge, ends the grant at all.
    let again = fleet.edges[2].refresh(&token).await;
    assert_eq!((again.status, &again.body["error"]), (400, &"invalid_grant".into()));
    assert_eq!(fleet.edges[0].refresh(&next.text("refresh_token")).await.status, 400);
}
