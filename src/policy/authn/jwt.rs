//! A JSON Web Token taken apart by hand, before any key is looked at.
//!
//! The header is a stranger's request, so it is read against a list of what it may ask for. A general library parses
//! `crit` without obeying it, and takes base64 and JSON that have more than one reading.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::fault::Fault;
use super::key;
use super::strict_json;
use crate::config::Algorithm;

/// Header parameters that would let a token choose its own key or change what is signed (RFC 7515 section 4.1,
/// RFC 7516, RFC 7797).
const NEVER: [&str; 10] = ["crit", "jku", "jwk", "x5u", "x5c", "b64", "zip", "enc", "epk", "cty"];

/// Longest key id that is looked up.
const MAX_KID: usize = 255;

/// A token whose form is right. Nothing about it has been verified.
pub struct Unverified<'a> {
    /// What the header names; always one that can be trusted at all.
    pub algorithm: Algorithm,
    /// `kid`: a name to look up in our tables, never a path or an address.
    pub kid: String,
    /// Whether `typ` stood in the header; if so it named a JWT.
    pub typed: bool,
    /// The claims, which the signature may yet turn out not to cover.
    pub claims: Map<String, Value>,
    /// The bytes that are signed.
    pub message: &'a [u8],
    /// The signature.
    pub signature: Vec<u8>,
}

/// Takes a token apart.
///
/// # Errors
/// [`Fault::Malformed`] and [`Fault::Header`].
pub fn parse(token: &str) -> Result<Unverified<'_>, Fault> {
    let (message, signature) = token.rsplit_once('.').ok_or(Fault::Malformed("not three parts"))?;
    let (header, claims) = message.split_once('.').ok_or(Fault::Malformed("not three parts"))?;
    // A further dot is not base64url, so a token of four parts fails below.
    let header = strict_json::object(&decode(header)?).ok_or(Fault::Malformed("the header is no plain JSON object"))?;
    let (algorithm, kid, typed) = read_header(&header)?;
    let claims =
        strict_json::object(&decode(claims)?).ok_or(Fault::Malformed("the claims are no plain JSON object"))?;
    Ok(Unverified { algorithm, kid, typed, claims, message: message.as_bytes(), signature: decode(signature)? })
}

/// Base64url without padding, canonical: one byte string has one spelling, so one token has one cache entry and a
/// revocation cannot be dodged by respelling.
fn decode(part: &str) -> Result<Vec<u8>, Fault> {
    match URL_SAFE_NO_PAD.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(Fault::Malformed("a part is not canonical base64url")),
    }
}

fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, String, bool), Fault> {
    if header.keys().any(|name| NEVER.contains(&name.as_str())) {
        return Err(Fault::Header("a parameter that is never obeyed"));
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(key::algorithm);
    let algorithm = algorithm.ok_or(Fault::Header("an algorithm that is never trusted"))?;
    let kid = header.get("kid").and_then(Value::as_str).filter(|kid| !kid.is_empty() && kid.len() <= MAX_KID);
    let kid = kid.ok_or(Fault::Header("no key id"))?.to_owned();
    let typed = match header.get("typ") {
        None => false,
        Some(Value::String(typ)) if is_jwt(typ) => true,
        Some(_) => return Err(Fault::Header("typ is not JWT")),
    };
    Ok((algorithm, kid, typed))
}

/// `JWT` (RFC 7519 section 5.1) or `at+jwt` (RFC 9068), whose case does not count and whose `application/` may be left
/// out (RFC 7515 section 4.1.9). Other types, such as logout or proof tokens, are for somebody else.
fn is_jwt(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}
