//! From the bytes of a bearer token to a [`Verified`] one, or to the reason why not.
//!
//! A token seen before costs a look into the cache and one comparison. A new one is taken apart, its key looked up by
//! issuer and key id in our tables only, its signature checked, then its claims held against what its issuer and its
//! mini-app are trusted with. When something has changed since a cached token was found good, only that last step is
//! repeated.

use std::sync::Arc;

use super::cache::TokenCache;
use super::claims::{self, Claims};
use super::fault::Fault;
use super::generation::Generation;
use super::identity::UserHasher;
use super::jwt::{self, Unverified};
use super::registry::{Registry, StoredApps, registered};
use super::revocations::Revocations;
use super::verified::{Basis, Standing, Verified};
use crate::config::Algorithm;
use crate::error::Refusal;
use crate::metrics::{Metrics, TokenResult};
use crate::model::token::TepClaims;
use crate::model::{MiniAppId, Scope, ScopeSet};
use crate::policy::issuers::{Issuers, Missing, TrustedIssuer};
use crate::policy::keyring::Keyring;

/// Longest token that is looked at, bytes.
pub const MAX_TOKEN: usize = 8 * 1024;
/// How far the issuer's clock may be ahead of ours, seconds. There is no such grace at the end: a cached token ends with
/// the second of its `exp`, and an uncached one must not live longer.
pub const LEEWAY: u64 = 5;
/// Longest life of a token of ours, seconds (protocol section 11).
pub const MAX_LIFETIME: u64 = 24 * 3600;

/// What outlives a config revision.
#[derive(Clone, Debug)]
pub struct VerifierState {
    /// Moves whenever a token may have become void.
    pub generation: Generation,
    /// Our own keys.
    pub keyring: Arc<Keyring>,
    /// What has been revoked.
    pub revocations: Arc<Revocations>,
    /// The mini-apps in the store.
    pub apps: Arc<StoredApps>,
    /// Tokens verified lately.
    pub cache: Arc<TokenCache<Verified>>,
    /// Counts what came of looking at tokens.
    pub metrics: Arc<Metrics>,
}

/// What a config revision says about tokens.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The `iss` of our own tokens: the public URL without a trailing slash.
    pub issuer: String,
    /// The homeserver's name: whose users our own tokens may name.
    pub server_name: String,
    /// The mini-apps.
    pub registry: Registry,
    /// Issuers trusted besides ourselves.
    pub issuers: Issuers,
    /// Names users in logs.
    pub user_hasher: UserHasher,
}

/// Verifies tokens under one config revision.
#[derive(Clone, Debug)]
pub struct Verifier {
    state: VerifierState,
    rules: Rules,
    revision: u64,
}

impl Verifier {
    /// A verifier under `rules`. Tokens cached under other rules are looked at again when they come.
    pub fn new(state: VerifierState, rules: Rules) -> Verifier {
        let revision = state.generation.bump();
        Verifier { state, rules, revision }
    }

    /// The mini-apps of this revision.
    pub fn registry(&self) -> &Registry {
        &self.rules.registry
    }

    /// The trusted issuers of this revision.
    pub fn issuers(&self) -> &Issuers {
        &self.rules.issuers
    }

    /// What has been revoked.
    pub fn revocations(&self) -> &Revocations {
        &self.state.revocations
    }

    /// Where results are counted.
    pub fn metrics(&self) -> &Metrics {
        &self.state.metrics
    }

    /// Verifies a bearer token, with or without its `tep.`; `now` is in seconds since the Unix epoch. Waits for
    /// nothing except, at most once per issuer and cool-down, for an issuer's keys, and as seldom for our own.
    ///
    /// # Errors
    /// 401 `INVALID_TOKEN`; 403 `ACCOUNT_SUSPENDED` for a suspended mini-app; 503 when an issuer's keys cannot be had.
    pub async fn verify(&self, bearer: &str, now: u64) -> Result<Arc<Verified>, Refusal> {
        self.examine(bearer, now).await.map_err(Refusal::from)
    }

    /// [`Verifier::verify`] with the reason as a value, for counting.
    ///
    /// # Errors
    /// Why the token is not believed.
    pub async fn examine(&self, bearer: &str, now: u64) -> Result<Arc<Verified>, Fault> {
        let token = bearer.strip_prefix("tep.").unwrap_or(bearer);
        if let Some(hit) = self.state.cache.get(token.as_bytes(), now) {
            let stamp = self.stamp();
            if hit.confirmed() == stamp {
                self.state.metrics.tokens.inc(TokenResult::ValidCached);
                return Ok(hit);
            }
            match self.confirm_again(token, hit, stamp, now) {
                // The key may have to be fetched first, which is what a new token gets.
                Err(Fault::UnknownKey) => {}
                outcome => return self.counted(outcome, TokenResult::ValidCached),
            }
        }
        // Apart and boxed, so that the future of a hit stays small.
        let outcome = Box::pin(self.examine_anew(token, now)).await;
        self.counted(outcome, TokenResult::Valid)
    }

