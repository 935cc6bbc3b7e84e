//! Tokens that pass, what they are worth, and how long.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::json;

use super::testing::{EDGE, House, NOW, app, claims, claims_with, verify};
use super::*;
use crate::error::Challenge;
use crate::model::miniapp::Classification;
use crate::model::{Revocation, Revoked, RoomId, ScopeSet};
use crate::policy::keyring::TokenRequest;

fn scopes(house: &House, claims: &serde_json::Value) -> String {
    verify(&house.verifier(), &house.token(claims), NOW)
        .map_or_else(|f| format!("{f:?}"), |v| v.claims.scopes.to_string())
}

#[test]
fn what_we_mint_we_take() {
    let house = House::new();
    let request = TokenRequest {
        session_id: Some("s1".to_owned()),
        wallet_id: Some("tw_1".to_owned()),
        grant_id: Some("g1".to_owned()),
        room: Some(RoomId::parse("!chat:tween.example").unwrap()),
        launch_source: Some("room".to_owned()),
        ..TokenRequest::new(
            UserId::parse("@alice:tween.example").unwrap(),
            MiniAppId::parse("ma_shop").unwrap(),
            ScopeSet::from_list("wallet:balance wallet:pay"),
            3600,
        )
    };
    let token = house.state.keyring.mint(EDGE, &request, NOW).unwrap();
    assert!(token.starts_with("tep.eyJ"));
    let verifier = house.verifier();
    let verified = verify(&verifier, &token, NOW).unwrap();
    let c = &verified.claims;
    assert_eq!((c.user.as_str(), c.app.as_str()), ("@alice:tween.example", "ma_shop"));
    assert_eq!(
        (c.session_id.as_deref(), c.wallet_id.as_deref(), c.grant_id.as_deref()),
        (Some("s1"), Some("tw_1"), Some("g1"))
    );
    assert_eq!((c.room.as_ref().unwrap().as_str(), c.issuer.as_str()), ("!chat:tween.example", EDGE));
    assert_eq!((c.issued_at, c.expires_at, c.kid.as_str()), (NOW, NOW + 3600, house.kid().as_str()));
    assert_eq!(c.jti.as_ref().unwrap().len(), 22);
    let told = &verified.identity;
    let text = |value: &Option<http::HeaderValue>| value.as_ref().unwrap().to_str().unwrap().to_owned();
    assert_eq!((text(&told.user_id).as_str(), text(&told.app_id).as_str()), ("@alice:tween.example", "ma_shop"));
    assert_eq!(text(&told.scopes), "wallet:balance wallet:pay");
    assert_eq!((text(&told.session_id).as_str(), text(&told.wallet_id).as_str()), ("s1", "tw_1"));
    let again = verify(&verifier, token.strip_prefix("tep.").unwrap(), NOW).unwrap();
    assert!(Arc::ptr_eq(&verified, &again), "the prefix makes no other token of it");
}

#[test]
fn spellings_that_agree() {
    let house = House::new();
    for changes in [
        json!({}),
        json!({ "aud": "tmcp-server" }),
        json!({ "aud": ["tmcp-server", "ma_shop", "https://elsewhere.example"] }),
        json!({ "app_id": null }),
        json!({ "app_id": null, "aud": "tmcp-server", "client_id": "ma_shop" }),
        json!({ "app_id": null, "aud": "tmcp-server", "azp": "ma_shop" }),
        json!({ "client_id": "ma_shop", "azp": "ma_shop" }),
        json!({ "client_id": "ma_shop_backend" }),
        json!({ "app_id": null, "aud": "ma_shop_backend" }),
        json!({ "scope": null, "scp": ["wallet:pay", "wallet:balance"] }),
        json!({ "scope": null, "scp": "wallet:pay wallet:balance" }),
        json!({ "scp": ["wallet:pay", "wallet:balance"] }),
        json!({ "scope": "wallet:pay  wallet:balance later:scope" }),
        json!({ "nbf": null }),
        json!({ "nbf": NOW + 5, "iat": NOW + 5 }),
        json!({ "exp": NOW + 1 }),
        json!({ "exp": NOW as f64 + 10.5 }),
        json!({ "privileged": false, "unknown": { "claim": [1, 2.5, null] } }),
    ] {
        assert_eq!(scopes(&house, &claims_with(changes.clone())), "wallet:balance wallet:pay", "{changes}");
    }
}

#[test]
fn scopes_end_at_what_the_mini_app_registered() {
    let house = House::new();
    let asked = json!({ "scope": "wallet:history storage:read messaging:send wallet:admin" });
    assert_eq!(scopes(&house, &claims_with(asked.clone())), "wallet:history storage:read");
    let mut empty = House::new();
    empty.apps.clear();
    assert_eq!(
        scopes(&empty, &claims_with(asked)),
        "wallet:history messaging:send storage:read",
        "no registry to end at"
    );
}

