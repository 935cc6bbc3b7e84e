//! Who goes too far at several edges is kept out at all of them.

use serde_json::json;

use super::edges::{BALANCE, Fleet, Told, single, user};
use super::servers::Server;

fn code(told: &Told) -> (u16, &str) {
    (told.status, told.body["error"]["code"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn violations_at_three_edges_are_one_callers() {
    let server = Server::start(&[]);
    let fleet = Fleet::start(&single(server.port), |setup| {
        setup.edge["rate_limits"]["default"] = json!({"requests_per_hour": 1, "burst": 0});
        setup.edge["lockouts"] = json!({"account_suspension": {}});
    })
    .await;
    let (token, other) = (fleet.edges[0].token(&user(1)), fleet.edges[0].token(&user(2)));
    assert_eq!(fleet.edge(0).get(BALANCE, &token).await.status, 200);
    for violation in 1..=10 {
        let told = fleet.edge(violation).get(BALANCE, &token).await;
        assert_eq!(code(&told), (429, "RATE_LIMIT_EXCEEDED"), "{violation}");
        assert_eq!(told.body["error"]["details"]["suspended_until"].is_string(), violation == 10, "{told:?}");
    }
    assert_eq!(
        code(&fleet.edge(10).get(BALANCE, &token).await),
        (403, "ACCOUNT_SUSPENDED"),
        "at once where it happened"
    );
    for edge in &fleet.edges {
        // Where it has just been seen not to stand, that holds for a second; the calls meanwhile are over the limit still.
        let mut told = edge.get(BALANCE, &token).await;
        while told.status == 429 {
            told = edge.get(BALANCE, &token).await;
        }
        assert_eq!(code(&told), (403, "ACCOUNT_SUSPENDED"));
    }
    assert_eq!(fleet.edge(0).get(BALANCE, &other).await.status, 200);
}