    /// Looks again at a token that was found good not long ago, for what has been revoked since.
    ///
    /// # Errors
    /// 401 `INVALID_TOKEN`.
    pub fn confirm(&self, verified: &Verified) -> Result<(), Refusal> {
        let revoked = verified.confirmed() != self.stamp() && self.state.revocations.voids(&verified.claims);
        if revoked { Err(Fault::Revoked.into()) } else { Ok(()) }
    }

    fn counted(&self, outcome: Result<Arc<Verified>, Fault>, valid: TokenResult) -> Result<Arc<Verified>, Fault> {
        self.state.metrics.tokens.inc(match &outcome {
            Ok(_) => valid,
            Err(fault) => fault.result(),
        });
        outcome
    }

    async fn examine_anew(&self, token: &str, now: u64) -> Result<Arc<Verified>, Fault> {
        if token.len() > MAX_TOKEN {
            return Err(Fault::TooLong);
        }
        let parts = jwt::parse(token)?;
        let issuer = claims::issuer(&parts.claims)?;
        let stamp = self.stamp();
        let source = if issuer == self.rules.issuer {
            self.check_own_signature(&parts, now).await?;
            None
        } else {
            let issuer = self.rules.issuers.get(issuer).ok_or(Fault::UnknownIssuer)?;
            check_issuer_signature(issuer, &parts, now).await?;
            Some(issuer)
        };
        let read = claims::read(&parts.claims)?;
        check_times(&read, source.is_none(), now)?;
        if source.is_none() && !(read.typed && parts.typed) {
            return Err(Fault::Claims("one of our own tokens without typ or token_type"));
        }
        let basis = Basis { granted: read.scopes, privileged_until: read.privileged_until };
        let claims = self.tep_claims(read, issuer, &parts.kid)?;
        let standing = self.standing(&claims, basis, now)?;
        let verified = Verified::new(claims, &standing, basis, &self.rules.user_hasher);
        let verified = Arc::new(verified.ok_or(Fault::Claims("a claim cannot stand in a header"))?);
        self.keep(token, &verified, stamp, now);
        Ok(verified)
    }

    /// Something has changed since `hit` was found good: everything but the signature is looked at again.
    #[cold]
    fn confirm_again(&self, token: &str, hit: Arc<Verified>, stamp: u64, now: u64) -> Result<Arc<Verified>, Fault> {
        let outcome = self.key_is_good(&hit.claims, now).and_then(|()| self.standing(&hit.claims, hit.basis(), now));
        let standing = match outcome {
            Ok(standing) => standing,
            Err(fault) => {
                self.state.cache.remove(token.as_bytes());
                return Err(fault);
            }
        };
        if hit.has(&standing) {
            hit.confirm(stamp);
            return Ok(hit);
        }
        let renewed = Verified::new(hit.claims.clone(), &standing, hit.basis(), &self.rules.user_hasher);
        let renewed = Arc::new(renewed.ok_or(Fault::Claims("a claim cannot stand in a header"))?);
        self.keep(token, &renewed, stamp, now);
        Ok(renewed)
    }

    fn keep(&self, token: &str, verified: &Arc<Verified>, stamp: u64, now: u64) {
        verified.confirm(stamp);
        let mut until = verified.claims.expires_at;
        if verified.claims.privileged {
            until = until.min(verified.privileged_until.unwrap_or(until));
        }
        self.state.cache.insert(token.as_bytes(), verified.clone(), verified.weight(), now, until);
    }

    /// Under what a token is found good now: these rules, and everything that happened so far. Read before the
    /// tables are, so that a change in between is noticed at the token's next request.
    fn stamp(&self) -> u64 {
        self.revision << 32 | (self.state.generation.current() & 0xffff_ffff)
    }

    async fn check_own_signature(&self, parts: &Unverified<'_>, now: u64) -> Result<(), Fault> {
        if parts.algorithm != Algorithm::Rs256 {
            return Err(Fault::Header("our own tokens are RS256"));
        }
        let keyring = &self.state.keyring;
        if keyring.ring().find(&parts.kid, now).is_none() {
            keyring.learn(&parts.kid, now).await.map_err(Fault::NoKeys)?;
        }
        let ring = keyring.ring();
        let key = ring.find(&parts.kid, now).ok_or(Fault::UnknownKey)?;
        if key.verifies(parts.algorithm, parts.message, &parts.signature) { Ok(()) } else { Err(Fault::Signature) }
    }

