//! A hybrid mini-app: a front on the user's device that keeps no secret, and a back end that does (protocol section 2).
//! Anybody can say that he is the front, so what the back end was given must be out of its reach.

use super::*;
use crate::edge::{APP, HYBRID_APP, basic, eventually, fresh_user};

const BACKEND: &str = "ma_game_001_backend";

fn front(edge: &TestEdge, path: &str, pairs: &[(&str, &str)]) -> Answer {
    named(edge, HYBRID_APP, path, pairs)
}

/// The back end, under either of the names that it may go by.
fn backend(edge: &TestEdge, name: &str, path: &str, pairs: &[(&str, &str)]) -> Answer {
    edge.send(post(path, pairs).header("authorization", edge.basic_of(name)))
}

fn refreshing(token: &str) -> [(&str, &str); 2] {
    [("grant_type", "refresh_token"), ("refresh_token", token)]
}

#[test]
fn the_front_gets_on_without_a_secret() {
    let edge = edge();
    let code = code(edge, &fresh_user(), &[("client_id", HYBRID_APP)]);
    let tokens = front(edge, "/oauth2/token", &redemption(&code)).json();
    assert_eq!(balance(edge, text(&tokens, "access_token")), 200);
    // So do some libraries say that they have no secret.
    let empty = post("/oauth2/token", &refreshing(text(&tokens, "refresh_token")));
    let refreshed = edge.send(empty.header("authorization", basic(HYBRID_APP, "")));
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    // The back end has shown more than the front ever does.
    let first = refreshed.json();
    let refreshed = backend(edge, BACKEND, "/oauth2/token", &refreshing(text(&first, "refresh_token")));
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    // From then on it is the back end's, the answer that it got included.
    let spent = text(&first, "refresh_token");
    for token in [text(&refreshed.json(), "refresh_token"), spent] {
        assert_eq!(error(&front(edge, "/oauth2/token", &refreshing(token))), (400, "invalid_grant".to_owned()));
    }
    let again = backend(edge, BACKEND, "/oauth2/token", &refreshing(spent));
    assert_eq!(again.body, refreshed.body, "the back end may ask for it again");
    let looked = front(edge, "/oauth2/introspect", &[("token", text(&tokens, "access_token"))]);
    assert_eq!(error(&looked), (401, "invalid_client".to_owned()), "introspection is for who authenticates");
}

#[test]
fn what_the_back_end_fetched_nobody_refreshes_without_the_secret() {
    let edge = edge();
    for (asked, fetched) in [(HYBRID_APP, HYBRID_APP), (HYBRID_APP, BACKEND), (BACKEND, BACKEND), (BACKEND, HYBRID_APP)]
    {
        let code = code(edge, &fresh_user(), &[("client_id", asked)]);
        let tokens = backend(edge, fetched, "/oauth2/token", &redemption(&code)).json();
        let (access, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
        let stolen = front(edge, "/oauth2/token", &refreshing(refresh));
        assert_eq!(error(&stolen), (400, "invalid_grant".to_owned()), "{asked} {fetched}");
        for token in [refresh, access] {
            assert_eq!(front(edge, "/oauth2/revoke", &[("token", token)]).status, 200);
        }
        let seen = backend(edge, BACKEND, "/oauth2/introspect", &[("token", refresh)]).json();
        assert_eq!((&seen["active"], text(&seen, "client_id")), (&true.into(), HYBRID_APP), "it is still good");
        let seen = backend(edge, HYBRID_APP, "/oauth2/introspect", &[("token", access)]).json();
        assert_eq!((&seen["active"], text(&seen, "app_id")), (&true.into(), HYBRID_APP));
        assert_eq!(backend(edge, BACKEND, "/oauth2/token", &refreshing(refresh)).status, 200);
    }
}

#[test]
fn a_code_that_the_back_end_asked_for_is_not_the_fronts() {
    let edge = edge();
    let code = code(edge, &fresh_user(), &[("client_id", BACKEND)]);
    assert_eq!(error(&front(edge, "/oauth2/token", &redemption(&code))), (400, "invalid_grant".to_owned()));
    let secretless = named(edge, BACKEND, "/oauth2/token", &redemption(&code));
    assert_eq!(error(&secretless), (401, "invalid_client".to_owned()), "that name needs the secret");
    assert_eq!(backend(edge, BACKEND, "/oauth2/token", &redemption(&code)).status, 200, "trying has cost nothing");
}

#[test]
fn a_wrong_secret_makes_nobody_the_front() {
    let edge = edge();
    let code = code(edge, &fresh_user(), &[("client_id", HYBRID_APP)]);
    for name in [HYBRID_APP, BACKEND] {
        let wrong = post("/oauth2/token", &redemption(&code)).header("authorization", basic(name, "wrong"));
        assert_eq!(error(&edge.send(wrong)), (401, "invalid_client".to_owned()));
        let in_form = [redemption(&code).as_slice(), &[("client_secret", "wrong")]].concat();
        assert_eq!(error(&named(edge, name, "/oauth2/token", &in_form)), (401, "invalid_client".to_owned()));
    }
    // What is no credential at all is one that failed, in OAuth's words.
    for malformed in ["Basic", "Basic !", "Basic a b", "Bearer a b", "Digest x", "Bearer tep.x"] {
        let wrong = post("/oauth2/token", &redemption(&code)).header("authorization", malformed);
        assert_eq!(error(&edge.send(wrong)), (401, "invalid_client".to_owned()), "{malformed}");
    }
    // The game's secret is the shop's here, and a code is one mini-app's all the same.
    assert_eq!(error(&backend(edge, APP, "/oauth2/token", &redemption(&code))), (400, "invalid_grant".to_owned()));
}

#[test]
fn a_code_used_by_back_end_and_front_ends_the_grant() {
    let edge = edge();
    let code = code(edge, &fresh_user(), &[("client_id", HYBRID_APP)]);
    let tokens = backend(edge, HYBRID_APP, "/oauth2/token", &redemption(&code)).json();
    assert_eq!(balance(edge, text(&tokens, "access_token")), 200);
    // For a moment it may be two of the client's own requests that race.
    eventually("somebody has code and verifier who should not", Duration::from_secs(20), || {
        assert_eq!(error(&front(edge, "/oauth2/token", &redemption(&code))), (400, "invalid_grant".to_owned()));
        balance(edge, text(&tokens, "access_token")) == 401
    });
}
