//! What attackers try, by the sections of RFC 9700.

use super::*;
use crate::edge::{PUBLIC_APP, eventually, fresh_user};

/// 4.1, 4.11: where the answer goes is registered byte for byte, and errors are not sent to where it is not.
#[test]
fn nobody_is_sent_to_where_no_client_registered() {
    for redirect in [
        "https://shop.example/callback/",
        "https://shop.example/callback?x=1",
        "https://shop.example.evil.example/callback",
        "https://evil.example/",
        "https://shop.example/callback#x",
        "javascript:alert(1)",
        "http://127.0.0.1:80/cb",
    ] {
        let answer = authorize(edge(), &[("redirect_uri", redirect), ("response_type", "token")]);
        assert_eq!((answer.status, answer.header("location")), (400, None), "{redirect}");
    }
    let answer = authorize(edge(), &[("client_id", "ma_nobody")]);
    assert_eq!((answer.status, answer.header("location")), (400, None));
}

/// 2.1.1, 4.8: without PKCE, or with a method that keeps nobody out, there is no code. 4.4: every answer says who it is by.
#[test]
fn pkce_cannot_be_left_out() {
    let edge = edge();
    for (changes, wrong) in [
        ([("code_challenge", ""), ("code_challenge_method", "")], "invalid_request"),
        ([("code_challenge_method", ""), ("x", "")], "invalid_request"),
        ([("code_challenge_method", "plain"), ("x", "")], "invalid_request"),
        ([("code_challenge", VERIFIER), ("code_challenge_method", "s256")], "invalid_request"),
        ([("response_type", "token"), ("x", "")], "unsupported_response_type"),
        ([("scope", "user:read wallet:everything"), ("x", "")], "invalid_scope"),
        ([("scope", "wallet:admin"), ("x", "")], "invalid_scope"),
        ([("request", "eyJ"), ("x", "")], "request_not_supported"),
    ] {
        let told = sent_back(&authorize(edge, &changes));
        assert_eq!((text(&told, "error"), text(&told, "state"), text(&told, "iss")), (wrong, "s&1", edge.issuer()));
    }
    let code = code(edge, &fresh_user(), &[]);
    let mut pairs = redemption(&code).to_vec();
    pairs.pop();
    assert_eq!(error(&shop(edge, "/oauth2/token", &pairs)), (400, "invalid_request".to_owned()));
}

/// 4.5: a stolen code is worth nothing to another client, to another address, or without the verifier; and trying does not
/// cost its owner the grant.
#[test]
fn a_stolen_code_is_worth_nothing() {
    let edge = edge();
    let code = code(edge, &fresh_user(), &[]);
    let refused = (400, "invalid_grant".to_owned());
    let with = |name: &'static str, value: &'static str| {
        let mut pairs = redemption(&code).to_vec();
        pairs.iter_mut().filter(|(own, _)| *own == name).for_each(|pair| pair.1 = value);
        pairs
    };
    let other = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    assert_eq!(error(&shop(edge, "/oauth2/token", &with("code_verifier", other))), refused);
    assert_eq!(error(&shop(edge, "/oauth2/token", &with("redirect_uri", "https://shop.example/"))), refused);
    let mut pairs = redemption(&code).to_vec();
    pairs.push(("client_id", PUBLIC_APP));
    assert_eq!(error(&edge.send(post("/oauth2/token", &pairs))), refused);
    assert_eq!(redeem(edge, &code).status, 200);
}

/// RFC 6749 4.1.2: a second use by somebody who could have been the first ends what the first one got.
#[test]
fn a_code_used_twice_ends_the_grant() {
    let edge = edge();
    let code = code(edge, &fresh_user(), &[]);
    let tokens = redeem(edge, &code).json();
    assert_eq!(balance(edge, text(&tokens, "access_token")), 200);
    // Within a second of the first use it may be the same one, arriving at two instances.
    eventually("the grant has ended", Duration::from_secs(20), || {
        assert_eq!(error(&redeem(edge, &code)), (400, "invalid_grant".to_owned()));
        balance(edge, text(&tokens, "access_token")) == 401
    });
    assert_eq!(error(&refresh(edge, text(&tokens, "refresh_token"))), (400, "invalid_grant".to_owned()));
}

/// A body may take its time: a token that is revoked meanwhile moves no money.
#[test]
fn a_token_that_is_revoked_while_its_body_comes_is_refused() {
    let edge = edge();
    let user = fresh_user();
    let token = edge.token_of(&user, APP, crate::edge::ordinary());
    let body = r#"{"recipient":"@bob:tween.example","amount":1.00,"currency":"USD","idempotency_key":"slow-1"}"#;
    let request = Request::post("/api/v1/wallet/p2p/initiate", body).bearer(&token);
    let (head, body) = (request.head_bytes(), body.as_bytes());
    let (mut wire, half) = (edge.wire(), body.len() / 2);
    wire.write(head).unwrap();
    wire.write(&body[..half]).unwrap();
    // Another request on the same instance says that the log has been read.
    edge.block_on(async {
        let what = tmcp_edge::model::Revoked::User(user.clone());
        RevocationLog::new(edge.store(), Clock::system()).append(what).await.unwrap();
    });
    eventually("it is in force", Duration::from_secs(20), || balance(edge, &token) == 401);
    wire.write(&body[half..]).unwrap();
    let answer = wire.answer().unwrap();
    assert_eq!(answer.status, 401, "{}", answer.text());
}

