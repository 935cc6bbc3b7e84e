//! A TEP token that has been verified, with what each of its requests needs worked out already.

use std::sync::atomic::{AtomicU64, Ordering};

use super::identity::{UserHash, UserHasher};
use crate::model::ScopeSet;
use crate::model::token::TepClaims;
use crate::policy::rate_limit::LimitKey;
use crate::upstream::forward::Identity;

/// A verified token. Only the verifier makes one.
#[derive(Debug)]
pub struct Verified {
    /// What the token says, with the scopes that are in force.
    pub claims: TepClaims,
    /// Whether its mini-app is an official one.
    pub official: bool,
    /// Who upstreams are told is calling.
    pub identity: Identity,
    /// The limit bucket of (mini-app, user).
    pub app_user_key: LimitKey,
    /// The limit bucket of the user.
    pub user_key: LimitKey,
    /// The user in logs.
    pub user_hash: UserHash,
    /// The scopes that the token itself lists, before registry and issuer took theirs away.
    pub(super) granted: ScopeSet,
    /// Until when the token is privileged, if it says so.
    pub(super) privileged_until: Option<u64>,
    /// Under which rules and which generation it was last found good.
    confirmed: AtomicU64,
}

impl Verified {
    /// `None` when a claim cannot stand in a header.
    pub(super) fn new(claims: TepClaims, standing: &Standing, basis: Basis, hasher: &UserHasher) -> Option<Verified> {
        let claims = TepClaims { scopes: standing.scopes, privileged: standing.privileged, ..claims };
        Some(Verified {
            identity: Identity::of(&claims).ok()?,
            official: standing.official,
            app_user_key: LimitKey::app_user(&claims.app, &claims.user),
            user_key: LimitKey::user(&claims.user),
            user_hash: hasher.hash(claims.user.as_str()),
            granted: basis.granted,
            privileged_until: basis.privileged_until,
            confirmed: AtomicU64::new(0),
            claims,
        })
    }

    /// What the token says before anything is taken away.
    pub(super) fn basis(&self) -> Basis {
        Basis { granted: self.granted, privileged_until: self.privileged_until }
    }

    /// Whether `standing` is what this value was made with.
    pub(super) fn has(&self, standing: &Standing) -> bool {
        self.claims.scopes == standing.scopes
            && self.claims.privileged == standing.privileged
            && self.official == standing.official
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    pub(super) fn confirm(&self, stamp: u64) {
        self.confirmed.store(stamp, Ordering::Relaxed);
    }

    /// Bytes that this value takes, roughly.
    pub(super) fn weight(&self) -> usize {
        let c = &self.claims;
        let texts = [&c.session_id, &c.wallet_id, &c.jti, &c.grant_id];
        let texts: usize = texts.into_iter().flatten().map(|text| 2 * (text.len() + 16)).sum();
        let names = c.user.as_str().len() + c.app.as_str().len() + c.room.as_ref().map_or(0, |r| r.as_str().len());
        size_of::<Verified>()
            + texts
            + 2 * names
            + c.issuer.len()
            + c.kid.len()
            + self.identity.scopes.as_ref().map_or(0, http::HeaderValue::len)
            + 160
    }
}

/// What a token says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Basis {
    pub granted: ScopeSet,
    pub privileged_until: Option<u64>,
}

/// What a token may do under the rules of the moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub scopes: ScopeSet,
    pub privileged: bool,
    pub official: bool,
}
