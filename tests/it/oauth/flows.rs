//! What clients do.

use tmcp_edge::model::ScopeSet;
use tmcp_edge::store::oauth::{Approvals, Grants};

use super::*;
use crate::edge::{PUBLIC_APP, fresh_user, ordinary, user};

#[test]
fn metadata_names_what_there_is_below_the_public_url() {
    let edge = edge();
    let answer =
        edge.send(Request::get("/.well-known/oauth-authorization-server").header("x-forwarded-host", "evil.example"));
    let document = answer.json();
    assert_eq!(document["issuer"], edge.issuer());
    for (name, address) in document.as_object().unwrap().iter().filter(|(name, _)| name.ends_with("_endpoint")) {
        assert!(address.as_str().unwrap().starts_with(&format!("{}/oauth2/", edge.issuer())), "{name}");
    }
    // A client that asks for all that is offered is not refused: what only official mini-apps may have is not.
    let offered: Vec<&str> =
        document["scopes_supported"].as_array().unwrap().iter().filter_map(|s| s.as_str()).collect();
    assert_eq!(ScopeSet::from_list(&offered.join(" ")), ordinary());
    assert_eq!(document["code_challenge_methods_supported"], serde_json::json!(["S256"]));
    assert_eq!(document["authorization_response_iss_parameter_supported"], true);
}

#[test]
fn from_a_code_to_a_balance_and_on_by_refresh_token() {
    let (edge, user) = (edge(), fresh_user());
    let answer = redeem(edge, &code(edge, &user, &[]));
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{}", answer.text());
    let first = answer.json();
    assert_eq!((text(&first, "token_type"), text(&first, "scope")), ("Bearer", SCOPE));
    assert_eq!((text(&first, "user_id"), first["expires_in"].as_u64()), (user.as_str(), Some(3600)));
    assert!(text(&first, "access_token").starts_with("tep."));
    assert_eq!(balance(edge, text(&first, "access_token")), 200);

    let second = refresh(edge, text(&first, "refresh_token")).json();
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_eq!(balance(edge, text(&second, "access_token")), 200);
    let narrow = [("grant_type", "refresh_token"), ("scope", "user:read")];
    let narrow = [narrow.as_slice(), &[("refresh_token", text(&second, "refresh_token"))]].concat();
    let third = shop(edge, "/oauth2/token", &narrow).json();
    assert_eq!(text(&third, "scope"), "user:read");
    assert_eq!(balance(edge, text(&third, "access_token")), 403);
    let wide = [("grant_type", "refresh_token"), ("scope", "wallet:pay")];
    let wide = [wide.as_slice(), &[("refresh_token", text(&third, "refresh_token"))]].concat();
    assert_eq!(error(&shop(edge, "/oauth2/token", &wide)), (400, "invalid_scope".to_owned()));
}