#[test]
fn official_scopes_take_an_official_mini_app_and_a_privilege_in_force() {
    let mut house = House::new();
    house.apps[0].scopes = ScopeSet::from_list("wallet:balance wallet:admin");
    let with = |changes: serde_json::Value| {
        let mut all = claims_with(json!({ "scope": "wallet:balance wallet:admin" }));
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        all
    };
    let privileged = with(json!({ "privileged": true, "privileged_until": NOW + 10 }));
    assert_eq!(scopes(&house, &privileged), "wallet:balance", "not an official one");
    house.apps[0].classification = Classification::Official;
    assert_eq!(scopes(&house, &privileged), "wallet:balance wallet:admin");
    for changes in [
        json!({}),
        json!({ "privileged": true }),
        json!({ "privileged": false, "privileged_until": NOW + 10 }),
        json!({ "privileged_until": NOW + 10 }),
        json!({ "privileged": true, "privileged_until": NOW }),
    ] {
        assert_eq!(scopes(&house, &with(changes.clone())), "wallet:balance", "{changes}");
    }
    let (verifier, token) = (house.verifier(), house.token(&privileged));
    assert!(verify(&verifier, &token, NOW + 9).unwrap().claims.privileged);
    let later = verify(&verifier, &token, NOW + 10).unwrap();
    assert!(!later.claims.privileged && later.official, "a cached token does not outlive its privilege");
}

#[test]
fn mini_apps_that_may_not() {
    let mut house = House::new();
    house.apps[0].suspended = true;
    assert_eq!(verify(&house.verifier(), &house.token(&claims()), NOW).unwrap_err(), Fault::SuspendedApp);
    house.apps.remove(0);
    assert_eq!(verify(&house.verifier(), &house.token(&claims()), NOW).unwrap_err(), Fault::UnknownApp);
    house.apps.clear();
    assert!(verify(&house.verifier(), &house.token(&claims()), NOW).is_ok(), "no registry, no question");
}

#[test]
fn a_cached_token_ends_with_its_second() {
    let house = House::new();
    let verifier = house.verifier();
    let token = house.token(&claims_with(json!({ "exp": NOW + 20 })));
    let first = verify(&verifier, &token, NOW).unwrap();
    assert!(Arc::ptr_eq(&first, &verify(&verifier, &token, NOW + 19).unwrap()));
    assert_eq!(verify(&verifier, &token, NOW + 20).unwrap_err(), Fault::Expired);
    let long = house.token(&claims());
    let first = verify(&verifier, &long, NOW).unwrap();
    assert!(!Arc::ptr_eq(&first, &verify(&verifier, &long, NOW + 60).unwrap()), "looked at again after a minute");
}

#[test]
fn revocations_reach_cached_tokens() {
    let house = House::new();
    let verifier = house.verifier();
    let token = house.token(&claims_with(json!({ "grant_id": "g1" })));
    let c = verify(&verifier, &token, NOW).unwrap().claims.clone();
    house.state.revocations.apply(&Revocation {
        number: 1,
        at: NOW,
        what: Revoked::User(UserId::parse("@bob:tween.example").unwrap()),
    });
    let kept = verify(&verifier, &token, NOW).unwrap();
    assert!(Arc::ptr_eq(&kept, &verify(&verifier, &token, NOW).unwrap()), "others' revocations cost one more look");
    house.state.revocations.apply(&Revocation {
        number: 1,
        at: NOW,
        what: Revoked::Pair(c.user.clone(), c.app.clone()),
    });
    assert_eq!(verify(&verifier, &token, NOW).unwrap_err(), Fault::Revoked);
    assert_eq!(verify(&verifier, &token, NOW).unwrap_err(), Fault::Revoked, "and stays revoked");
    let after = house.token(&claims_with(json!({ "grant_id": "g2", "iat": NOW + 1, "jti": "j2" })));
    assert!(verify(&verifier, &after, NOW + 1).is_ok(), "a later approval is not revoked");
    house.state.revocations.apply(&Revocation {
        number: 1,
        at: NOW + 1,
        what: Revoked::Token { jti: "j2".to_owned(), expires_at: NOW + 3600 },
    });
    assert_eq!(verify(&verifier, &after, NOW + 1).unwrap_err(), Fault::Revoked);
}

#[test]
fn revoked_and_rotated_keys_reach_cached_tokens() {
    let house = House::new();
    let verifier = house.verifier();
    let keyring = &house.state.keyring;
    let (old, token) = (house.kid(), house.token(&claims()));
    let first = verify(&verifier, &token, NOW).unwrap();
    keyring.announce(NOW).unwrap();
    keyring.rotate(NOW).unwrap();
    assert_ne!(house.kid(), old);
    assert!(Arc::ptr_eq(&first, &verify(&verifier, &token, NOW).unwrap()), "a retiring key's tokens stay good");
    crate::store::blocking(keyring.revoke(&old, NOW)).unwrap();
    assert_eq!(verify(&verifier, &token, NOW).unwrap_err(), Fault::UnknownKey);
    assert!(verify(&verifier, &house.token(&claims()), NOW).is_ok());
}

