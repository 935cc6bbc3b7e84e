//! Who may look at which tokens (RFC 7662 sections 2.1 and 4; protocol section 1).

use super::*;
use crate::edge::{HYBRID_APP, basic, fresh_user};
use crate::inside::Inside;

/// Of the resource server `wallet` in the config.
pub const SECRET: &str = "what the wallet looks at tokens with";

fn wallet(edge: &TestEdge, token: &str) -> Value {
    let asked = post("/oauth2/introspect", &[("token", token)]).header("authorization", basic("wallet", SECRET));
    edge.send(asked).json()
}

#[test]
fn a_resource_server_sees_everybodys_tokens_and_a_mini_app_its_own() {
    let (edge, user) = (edge(), fresh_user());
    let inactive = serde_json::json!({"active": false});
    let tokens = redeem(edge, &code(edge, &user, &[])).json();
    let (access, refresh_token) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    for token in [access, refresh_token] {
        let seen = shop(edge, "/oauth2/introspect", &[("token", token)]).json();
        assert_eq!((&seen["active"], text(&seen, "sub"), text(&seen, "client_id")), (&true.into(), user.as_str(), APP));
        // A refresh token must not pass for an access token there.
        assert_eq!(wallet(edge, token), if token == access { seen } else { inactive.clone() });
        let stranger = post("/oauth2/introspect", &[("token", token)]);
        let stranger = edge.send(stranger.header("authorization", edge.basic_of(HYBRID_APP))).json();
        assert_eq!(stranger, inactive, "no more is said than of a token that never was");
    }
    assert_eq!(wallet(edge, "nonsense"), inactive);
    let in_form = [("token", text(&tokens, "access_token")), ("client_id", "wallet"), ("client_secret", SECRET)];
    assert_eq!(edge.send(post("/oauth2/introspect", &in_form)).json()["active"], true);
    assert_eq!(shop(edge, "/oauth2/revoke", &[("token", text(&tokens, "refresh_token"))]).status, 200);
    assert_eq!(wallet(edge, text(&tokens, "access_token")), inactive);
}

#[test]
fn a_resource_server_with_a_wrong_secret_is_told_nothing_and_a_right_one_looks_only() {
    let edge = edge();
    let tokens = redeem(edge, &code(edge, &fresh_user(), &[])).json();
    let (access, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    let refused = (401, "invalid_client".to_owned());
    for secret in ["", "wrong", &edge.client_secret] {
        let asked = post("/oauth2/introspect", &[("token", access)]).header("authorization", basic("wallet", secret));
        let answer = edge.send(asked);
        assert_eq!(error(&answer), refused, "{secret}");
        assert!(!answer.text().contains("active"), "{}", answer.text());
    }
    assert_eq!(error(&named(edge, "wallet", "/oauth2/introspect", &[("token", access)])), refused);
    for (path, pairs) in [
        ("/oauth2/revoke", vec![("token", access)]),
        ("/oauth2/token", vec![("grant_type", "refresh_token"), ("refresh_token", refresh)]),
        ("/oauth2/device/authorization", vec![("scope", "user:read")]),
    ] {
        let answer = edge.send(post(path, &pairs).header("authorization", basic("wallet", SECRET)));
        assert_eq!(error(&answer), refused, "{path}");
    }
    assert_eq!(balance(edge, access), 200);
}

/// Under the limits that stand without any config: it asks about every call that reaches it.
#[test]
fn a_resource_server_may_ask_often() {
    let edge = Inside::start();
    let ask = |of: &str| edge.post_as(of, "/oauth2/introspect", &[("token", "nonsense")]).0;
    assert_eq!([(); 100].map(|()| ask("wallet")), [200; 100]);
    let statuses = [(); 16].map(|()| ask(APP));
    assert_eq!((statuses[14], statuses[15]), (200, 429), "a mini-app is held to what it was: {statuses:?}");
}

/// Nobody is known yet, and still it is no free way in.
#[test]
fn what_is_refused_before_the_client_is_known_costs_the_address() {
    let edge = Inside::start();
    let malformed = || edge.post("/oauth2/token", &[("client_id", APP), ("grant_type", "refresh_token")]).0;
    let statuses = [(); 16].map(|()| malformed());
    assert_eq!((statuses[14], statuses[15]), (400, 429), "{statuses:?}");
}
