//! Issuers trusted besides our own key ring, and their keys.
//!
//! Keys are fetched in the background, so that requests find them in memory. A token with an unknown key id may make
//! one more fetch worthwhile (the issuer may just have rotated), at most once per cool-down whoever asks; key ids that
//! a fetch did not bring are remembered as bogus. Trouble with fetching is never the token's fault: known keys stay good
//! for 24 hours without a successful fetch, and after that callers are told to come back, not that their token is bad.

mod jwks;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::config::{Algorithm, Issuer};
use crate::policy::authn::generation::Generation;
use crate::policy::authn::key::VerifyKey;
use crate::upstream::egress::{Egress, Limits};

/// Between fetches in the background, give or take a tenth.
pub const REFRESH: Duration = Duration::from_secs(600);
/// Between a failed fetch and the next one in the background.
const RETRY: Duration = Duration::from_secs(30);
/// Between fetches that requests bring about, seconds.
pub const COOL_DOWN: u64 = 30;
/// The same while there are no keys at all: a deployment that starts all at once should not wait for half a minute.
const COOL_DOWN_WITHOUT_KEYS: u64 = 3;
/// How long keys stay good without a successful fetch, seconds.
pub const STALE_AFTER: u64 = 24 * 3600;
/// How long a key id that a fetch did not bring is taken for bogus, seconds.
const BOGUS_FOR: u64 = 600;
/// How many bogus key ids are remembered.
const MAX_BOGUS: usize = 256;
/// A key set may take this long and be this large.
const LIMITS: Limits = Limits { total: Duration::from_secs(5), answer: 256 * 1024 };

/// Why there is no key to check a token with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The issuer has no such key: the token is at fault.
    Key,
    /// The issuer's keys are not known, or may be out of date: the token is not at fault.
    Keys,
}

/// The trusted issuers of one config revision. Cloning shares the keys.
#[derive(Clone, Debug, Default)]
pub struct Issuers {
    list: Arc<[Arc<TrustedIssuer>]>,
}

impl Issuers {
    /// These issuers. One that `previous` trusted in the same way stays as it is; one that is trusted otherwise now, but
    /// has the same keys, keeps those.
    pub fn new(
        trusted: &[Issuer],
        previous: &Issuers,
        egress: &Arc<Egress>,
        clock: &Clock,
        generation: &Generation,
    ) -> Issuers {
        let source = |trust: &Issuer| (trust.issuer.clone(), trust.jwks_url.clone(), trust.algorithms.clone());
        let list = trusted.iter().map(|trust| {
            let before = previous.list.iter().find(|old| source(&old.trust) == source(trust));
            match before {
                Some(kept) if kept.trust == *trust => kept.clone(),
                _ => {
                    let issuer = TrustedIssuer::new(trust.clone(), egress.clone(), clock.clone(), generation.clone());
                    if let Some(old) = before {
                        issuer.keys.store(old.keys.load_full());
                    }
                    Arc::new(issuer)
                }
            }
        });
        Issuers { list: list.collect() }
    }