#[test]
fn a_public_client_listens_on_any_port_of_its_own_device() {
    let (edge, user) = (edge(), fresh_user());
    let redirect = "http://127.0.0.1:49152/cb";
    let code = code(edge, &user, &[("client_id", PUBLIC_APP), ("redirect_uri", redirect)]);
    let mut pairs = redemption(&code).to_vec();
    pairs.retain(|(name, _)| *name != "redirect_uri");
    pairs.extend([("redirect_uri", redirect), ("client_id", PUBLIC_APP)]);
    let answer = edge.send(post("/oauth2/token", &pairs));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_lost_answer_may_be_asked_for_again() {
    let edge = edge();
    let first = redeem(edge, &code(edge, &fresh_user(), &[])).json();
    let token = text(&first, "refresh_token");
    let (second, again) = (refresh(edge, token), refresh(edge, token));
    assert_eq!((second.status, &second.body), (200, &again.body), "the same answer");
    let next = refresh(edge, text(&second.json(), "refresh_token"));
    assert_eq!(next.status, 200, "{}", next.text());

    // Not an answer to another question, though.
    let next = next.json();
    let narrow = [("grant_type", "refresh_token"), ("refresh_token", text(&next, "refresh_token"))];
    let narrow = |scope| shop(edge, "/oauth2/token", &[&narrow[..], &[("scope", scope)]].concat());
    let (first, other, same) = (narrow("user:read"), narrow("wallet:balance"), narrow("user:read"));
    assert_eq!(text(&first.json(), "scope"), "user:read");
    assert_eq!(error(&other), (400, "invalid_grant".to_owned()));
    assert_eq!(pair(&same), pair(&first), "and it does no harm to have asked");
}

/// Lets a grant's last refresh be `seconds` further back.
fn age(edge: &TestEdge, refresh_token: &str, seconds: u64) {
    let (id, grants) = (Credential::parse(Kind::Refresh, refresh_token).unwrap().grant(), Grants::new(edge.store()));
    edge.block_on(async {
        let held = grants.get(id).await.unwrap().unwrap();
        let mut older = held.value.clone();
        older.family.as_mut().unwrap().rotated_at -= seconds * 1000;
        assert!(grants.change(id, &held, &older, MINUTE).await.unwrap());
    });
}

/// Whoever has stolen a refresh token that needs no secret could ask for the answer again as well as its owner.
#[test]
fn who_has_no_secret_may_ask_again_for_less_long() {
    let edge = edge();
    let redirect = ("redirect_uri", "http://127.0.0.1:49152/cb");
    let code_of = code(edge, &fresh_user(), &[("client_id", PUBLIC_APP), redirect]);
    let mut pairs = redemption(&code_of).to_vec();
    pairs.iter_mut().filter(|(name, _)| *name == redirect.0).for_each(|pair| *pair = redirect);
    let first = named(edge, PUBLIC_APP, "/oauth2/token", &pairs).json();
    let token = text(&first, "refresh_token");
    let public =
        || named(edge, PUBLIC_APP, "/oauth2/token", &[("grant_type", "refresh_token"), ("refresh_token", token)]);
    let second = public();
    age(edge, token, 5);
    let again = public();
    assert_eq!(second.body, again.body, "two windows, or a phone without network");
    age(edge, token, 6);
    assert_eq!(error(&public()), (400, "invalid_grant".to_owned()));
    let next = [("grant_type", "refresh_token"), ("refresh_token", &pair(&second).1)];
    assert_eq!(error(&named(edge, PUBLIC_APP, "/oauth2/token", &next)).1, "invalid_grant", "the grant has ended");

    let first = redeem(edge, &code(edge, &fresh_user(), &[])).json();
    let token = text(&first, "refresh_token");
    let second = refresh(edge, token);
    age(edge, token, 55);
    assert_eq!(pair(&refresh(edge, token)), pair(&second), "a client that shows its secret");
    age(edge, token, 6);
    assert_eq!(error(&refresh(edge, token)), (400, "invalid_grant".to_owned()));
    assert_eq!(error(&refresh(edge, &pair(&second).1)).1, "invalid_grant");
}

#[test]
fn fifty_at_once_get_one_pair() {
    let edge = edge();
    let spent = code(edge, &fresh_user(), &[]);
    let statuses = at_once(|| redeem(edge, &spent).status);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");

    let first = redeem(edge, &code(edge, &fresh_user(), &[])).json();
    let mut answers = at_once(|| pair(&refresh(edge, text(&first, "refresh_token"))));
    answers.dedup();
    assert_eq!(answers.len(), 1, "every one of them is the same pair");
}

fn pair(answer: &Answer) -> (String, String) {
    let answer = answer.json();
    (text(&answer, "access_token").to_owned(), text(&answer, "refresh_token").to_owned())
}

fn at_once<T: Send>(call: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..50).map(|_| scope.spawn(&call)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    })
}

