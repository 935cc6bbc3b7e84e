//! What operators see and take back at the admin address and by command, while clients are served.

use serde_json::json;

use super::*;
use crate::edge::{ADMIN_TOKEN, VIEWER_TOKEN, eventually, fresh_user, ordinary};

/// In force within a second, says the protocol; a busy machine is given more before a test calls it broken.
const WITHIN: Duration = Duration::from_secs(20);

fn see(edge: &TestEdge, path: &str) -> Value {
    let answer = edge.at_admin(VIEWER_TOKEN, Request::get(path));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

#[test]
fn an_operator_finds_a_grant_and_ends_it() {
    let (edge, user) = (edge(), fresh_user());
    let tokens = redeem(edge, &code(edge, &user, &[])).json();
    let refreshed = refresh(edge, text(&tokens, "refresh_token")).json();
    assert_eq!(balance(edge, text(&refreshed, "access_token")), 200);

    let listed = see(edge, &format!("/api/v1/grants?user={user}&app={APP}"));
    let [grant] = listed["grants"].as_array().unwrap().as_slice() else { panic!("one grant: {listed}") };
    assert_eq!((text(grant, "kind"), &grant["scopes"]), ("code", &json!(["user:read", "wallet:balance"])));
    let path = format!("/api/v1/grants/{}", text(grant, "id"));
    assert_eq!(see(edge, &path), *grant);

    let denied = edge.at_admin(VIEWER_TOKEN, Request::new("DELETE", &path));
    assert_eq!(denied.verdict(), (403, "FORBIDDEN".to_owned()));
    assert_eq!(balance(edge, text(&refreshed, "access_token")), 200);
    let ended = edge.at_admin(ADMIN_TOKEN, Request::new("DELETE", &path));
    assert_eq!(ended.status, 200, "{}", ended.text());
    assert_eq!(balance(edge, text(&refreshed, "access_token")), 401, "at this edge at once");
    let again = refresh(edge, text(&refreshed, "refresh_token"));
    assert_eq!(error(&again), (400, "invalid_grant".to_owned()));
    assert_eq!(see(edge, &format!("/api/v1/grants?user={user}"))["grants"], json!([]));

    let outcome = |request: &str| {
        let lines = see(edge, "/api/v1/audit?limit=200");
        let line = lines["lines"].as_array().unwrap().iter().find(|line| line["request_id"] == request).cloned();
        line.map(|line| (text(&line, "action").to_owned(), text(&line, "outcome").to_owned()))
    };
    for (answer, expected) in [(&denied, "refused"), (&ended, "done")] {
        let request = answer.header("x-request-id").unwrap();
        assert_eq!(outcome(request), Some(("grant.end".to_owned(), expected.to_owned())));
        assert!(edge.log().lines().any(|line| line.contains(" audit] {") && line.contains(request)), "{}", edge.log());
    }
}

#[test]
fn a_grant_revoked_by_command_ends_with_its_refresh_tokens() {
    let (edge, user) = (edge(), fresh_user());
    let tokens = redeem(edge, &code(edge, &user, &[])).json();
    let listed = see(edge, &format!("/api/v1/grants?user={user}"));
    let id = text(&listed["grants"][0], "id").to_owned();
    let output = edge.command(&["revoke", "--grant", &id]);
    assert!(output.status.success(), "{output:?}");
    eventually("its token is refused", WITHIN, || balance(edge, text(&tokens, "access_token")) == 401);
    assert_eq!(see(edge, &format!("/api/v1/grants?user={user}"))["grants"], json!([]));
    let lines = see(edge, "/api/v1/audit?limit=200");
    let line = lines["lines"].as_array().unwrap().iter().find(|line| line["target"]["grant"] == id.as_str()).unwrap();
    assert_eq!((text(line, "action"), text(line, "outcome")), ("revoke", "done"));
    assert_eq!((text(&line["actor"], "role"), line["actor"].get("from")), ("command", None));
    assert!(!text(&line["actor"], "name").is_empty());
    let bad = edge.command(&["revoke", "--grant", "not-a-grant"]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("32 hex digits"), "{bad:?}");
}

#[test]
fn payments_are_called_off_and_let_through_again() {
    let edge = Setup::default().start();
    let token = edge.token_of(&fresh_user(), APP, ordinary());
    let pay = || {
        let body = json!({"recipient": "@bob:tween.example", "amount": 5, "currency": "USD", "idempotency_key": "k"});
        let request = Request::post("/api/v1/wallet/p2p/initiate", body.to_string());
        edge.send(request.bearer(&token)).status
    };
    let switch = |to: &str| {
        let body = json!({"payments": to}).to_string();
        edge.at_admin(ADMIN_TOKEN, Request::new("PUT", "/api/v1/payments").body(body))
    };
    assert_eq!(pay(), 200);
    let off = switch("off");
    assert_eq!((off.status, text(&off.json(), "payments")), (200, "off"));
    assert_eq!((pay(), balance(&edge, &token)), (503, 200), "at once, and looking is not paying");
    let metrics = edge.at_admin(VIEWER_TOKEN, Request::get("/metrics")).text();
    assert!(metrics.contains("tmcp_edge_payments_off 1"), "{metrics}");
    assert!(metrics.contains("tmcp_edge_revocation_lag_seconds_count{kind=\"payments\"} 1"), "{metrics}");
    assert!(edge.command(&["revoke", "--payments", "on"]).status.success());
    eventually("payments go through again", WITHIN, || pay() == 200);
    assert_eq!(text(&see(&edge, "/api/v1/payments"), "payments"), "on");
    let lines = see(&edge, "/api/v1/audit");
    let told: Vec<_> = lines["lines"].as_array().unwrap().iter().map(|line| text(line, "action")).collect();
    assert_eq!(told, ["payments.on", "payments.off"]);
}

#[test]
fn what_clients_and_users_do_is_counted() {
    let edge = Setup::default().start();
    let user = fresh_user();
    let tokens = redeem(&edge, &code(&edge, &user, &[])).json();
    let spent = text(&tokens, "refresh_token");
    let second = refresh(&edge, spent).json();
    refresh(&edge, text(&second, "refresh_token"));
    assert_eq!(refresh(&edge, spent).status, 400);
    authorize(&edge, &[("scope", "wallet:everything")]);
    shop(&edge, "/oauth2/introspect", &[("token", text(&tokens, "access_token"))]);
    shop(&edge, "/oauth2/device/authorization", &[("scope", "user:read")]);
    let metrics = edge.at_admin(VIEWER_TOKEN, Request::get("/metrics")).text();
    for line in [
        "tmcp_edge_oauth_authorizations_total{flow=\"code\",outcome=\"put\"} 1",
        "tmcp_edge_oauth_authorizations_total{flow=\"code\",outcome=\"refused\"} 1",
        "tmcp_edge_oauth_authorizations_total{flow=\"device\",outcome=\"put\"} 1",
        "tmcp_edge_oauth_token_requests_total{grant_type=\"authorization_code\",outcome=\"issued\"} 1",
        "tmcp_edge_oauth_token_requests_total{grant_type=\"refresh_token\",outcome=\"issued\"} 2",
        "tmcp_edge_oauth_token_requests_total{grant_type=\"refresh_token\",outcome=\"refused\"} 1",
        "tmcp_edge_oauth_reuse_detected_total{credential=\"refresh_token\"} 1",
        "tmcp_edge_oauth_introspections_total{result=\"inactive\"} 1",
        "tmcp_edge_revocations_total{kind=\"grant\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}
