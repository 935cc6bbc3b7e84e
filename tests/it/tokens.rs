//! Token attacks as they come over the wire: each is refused in the same words, and nothing of it reaches the wallet.
//!
//! What the verifier makes of signed tokens with odd contents is tested beside it, where any claims can be signed.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::edge::{TestEdge, mark, shared};
use crate::headers::check_standing;
use crate::wire::{Answer, Request};

const BALANCE: &str = "/api/v1/wallet/balance";

/// Sends the request, and sees that it is a 401 that gives nothing away.
#[track_caller]
fn refused(edge: &TestEdge, what: &str, request: Request) -> Answer {
    let mark = mark();
    let answer = edge.send(request.header("x-mark", &mark));
    assert_eq!(answer.verdict(), (401, "INVALID_TOKEN".into()), "{what}: {}", answer.text());
    check_standing(&answer);
    assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer realm="), "{what}");
    assert!(edge.at_wallet("x-mark", &mark).is_empty(), "{what} reached the wallet");
    answer
}

fn balance(edge: &TestEdge, what: &str, token: &str) -> String {
    refused(edge, what, Request::get(BALANCE).bearer(token)).json()["error"]["message"].to_string()
}

/// A good token's header and claims, and its signature as it stands.
fn parts(token: &str) -> (Value, Value, String) {
    let mut parts = token.strip_prefix("tep.").unwrap().split('.');
    let mut json = || serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap()).unwrap();
    (json(), json(), parts.next().unwrap().to_owned())
}

fn message(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

#[test]
fn no_forged_token_passes_and_all_are_told_the_same() {
    let edge = shared();
    let good = edge.full_token();
    let (header, claims, signature) = parts(&good);
    let mut told = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", "", "RS384", "PS256", "ES256", "EdDSA"] {
        let mut header = header.clone();
        header["alg"] = json!(alg);
        let message = message(&header, &claims);
        for token in [format!("{message}."), message.clone(), format!("{message}.{signature}"), format!("{message}.AA")]
        {
            told.push(balance(edge, &format!("alg {alg}"), &format!("tep.{token}")));
            told.push(balance(edge, &format!("alg {alg}, bare"), &token));
        }
    }
    // The published key as an HMAC secret, in each form that a library may have it in.
    let jwks = edge.send(Request::get("/oauth2/jwks.json"));
    let key = &jwks.json()["keys"][0];
    let modulus = key["n"].as_str().unwrap().to_owned();
    let raw = BASE64_URL_SAFE_NO_PAD.decode(&modulus).unwrap();
    for secret in [
        modulus.into_bytes(),
        raw.clone(),
        BASE64_STANDARD.encode(raw).into_bytes(),
        key.to_string().into(),
        jwks.body.clone(),
        Vec::new(),
    ] {
        let mut header = header.clone();
        header["alg"] = json!("HS256");
        let message = message(&header, &claims);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        told.push(balance(edge, "HS256", &format!("tep.{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))));
    }
    for (name, value) in [
        ("kid", json!("../../../../../../dev/null")),
        ("kid", json!("x' UNION SELECT 'key' -- ")),
        ("kid", json!("x\" OR \"1\"=\"1")),
        ("kid", json!("/proc/self/environ")),
        ("kid", json!("$(id)")),
        ("kid", json!("http://127.0.0.1:1/key")),
        ("kid", json!({ "$ne": null })),
        ("kid", json!(1e308)),
        ("jku", json!("http://127.0.0.1:1/jwks.json")),
        ("x5u", json!("https://127.0.0.1:1/cert.pem")),
        ("x5c", json!(["MIIB"])),
        ("jwk", key.clone()),
        ("crit", json!(["b64"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("typ", json!("at+jwt2")),
    ] {
        let mut header = header.clone();
        header[name] = value;
        told.push(balance(edge, name, &format!("tep.{}.{signature}", message(&header, &claims))));
    }
    for (name, value) in [
        ("sub", json!("@bob:tween.example")),
        ("scope", json!("wallet:admin")),
        ("exp", json!(9_999_999_999u64)),
        ("exp", json!(1e300)),
        ("aud", json!(["ma_bank_001"])),
        ("privileged", json!(true)),
    ] {
        let mut claims = claims.clone();
        claims[name] = value;
        told.push(balance(edge, name, &format!("tep.{}.{signature}", message(&header, &claims))));
    }
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 1, "a forger can tell why: {told:?}");
    // The same token, untouched, is good.
    assert_eq!(edge.send(Request::get(BALANCE).bearer(&good)).status, 200);
}

#[test]
fn a_token_counts_only_as_the_one_bearer_of_the_request() {
    let edge = shared();
    let good = edge.full_token();
    let with = |value: String| Request::get(BALANCE).header("authorization", value);
    for (what, request) in [
        ("in the query", Request::get(&format!("{BALANCE}?access_token={good}"))),
        ("in a cookie", Request::get(BALANCE).header("cookie", format!("access_token={good}"))),
        ("under another name", Request::get(BALANCE).header("x-authorization", format!("Bearer {good}"))),
        ("with an underscore", Request::get(BALANCE).header("authorization_", format!("Bearer {good}"))),
        ("twice", with(format!("Bearer {good}")).bearer(&good)),
        ("beside another", with("Basic YTpi".into()).bearer(&good)),
        ("in a list", with(format!("Bearer x, Bearer {good}"))),
        ("behind another", with(format!("Bearer {good} {good}"))),
        ("without a scheme", with(good.clone())),
        ("with another scheme", with(format!("Token {good}"))),
        ("as a digest", with(format!("DPoP {good}"))),
        ("with a comma", with(format!("Bearer {good},"))),
        ("in quotes", with(format!("Bearer \"{good}\""))),
        ("as a parameter", with(format!("Bearer token={good}"))),
        ("escaped", with(format!("Bearer {}", good.replace('.', "%2e")))),
        ("as the homeserver's", Request::get(BALANCE).bearer(&edge.hs_token)),
        ("as a Matrix user's", Request::get(BALANCE).bearer(&edge.matrix_token("alice"))),
        ("as a client's", Request::get(BALANCE).header("authorization", edge.basic())),
        ("empty", with("Bearer".into())),
        ("blank", with("Bearer  ".into())),
    ] {
        let answer = refused(edge, what, request);
        assert!(!answer.text().contains(&good), "{what}");
    }
    // The scheme's name has no case (RFC 9110 section 11.1).
    assert_eq!(edge.send(with(format!("bearer {good}"))).status, 200);
}