#[test]
fn a_device_waits_for_its_user_and_is_never_let_pay() {
    let (edge, user) = (edge(), fresh_user());
    let scope = [("scope", "wallet:balance wallet:pay")];
    let begun = shop(edge, "/oauth2/device/authorization", &scope).json();
    assert_eq!((begun["interval"].as_u64(), begun["expires_in"].as_u64()), (Some(5), Some(600)));
    assert!(text(&begun, "verification_uri_complete").ends_with(text(&begun, "user_code")));
    let device_code = text(&begun, "device_code");
    let poll = || shop(edge, "/oauth2/token", &[DEVICE_GRANT, ("device_code", device_code)]);
    assert_eq!(error(&poll()), (400, "authorization_pending".to_owned()));
    assert_eq!(error(&poll()), (400, "slow_down".to_owned()));
    approve_device(edge, &user, text(&begun, "user_code"), ScopeSet::from_list("wallet:balance wallet:pay"));
    let answers = at_once(poll);
    let granted: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(granted.len(), 1);
    assert_eq!(text(&granted[0].json(), "scope"), "wallet:balance");
    assert_eq!(error(&poll()), (400, "invalid_grant".to_owned()));
}

#[test]
fn a_matrix_session_is_delegated_for_what_was_approved() {
    let edge = edge();
    let (alice, token) = (user("alice"), edge.matrix_token("alice"));
    let exchange = |token: &str, scope: &str| {
        let grant_type = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
        let kind = ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token");
        shop(edge, "/oauth2/token", &[grant_type, kind, ("subject_token", token), ("scope", scope)])
    };
    let answer = exchange(&token, "wallet:history storage:read");
    assert_eq!(error(&answer), (403, "consent_required".to_owned()));
    let body = answer.json();
    assert_eq!(body["consent_required_scopes"], serde_json::json!(["wallet:history"]));
    assert_eq!(body["pre_approved_scopes"], serde_json::json!(["storage:read"]));
    assert!(text(&body, "consent_ui_endpoint").starts_with(edge.issuer()));

    let approvals = Approvals::new(edge.store());
    let app = tmcp_edge::model::MiniAppId::parse(APP).unwrap();
    edge.block_on(approvals.add(&alice, &app, ScopeSet::from_list("wallet:history"), now() / 1000)).unwrap();
    let answer = exchange(&token, "wallet:history").json();
    assert_eq!((text(&answer, "user_id"), &answer["delegated_session"]), (alice.as_str(), &true.into()));
    assert_eq!(text(&answer, "issued_token_type"), "urn:tmcp:params:oauth:token-type:tep");
    assert_eq!(error(&exchange("nobodys", "storage:read")), (400, "invalid_request".to_owned()));
    let tep = text(&answer, "access_token");
    assert_eq!(error(&exchange(tep, "storage:read")), (400, "invalid_request".to_owned()));
}

#[test]
fn what_is_given_back_is_worth_nothing_and_introspection_says_so() {
    let edge = edge();
    let tokens = redeem(edge, &code(edge, &fresh_user(), &[])).json();
    let (access, refresh_token) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    let look = |token: &str| shop(edge, "/oauth2/introspect", &[("token", token)]).json();
    for token in [access, refresh_token] {
        assert_eq!((&look(token)["active"], text(&look(token), "scope")), (&true.into(), SCOPE));
    }
    assert_eq!(look("nonsense"), serde_json::json!({"active": false}));
    let nobody = edge.send(post("/oauth2/introspect", &[("token", access), ("client_id", PUBLIC_APP)]));
    assert_eq!(error(&nobody), (401, "invalid_client".to_owned()));
    assert_eq!(shop(edge, "/oauth2/revoke", &[("token", "nonsense")]).status, 200);
    let stranger = edge.send(post("/oauth2/revoke", &[("token", refresh_token), ("client_id", PUBLIC_APP)]));
    assert_eq!((stranger.status, balance(edge, access)), (200, 200), "another client's are left alone");
    assert_eq!(shop(edge, "/oauth2/revoke", &[("token", refresh_token)]).status, 200);
    assert_eq!(look(access), serde_json::json!({"active": false}));
    assert_eq!(balance(edge, access), 401);
    assert_eq!(error(&refresh(edge, refresh_token)), (400, "invalid_grant".to_owned()));
}
