//! A JWK Set (RFC 7517) from an issuer: which of its keys may sign tokens for us.
//!
//! A set may hold keys for other purposes and of kinds that we do not know; those are passed over. What is passed
//! over cannot verify anything, so being lenient here opens nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use crate::config::Algorithm;
use crate::policy::authn::key::{VerifyKey, algorithm};

/// More keys than any rotation needs.
const MAX_KEYS: usize = 64;

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of a set that may sign with one of `allowed`.
///
/// # Errors
/// Says what is wrong with the set as a whole; one without a single usable key is an error too, because taking it would
/// turn every caller away.
pub(super) fn parse(text: &[u8], allowed: &[Algorithm]) -> Result<Vec<VerifyKey>, String> {
    let set: Set = serde_json::from_slice(text).map_err(|e| format!("not a JWK Set: {e}"))?;
    if set.keys.len() > MAX_KEYS {
        return Err(format!("{} keys; at most {MAX_KEYS} are taken", set.keys.len()));
    }
    let mut keys = Vec::new();
    let mut passed_over = Vec::new();
    for (at, key) in set.keys.into_iter().enumerate() {
        match verify_key(key, allowed) {
            Ok(key) => keys.push(key),
            Err(why) => passed_over.push(format!("key {at}: {why}")),
        }
    }
    if keys.is_empty() {
        return Err(format!("no usable key ({})", passed_over.join("; ")));
    }
    Ok(keys)
}

fn verify_key(key: Value, allowed: &[Algorithm]) -> Result<VerifyKey, &'static str> {
    let key: Jwk = serde_json::from_value(key).map_err(|_| "not a JWK")?;
    let kid = key.kid.as_deref().filter(|kid| !kid.is_empty()).ok_or("no kid")?;
    if key.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return Err("not for signatures");
    }
    if key.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
        return Err("not for verifying");
    }
    // A key that names its algorithm is for no other.
    let named = key.alg.as_deref().map(|name| algorithm(name).ok_or("an algorithm that is never trusted"));
    let named = named.transpose()?;
    let algorithms: Vec<Algorithm> = allowed.iter().copied().filter(|a| named.is_none_or(|n| n == *a)).collect();
    match key.kty.as_str() {
        "RSA" => VerifyKey::rsa(kid, &number(key.n)?, &number(key.e)?, &algorithms),
        "EC" if key.crv.as_deref() == Some("P-256") => {
            VerifyKey::p256(kid, &number(key.x)?, &number(key.y)?, &algorithms)
        }
        _ => Err("a kind of key that is not taken"),
    }
}

fn number(text: Option<String>) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(text.ok_or("a part of the key is missing")?).map_err(|_| "a part is not base64url")
}
