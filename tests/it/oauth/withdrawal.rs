//! A user takes something back (protocol section 2): it is gone at once, wherever it had got to, and the rest is left.

use super::*;
use crate::edge::{ADMIN_TOKEN, HYBRID_APP, PUBLIC_APP, user};

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

/// An edge of one's own, whose limits are out of the way.
fn unhurried() -> TestEdge {
    let wide = "{ requests_per_minute: 60000, burst: 1000 }";
    Setup::default().main(&format!("rate_limits: {{ oauth_endpoints: {wide} }}")).start()
}

/// Tokens of a mini-app that bob allowed to see who he is, his balance and his storage.
fn allowed(edge: &TestEdge) -> Value {
    let redirect = ("redirect_uri", "http://127.0.0.1:49152/cb");
    let scope = ("scope", "user:read wallet:balance storage:read");
    let code = code(edge, &user("bob"), &[("client_id", PUBLIC_APP), redirect, scope]);
    let mut pairs = redemption(&code).to_vec();
    pairs.iter_mut().filter(|(name, _)| *name == redirect.0).for_each(|pair| *pair = redirect);
    named(edge, PUBLIC_APP, "/oauth2/token", &pairs).json()
}

fn refreshed(edge: &TestEdge, token: &str) -> Answer {
    named(edge, PUBLIC_APP, "/oauth2/token", &[("grant_type", "refresh_token"), ("refresh_token", token)])
}

/// Whichever comes first: what an operator ends stays ended, though the user takes a part back at the same moment.
#[test]
fn a_part_taken_back_does_not_undo_what_an_operator_ends() {
    let edge = unhurried();
    let (bob, app) = (user("bob"), PUBLIC_APP);
    for round in 0..20 {
        let tokens = allowed(&edge);
        std::thread::scope(|scope| {
            scope.spawn(|| withdraw(&edge, "bob", r#"{"miniapp_id":"ma_notes_001","scopes":["wallet:balance"]}"#));
            let body = serde_json::json!({"user": bob, "app": app}).to_string();
            let ended = edge.at_admin(ADMIN_TOKEN, Request::post("/api/v1/revocations", body.as_str()));
            assert!(ended.status < 300, "{}", ended.text());
        });
        let told = refreshed(&edge, text(&tokens, "refresh_token"));
        assert_eq!(error(&told), (400, "invalid_grant".to_owned()), "round {round}");
        assert_eq!(balance(&edge, text(&tokens, "access_token")), 401, "round {round}");
    }
}

/// Two pages, a click on each: both parts are gone, and the rest is left.
#[test]
fn parts_that_are_taken_back_at_once_are_all_gone() {
    let edge = unhurried();
    for round in 0..20 {
        let tokens = allowed(&edge);
        std::thread::scope(|scope| {
            for part in ["wallet:balance", "storage:read"] {
                let body = format!(r#"{{"miniapp_id":"ma_notes_001","scopes":["{part}"]}}"#);
                let edge = &edge;
                scope.spawn(move || withdraw(edge, "bob", &body));
            }
            // Meanwhile the mini-app asks for another token.
            let second = refreshed(&edge, text(&tokens, "refresh_token"));
            assert_eq!(second.status, 200, "round {round}: {}", second.text());
        });
        // It lost the answer; within a minute the same one comes again, and leads on.
        let second = refreshed(&edge, text(&tokens, "refresh_token")).json();
        let third = refreshed(&edge, text(&second, "refresh_token")).json();
        assert_eq!(text(&third, "scope"), "user:read", "round {round}");
        assert_ne!(balance(&edge, text(&second, "access_token")), 200, "round {round}");
    }
}
