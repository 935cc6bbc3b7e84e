//! A user takes something back (protocol section 2): it is gone at once, wherever it had got to, and the rest is left.

use super::*;
use crate::edge::{HYBRID_APP, PUBLIC_APP, user};

/// `user` withdraws what stands in `body` from a mini-app.
fn withdraw(edge: &TestEdge, user: &str, body: &str) {
    let asked = Request::post("/api/v1/auth/revoke", body).bearer(&edge.matrix_token(user));
    let answer = edge.send(asked);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn what_is_left_of_a_permission_goes_on_by_refresh_token() {
    let edge = edge();
    let redirect = ("redirect_uri", "http://127.0.0.1:49152/cb");
    let code = code(edge, &user("bob"), &[("client_id", PUBLIC_APP), redirect]);
    let mut pairs = redemption(&code).to_vec();
    pairs.iter_mut().filter(|(name, _)| *name == redirect.0).for_each(|pair| *pair = redirect);
    let first = named(edge, PUBLIC_APP, "/oauth2/token", &pairs).json();
    assert_eq!(balance(edge, text(&first, "access_token")), 200);
    let refresh = |token: &str, more: &[(&str, &str)]| {
        let pairs = [&[("grant_type", "refresh_token"), ("refresh_token", token)], more].concat();
        named(edge, PUBLIC_APP, "/oauth2/token", &pairs)
    };

    withdraw(edge, "bob", r#"{"miniapp_id":"ma_notes_001","scopes":["wallet:balance"]}"#);
    assert_eq!(balance(edge, text(&first, "access_token")), 401, "a token says what it may for as long as it lives");
    let wide = refresh(text(&first, "refresh_token"), &[("scope", "user:read wallet:balance")]);
    assert_eq!(error(&wide), (400, "invalid_scope".to_owned()));
    let second = refresh(text(&first, "refresh_token"), &[]).json();
    assert_eq!(text(&second, "scope"), "user:read");
    assert_eq!(balance(edge, text(&second, "access_token")), 403, "the scope is what it lacks");

    withdraw(edge, "bob", r#"{"miniapp_id":"ma_notes_001","scopes":["user:read"]}"#);
    let nothing_left = refresh(text(&second, "refresh_token"), &[]);
    assert_eq!(error(&nothing_left), (400, "invalid_grant".to_owned()));
}

#[test]
fn what_nobody_has_fetched_yet_dies_with_the_permission() {
    let edge = edge();
    let (alice, whole) = (user("alice"), r#"{"miniapp_id":"ma_game_001"}"#);
    let (device_code, user_code) = device(edge, HYBRID_APP);
    approve_device(edge, &alice, &user_code, ScopeSet::from_list("wallet:balance"));
    let code = code(edge, &alice, &[("client_id", HYBRID_APP)]);
    withdraw(edge, "alice", whole);
    let poll = named(edge, HYBRID_APP, "/oauth2/token", &[DEVICE_GRANT, ("device_code", &device_code)]);
    assert_eq!(error(&poll), (400, "access_denied".to_owned()));
    let redeemed = named(edge, HYBRID_APP, "/oauth2/token", &redemption(&code));
    assert_eq!(error(&redeemed), (400, "invalid_grant".to_owned()));

    // What is allowed afterwards is allowed.
    let (device_code, user_code) = device(edge, HYBRID_APP);
    approve_device(edge, &alice, &user_code, ScopeSet::from_list("wallet:balance"));
    let poll = named(edge, HYBRID_APP, "/oauth2/token", &[DEVICE_GRANT, ("device_code", &device_code)]).json();
    assert_eq!(balance(edge, text(&poll, "access_token")), 200);
    withdraw(edge, "alice", whole);
    assert_eq!(balance(edge, text(&poll, "access_token")), 401);
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", text(&poll, "refresh_token"))];
    assert_eq!(error(&named(edge, HYBRID_APP, "/oauth2/token", &refresh)), (400, "invalid_grant".to_owned()));
}
