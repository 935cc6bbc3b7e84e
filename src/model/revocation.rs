//! What an operator, a user or a client takes back.

use serde::{Deserialize, Serialize};

use super::{MiniAppId, UserId};

/// Whose tokens are revoked, or what else is called off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// The tokens of one grant.
    Grant(String),
    /// Those of a user for one mini-app.
    Pair(UserId, MiniAppId),
    /// Those of a user.
    User(UserId),
    /// Those of a mini-app.
    App(MiniAppId),
    /// Those signed with a key; `issuer` is the `iss` of its tokens.
    Key {
        /// `iss`.
        issuer: String,
        /// `kid`.
        kid: String,
    },
    /// One token.
    Token {
        /// Its `jti`.
        jti: String,
        /// Its `exp`, after which nothing needs to be remembered.
        expires_at: u64,
    },
    /// Every payment, until they are let through again.
    Payments {
        /// Whether they are called off; `false` lets them through again.
        off: bool,
    },
}

impl Revoked {
    /// What kind it is, for metrics and audit lines.
    pub const fn kind(&self) -> &'static str {
        match self {
            Revoked::Grant(_) => "grant",
            Revoked::Pair(..) => "pair",
            Revoked::User(_) => "user",
            Revoked::App(_) => "app",
            Revoked::Key { .. } => "key",
            Revoked::Token { .. } => "token",
            Revoked::Payments { .. } => "payments",
        }
    }
}

/// One entry of the log of revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its number: larger than that of every entry before it.
    pub number: u64,
    /// When it was made, seconds since the Unix epoch.
    pub at: u64,
    /// What it revokes.
    pub what: Revoked,
}
