//! What has been revoked, in memory. Withdrawals are epochs: a token is void when it was issued before the last revocation
//! of its grant, of its (user, mini-app) pair, of scopes of that pair, of its user or of its mini-app. So is a grant, but
//! for scopes: it lacks those that were taken back since it was given, and stands for the rest. Single tokens are listed by
//! `jti` until they would have expired anyway, keys by issuer and key id.
//!
//! Our own tokens say which revocation was the last one that their issuer knew of; of others only the second in which
//! they were issued is known, and the second of a revocation itself is void with the ones before.
//!
//! Whether this memory is up to date is part of it: [`super::feed`] says when it last agreed with the log.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use super::generation::Generation;
use crate::clock::Tick;
use crate::model::oauth::{Grant, GrantId};
use crate::model::token::TepClaims;
use crate::model::{MiniAppId, Revocation, Revoked, Scope, ScopeSet, UserId};
use crate::store::revocations::{EPOCHS_FOR, GRANTS_FOR};

/// How old the last agreement with the log may be before money is withheld.
pub const STALE_AFTER: Duration = Duration::from_secs(1);
/// No log is followed: what is here is all there is.
const NEVER: u64 = u64::MAX;
/// A log is followed that nothing has been heard of yet.
const NOT_YET: u64 = u64::MAX - 1;

/// What has been revoked.
#[derive(Debug)]
pub struct Revocations {
    generation: Generation,
    tables: RwLock<Tables>,
    /// The tick of the last agreement with the log, [`NEVER`] or [`NOT_YET`].
    agreed: AtomicU64,
    /// The number of the last switch of payments, doubled, and 1 while they are off.
    payments: AtomicU64,
}

#[derive(Debug, Default)]
struct Tables {
    grants: HashMap<String, Epoch>,
    pairs: HashMap<(UserId, MiniAppId), Epoch>,
    scopes: HashMap<(UserId, MiniAppId), Parts>,
    users: HashMap<UserId, Epoch>,
    apps: HashMap<MiniAppId, Epoch>,
    keys: HashSet<(String, String)>,
    tokens: HashMap<String, u64>,
}

/// The last revocation of something. Neither part ever moves back.
#[derive(Clone, Copy, Debug, Default)]
struct Epoch {
    number: u64,
    at: u64,
}

/// What a user has taken back of what a mini-app was allowed.
#[derive(Debug, Default)]
struct Parts {
    last: Epoch,
    /// The number of the last revocation of each scope.
    numbers: Vec<(Scope, u64)>,
}

impl Parts {
    fn take_back(&mut self, scopes: ScopeSet, epoch: Epoch) {
        self.last.move_to(epoch);
        for scope in scopes.iter() {
            match self.numbers.iter_mut().find(|(known, _)| *known == scope) {
                Some((_, number)) => *number = epoch.number.max(*number),
                None => self.numbers.push((scope, epoch.number)),
            }
        }
    }

    fn since(&self, known: u64) -> ScopeSet {
        self.numbers.iter().filter(|(_, number)| known < *number).map(|(scope, _)| *scope).collect()
    }
}

impl Epoch {
    fn move_to(&mut self, later: Epoch) {
        self.number = self.number.max(later.number);
        self.at = self.at.max(later.at);
    }

    fn reaches(self, claims: &TepClaims) -> bool {
        match claims.revocation {
            Some(known) => known < self.number,
            None => claims.issued_at <= self.at,
        }
    }
}

impl Revocations {
    /// Nothing revoked yet. Each revocation moves `generation`.
    pub fn new(generation: Generation) -> Revocations {
        let (agreed, payments) = (AtomicU64::new(NEVER), AtomicU64::new(0));
        Revocations { generation, tables: RwLock::default(), agreed, payments }
    }

    /// Puts a revocation in force; it is when this returns. Doing so again changes nothing.
    pub fn apply(&self, revocation: &Revocation) {
        let epoch = Epoch { number: revocation.number, at: revocation.at };
        let later = |known: &mut Epoch| known.move_to(epoch);
        let mut tables = self.tables.write();
        match revocation.what.clone() {
            Revoked::Grant(grant) => later(tables.grants.entry(grant).or_default()),
            Revoked::Pair(user, app) => later(tables.pairs.entry((user, app)).or_default()),
            Revoked::Scopes(user, app, scopes) => {
                tables.scopes.entry((user, app)).or_default().take_back(scopes, epoch);
            }
            Revoked::User(user) => later(tables.users.entry(user).or_default()),
            Revoked::App(app) => later(tables.apps.entry(app).or_default()),
            Revoked::Key { issuer, kid } => {
                tables.keys.insert((issuer, kid));
            }
            Revoked::Token { jti, expires_at } => {
                let known = tables.tokens.entry(jti).or_default();
                *known = expires_at.max(*known);
            }
            Revoked::Payments { off } => {
                // The latest number decides, in whatever order they come.
                self.payments.fetch_max(epoch.number << 1 | u64::from(off), Ordering::AcqRel);
            }
        }
        drop(tables);
        self.generation.bump();
    }

    /// Says that a log is followed from now on: before the first agreement with it nothing here is current.
    pub fn expect(&self) {
        self.agreed.store(NOT_YET, Ordering::Release);
    }

