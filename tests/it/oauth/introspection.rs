//! Who may look at which tokens (RFC 7662 sections 2.1 and 4; protocol section 1).

use super::*;
use crate::edge::{HYBRID_APP, basic, fresh_user};

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
    for token in [text(&tokens, "access_token"), text(&tokens, "refresh_token")] {
        let seen = wallet(edge, token);
        assert_eq!((&seen["active"], text(&seen, "sub"), text(&seen, "client_id")), (&true.into(), user.as_str(), APP));
        let own = shop(edge, "/oauth2/introspect", &[("token", token)]).json();
        assert_eq!(own, seen);
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
