//! What an operator, a user or a client takes back.

use serde::{Deserialize, Serialize};

use super::oauth::GrantId;
use super::{MiniAppId, ScopeSet, UserId};

/// Whose tokens are revoked, or what else is called off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// The tokens of one grant.
    Grant(String),
    /// Those of a user for one mini-app.
    Pair(UserId, MiniAppId),
    /// The access tokens of a user for a mini-app, each of which says what it may for as long as it lives; of what the
    /// user allowed it, these scopes, and the rest stays. No operator's, but a user's who takes back a part.
    Scopes(UserId, MiniAppId, ScopeSet),
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
            Revoked::Scopes(..) => "scopes",
            Revoked::User(_) => "user",
            Revoked::App(_) => "app",
            Revoked::Key { .. } => "key",
            Revoked::Token { .. } => "token",
            Revoked::Payments { .. } => "payments",
        }
    }

    /// Whether another one is about the same thing, whatever it says of it.
    pub fn same_subject(&self, other: &Revoked) -> bool {
        match (self, other) {
            (Revoked::Token { jti: one, .. }, Revoked::Token { jti: other, .. }) => one == other,
            (Revoked::Payments { .. }, Revoked::Payments { .. }) => true,
            _ => self == other,
        }
    }
}

/// One entry of the log of revocations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Its number: larger than that of every entry before it.
    pub number: u64,
    /// When it was made, seconds since the Unix epoch.
    pub at: u64,
    /// What it revokes.
    pub what: Revoked,
}

/// What somebody asks to have revoked, as it was typed. One thing is named: a mini-app, a user, both of them together, a
/// grant, a token, or a key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// A mini-app's id.
    pub app: Option<String>,
    /// A Matrix user id.
    pub user: Option<String>,
    /// A grant's id: the claim `grant_id` of its tokens.
    pub grant: Option<String>,
    /// A token's id: its claim `jti`.
    pub token: Option<String>,
    /// A key's id: the `kid` of its tokens.
    pub key: Option<String>,
    /// With `key`: whose key it is, the claim `iss` of its tokens. Left out: our own.
    pub issuer: Option<String>,
}

/// What is to be done to fulfil a [`RevokeRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokeOrder {
    /// It goes into the log of revocations.
    Log(Revoked),
    /// A key of our own ring is withdrawn there.
    OwnKey(String),
}

/// Whose keys can be revoked.
#[derive(Clone, Debug)]
pub struct Issuers {
    /// The `iss` of our own tokens.
    pub own: String,
    /// Those of the issuers that the config trusts.
    pub trusted: Vec<String>,
}

/// Longest id of a token or key, and longest issuer, bytes.
const LONGEST: usize = 512;

impl RevokeRequest {
    /// Reads it. `until`: until when the id of a single token has to be remembered, seconds since the Unix epoch: nobody says
    /// when it expires. `issuers`: whose keys there are; a misspelt one would revoke nothing and look as if it had.
    ///
    /// # Errors
    /// What is wrong with it, in words for whoever asks.
    pub fn read(self, until: u64, issuers: &Issuers) -> Result<RevokeOrder, String> {
        let app = self.app.map(|text| MiniAppId::parse(&text).map_err(|error| format!("app {text:?}: {error}.")));
        let user = self.user.map(|text| UserId::parse(&text).map_err(|error| format!("user {text:?}: {error}.")));
        let grant = self.grant.map(|text| {
            let id = GrantId::parse(&text).ok_or_else(|| format!("grant {text:?}: expected 32 hex digits."))?;
            Ok::<_, String>(id.to_string())
        });
        let token = self.token.map(|text| plain("token", text));
        let key = self.key.map(|text| plain("key", text));
        let issuer = self.issuer.map(|text| plain("issuer", text));
        let named = (app.transpose()?, user.transpose()?, grant.transpose()?, token.transpose()?, key.transpose()?);
        let revoked = match (named, issuer.transpose()?) {
            ((Some(app), Some(user), None, None, None), None) => Revoked::Pair(user, app),
            ((Some(app), None, None, None, None), None) => Revoked::App(app),
            ((None, Some(user), None, None, None), None) => Revoked::User(user),
            ((None, None, Some(grant), None, None), None) => Revoked::Grant(grant),
            ((None, None, None, Some(jti), None), None) => Revoked::Token { jti, expires_at: until },
            ((None, None, None, None, Some(kid)), Some(issuer)) if issuer == issuers.own => {
                return Ok(RevokeOrder::OwnKey(kid));
            }
            ((None, None, None, None, Some(kid)), Some(issuer)) if issuers.trusted.contains(&issuer) => {
                Revoked::Key { issuer, kid }
            }
            ((None, None, None, None, Some(_)), Some(issuer)) => {
                let known = [issuers.own.as_str()].into_iter().chain(issuers.trusted.iter().map(String::as_str));
                return Err(format!("issuer {issuer:?}: expected one of {}.", known.collect::<Vec<_>>().join(", ")));
            }
            ((None, None, None, None, Some(kid)), None) => return Ok(RevokeOrder::OwnKey(kid)),
            _ => {
                return Err(
                    "Name one thing: app, user, both of them, grant, token, or key (with its issuer).".to_owned()
                );
            }
        };
        Ok(RevokeOrder::Log(revoked))
    }
}