    /// Says that everything up to `number` has been applied, as of `at`.
    pub fn agree(&self, number: u64, at: Tick) {
        self.generation.revoked_up_to(number);
        self.agreed.store(at.0, Ordering::Release);
    }

    /// Whether this memory agreed with the log within the last second ([`STALE_AFTER`]).
    pub fn is_current(&self, now: Tick) -> bool {
        let agreed = self.agreed.load(Ordering::Acquire);
        agreed == NEVER || (agreed != NOT_YET && now.since(Tick(agreed)) <= STALE_AFTER)
    }

    /// How long ago this memory last agreed with the log; as long as the clock has run when it never has. `None`: no log
    /// is followed.
    pub fn age(&self, now: Tick) -> Option<Duration> {
        let agreed = self.agreed.load(Ordering::Acquire);
        let agreed = if agreed == NOT_YET { 0 } else { agreed };
        (agreed != NEVER).then(|| now.since(Tick(agreed)))
    }

    /// The number of the last switch of payments, which is when it was thrown in milliseconds since the Unix epoch; 0: never.
    pub fn payments_switched(&self) -> u64 {
        self.payments.load(Ordering::Acquire) >> 1
    }

    /// Whether all payments are called off.
    pub fn payments_off(&self) -> bool {
        self.payments.load(Ordering::Acquire) & 1 == 1
    }

    /// Forgets what no token that is good at `now` (seconds since the Unix epoch) can be void by, as the log does.
    pub fn sweep(&self, now: u64) {
        let mut tables = self.tables.write();
        let within = |life: Duration| move |epoch: &Epoch| now <= epoch.at.saturating_add(life.as_secs());
        let (of_grant, of_others) = (within(GRANTS_FOR), within(EPOCHS_FOR));
        tables.grants.retain(|_, epoch| of_grant(epoch));
        tables.pairs.retain(|_, epoch| of_others(epoch));
        tables.scopes.retain(|_, parts| of_others(&parts.last));
        tables.users.retain(|_, epoch| of_others(epoch));
        tables.apps.retain(|_, epoch| of_others(epoch));
        tables.tokens.retain(|_, expires_at| *expires_at >= now);
    }

    /// Whether a token with these claims has been revoked.
    pub fn voids(&self, claims: &TepClaims) -> bool {
        let tables = self.tables.read();
        let reached = |epoch: Option<&Epoch>| epoch.is_some_and(|epoch| epoch.reaches(claims));
        let pair = || (claims.user.clone(), claims.app.clone());
        claims.grant_id.as_ref().is_some_and(|grant| reached(tables.grants.get(grant)))
            || (!tables.pairs.is_empty() && reached(tables.pairs.get(&pair())))
            || (!tables.scopes.is_empty() && reached(tables.scopes.get(&pair()).map(|parts| &parts.last)))
            || reached(tables.users.get(&claims.user))
            || reached(tables.apps.get(&claims.app))
            || (!tables.keys.is_empty() && tables.keys.contains(&(claims.issuer.clone(), claims.kid.clone())))
            || claims.jti.as_ref().is_some_and(|jti| tables.tokens.contains_key(jti))
    }

    /// Whether everything of a user has been revoked since `known` was the last revocation.
    pub fn revoked_user(&self, user: &UserId, known: u64) -> bool {
        self.tables.read().users.get(user).is_some_and(|epoch| known < epoch.number)
    }

    /// The number of the last revocation that is in force here.
    pub fn known(&self) -> u64 {
        self.generation.revocation()
    }

    /// What is left of a permission: `None` when it has ended or was taken back, by itself or with its user, its mini-app or
    /// the pair, and with it its code and its refresh tokens; without the scopes that were taken back.
    pub fn left_of(&self, id: GrantId, grant: &Grant) -> Option<Grant> {
        let (user, app) = (&grant.user, &grant.client.app);
        let tables = self.tables.read();
        let of_grant = tables.grants.get(&id.to_string()).is_some_and(|epoch| grant.holds_from < epoch.number);
        if grant.ended || of_grant {
            return None;
        }
        let taken = tables.taken_back(user, app, grant.holds_from)?;
        if taken.intersection(grant.scopes).is_empty() { Some(grant.clone()) } else { grant.clone().without(taken) }
    }

    /// Which scopes of all that `user` allowed `app` when `known` was the last revocation have been taken back since;
    /// `None`: all of them.
    pub fn taken_back(&self, user: &UserId, app: &MiniAppId, known: u64) -> Option<ScopeSet> {
        self.tables.read().taken_back(user, app, known)
    }
}

impl Tables {
    fn taken_back(&self, user: &UserId, app: &MiniAppId, known: u64) -> Option<ScopeSet> {
        let pair = (user.clone(), app.clone());
        let since = |epoch: Option<&Epoch>| epoch.is_some_and(|epoch| known < epoch.number);
        if since(self.pairs.get(&pair)) || since(self.users.get(user)) || since(self.apps.get(app)) {
            return None;
        }
        Some(self.scopes.get(&pair).map_or(ScopeSet::EMPTY, |parts| parts.since(known)))
    }
}

#[cfg(test)]
mod tests;
