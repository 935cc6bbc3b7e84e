//! The homeserver.

use serde_json::json;

use super::*;

const ROOM: &str = "/_matrix/client/v3/rooms/!chat:tween.example";

impl Bench {
    fn token(&self, user: &str) -> String {
        let tokens = self.running.matrix_tokens();
        tokens.into_iter().find(|(of, _)| of.as_str() == user).unwrap().1
    }

    async fn matrix(&self, method: Method, token: &str, path: &str, body: &str) -> Answer {
        let request = self.client.request(method, self.homeserver(path)).bearer_auth(token);
        Answer::of(request.body(body.to_owned())).await
    }
}

#[tokio::test]
async fn whoami_tells_tokens_apart() {
    let bench = Bench::start().await;
    let path = "/_matrix/client/v3/account/whoami";
    let alice = bench.matrix(Method::GET, &bench.token(ALICE), path, "").await;
    assert_eq!((alice.at("/user_id"), alice.at("/device_id")), (ALICE.into(), "SANDBOX".into()));
    let bot = bench.matrix(Method::GET, &bench.as_token, path, "").await;
    assert_eq!(bot.json(), json!({"user_id": "@_tmcp:tween.example", "is_guest": false}));

    let url = bench.homeserver(path);
    let both = format!("{url}?access_token={}", bench.token(BOB));
    let cases = [
        (bench.client.get(&both), 200, None),
        (bench.client.get(&url), 401, Some("M_MISSING_TOKEN")),
        (bench.client.get(&url).basic_auth("alice", Some("x")), 401, Some("M_MISSING_TOKEN")),
        (bench.client.get(&both).bearer_auth("x"), 401, Some("M_MISSING_TOKEN")),
        (bench.client.get(&url).bearer_auth("unknown"), 401, Some("M_UNKNOWN_TOKEN")),
        (bench.client.get(&url).bearer_auth(&bench.hs_token), 401, Some("M_UNKNOWN_TOKEN")),
        (bench.client.get(&url).header("authorization", "Bearer t\u{e9}".as_bytes()), 500, Some("M_UNKNOWN")),
    ];
    for (request, status, errcode) in cases {
        let answer = Answer::of(request).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
        assert_eq!(answer.json().get("errcode").and_then(Value::as_str), errcode);
    }
}

