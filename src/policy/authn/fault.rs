//! Why a credential is not believed: one list, for the answer, the log and the metrics alike.

use crate::error::{Challenge, Code, Refusal};
use crate::metrics::TokenResult;

/// Why a TEP token is not believed. The text inside a variant goes to the log, never to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Longer than any token we take.
    TooLong,
    /// Not three parts of canonical base64url, or not JSON objects in them.
    Malformed(&'static str),
    /// The header asks for something that is never done: another algorithm, `crit`, a key of its own.
    Header(&'static str),
    /// `iss` is neither ours nor a trusted issuer's.
    UnknownIssuer,
    /// No key of that issuer has this id.
    UnknownKey,
    /// The issuer's keys cannot be had at present: not the token's fault.
    NoKeys(String),
    /// The signature does not verify.
    Signature,
    /// After `exp`.
    Expired,
    /// Before `nbf` or `iat`.
    NotYetValid,
    /// A claim is missing, malformed, or disagrees with another.
    Claims(&'static str),
    /// The issuer speaks for a mini-app, user or scope that it is not trusted with.
    Confined(&'static str),
    /// The mini-app is not registered.
    UnknownApp,
    /// The mini-app is suspended.
    SuspendedApp,
    /// Revoked.
    Revoked,
}

impl Fault {
    /// The label in the metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Fault::TooLong | Fault::Malformed(_) => "malformed",
            Fault::Header(_) => "header",
            Fault::UnknownIssuer => "unknown_issuer",
            Fault::UnknownKey => "unknown_key",
            Fault::NoKeys(_) => "no_keys",
            Fault::Signature => "signature",
            Fault::Expired => "expired",
            Fault::NotYetValid => "not_yet_valid",
            Fault::Claims(_) => "claims",
            Fault::Confined(_) => "confined",
            Fault::UnknownApp => "unknown_app",
            Fault::SuspendedApp => "suspended_app",
            Fault::Revoked => "revoked",
        }
    }

    /// What the metrics count it as.
    pub const fn result(&self) -> TokenResult {
        match self {
            Fault::TooLong | Fault::Malformed(_) | Fault::Header(_) => TokenResult::Malformed,
            Fault::UnknownIssuer | Fault::Confined(_) => TokenResult::WrongIssuer,
            Fault::UnknownKey => TokenResult::UnknownKey,
            Fault::NoKeys(_) => TokenResult::Unavailable,
            Fault::Signature => TokenResult::BadSignature,
            Fault::Expired => TokenResult::Expired,
            Fault::NotYetValid => TokenResult::NotYetValid,
            Fault::Claims(_) | Fault::UnknownApp => TokenResult::BadClaims,
            Fault::SuspendedApp | Fault::Revoked => TokenResult::Revoked,
        }
    }

    fn inside(&self) -> String {
        match self {
            Fault::Malformed(what) | Fault::Header(what) | Fault::Claims(what) | Fault::Confined(what) => {
                format!("token: {}: {what}", self.label())
            }
            Fault::NoKeys(why) => format!("token: no_keys: {why}"),
            _ => format!("token: {}", self.label()),
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        // Only what the holder of a genuine token can act upon is told apart; a forger learns one sentence.
        let message = match &fault {
            Fault::NoKeys(_) => {
                return Refusal::new(Code::ServiceUnavailable, "The token cannot be checked right now. Try again.")
                    .retry_after(5)
                    .inside(fault.inside());
            }
            Fault::SuspendedApp => {
                return Refusal::new(Code::AccountSuspended, "The mini-app is suspended.").inside(fault.inside());
            }
            Fault::Expired => "The access token has expired.",
            Fault::NotYetValid => "The access token is not valid yet.",
            Fault::Revoked => "The access token has been revoked.",
            Fault::UnknownApp => "The access token is for a mini-app that is not registered here.",
            _ => "The access token is not valid.",
        };
        Refusal::new(Code::InvalidToken, message).inside(fault.inside()).challenge(Challenge::BearerInvalid)
    }
}
