//! A delegated session ends after a day (protocol section 3), whatever it is used for: under a clock that is moved.

use std::time::Duration;

use serde_json::{Value, json};
use tmcp_edge::model::ScopeSet;

use crate::inside::Inside;

const HOUR: Duration = Duration::from_secs(3600);

fn exchange(edge: &Inside, subject: &str) -> (u16, Value) {
    let grant_type = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    let kind = ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token");
    edge.post("/oauth2/token", &[grant_type, kind, ("subject_token", subject)])
}

fn refresh(edge: &Inside, tokens: &Value) -> (u16, Value) {
    let token = tokens["refresh_token"].as_str().unwrap();
    edge.post("/oauth2/token", &[("grant_type", "refresh_token"), ("refresh_token", token)])
}

fn active(edge: &Inside, token: &Value) -> bool {
    let (status, seen) = edge.post("/oauth2/introspect", &[("token", token.as_str().unwrap())]);
    assert_eq!(status, 200, "{seen}");
    seen["active"] == true
}

#[test]
fn a_delegated_session_ends_after_a_day() {
    let edge = Inside::start();
    let alice = edge.matrix_token("alice");
    edge.approve("alice", ScopeSet::from_list("wallet:history"));
    let (status, mut tokens) = exchange(&edge, &alice);
    assert_eq!((status, &tokens["delegated_session"], &tokens["expires_in"]), (200, &json!(true), &json!(3600)));
    for hour in 1..24 {
        edge.advance(HOUR);
        let (status, next) = refresh(&edge, &tokens);
        assert_eq!((status, &next["delegated_session"]), (200, &json!(true)), "after {hour} h: {next}");
        tokens = next;
    }
    edge.advance(HOUR - Duration::from_secs(60));
    let (status, last) = refresh(&edge, &tokens);
    assert_eq!((status, &last["expires_in"]), (200, &json!(60)), "no access token outlives the session: {last}");
    assert!(active(&edge, &last["access_token"]) && active(&edge, &last["refresh_token"]));

    edge.advance(Duration::from_secs(61));
    let (status, refused) = refresh(&edge, &last);
    assert_eq!((status, &refused["error"]), (400, &json!("invalid_grant")));
    let (status, _) = refresh(&edge, &tokens);
    assert_eq!(status, 400, "nor is the last answer given again");
    assert!(!active(&edge, &last["access_token"]) && !active(&edge, &last["refresh_token"]));
    let (status, refused) = exchange(&edge, last["access_token"].as_str().unwrap());
    assert_eq!((status, &refused["error"]), (400, &json!("invalid_request")), "it does not prolong itself");
    let (status, anew) = exchange(&edge, &alice);
    assert_eq!((status, &anew["expires_in"]), (200, &json!(3600)), "the Matrix session begins another: {anew}");
}
