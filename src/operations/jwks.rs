//! `GET /oauth2/jwks.json`: the public halves of our signing keys (RFC 7517; protocol section 11: the wallet has to verify TEPs).

use http::HeaderValue;
use http::header::CACHE_CONTROL;

use super::Local;
use crate::policy::Permit;
use crate::policy::keyring::Keyring;

/// How long verifiers may keep the document. A new key is announced for longer than this before it signs.
const KEEP: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// The key set as it stands.
pub fn answer(_permit: &Permit, keyring: &Keyring) -> Local {
    Local { headers: vec![(CACHE_CONTROL, KEEP)], ..Local::ok(keyring.jwks()) }
}