#[test]
fn a_reload_reaches_cached_tokens() {
    let mut house = House::new();
    let token = house.token(&claims());
    let before = house.verifier();
    let first = verify(&before, &token, NOW).unwrap();
    let same = house.verifier();
    assert!(Arc::ptr_eq(&first, &verify(&same, &token, NOW).unwrap()), "an unchanged mini-app keeps its tokens");
    house.apps[0].scopes = ScopeSet::from_list("wallet:balance");
    let tighter = house.verifier();
    assert_eq!(verify(&tighter, &token, NOW).unwrap().claims.scopes.to_string(), "wallet:balance");
    assert_eq!(verify(&tighter, &token, NOW).unwrap().identity.scopes.as_ref().unwrap(), "wallet:balance");
    let old_rules = verify(&before, &token, NOW).unwrap();
    assert_eq!(old_rules.claims.scopes.to_string(), "wallet:balance wallet:pay", "a request under way keeps its rules");
    assert_eq!(verify(&tighter, &token, NOW).unwrap().claims.scopes.to_string(), "wallet:balance");
    house.apps[0].suspended = true;
    assert_eq!(verify(&house.verifier(), &token, NOW).unwrap_err(), Fault::SuspendedApp);
}

fn headers(value: Option<&str>) -> HeaderMap {
    value.map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).into_iter().collect()
}

async fn caller(authn: &Authn, auth: Auth, value: Option<&str>) -> Result<&'static str, (Code, Option<Challenge>)> {
    match authn.authenticate(auth, &headers(value), None, NOW).await {
        Ok(Caller::Anonymous) => Ok("anonymous"),
        Ok(Caller::Tep(_)) => Ok("tep"),
        Ok(Caller::Matrix(_)) => Ok("matrix"),
        Ok(Caller::Homeserver) => Ok("homeserver"),
        Ok(Caller::Client(_)) => Ok("client"),
        Ok(Caller::Named(_) | Caller::ResourceServer(_)) => Ok("by form"),
        Err(refusal) => Err((refusal.code(), refusal.challenge_kind())),
    }
}

#[tokio::test]
async fn each_row_takes_its_own_kind_of_proof() {
    let mut house = House::new();
    house.apps[0].secret_hashes = vec![crate::store::seal::sha256(b"demo")];
    house.apps.push(MiniApp { classification: Classification::Official, ..app("ma_official") });
    let authn = Authn::new(house.verifier(), None, HomeserverTokens::default());
    let tep = format!("Bearer tep.{}", house.token(&claims()));
    let official = claims_with(json!({ "app_id": "ma_official", "aud": "ma_official" }));
    let official = format!("Bearer {}", house.token(&official));
    let basic = "Basic bWFfc2hvcDpkZW1v";
    let none = Err((Code::InvalidToken, Some(Challenge::Bearer)));
    let invalid = Err((Code::InvalidToken, Some(Challenge::BearerInvalid)));

    for auth in [Auth::Public, Auth::OauthClient, Auth::InBody, Auth::Upstream] {
        assert_eq!(caller(&authn, auth, Some("Bearer garbage")).await, Ok("anonymous"));
    }
    for auth in [Auth::Tep, Auth::MatrixOrTep, Auth::TepOrClient] {
        assert_eq!(caller(&authn, auth, Some(&tep)).await, Ok("tep"), "{auth:?}");
        assert_eq!(caller(&authn, auth, None).await, none, "{auth:?}");
        assert_eq!(caller(&authn, auth, Some("Bearer a.b.c")).await, invalid, "{auth:?}");
        assert_eq!(caller(&authn, auth, Some("Digest x")).await, none, "{auth:?}");
    }
    assert_eq!(caller(&authn, Auth::Tep, Some(basic)).await, none);
    assert_eq!(caller(&authn, Auth::TepOrClient, Some(basic)).await, Ok("client"));
    assert_eq!(caller(&authn, Auth::Client, Some(basic)).await, Ok("client"));
    assert_eq!(caller(&authn, Auth::Client, Some(&tep)).await, Err((Code::InvalidToken, Some(Challenge::Basic))));
    assert_eq!(caller(&authn, Auth::MatrixOrOfficialTep, Some(&tep)).await, Err((Code::Forbidden, None)));
    assert_eq!(caller(&authn, Auth::MatrixOrOfficialTep, Some(&official)).await, Ok("tep"));
    for auth in [Auth::Matrix, Auth::Developer, Auth::MatrixOrTep, Auth::MatrixOrOfficialTep] {
        let answer = caller(&authn, auth, Some("Bearer syt_demo")).await;
        assert_eq!(answer, Err((Code::ServiceUnavailable, None)), "no homeserver to ask");
    }
    assert_eq!(caller(&authn, Auth::Homeserver, Some("Bearer x")).await, Err((Code::Forbidden, None)));
}