#[tokio::test]
async fn a_demo_user_signs_in_and_out() {
    let bench = Bench::start().await;
    let login = |password: &str| {
        let identifier = json!({"type": "m.id.user", "user": "alice"});
        let body = json!({"type": "m.login.password", "identifier": identifier, "password": password});
        Answer::of(bench.client.post(bench.homeserver("/_matrix/client/v3/login")).json(&body))
    };
    assert_eq!(login("wrong").await.at("/errcode"), "M_FORBIDDEN");
    let session = login(DEMO_PASSWORD).await;
    let token = session.at("/access_token");
    let path = "/_matrix/client/v3/account/whoami";
    assert_eq!(bench.matrix(Method::GET, &token, path, "").await.at("/user_id"), ALICE);
    bench.matrix(Method::POST, &token, "/_matrix/client/v3/logout", "{}").await;
    assert_eq!(bench.matrix(Method::GET, &token, path, "").await.at("/errcode"), "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn members_are_shown_to_members() {
    let bench = Bench::start().await;
    let members = format!("{ROOM}/joined_members");
    let seen = bench.matrix(Method::GET, &bench.as_token, &members, "").await.json();
    let joined: Vec<_> = seen["joined"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(joined, ["@_tmcp:tween.example", "@_tmcp_payments:tween.example", ALICE, BOB]);
    let rooms = bench.matrix(Method::GET, &bench.token(BOB), "/_matrix/client/v3/joined_rooms", "").await;
    assert_eq!(rooms.json(), json!({"joined_rooms": ["!chat:tween.example"]}));

    let room = bench.homeserver("/_sandbox/rooms/!private:tween.example");
    assert_eq!(
        Answer::of(bench.client.put(room).json(&json!({"joined": [ALICE]}))).await.status,
        StatusCode::NO_CONTENT
    );
    let elsewhere = "/_matrix/client/v3/rooms/!private:tween.example/joined_members";
    let refused = bench.matrix(Method::GET, &bench.as_token, elsewhere, "").await;
    assert_eq!((refused.status.as_u16(), refused.at("/errcode")), (403, "M_FORBIDDEN".into()));
    assert_eq!(bench.matrix(Method::GET, &bench.token(ALICE), elsewhere, "").await.status, StatusCode::OK);
    let admin = "/_synapse/admin/v1/users/@alice:tween.example/joined_rooms";
    assert_eq!(bench.matrix(Method::GET, &bench.as_token, admin, "").await.at("/errcode"), "M_FORBIDDEN");
}

#[tokio::test]
async fn an_event_is_sent_once_per_transaction_id() {
    let bench = Bench::start().await;
    let send = |txn: &str, user: &str, body: &'static str| {
        let path = format!("{ROOM}/send/m.tween.payment.completed/{txn}?user_id={user}");
        let request = bench.client.put(bench.homeserver(&path)).bearer_auth(&bench.as_token).body(body);
        Answer::of(request)
    };
    let payments = "@_tmcp_payments:tween.example";
    let first = send("t1", payments, r#"{"amount": "5000.00"}"#).await.at("/event_id");
    assert_eq!(send("t1", payments, r#"{"amount": "1"}"#).await.at("/event_id"), first);
    assert_ne!(send("t2", payments, r#"{"amount": "1"}"#).await.at("/event_id"), first);
    assert_eq!(send("t3", payments, r#"{"amount": 5000.00}"#).await.at("/errcode"), "M_BAD_JSON");
    assert_eq!(send("t3", payments, r#"{"amount": 1152921504606846976}"#).await.at("/errcode"), "M_BAD_JSON");
    assert_eq!(send("t3", ALICE, "{}").await.at("/errcode"), "M_FORBIDDEN");
    let stored = bench.matrix(Method::GET, &bench.token(ALICE), &format!("{ROOM}/event/{first}"), "").await;
    assert_eq!((stored.at("/sender"), stored.at("/content/amount")), (payments.into(), "5000.00".into()));
}

#[tokio::test]
async fn state_is_kept_by_type_and_key() {
    let bench = Bench::start().await;
    let (alice, path) = (bench.token(ALICE), format!("{ROOM}/state/m.room.tween.authorization/{SHOP}"));
    bench.matrix(Method::PUT, &alice, &path, r#"{"authorized": true}"#).await.at("/event_id");
    bench.matrix(Method::PUT, &alice, &path, r#"{"authorized": false}"#).await.at("/event_id");
    assert_eq!(bench.matrix(Method::GET, &alice, &path, "").await.json(), json!({"authorized": false}));
    let other = format!("{ROOM}/state/m.room.tween.authorization/ma_other");
    assert_eq!(bench.matrix(Method::GET, &alice, &other, "").await.at("/errcode"), "M_NOT_FOUND");
}

#[tokio::test]
async fn the_service_registers_users_of_its_namespaces() {
    let bench = Bench::start().await;
    let register = |name: &str| {
        let body = json!({"type": "m.login.application_service", "username": name});
        let url = bench.homeserver("/_matrix/client/v3/register");
        Answer::of(bench.client.post(url).bearer_auth(&bench.as_token).json(&body))
    };
    assert_eq!(register("ma_shop_001_bot").await.at("/user_id"), "@ma_shop_001_bot:tween.example");
    assert_eq!(register("ma_shop_001_bot").await.at("/errcode"), "M_USER_IN_USE");
    assert_eq!(register("mallory").await.at("/errcode"), "M_EXCLUSIVE");
}

#[tokio::test]
async fn transactions_and_pings_reach_the_edge_with_the_homeservers_token() {
    // The mini-app stands in for the edge: it takes anything and records it.
    let bench = Bench::start().await;
    let push = || {
        let body = json!({"events": [{"event_id": "$1", "type": "m.room.message"}]});
        Answer::of(bench.client.post(bench.homeserver("/_sandbox/push")).json(&body))
    };
    assert_eq!(push().await.at("/errcode"), "M_URL_NOT_SET");
    bench.running.edge_is_at(&bench.miniapp("/"));
    for txn_id in ["1", "2"] {
        let pushed = push().await;
        assert_eq!((pushed.at("/status"), pushed.at("/txn_id")), ("200".into(), txn_id.into()));
    }
    let ping = "/_matrix/client/v1/appservice/tween-miniapps/ping";
    let answer = bench.matrix(Method::POST, &bench.as_token, ping, r#"{"transaction_id": "p1"}"#).await;
    assert_eq!(answer.json(), json!({"duration_ms": 0}));

    let recorded = bench.running.miniapp.as_ref().unwrap().desk.recorder.all();
    let paths: Vec<_> = recorded.iter().map(|request| request.path.as_str()).collect();
    let transactions = ["/_matrix/app/v1/transactions/1", "/_matrix/app/v1/transactions/2", "/_matrix/app/v1/ping"];
    assert_eq!(paths, transactions);
    assert!(recorded.iter().all(|request| request.headers["authorization"] == format!("Bearer {}", bench.hs_token)));
    assert_eq!(recorded[2].body, r#"{"transaction_id":"p1"}"#);
}
