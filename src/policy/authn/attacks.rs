//! Tokens that must not pass. Each test says what an attacker hopes for.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256};
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256};
use aws_lc_rs::{hmac, signature::RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Fault;
use super::testing::{House, NOW, claims, claims_with, message, verify};
use super::verifier::MAX_TOKEN;

#[track_caller]
fn refused(house: &House, token: &str, label: &str) {
    for spelling in [token.to_owned(), format!("tep.{token}")] {
        let fault = verify(&house.verifier(), &spelling, NOW).expect_err("verified");
        assert_eq!(fault.label(), label, "{fault:?} for {token}");
    }
    assert!(house.state.cache.is_empty(), "what was refused is not kept");
}

#[track_caller]
fn refused_header(house: &House, changes: Value, label: &str) {
    let mut header = house.header();
    header.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    header.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    refused(house, &house.sign(&header.to_string(), &claims().to_string()), label);
}

fn public_key(house: &House) -> (Vec<u8>, Vec<u8>) {
    let jwks: Value = serde_json::from_slice(&house.state.keyring.jwks()).unwrap();
    let part = |name: &str| URL_SAFE_NO_PAD.decode(jwks["keys"][0][name].as_str().unwrap()).unwrap();
    (part("n"), part("e"))
}

#[test]
fn no_signature_at_all() {
    let house = House::new();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({ "alg": alg, "typ": "JWT", "kid": house.kid() }).to_string();
        let bare = message(&header, &claims().to_string());
        refused(&house, &format!("{bare}.AA"), "header");
        refused(&house, &format!("{bare}."), "header");
        refused(&house, &house.sign(&header, &claims().to_string()), "header");
    }
    let bare = message(&house.header().to_string(), &claims().to_string());
    refused(&house, &format!("{bare}."), "malformed");
    refused(&house, &bare, "malformed");
}

#[test]
fn the_public_key_as_an_hmac_secret() {
    let house = House::new();
    let (n, e) = public_key(&house);
    let parsed = PublicKeyComponents { n: n.clone(), e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).unwrap();
    let der = parsed.as_ref().to_vec();
    let lines: Vec<String> =
        STANDARD.encode(&der).as_bytes().chunks(64).map(|l| String::from_utf8_lossy(l).into()).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", lines.join("\n"));
    for secret in [der, format!("{pem}\n").into_bytes(), pem.into_bytes(), n, house.state.keyring.jwks().to_vec()] {
        for alg in ["HS256", "HS384", "HS512", "RS256"] {
            let header = json!({ "alg": alg, "typ": "JWT", "kid": house.kid() }).to_string();
            let message = message(&header, &claims().to_string());
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
            let label = if alg == "RS256" { "signature" } else { "header" };
            refused(&house, &format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag)), label);
        }
    }
}

#[test]
fn another_algorithm_of_the_same_key() {
    let house = House::new();
    for alg in ["PS256", "ES256", "RS384", "RS512", "EdDSA", "rs256", "RS256 "] {
        refused_header(&house, json!({ "alg": alg }), "header");
    }
    refused_header(&house, json!({ "alg": ["RS256"] }), "header");
    refused_header(&house, json!({ "alg": null }), "header");
}