fn plain(what: &str, text: String) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(text) } else { Err(format!("{what}: expected 1 to {LONGEST} printable ASCII characters.")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<RevokeOrder, String> {
        serde_json::from_str::<RevokeRequest>(json).unwrap().read(
            100,
            &Issuers { own: "https://edge.example".to_owned(), trusted: vec!["https://id.example".to_owned()] },
        )
    }

    #[test]
    fn one_thing_is_revoked() {
        let (user, app) = (UserId::parse("@a:b.example").unwrap(), MiniAppId::parse("ma_shop").unwrap());
        let grant = "0123456789abcdef0123456789abcdef";
        for (json, what) in [
            (r#"{"app": "ma_shop"}"#.to_owned(), Revoked::App(app.clone())),
            (r#"{"user": "@a:b.example"}"#.to_owned(), Revoked::User(user.clone())),
            (r#"{"user": "@a:b.example", "app": "ma_shop"}"#.to_owned(), Revoked::Pair(user, app)),
            (format!(r#"{{"grant": "{grant}"}}"#), Revoked::Grant(grant.to_owned())),
            (r#"{"token": "j"}"#.to_owned(), Revoked::Token { jti: "j".to_owned(), expires_at: 100 }),
            (
                r#"{"key": "k", "issuer": "https://id.example"}"#.to_owned(),
                Revoked::Key { issuer: "https://id.example".to_owned(), kid: "k".to_owned() },
            ),
        ] {
            assert_eq!(read(&json), Ok(RevokeOrder::Log(what)), "{json}");
        }
        for own in [r#"{"key": "k"}"#, r#"{"key": "k", "issuer": "https://edge.example"}"#] {
            assert_eq!(read(own), Ok(RevokeOrder::OwnKey("k".to_owned())));
        }
    }

    #[test]
    fn everything_else_is_told_of() {
        for (json, told) in [
            ("{}", "Name one thing"),
            (r#"{"app": "ma_shop", "grant": "0123456789abcdef0123456789abcdef"}"#, "Name one thing"),
            (r#"{"issuer": "x"}"#, "Name one thing"),
            (r#"{"token": "j", "issuer": "x"}"#, "Name one thing"),
            (r#"{"app": "shop/1"}"#, "app"),
            (r#"{"user": "alice"}"#, "user"),
            (r#"{"grant": "x"}"#, "32 hex digits"),
            (r#"{"token": ""}"#, "token: expected"),
            (r#"{"key": "a b"}"#, "key: expected"),
            // With a slash too many it is nobody's, and would revoke nothing.
            (r#"{"key": "k", "issuer": "https://edge.example/"}"#, "one of https://edge.example, https://id.example."),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(told), "{json}: {error}");
        }
    }
}
