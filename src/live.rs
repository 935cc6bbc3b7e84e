//! What outlives a config revision: counters, buckets, verified tokens, cached answers, keys.
//!
//! A snapshot is thrown away at a reload; what callers have used up, what has been verified and what is being counted
//! is not. Each thing here is kept as long as its own part of the config stays the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use url::{Host, Url};

use crate::clock::Clock;
use crate::config::{Config, Store};
use crate::error::Code;
use crate::metrics::Metrics;
use crate::operations::resolve::{self, Resolved};
use crate::policy::apps::AppFeed;
use crate::policy::authn::cache::TokenCache;
use crate::policy::authn::{Generation, RevocationFeed, Revocations, StoredApps, VerifierState};
use crate::policy::guard::Peers;
use crate::policy::keyring::Keyring;
use crate::policy::rate_limit::{Buckets, Engine, Shared};
use crate::store::apps::AppStore;
use crate::store::keys::KeyStore;
use crate::store::redis::Redis;
use crate::store::replacing;
use crate::store::revocations::RevocationLog;
use crate::store::{self, Backend, Opened, StoreError};
use crate::upstream::egress::{Egress, EgressPolicy};

/// State that a reload hands on.
#[derive(Clone)]
pub struct Live {
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is remembered.
    pub store: Arc<dyn Backend>,
    /// The Redis that the store is on, shared with other edges; `None`: the store is this machine's.
    pub redis: Option<Redis>,
    /// Limit buckets of this process.
    pub buckets: Arc<Buckets>,
    /// Those that instances share, when there is a Redis.
    pub shared: Option<Arc<Shared>>,
    /// Where limits are counted: either of them.
    pub limits: Arc<dyn Engine>,
    /// What is known of addresses.
    pub peers: Arc<Peers>,
    /// Keys, verified tokens, revocations.
    pub tokens: VerifierState,
    /// What has been revoked, with the log that it is read from and written to.
    pub revocations: Arc<RevocationFeed>,
    /// The mini-apps in the store, kept up to date.
    pub apps: Arc<AppFeed>,
    /// The client for URLs that others gave us.
    pub egress: Arc<Egress>,
    /// Wallets that were resolved.
    pub resolved: Arc<Resolved>,
    /// Room for request bodies.
    pub bodies: Arc<ByteBudget>,
}

impl Live {
    /// The state of a process that starts with `config`: its store and the keys in it, everything else empty. Makes the first
    /// signing key when there is none.
    pub fn open(config: &Config, clock: Clock) -> Result<Live, String> {
        let metrics = Arc::new(Metrics::new(Code::NAMES).map_err(|error| error.to_string())?);
        let Opened { store, redis } = store::open(&config.store, &clock, &metrics)?;
        let whole = store::blocking(async { Ok::<_, StoreError>(replacing::is_whole(&*store).await) });
        whole.map_err(|error| error.to_string())??;
        let buckets = Arc::new(Buckets::new(limit_bytes(config)));
        let shared = shared_limits(config, redis.as_ref(), &clock, &metrics, &buckets);
        let limits: Arc<dyn Engine> = match &shared {
            Some(shared) => shared.clone(),
            None => buckets.clone(),
        };
        let generation = Generation::default();
        let keyring = open_keyring(config, &store, generation.clone())?;
        keyring.ensure_signing_key(clock.unix_secs()).map_err(|error| error.to_string())?;
        let revocations = Arc::new(Revocations::new(generation.clone()));
        let log = RevocationLog::new(store.clone(), clock.clone());
        let feed = RevocationFeed::new(log, revocations.clone(), clock.clone(), metrics.clone());
        store::blocking(look(&feed)).map_err(|error| format!("the log of revocations: {error}"))?;
        let (keyring, stored) = (Arc::new(keyring), Arc::<StoredApps>::default());
        let apps = AppFeed::new(
            AppStore::new(store.clone()),
            stored.clone(),
            keyring.clone(),
            generation.clone(),
            clock.clone(),
            metrics.clone(),
        );
        store::blocking(apps.look()).map_err(|error| error.to_string())?;
        apps.take_note(config);
        Ok(Live {
            metrics: metrics.clone(),
            store,
            redis,
            buckets,
            shared,
            limits,
            peers: Arc::new(Peers::new()),
            tokens: VerifierState {
                generation,
                keyring,
                revocations,
                apps: stored,
                cache: Arc::new(TokenCache::new(config.cache.auth)),
                metrics,
            },
            revocations: Arc::new(feed),
            apps: Arc::new(apps),
            egress: Arc::new(Egress::new(egress_policy(config)).map_err(|error| error.to_string())?),
            resolved: resolve::cache(),
            bodies: Arc::new(ByteBudget::new(config.server.limits.buffered_bodies)),
            clock,
        })
    }

    /// Reads anew what other instances may have changed since this process read it: the key ring and what is revoked. A
    /// successor in an upgrade may have waited for long.
    ///
    /// # Errors
    /// When the store does not tell, for a person.
    pub async fn catch_up(&self) -> Result<(), String> {
        self.tokens.keyring.refresh().await.map_err(|error| error.to_string())?;
        look(&self.revocations).await.map_err(|error| format!("the log of revocations: {error}"))
    }

