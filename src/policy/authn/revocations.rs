//! What has been revoked, in memory. Withdrawals are epochs: a token issued at or before the epoch of its grant, of its
//! (user, mini-app) pair, of its user or of its mini-app is void. Single tokens are listed by `jti` until they would have
//! expired anyway, keys by issuer and key id.

use std::collections::{HashMap, HashSet};

use parking_lot::RwLock;

use super::generation::Generation;
use crate::model::token::TepClaims;
use crate::model::{MiniAppId, UserId};

/// Whose tokens are revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// Those of one grant.
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
}

/// What has been revoked.
#[derive(Debug)]
pub struct Revocations {
    generation: Generation,
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    grants: HashMap<String, u64>,
    pairs: HashMap<(UserId, MiniAppId), u64>,
    users: HashMap<UserId, u64>,
    apps: HashMap<MiniAppId, u64>,
    keys: HashSet<(String, String)>,
    tokens: HashMap<String, u64>,
}

impl Revocations {
    /// Nothing revoked yet. Each revocation moves `generation`.
    pub fn new(generation: Generation) -> Revocations {
        Revocations { generation, tables: RwLock::default() }
    }

    /// Revokes what was issued until `at` (seconds since the Unix epoch), in force when this returns. An epoch never
    /// moves back.
    pub fn revoke(&self, what: Revoked, at: u64) {
        let mut tables = self.tables.write();
        match what {
            Revoked::Grant(grant) => later(tables.grants.entry(grant).or_default(), at),
            Revoked::Pair(user, app) => later(tables.pairs.entry((user, app)).or_default(), at),
            Revoked::User(user) => later(tables.users.entry(user).or_default(), at),
            Revoked::App(app) => later(tables.apps.entry(app).or_default(), at),
            Revoked::Key { issuer, kid } => {
                tables.keys.insert((issuer, kid));
            }
            Revoked::Token { jti, expires_at } => {
                later(tables.tokens.entry(jti).or_default(), expires_at);
            }
        }
        drop(tables);
        self.generation.bump();
    }

    /// Forgets single tokens that have expired by `now`.
    pub fn sweep(&self, now: u64) {
        self.tables.write().tokens.retain(|_, expires_at| *expires_at >= now);
    }

    /// Whether a token with these claims has been revoked.
    pub fn voids(&self, claims: &TepClaims) -> bool {
        let tables = self.tables.read();
        let reached = |epoch: Option<&u64>| epoch.is_some_and(|epoch| claims.issued_at <= *epoch);
        let pair = || (claims.user.clone(), claims.app.clone());
        claims.grant_id.as_ref().is_some_and(|grant| reached(tables.grants.get(grant)))
            || (!tables.pairs.is_empty() && reached(tables.pairs.get(&pair())))
            || reached(tables.users.get(&claims.user))
            || reached(tables.apps.get(&claims.app))
            || (!tables.keys.is_empty() && tables.keys.contains(&(claims.issuer.clone(), claims.kid.clone())))
            || claims.jti.as_ref().is_some_and(|jti| tables.tokens.contains_key(jti))
    }
}

fn later(epoch: &mut u64, at: u64) {
    *epoch = at.max(*epoch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ScopeSet;

    fn claims() -> TepClaims {
        TepClaims {
            user: UserId::parse("@alice:tween.example").unwrap(),
            app: MiniAppId::parse("ma_shop").unwrap(),
            scopes: ScopeSet::EMPTY,
            session_id: None,
            wallet_id: None,
            jti: Some("j1".to_owned()),
            grant_id: Some("g1".to_owned()),
            room: None,
            privileged: false,
            issuer: "https://edge.example".to_owned(),
            kid: "k1".to_owned(),
            issued_at: 100,
            expires_at: 200,
        }
    }

    #[test]
    fn each_kind_voids_what_was_issued_until_then() {
        let c = claims();
        let (user, app) = (c.user.clone(), c.app.clone());
        for what in [
            Revoked::Grant("g1".to_owned()),
            Revoked::Pair(user.clone(), app.clone()),
            Revoked::User(user.clone()),
            Revoked::App(app.clone()),
        ] {
            let revocations = Revocations::new(Generation::default());
            revocations.revoke(what.clone(), 99);
            assert!(!revocations.voids(&c), "{what:?} before the token was issued");
            revocations.revoke(what.clone(), 100);
            revocations.revoke(what.clone(), 50);
            assert!(revocations.voids(&c), "{what:?}");
        }
        for what in [
            Revoked::Key { issuer: c.issuer.clone(), kid: c.kid.clone() },
            Revoked::Token { jti: "j1".to_owned(), expires_at: 200 },
        ] {
            let revocations = Revocations::new(Generation::default());
            revocations.revoke(what.clone(), 0);
            assert!(revocations.voids(&c), "{what:?}");
        }
    }

    #[test]
    fn others_are_left_alone_and_old_tokens_forgotten() {
        let generation = Generation::default();
        let revocations = Revocations::new(generation.clone());
        let before = generation.current();
        revocations.revoke(Revoked::Grant("g2".to_owned()), 500);
        revocations.revoke(Revoked::Pair(claims().user, MiniAppId::parse("ma_other").unwrap()), 500);
        revocations.revoke(Revoked::User(UserId::parse("@bob:tween.example").unwrap()), 500);
        revocations.revoke(Revoked::Key { issuer: "https://other.example".to_owned(), kid: "k1".to_owned() }, 500);
        revocations.revoke(Revoked::Token { jti: "j2".to_owned(), expires_at: 200 }, 500);
        assert!(!revocations.voids(&claims()));
        assert_ne!(generation.current(), before);
        revocations.sweep(201);
        assert!(revocations.tables.read().tokens.is_empty());
    }
}
