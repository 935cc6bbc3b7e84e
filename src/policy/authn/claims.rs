//! What a token claims (protocol section 2): read for form and for agreement between its several spellings. Whether
//! it may claim that is the verifier's question.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::fault::Fault;
use crate::model::{RoomId, ScopeSet, UserId};

/// The `aud` of a token that is for the edge rather than for one mini-app.
pub const AUDIENCE: &str = "tmcp-server";
/// The `token_type` of TEP tokens.
pub const TOKEN_TYPE: &str = "tep_access_token";

/// Claims of one token, well formed and in agreement with each other.
#[derive(Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`.
    pub user: UserId,
    /// Every name by which the token calls its mini-app: `app_id`, `client_id`, `azp` and `aud` entries that start
    /// `ma_`. At least one.
    pub app_names: Vec<String>,
    /// `scope` or `scp`.
    pub scopes: ScopeSet,
    /// `session_id`.
    pub session_id: Option<String>,
    /// `wallet_id`.
    pub wallet_id: Option<String>,
    /// `jti`.
    pub jti: Option<String>,
    /// `grant_id`.
    pub grant_id: Option<String>,
    /// `miniapp_context.room_id`.
    pub room: Option<RoomId>,
    /// `token_type`, if any; always [`TOKEN_TYPE`] when present.
    pub typed: bool,
    /// `privileged_until` of a token that says `privileged`.
    pub privileged_until: Option<u64>,
    /// `rev`; means something in our own tokens only.
    pub revocation: Option<u64>,
    /// `iat`.
    pub issued_at: u64,
    /// `nbf`.
    pub not_before: Option<u64>,
    /// `exp`.
    pub expires_at: u64,
}

/// `iss`, needed before the rest because it says whose keys to look at.
///
/// # Errors
/// [`Fault::Claims`] when it is no text.
pub fn issuer(claims: &Map<String, Value>) -> Result<&str, Fault> {
    text(claims, "iss", "iss is no text")?.ok_or(Fault::Claims("no iss"))
}

/// Reads the claims.
///
/// # Errors
/// [`Fault::Claims`], naming the claim.
pub fn read(claims: &Map<String, Value>) -> Result<Claims, Fault> {
    let user = text(claims, "sub", "sub is no text")?.ok_or(Fault::Claims("no sub"))?;
    let user = UserId::parse(user).map_err(|_| Fault::Claims("sub is no Matrix user id"))?;
    let privileged = match claims.get("privileged") {
        None => false,
        Some(Value::Bool(privileged)) => *privileged,
        Some(_) => return Err(Fault::Claims("privileged is neither true nor false")),
    };
    let privileged_until = time(claims, "privileged_until", "privileged_until is no time")?;
    Ok(Claims {
        user,
        app_names: app_names(claims)?,
        scopes: scopes(claims)?,
        session_id: label(claims, "session_id", "session_id is no plain text")?,
        wallet_id: label(claims, "wallet_id", "wallet_id is no plain text")?,
        jti: label(claims, "jti", "jti is no plain text")?,
        grant_id: label(claims, "grant_id", "grant_id is no plain text")?,
        room: room(claims)?,
        typed: match text(claims, "token_type", "token_type is no text")? {
            None => false,
            Some(TOKEN_TYPE) => true,
            Some(_) => return Err(Fault::Claims("another token_type")),
        },
        privileged_until: privileged_until.filter(|_| privileged),
        revocation: claims.get("rev").and_then(Value::as_u64),
        issued_at: time(claims, "iat", "iat is no time")?.ok_or(Fault::Claims("no iat"))?,
        not_before: time(claims, "nbf", "nbf is no time")?,
        expires_at: time(claims, "exp", "exp is no time")?.ok_or(Fault::Claims("no exp"))?,
    })
}

fn app_names(claims: &Map<String, Value>) -> Result<Vec<String>, Fault> {
    let audience = strings(claims.get("aud"), "aud is neither text nor a list of texts")?;
    if !audience.iter().any(|entry| *entry == AUDIENCE || entry.starts_with("ma_")) {
        return Err(Fault::Claims("aud names neither us nor a mini-app"));
    }
    let mut names: BTreeSet<&str> = audience.into_iter().filter(|entry| entry.starts_with("ma_")).collect();
    for claim in ["app_id", "client_id", "azp"] {
        names.extend(text(claims, claim, "app_id, client_id or azp is no text")?);
    }
    if names.is_empty() {
        return Err(Fault::Claims("no mini-app is named"));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn scopes(claims: &Map<String, Value>) -> Result<ScopeSet, Fault> {
    let scope = text(claims, "scope", "scope is no text")?.map(words);
    let scp = match claims.get("scp") {
        None => None,
        Some(Value::String(list)) => Some(words(list)),
        entries => Some(strings(entries, "scp is neither text nor a list of texts")?.into_iter().collect()),
    };
    match (scope, scp) {
        (Some(scope), Some(scp)) if scope != scp => Err(Fault::Claims("scope and scp disagree")),
        (Some(names), _) | (None, Some(names)) => {
            Ok(names.into_iter().filter_map(crate::model::Scope::parse).collect())
        }
        (None, None) => Ok(ScopeSet::EMPTY),
    }
}

fn words(list: &str) -> BTreeSet<&str> {
    list.split(' ').filter(|word| !word.is_empty()).collect()
}

fn room(claims: &Map<String, Value>) -> Result<Option<RoomId>, Fault> {
    let context = match claims.get("miniapp_context") {
        None => return Ok(None),
        Some(Value::Object(context)) => context,
        Some(_) => return Err(Fault::Claims("miniapp_context is no object")),
    };
    let room = text(context, "room_id", "miniapp_context.room_id is no text")?;
    room.map(RoomId::parse).transpose().map_err(|_| Fault::Claims("miniapp_context.room_id is no room id"))
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str, wrong: &'static str) -> Result<Option<&'a str>, Fault> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Fault::Claims(wrong)),
    }
}

/// Text that can stand in a header and in a log line as it is.
fn label(claims: &Map<String, Value>, name: &str, wrong: &'static str) -> Result<Option<String>, Fault> {
    match text(claims, name, wrong)? {
        None => Ok(None),
        Some(text) if !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| (0x21..=0x7e).contains(&b)) => {
            Ok(Some(text.to_owned()))
        }
        Some(_) => Err(Fault::Claims(wrong)),
    }
}

fn strings<'a>(value: Option<&'a Value>, wrong: &'static str) -> Result<Vec<&'a str>, Fault> {
    match value {
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(several)) => several.iter().map(|entry| entry.as_str().ok_or(Fault::Claims(wrong))).collect(),
        _ => Err(Fault::Claims(wrong)),
    }
}

/// A NumericDate (RFC 7519 section 2); fractions of a second, which the RFC allows, are dropped.
fn time(claims: &Map<String, Value>, name: &str, wrong: &'static str) -> Result<Option<u64>, Fault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let fraction = || value.as_f64().filter(|t| (0.0..1e15).contains(t));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    let seconds = value.as_u64().or_else(|| fraction().map(|t| t as u64));
    seconds.filter(|t| *t < 1 << 50).map(Some).ok_or(Fault::Claims(wrong))
}
