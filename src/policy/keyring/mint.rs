//! Writing TEP tokens (protocol section 2).

use std::fmt;

use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use url::Url;

use super::{Keyring, Signing};
use crate::model::{MiniAppId, RoomId, ScopeSet, UserId};
use crate::policy::authn::claims::TOKEN_TYPE;
use crate::policy::authn::verifier::MAX_LIFETIME;

/// What a new token is to say.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// `sub`.
    pub user: UserId,
    /// `aud` and `app_id`.
    pub app: MiniAppId,
    /// `scope`.
    pub scopes: ScopeSet,
    /// Seconds until it expires: 1 to 24 h.
    pub ttl: u64,
    /// `session_id`.
    pub session_id: Option<String>,
    /// `wallet_id`.
    pub wallet_id: Option<String>,
    /// `grant_id`.
    pub grant_id: Option<String>,
    /// `miniapp_context.room_id`: whoever asks has seen to it that the user is in it.
    pub room: Option<RoomId>,
    /// `miniapp_context.launch_source`.
    pub launch_source: Option<String>,
    /// The last revocation that was known when it was decided to write the token; `None`: the last one that is known now.
    pub known: Option<u64>,
    /// `privileged` until then (seconds since the Unix epoch), for official mini-apps.
    pub privileged_until: Option<u64>,
}

impl TokenRequest {
    /// A token for `user` in `app` with nothing beyond the scopes.
    pub fn new(user: UserId, app: MiniAppId, scopes: ScopeSet, ttl: u64) -> TokenRequest {
        TokenRequest {
            user,
            app,
            scopes,
            ttl,
            session_id: None,
            wallet_id: None,
            grant_id: None,
            room: None,
            launch_source: None,
            known: None,
            privileged_until: None,
        }
    }
}

/// Why no token was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MintError {
    /// No key of the ring signs.
    NoSigningKey,
    /// A life of nothing or of more than 24 h.
    Lifetime,
    /// The cryptographic library refused.
    Library,
}

impl fmt::Display for MintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MintError::NoSigningKey => "no key signs: make one with `keys new` and `keys rotate`",
            MintError::Lifetime => "a token lives for 1 s to 24 h",
            MintError::Library => "the cryptographic library refused to sign",
        })
    }
}

impl std::error::Error for MintError {}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: u64,
    iat: u64,
    nbf: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rev: Option<u64>,
    jti: String,
    scope: String,
    app_id: &'a str,
    token_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wallet_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    miniapp_context: Option<Context<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    privileged: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    privileged_until: Option<u64>,
}

#[derive(Serialize)]
struct Context<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    launch_source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<&'a str>,
}

/// The `iss` of our tokens: the public URL without the slash that URLs without a path are given.
pub fn issuer_of(public_url: &Url) -> String {
    public_url.as_str().trim_end_matches('/').to_owned()
}

impl Keyring {
    /// Says that every revocation up to `number` is known to whoever mints with this ring: tokens from now on are not
    /// among those that it voids.
    pub fn knows_of_revocation(&self, number: u64) {
        self.generation.revoked_up_to(number);
    }

    /// Writes a token: `tep.` and a JWT, issued by `issuer` ([`issuer_of`]) at `now`, seconds since the Unix epoch.
    ///
    /// # Errors
    /// See [`MintError`].
    pub fn mint(&self, issuer: &str, request: &TokenRequest, now: u64) -> Result<String, MintError> {
        if !(1..=MAX_LIFETIME).contains(&request.ttl) {
            return Err(MintError::Lifetime);
        }
        let ring = self.ring();
        let signing = ring.signing.as_ref().ok_or(MintError::NoSigningKey)?;
        let context = Context {
            launch_source: request.launch_source.as_deref(),
            room_id: request.room.as_ref().map(RoomId::as_str),
        };
        let payload = Payload {
            iss: issuer,
            sub: request.user.as_str(),
            aud: request.app.as_str(),
            exp: now + request.ttl,
            iat: now,
            nbf: now,
            rev: Some(request.known.unwrap_or_else(|| self.generation.revocation())).filter(|number| *number > 0),
            jti: token_id()?,
            scope: request.scopes.to_string(),
            app_id: request.app.as_str(),
            token_type: TOKEN_TYPE,
            session_id: request.session_id.as_deref(),
            wallet_id: request.wallet_id.as_deref(),
            grant_id: request.grant_id.as_deref(),
            miniapp_context: (request.room.is_some() || request.launch_source.is_some()).then_some(context),
            privileged: request.privileged_until.map(|_| true),
            privileged_until: request.privileged_until,
        };
        let header = Header { alg: "RS256", typ: "JWT", kid: &signing.kid };
        let message = format!("{}.{}", encode(&header)?, encode(&payload)?);
        let signature = signing.sign(message.as_bytes())?;
        Ok(format!("tep.{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl Signing {
    /// The key's RS256 signature.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, MintError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let signed = self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature);
        signed.map(|()| signature).map_err(|_| MintError::Library)
    }
}

fn encode(part: &impl Serialize) -> Result<String, MintError> {
    serde_json::to_vec(part).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| MintError::Library)
}

/// 128 random bits.
fn token_id() -> Result<String, MintError> {
    let mut random = [0u8; 16];
    rand::fill(&mut random).map_err(|_| MintError::Library)?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}