    fn key_is_good(&self, claims: &TepClaims, now: u64) -> Result<(), Fault> {
        if claims.issuer == self.rules.issuer {
            return self.state.keyring.ring().find(&claims.kid, now).map(|_| ()).ok_or(Fault::UnknownKey);
        }
        let issuer = self.rules.issuers.get(&claims.issuer).ok_or(Fault::UnknownIssuer)?;
        if issuer.knows(&claims.kid) { Ok(()) } else { Err(Fault::UnknownKey) }
    }

    /// The claims as the rest of the house knows them, with the scopes that the token itself lists.
    fn tep_claims(&self, read: Claims, issuer: &str, kid: &str) -> Result<TepClaims, Fault> {
        Ok(TepClaims {
            app: self.app(&read.app_names)?,
            user: read.user,
            scopes: read.scopes,
            session_id: read.session_id,
            wallet_id: read.wallet_id,
            jti: read.jti,
            grant_id: read.grant_id,
            room: read.room,
            privileged: false,
            issuer: issuer.to_owned(),
            kid: kid.to_owned(),
            // A trusted issuer that wrote it could put its tokens out of our reach.
            revocation: read.revocation.filter(|_| issuer == self.rules.issuer),
            issued_at: read.issued_at,
            expires_at: read.expires_at,
        })
    }

    /// The one mini-app that all the names stand for.
    fn app(&self, names: &[String]) -> Result<MiniAppId, Fault> {
        let mut apps = names.iter().map(|name| self.rules.registry.resolve(name));
        let first = apps.next().flatten().ok_or(Fault::Claims("the mini-app's id is malformed"))?;
        if apps.all(|other| other.as_ref() == Some(&first)) {
            Ok(first)
        } else {
            Err(Fault::Claims("the token names more than one mini-app"))
        }
    }

    /// What the token may do: its own scopes, less what its issuer may not grant, less what its mini-app has not
    /// registered, less what only official mini-apps hold.
    fn standing(&self, claims: &TepClaims, basis: Basis, now: u64) -> Result<Standing, Fault> {
        let mut scopes = basis.granted;
        if claims.issuer == self.rules.issuer {
            if claims.user.server() != self.rules.server_name {
                return Err(Fault::Confined("a user of another server"));
            }
        } else {
            let issuer = self.rules.issuers.get(&claims.issuer).ok_or(Fault::UnknownIssuer)?.trust();
            if !issuer.server_names.iter().any(|name| name == claims.user.server()) {
                return Err(Fault::Confined("a user of a server that the issuer does not speak for"));
            }
            if !issuer.apps.contains(&claims.app) {
                return Err(Fault::Confined("a mini-app that the issuer does not speak for"));
            }
            scopes = scopes.intersection(issuer.scopes);
        }
        let app = self.rules.registry.admit(&claims.app)?;
        if self.state.revocations.voids(claims) {
            return Err(Fault::Revoked);
        }
        if let Some(app) = &app {
            scopes = scopes.intersection(registered(app));
        }
        let official = app.is_some_and(|app| app.official());
        let privileged = official && basis.privileged_until.is_some_and(|until| now < until);
        if !privileged {
            scopes = scopes.difference(official_only());
        }
        Ok(Standing { scopes, privileged, official })
    }
}

/// Checks a trusted issuer's signature, fetching its keys when that may help.
async fn check_issuer_signature(issuer: &Arc<TrustedIssuer>, parts: &Unverified<'_>, now: u64) -> Result<(), Fault> {
    if !issuer.trust().algorithms.contains(&parts.algorithm) {
        return Err(Fault::Header("an algorithm that is not taken from this issuer"));
    }
    let found = match issuer.find(&parts.kid, parts.algorithm, now) {
        Err(missing) if issuer.learn(&parts.kid, missing, now).await => issuer.find(&parts.kid, parts.algorithm, now),
        found => found,
    };
    match found {
        Ok(key) if key.verifies(parts.algorithm, parts.message, &parts.signature) => Ok(()),
        Ok(_) => Err(Fault::Signature),
        Err(Missing::Key) => Err(Fault::UnknownKey),
        Err(Missing::Keys) => Err(Fault::NoKeys(issuer.trouble())),
    }
}

fn check_times(claims: &Claims, own: bool, now: u64) -> Result<(), Fault> {
    if now >= claims.expires_at {
        return Err(Fault::Expired);
    }
    let begins = claims.not_before.unwrap_or(0).max(claims.issued_at);
    if begins > now.saturating_add(LEEWAY) {
        return Err(Fault::NotYetValid);
    }
    if own && claims.expires_at.saturating_sub(claims.issued_at) > MAX_LIFETIME {
        return Err(Fault::Claims("a life of more than 24 h"));
    }
    Ok(())
}

fn official_only() -> ScopeSet {
    Scope::ALL.iter().copied().filter(|scope| scope.official_only()).collect()
}