    /// The issuer whose `iss` is exactly this.
    pub fn get(&self, issuer: &str) -> Option<&Arc<TrustedIssuer>> {
        self.list.iter().find(|trusted| trusted.trust.issuer == issuer)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TrustedIssuer>> {
        self.list.iter()
    }

    /// Fetches everybody's keys now and again and again; ends only by being dropped.
    pub async fn keep_fresh(&self) {
        futures::future::join_all(self.list.iter().map(|issuer| issuer.clone().keep_fresh())).await;
        // Nobody to ask: whoever waits for this waits for a new config, and must not be answered at once, for ever.
        std::future::pending::<()>().await;
    }
}

/// One trusted issuer.
#[derive(Debug)]
pub struct TrustedIssuer {
    trust: Issuer,
    egress: Arc<Egress>,
    clock: Clock,
    generation: Generation,
    keys: ArcSwap<KeySet>,
    attempts: Mutex<Attempts>,
    /// Held while fetching, so that those who need the same keys fetch once.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct KeySet {
    keys: Vec<Arc<VerifyKey>>,
    /// When this was last known to be the issuer's set; `None`: never.
    fetched_at: Option<u64>,
}

#[derive(Debug, Default)]
struct Attempts {
    last: Option<u64>,
    /// Why the last attempt failed; `None` when it did not.
    trouble: Option<String>,
    bogus: HashMap<String, u64>,
}

impl TrustedIssuer {
    fn new(trust: Issuer, egress: Arc<Egress>, clock: Clock, generation: Generation) -> TrustedIssuer {
        TrustedIssuer {
            trust,
            egress,
            clock,
            generation,
            keys: ArcSwap::default(),
            attempts: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// What it is trusted with.
    pub fn trust(&self) -> &Issuer {
        &self.trust
    }

    /// When its keys were last fetched, seconds since the Unix epoch.
    pub fn fetched_at(&self) -> Option<u64> {
        self.keys.load().fetched_at
    }

    /// Why its keys cannot be had, for the log.
    pub fn trouble(&self) -> String {
        let trouble = self.attempts.lock().trouble.clone();
        let trouble = trouble.unwrap_or_else(|| "its keys have not been fetched yet".to_owned());
        format!("issuer {}: {trouble}", self.trust.issuer)
    }

    /// Whether it has a key of that id.
    pub(super) fn knows(&self, kid: &str) -> bool {
        self.keys.load().keys.iter().any(|key| key.kid() == kid)
    }

    /// The key of that id for that algorithm, from memory.
    pub(super) fn find(&self, kid: &str, algorithm: Algorithm, now: u64) -> Result<Arc<VerifyKey>, Missing> {
        let set = self.keys.load();
        if set.fetched_at.is_none_or(|at| now.saturating_sub(at) >= STALE_AFTER) {
            return Err(Missing::Keys);
        }
        let key = set.keys.iter().find(|key| key.kid() == kid && key.is_for(algorithm));
        key.cloned().ok_or_else(|| self.absent(kid, now))
    }

    /// A key id that is not in the set: bogus, unless the last fetch failed and it might have brought it.
    fn absent(&self, kid: &str, now: u64) -> Missing {
        let attempts = self.attempts.lock();
        let bogus = attempts.bogus.get(kid).is_some_and(|until| now < *until);
        if attempts.trouble.is_some() && !bogus { Missing::Keys } else { Missing::Key }
    }

    /// Tries to learn a key that [`TrustedIssuer::find`] did not have; `true` when looking again is worthwhile.
    pub(super) async fn learn(self: &Arc<Self>, kid: &str, missing: Missing, now: u64) -> bool {
        if !self.is_worth_a_fetch(kid, now) {
            return false;
        }
        let before = self.attempts.lock().last;
        // A task of its own: a caller that leaves half way must not leave a half-done fetch to the others.
        let issuer = self.clone();
        let fetch = tokio::spawn(async move {
            let _one_at_a_time = issuer.fetching.lock().await;
            // Somebody else may have fetched while this one waited.
            if issuer.attempts.lock().last == before {
                issuer.fetch(now).await;
            }
        });
        let done = fetch.await.is_ok();
        if done && missing == Missing::Key && !self.knows(kid) {
            self.remember_as_bogus(kid, now);
        }
        done
    }

    fn is_worth_a_fetch(&self, kid: &str, now: u64) -> bool {
        let cool_down = if self.fetched_at().is_some() { COOL_DOWN } else { COOL_DOWN_WITHOUT_KEYS };
        let attempts = self.attempts.lock();
        let bogus = attempts.bogus.get(kid).is_some_and(|until| now < *until);
        !bogus && attempts.last.is_none_or(|last| now.abs_diff(last) >= cool_down)
    }

    fn remember_as_bogus(&self, kid: &str, now: u64) {
        let mut attempts = self.attempts.lock();
        if attempts.trouble.is_some() {
            return;
        }
        attempts.bogus.retain(|_, until| now < *until);
        if attempts.bogus.len() < MAX_BOGUS {
            attempts.bogus.insert(kid.to_owned(), now + BOGUS_FOR);
        }
    }

    /// Fetches the keys. The caller holds `fetching`.
    async fn fetch(&self, now: u64) {
        self.attempts.lock().last = Some(now);
        let outcome = match self.egress.get(&self.trust.jwks_url, LIMITS).await {
            Ok(answer) if answer.status == http::StatusCode::OK => jwks::parse(&answer.body, &self.trust.algorithms),
            Ok(answer) => Err(format!("status {}", answer.status.as_u16())),
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(keys) => self.take(keys, now),
            Err(trouble) => {
                log::warn!("issuer {}: cannot fetch its keys: {trouble}", self.trust.issuer);
                self.attempts.lock().trouble = Some(trouble);
            }
        }
    }

    fn take(&self, keys: Vec<VerifyKey>, now: u64) {
        let kids = |keys: &mut dyn Iterator<Item = &str>| keys.map(str::to_owned).collect::<Vec<_>>();
        let before = kids(&mut self.keys.load().keys.iter().map(|key| key.kid()));
        let after = kids(&mut keys.iter().map(VerifyKey::kid));
        self.keys.store(Arc::new(KeySet { keys: keys.into_iter().map(Arc::new).collect(), fetched_at: Some(now) }));
        let mut attempts = self.attempts.lock();
        attempts.trouble = None;
        if before != after {
            attempts.bogus.clear();
            drop(attempts);
            log::info!("issuer {}: {} keys", self.trust.issuer, after.len());
            self.generation.bump();
        }
    }

    async fn keep_fresh(self: Arc<Self>) {
        // One that a reload kept has fresh keys already.
        let age = self.fetched_at().map(|at| Duration::from_secs(self.clock.unix_secs().saturating_sub(at)));
        if let Some(rest) = age.and_then(|age| REFRESH.checked_sub(age)) {
            tokio::time::sleep(jittered(rest)).await;
        }
        loop {
            {
                let _one_at_a_time = self.fetching.lock().await;
                self.fetch(self.clock.unix_secs()).await;
            }
            let failed = self.attempts.lock().trouble.is_some();
            tokio::time::sleep(jittered(if failed { RETRY } else { REFRESH })).await;
        }
    }
}

/// Give or take a tenth, so that instances started together do not ask together for ever.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0u8; 2];
    // Without randomness the pause is merely the same for all.
    let _ = aws_lc_rs::rand::fill(&mut random);
    pause.mul_f64(0.9 + 0.2 * f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX))
}