#[test]
fn keys_that_are_not_ours() {
    let house = House::new();
    let header = house.header().to_string();
    let ours = message(&header, &claims().to_string());
    let rsa = KeyPair::generate(KeySize::Rsa2048).unwrap();
    for padding in [&RSA_PKCS1_SHA256 as &'static dyn RsaEncoding, &RSA_PSS_SHA256] {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(padding, &SystemRandom::new(), ours.as_bytes(), &mut signature).unwrap();
        refused(&house, &format!("{ours}.{}", URL_SAFE_NO_PAD.encode(signature)), "signature");
    }
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let signature = ec.sign(&SystemRandom::new(), ours.as_bytes()).unwrap();
    refused(&house, &format!("{ours}.{}", URL_SAFE_NO_PAD.encode(signature)), "signature");

    // A key in the token itself, or an address of one.
    let public = rsa.public_key();
    let jwk = json!({
        "kty": "RSA",
        "n": URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
        "e": URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
    });
    let der = STANDARD
        .encode(public.as_der().map(|der: aws_lc_rs::encoding::PublicKeyX509Der<'_>| der.as_ref().to_vec()).unwrap());
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://attacker.example/jwks.json")),
        ("x5u", json!("https://attacker.example/cert.pem")),
        ("x5c", json!([der])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
    ] {
        refused_header(&house, json!({ name: value }), "header");
    }
}

#[test]
fn key_ids_are_names_and_nothing_else() {
    let house = House::new();
    for kid in ["../../../../dev/null", "/etc/passwd", "https://attacker.example/key", "' OR 1=1 --", "|id", "\0", "*"]
    {
        refused_header(&house, json!({ "kid": kid }), "unknown_key");
    }
    refused_header(&house, json!({ "kid": house.kid().to_uppercase() + " " }), "unknown_key");
    for kid in [json!(null), json!(""), json!(1), json!(["x"]), json!("k".repeat(256))] {
        refused_header(&house, json!({ "kid": kid }), "header");
    }
}

#[test]
fn tokens_for_something_else() {
    let house = House::new();
    for typ in ["logout+jwt", "dpop+jwt", "JWE", "", "JOSE"] {
        refused_header(&house, json!({ "typ": typ }), "header");
    }
    refused_header(&house, json!({ "typ": null }), "claims");
    for changes in [
        json!({ "token_type": "refresh_token" }),
        json!({ "token_type": "Bearer" }),
        json!({ "token_type": null }),
        json!({ "token_type": ["tep_access_token"] }),
        json!({ "aud": "https://bank.example", "client_id": "ma_shop" }),
        json!({ "aud": [], "client_id": "ma_shop" }),
        json!({ "aud": null }),
        json!({ "aud": { "ma_shop": true } }),
    ] {
        refused(&house, &house.token(&claims_with(changes)), "claims");
    }
    for issuer in ["https://edge.example/", "https://EDGE.example", "https://attacker.example", ""] {
        refused(&house, &house.token(&claims_with(json!({ "iss": issuer }))), "unknown_issuer");
    }
    refused(&house, &house.token(&claims_with(json!({ "iss": null }))), "claims");
    refused(&house, &house.token(&claims_with(json!({ "iss": [super::testing::EDGE] }))), "claims");
}

#[test]
fn several_spellings_that_disagree() {
    let house = House::new();
    for changes in [
        json!({ "app_id": "ma_other" }),
        json!({ "aud": ["ma_shop", "ma_other"] }),
        json!({ "aud": ["tmcp-server", "ma_other"] }),
        json!({ "client_id": "ma_other" }),
        json!({ "azp": "ma_other" }),
        json!({ "azp": "web" }),
        json!({ "app_id": "ma_shop\u{0}" }),
        json!({ "scp": ["wallet:balance"] }),
        json!({ "scp": "wallet:balance wallet:pay user:read" }),
        json!({ "scp": [["wallet:balance"]] }),
        json!({ "scope": ["wallet:balance", "wallet:pay"] }),
        json!({ "app_id": null, "aud": "tmcp-server" }),
    ] {
        refused(&house, &house.token(&claims_with(changes)), "claims");
    }
}

#[test]
fn users_who_are_not_ours() {
    let house = House::new();
    refused(&house, &house.token(&claims_with(json!({ "sub": "@alice:other.example" }))), "confined");
    refused(&house, &house.token(&claims_with(json!({ "sub": "@alice:TWEEN.example" }))), "confined");
    for sub in [json!("alice"), json!("@alice"), json!("@al\nice:tween.example"), json!(null), json!(7)] {
        refused(&house, &house.token(&claims_with(json!({ "sub": sub }))), "claims");
    }
}

#[test]
fn times() {
    let house = House::new();
    for (changes, label) in [
        (json!({ "exp": NOW }), "expired"),
        (json!({ "exp": NOW - 1 }), "expired"),
        (json!({ "exp": 0 }), "expired"),
        (json!({ "nbf": NOW + 6 }), "not_yet_valid"),
        (json!({ "iat": NOW + 6 }), "not_yet_valid"),
        (json!({ "exp": null }), "claims"),
        (json!({ "iat": null }), "claims"),
        (json!({ "exp": "9999999999" }), "claims"),
        (json!({ "exp": -1 }), "claims"),
        (json!({ "exp": 1e300 }), "claims"),
        (json!({ "exp": u64::MAX }), "claims"),
        (json!({ "exp": NOW + 24 * 3600 + 1 }), "claims"),
        (json!({ "nbf": "now" }), "claims"),
    ] {
        refused(&house, &house.token(&claims_with(changes)), label);
    }
}

#[test]
fn the_same_name_twice() {
    let house = House::new();
    let good = claims().to_string();
    let twice = good.replacen('{', r#"{"sub":"@mallory:tween.example","#, 1);
    refused(&house, &house.sign(&house.header().to_string(), &twice), "malformed");
    let escaped = good.replacen('{', r#"{"s\u0075b":"@mallory:tween.example","#, 1);
    refused(&house, &house.sign(&house.header().to_string(), &escaped), "malformed");
    let header = house.header().to_string();
    let twice = header.replacen('{', r#"{"alg":"none","#, 1);
    refused(&house, &house.sign(&twice, &good), "malformed");
    refused(&house, &house.sign(&header, &format!("{good}{good}")), "malformed");
    refused(&house, &house.sign(&header, &format!("[{good}]")), "malformed");
    refused(&house, &house.sign(&header, "\u{feff}{}"), "malformed");
}

#[test]
fn other_spellings_of_the_same_bytes() {
    let house = House::new();
    let token = house.token(&claims());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    refused(&house, &format!("{message}.{}", URL_SAFE.encode(&bytes)), "malformed");
    refused(&house, &format!("{message}.{}", STANDARD.encode(&bytes)), "malformed");
    refused(&house, &format!("{token}\n"), "malformed");
    refused(&house, &format!(" {token}"), "malformed");
    refused(&house, &token.replacen('.', "..", 1), "malformed");
    refused(&house, &format!("{token}.{signature}"), "malformed");
    refused(&house, &format!("TEP.{token}"), "malformed");
    refused(&house, &format!("tep.tep.{token}"), "malformed");
    refused(&house, &format!("{message}.{signature}A"), "signature");
    refused(&house, &token[..token.len() - 2], "signature");
    // The last character of 256 bytes carries two bits; the four others are not to be ignored.
    let last = signature.chars().last().unwrap();
    let respelled = "BCDEFGHIJKLMNOP".chars().find(|c| *c != last && !"AQgw".contains(*c)).unwrap();
    refused(&house, &format!("{message}.{}{respelled}", &signature[..signature.len() - 1]), "malformed");
}

#[test]
fn tokens_that_were_changed() {
    let house = House::new();
    let token = house.token(&claims());
    let mut parts: Vec<&str> = token.split('.').collect();
    let raised = URL_SAFE_NO_PAD.encode(claims_with(json!({ "sub": "@bob:tween.example" })).to_string());
    parts[1] = &raised;
    refused(&house, &parts.join("."), "signature");
}

#[test]
fn tokens_that_are_too_large() {
    let house = House::new();
    refused(&house, &house.token(&claims_with(json!({ "padding": "x".repeat(MAX_TOKEN) }))), "malformed");
    refused(&house, &"a.".repeat(MAX_TOKEN), "malformed");
}

#[test]
fn claims_that_would_end_up_in_headers() {
    let house = House::new();
    for bad in ["a b", "a\r\nX-Evil: 1", "", "é", &"x".repeat(256)] {
        refused(&house, &house.token(&claims_with(json!({ "session_id": bad }))), "claims");
        refused(&house, &house.token(&claims_with(json!({ "wallet_id": bad }))), "claims");
    }
    refused(&house, &house.token(&claims_with(json!({ "miniapp_context": { "room_id": "chat" } }))), "claims");
    refused(&house, &house.token(&claims_with(json!({ "miniapp_context": [] }))), "claims");
    refused(&house, &house.token(&claims_with(json!({ "privileged": "yes" }))), "claims");
}

#[test]
fn a_forger_learns_nothing_from_the_answer() {
    for fault in [Fault::UnknownKey, Fault::Signature, Fault::Header("x"), Fault::Claims("y"), Fault::UnknownIssuer] {
        let refusal = crate::error::Refusal::from(fault);
        assert_eq!(refusal.message(), "The access token is not valid.");
        assert_eq!(refusal.challenge_kind(), Some(crate::error::Challenge::BearerInvalid));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_verifies(text in "\\PC{0,200}", parts in "[A-Za-z0-9_=.-]{0,200}") {
        let house = HOUSE.with(std::rc::Rc::clone);
        prop_assert!(verify(&house.verifier(), &text, NOW).is_err());
        prop_assert!(verify(&house.verifier(), &parts, NOW).is_err());
    }

    #[test]
    fn no_claims_upset_the_reader(name in "iss|sub|aud|exp|nbf|iat|scope|scp|app_id|azp|jti|miniapp_context|privileged",
                                  value in "(null|true|-1|1e400|\\[\\]|\\{\\}|\"\\PC{0,8}\"|[0-9]{1,25})") {
        let house = HOUSE.with(std::rc::Rc::clone);
        let text = claims_with(json!({ name.clone(): null })).to_string().replacen('{', &format!("{{\"{name}\":{value},"), 1);
        // Signed by us, so it gets all the way; most are refused, none may panic.
        let _ = verify(&house.verifier(), &house.sign(&house.header().to_string(), &text), NOW);
    }

    #[test]
    fn a_changed_byte_is_noticed(at in any::<proptest::sample::Index>(), to in "[A-Za-z0-9_.-]") {
        let house = HOUSE.with(std::rc::Rc::clone);
        let token = house.token(&claims());
        let at = at.index(token.len());
        prop_assume!(token[at..=at] != to);
        let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
        prop_assert!(verify(&house.verifier(), &changed, NOW).is_err());
    }
}

thread_local! {
    /// Making a key takes longer than all the cases of a property.
    static HOUSE: std::rc::Rc<House> = std::rc::Rc::new(House::new());
}