/// 4.14: a refresh token that was spent and comes again ends the family, the thief's branch too.
#[test]
fn a_spent_refresh_token_ends_the_family() {
    let edge = edge();
    let first = redeem(edge, &code(edge, &fresh_user(), &[])).json();
    let second = refresh(edge, text(&first, "refresh_token")).json();
    let third = refresh(edge, text(&second, "refresh_token")).json();
    let mut guess = text(&third, "refresh_token").to_owned();
    let last = if guess.pop() == Some('A') { 'B' } else { 'A' };
    guess.push(last);
    assert_eq!(refresh(edge, &guess).status, 400);
    assert_eq!(balance(edge, text(&third, "access_token")), 200, "a guess ends nothing");
    assert_eq!(error(&refresh(edge, text(&first, "refresh_token"))), (400, "invalid_grant".to_owned()));
    assert_eq!(error(&refresh(edge, text(&third, "refresh_token"))), (400, "invalid_grant".to_owned()));
    assert_eq!(balance(edge, text(&third, "access_token")), 401);
}

/// RFC 6749 2.3, 3.2: one way to authenticate, each parameter once, and what is not understood is said.
#[test]
fn forms_that_two_readers_would_read_differently_are_refused() {
    let edge = edge();
    let send = |body: String| {
        let request = Request::new("POST", "/oauth2/token").header("content-type", "application/x-www-form-urlencoded");
        edge.send(request.header("authorization", edge.basic()).body(body))
    };
    let twice = "grant_type=refresh_token&refresh_token=a&refresh_token=b".to_owned();
    assert_eq!(error(&send(twice)), (400, "invalid_request".to_owned()));
    let both = format!("grant_type=refresh_token&refresh_token=a&client_id={APP}&client_secret=x");
    assert_eq!(error(&send(both)), (400, "invalid_request".to_owned()));
    assert_eq!(error(&send("grant_type=password".to_owned())), (400, "unsupported_grant_type".to_owned()));
    assert_eq!(error(&send(String::new())), (400, "invalid_request".to_owned()));
    let json = edge.send(Request::post("/oauth2/token", "{}".to_owned()));
    assert_eq!(error(&json), (415, "invalid_request".to_owned()));
    let secretless = edge.send(post("/oauth2/token", &[("grant_type", "refresh_token"), ("client_id", APP)]));
    assert_eq!(error(&secretless), (401, "invalid_client".to_owned()));
}

/// 4.15: no client gets a token that stands for itself, and so none that could be taken for a user's.
#[test]
fn a_mini_app_has_no_token_of_its_own() {
    let edge = edge();
    for grant_type in ["client_credentials", "password", "urn:ietf:params:oauth:grant-type:jwt-bearer"] {
        let answer = shop(edge, "/oauth2/token", &[("grant_type", grant_type), ("scope", "user:read")]);
        assert_eq!(error(&answer), (400, "unsupported_grant_type".to_owned()), "{grant_type}");
    }
    let tokens = redeem(edge, &code(edge, &fresh_user(), &[])).json();
    let seen = shop(edge, "/oauth2/introspect", &[("token", text(&tokens, "access_token"))]).json();
    assert!(text(&seen, "sub").starts_with('@') && !text(&seen, "client_id").starts_with('@'), "{seen}");
}

/// RFC 6749 sections 4.1.2.1 and 5.2: what a client sent comes back in no characters that could be taken for something else.
#[test]
fn a_description_has_no_characters_but_those_of_the_rfc() {
    let edge = edge();
    let scope = "\"quoted\"\\back\u{e9}\u{202e}\ttab\u{7f}<b>";
    let told = named(edge, PUBLIC_APP, "/oauth2/device/authorization", &[("scope", scope)]);
    assert_eq!(error(&told), (400, "invalid_scope".to_owned()));
    let redirect = ("redirect_uri", "http://127.0.0.1:49152/cb");
    let back = sent_back(&authorize(edge, &[("client_id", PUBLIC_APP), redirect, ("scope", scope)]));
    assert_eq!(text(&back, "error"), "invalid_scope");
    for description in [text(&told.json(), "error_description").to_owned(), text(&back, "error_description").to_owned()]
    {
        let allowed = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        assert!(description.contains("quoted") && description.bytes().all(allowed), "{description:?}");
    }
}