    /// Puts the parts of `config` into force that bound this state rather than derive anything from it.
    pub fn apply(&self, config: &Config) {
        self.buckets.set_max_bytes(limit_bytes(config));
        if let Some(shared) = &self.shared {
            shared.set_max_bytes(limit_bytes(config));
        }
        self.bodies.set_limit(config.server.limits.buffered_bodies);
        self.egress.set_policy(egress_policy(config));
        self.apps.take_note(config);
    }

    /// Forgets what no longer matters; to be called every few seconds.
    pub fn sweep(&self) {
        let now = self.clock.tick();
        self.buckets.sweep(now);
        self.peers.sweep(now);
        self.tokens.revocations.sweep(self.clock.unix_secs());
    }
}

/// The key ring of the config's store, open. A ring that an earlier release left in the data folder is taken over.
///
/// # Errors
/// Why it cannot be opened and what to do, for a person.
pub fn open_keyring(config: &Config, store: &Arc<dyn Backend>, generation: Generation) -> Result<Keyring, String> {
    let unset = "keys.master_key_file is not set: it seals the signing keys";
    let master_key = config.master_key.as_ref().ok_or(unset)?;
    if let Store::Embedded { path } = &config.store {
        let keys = KeyStore::new(store.clone());
        store::blocking(keys.import(path)).map_err(|error| error.to_string())?;
    }
    Keyring::open_after(store.clone(), master_key, config.previous_master_key.as_ref(), generation)
        .map_err(|error| error.to_string())
}

/// Reads the log of revocations. One that cannot be proved to be complete is no reason not to serve: what needs the
/// proof is refused until there is one.
async fn look(feed: &RevocationFeed) -> Result<(), StoreError> {
    match feed.look().await {
        Err(error @ (StoreError::NotDurable(_) | StoreError::Full(_))) => {
            log::warn!("the log of revocations may lag behind; wallet and payment calls are refused: {error}");
            Ok(())
        }
        looked => looked,
    }
}

/// What limits may keep in memory: with a shared store half is for what is known of it, half for when it does not answer.
fn limit_bytes(config: &Config) -> usize {
    let max_size = config.cache.rate_limit.max_size;
    if matches!(config.store, Store::Redis(_)) { max_size / 2 } else { max_size }
}

/// Limits over several instances, where the store is one that they share.
fn shared_limits(
    config: &Config,
    redis: Option<&Redis>,
    clock: &Clock,
    metrics: &Arc<Metrics>,
    buckets: &Arc<Buckets>,
) -> Option<Arc<Shared>> {
    let Store::Redis(store) = &config.store else { return None };
    let deadline = store.timeouts.limits;
    let shared = Shared::new(redis?.clone(), clock.clone(), metrics.clone(), deadline, buckets.clone());
    shared.set_max_bytes(limit_bytes(config));
    Some(shared)
}

/// What the config allows, and loopback when the config itself names a URL there: a developer's issuer or
/// authentication service.
fn egress_policy(config: &Config) -> EgressPolicy {
    let is_loopback = |url: &Url| match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let issuers = config.tokens.issuers.iter().map(|issuer| &issuer.jwks_url);
    let service = config.oauth.matrix_auth_service.iter().map(|service| &service.introspection_url);
    let mut policy =
        if issuers.chain(service).any(is_loopback) { EgressPolicy::with_loopback() } else { EgressPolicy::strict() };
    policy.allow.extend(config.egress_allow.iter().cloned());
    policy
}

/// Bytes that may be held in memory for something, over all requests.
#[derive(Debug)]
pub struct ByteBudget {
    used: Arc<AtomicUsize>,
    limit: AtomicUsize,
}

/// A share of a [`ByteBudget`], given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    used: Arc<AtomicUsize>,
    limit: usize,
    bytes: usize,
}

impl ByteBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        ByteBudget { used: Arc::default(), limit: AtomicUsize::new(limit) }
    }

    /// Changes the limit; what is reserved stays reserved.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Bytes reserved now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes a share; `None` when there is not enough left.
    pub fn reserve(&self, bytes: usize) -> Option<Reserved> {
        let limit = self.limit.load(Ordering::Relaxed);
        let mut share = Reserved { used: self.used.clone(), limit, bytes: 0 };
        share.grow_to(bytes).then_some(share)
    }
}

impl Reserved {
    /// Enlarges the share to `bytes`; false, and unchanged, when there is not enough left.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let fits = |used: usize| used.checked_add(more).filter(|total| *total <= self.limit || more == 0);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if taken {
            self.bytes += more;
        }
        taken
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded_and_given_back() {
        let budget = ByteBudget::new(100);
        let mut first = budget.reserve(60).unwrap();
        assert!(budget.reserve(41).is_none());
        assert!(!first.grow_to(101));
        assert!(first.grow_to(100));
        assert_eq!(budget.used(), 100);
        assert!(budget.reserve(0).is_some(), "a request without a body needs no room");
        drop(first);
        assert_eq!(budget.used(), 0);
    }
}
