//! The log of revocations: numbered, in one partition, so that every instance learns of each of them in order.
//!
//! A revocation is put in two places at once. Under `log/` it stands for an hour, for instances that follow; under
//! `state/` there is one entry for whatever it revokes, for as long as a token that it voids may be about, for instances
//! that start or have missed something. So what is loaded at a start is compact however much has been revoked.
//!
//! Numbers are the time in milliseconds, and always larger than the last one: a store that was restored from a backup
//! gives out no number that tokens of before the restore have already heard of.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::oauth::{Approvals, Grants};
use super::{Applied, Backend, Batch, Condition, Partition, Read, StoreError};
use crate::clock::Clock;
use crate::model::oauth::GrantId;
use crate::model::{Revocation, Revoked};

/// What is told when the log grows.
const TOPIC: &str = "revocations";

const VERSION: u32 = 1;
const HEAD: &str = "head";
const LOG: &str = "log/";
const STATE: &str = "state/";
/// How long an instance may have been away and still catch up entry by entry.
const LOGGED_FOR: Duration = Duration::from_secs(3600);
/// How long the revocation of a grant matters: our own tokens live for at most 24 h, and the grant's id is in no others.
pub const GRANTS_FOR: Duration = Duration::from_secs(25 * 3600);
/// How long that of a user or a mini-app matters: as long as a refresh token may lie unused, and tokens of trusted
/// issuers may live longer than ours.
pub const EPOCHS_FOR: Duration = Duration::from_secs(366 * 24 * 3600);
/// Entries asked for in one go.
const PAGE: usize = 500;
/// How often others may come first before that is called a fault.
const TRIES: usize = 100;

/// The log of revocations.
#[derive(Clone, Debug)]
pub struct RevocationLog {
    store: Arc<dyn Backend>,
    clock: Clock,
    /// One at a time from here: those of one instance would only be in each other's way.
    appending: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    v: u32,
    number: u64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    number: u64,
    /// The number before, so that a gap can be told.
    previous: u64,
    at: u64,
    what: Revoked,
}

impl Stored {
    fn revocation(self) -> Revocation {
        Revocation { number: self.number, at: self.at, what: self.what }
    }
}

impl RevocationLog {
    /// Kept in `store`.
    pub fn new(store: Arc<dyn Backend>, clock: Clock) -> RevocationLog {
        RevocationLog { store, clock, appending: Arc::default() }
    }

    /// Writes a revocation down, durably, and tells everybody who follows. A revoked grant ends with its code and its
    /// refresh tokens, which would outlive what is remembered of its revocation. What a user allowed a mini-app is no longer
    /// approved once it is revoked; or the next consent, and the next token exchange, would give it back unasked.
    ///
    /// # Errors
    /// When the store fails; the revocation may have happened all the same, and it does no harm to revoke again.
    pub async fn append(&self, what: Revoked) -> Result<Revocation, StoreError> {
        self.append_after(0, what).await
    }

    /// [`RevocationLog::append`], with a number larger than `known`: tokens that were issued knowing of that one are to be
    /// void, also when a fail-over has lost it.
    ///
    /// # Errors
    /// As there.
    pub async fn append_after(&self, known: u64, what: Revoked) -> Result<Revocation, StoreError> {
        let grants = Grants::new(self.store.clone());
        let grant = if let Revoked::Grant(id) = &what { GrantId::parse(id) } else { None };
        // The log forgets a grant when its last access token has expired. So nothing must rest on it alone, and what fails
        // half-way leaves a grant that is marked, for a second try to find.
        if let Some(id) = grant {
            grants.close(id).await?;
        }
        let revocation = self.note(known, what.clone()).await?;
        if let Some(id) = grant {
            grants.end(id).await?;
        }
        let (user, app, scopes) = match &what {
            Revoked::Pair(user, app) => (user, app, None),
            Revoked::Scopes(user, app, scopes) => (user, app, Some(*scopes)),
            _ => return Ok(revocation),
        };
        // Not before: whoever adds to what is approved looks afterwards whether anything was revoked meanwhile.
        let approvals = Approvals::new(self.store.clone());
        let approved = approvals.of(user, app).await?;
        let approved = scopes.map_or(approved, |scopes| scopes.intersection(approved));
        if approved.is_empty() {
            return Ok(revocation);
        }
        approvals.remove(user, app, approved).await?;
        // And once more, for what came of them in between.
        self.note(revocation.number, what).await
    }

    async fn note(&self, known: u64, what: Revoked) -> Result<Revocation, StoreError> {
        let _in_turn = self.appending.lock().await;
        for tried in 0..TRIES {
            if tried > 0 {
                pause().await;
            }
            let head = self.store.get(&partition(), HEAD, Read::Latest).await?;
            let (previous, condition) = match &head {
                None => (0, Condition::Absent),
                Some(entry) => (decode::<Head>(&entry.value)?.number, Condition::Is(entry.version)),
            };
            let now = self.clock.unix();
            let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            let number = millis.max(previous.max(known).saturating_add(1));
            let stored = Stored { v: VERSION, number, previous, at: now.as_secs(), what: what.clone() };
            let value = encode(&stored)?;
            let mut batch = Batch::new(partition())?
                .when(HEAD, condition)
                .put(HEAD, encode(&Head { v: VERSION, number })?, None)
                .put(log_name(number), value.clone(), Some(LOGGED_FOR))
                .telling(TOPIC);
            for name in state_names(&what) {
                batch = batch.put(name, value.clone(), life(&what, stored.at));
            }
            if self.store.apply(batch).await? == Applied::Done {
                return Ok(Revocation { number, at: stored.at, what });
            }
        }
        Err(StoreError::Unavailable("others write to the log of revocations all the time".to_owned()))
    }

    /// A number that moves when somebody appends; the telling can be lost.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.store.subscribe(TOPIC)
    }

    /// The number of the last entry; 0 when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn number(&self) -> Result<u64, StoreError> {
        let head = self.store.get(&partition(), HEAD, Read::Latest).await?;
        head.map_or(Ok(0), |entry| Ok(decode::<Head>(&entry.value)?.number))
    }

    /// The number of the last entry, from a store that has proved that it is the one that entries are written to now.
    ///
    /// # Errors
    /// When the store fails or cannot prove that ([`Read::Confirmed`]).
    pub async fn confirm(&self) -> Result<u64, StoreError> {
        let head = self.store.get(&partition(), HEAD, Read::Confirmed).await?;
        head.map_or(Ok(0), |entry| Ok(decode::<Head>(&entry.value)?.number))
    }

    /// What came after `known`, in order. `None` when that can no longer be told: everything has to be read again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn since(&self, known: u64) -> Result<Option<Vec<Revocation>>, StoreError> {
        let last = self.number().await?;
        if last == known {
            return Ok(Some(Vec::new()));
        }
        if last < known {
            // A fail-over has lost what was read before. What comes next must be larger all the same.
            log::warn!("the log of revocations ends at {last}, and has been read up to {known}: it is read anew");
            self.raise(known).await?;
            return Ok(None);
        }
        let (mut found, mut expected) = (Vec::new(), known);
        for stored in self.scan(LOG, Some(log_name(known))).await? {
            if stored.previous != expected {
                return Ok(None);
            }
            expected = stored.number;
            found.push(stored.revocation());
        }
        Ok((expected >= last).then_some(found))
    }

    /// Lets the next entry come after `number`, unless others have come that far.
    async fn raise(&self, number: u64) -> Result<(), StoreError> {
        let Some(entry) = self.store.get(&partition(), HEAD, Read::Latest).await? else {
            let batch = Batch::new(partition())?.when(HEAD, Condition::Absent);
            return self.store.apply(batch.put(HEAD, encode(&Head { v: VERSION, number })?, None)).await.map(drop);
        };
        if decode::<Head>(&entry.value)?.number < number {
            let batch = Batch::new(partition())?.when(HEAD, Condition::Is(entry.version));
            self.store.apply(batch.put(HEAD, encode(&Head { v: VERSION, number })?, None)).await?;
        }
        Ok(())
    }

    /// Up to `limit` of the last hour's revocations with numbers above `known`, in order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recent(&self, known: u64, limit: usize) -> Result<Vec<Revocation>, StoreError> {
        let page = self.store.scan(&partition(), LOG, Some(&log_name(known)), limit, Read::Latest).await?;
        let read = |entry: &[u8]| decode::<Stored>(entry).map(Stored::revocation);
        page.iter().map(|(_, entry)| read(&entry.value)).collect()
    }

    /// Everything that still matters, in order, and the number up to which it is complete.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn all(&self) -> Result<(u64, Vec<Revocation>), StoreError> {
        // Before the entries: one that comes in between is then read twice, rather than never.
        let number = self.number().await?;
        let entries = self.scan(STATE, None).await?.into_iter();
        let mut all: Vec<Revocation> = entries.map(Stored::revocation).collect();
        all.sort_by_key(|revocation| revocation.number);
        // One of several scopes stands there for each of them.
        all.dedup_by_key(|revocation| revocation.number);
        Ok((number, all))
    }

    async fn scan(&self, prefix: &str, mut after: Option<String>) -> Result<Vec<Stored>, StoreError> {
        let mut found = Vec::new();
        loop {
            let page = self.store.scan(&partition(), prefix, after.as_deref(), PAGE, Read::Latest).await?;
            for (_, entry) in &page {
                found.push(decode(&entry.value)?);
            }
            match page.into_iter().last() {
                Some((name, _)) if found.len() % PAGE == 0 => after = Some(name),
                _ => return Ok(found),
            }
        }
    }
}

/// Lets others go first, for a while that differs from theirs.
async fn pause() {
    let mut chance = [0u8; 1];
    // Without randomness all wait for the same while, which is no worse than not waiting.
    let _ = rand::fill(&mut chance);
    tokio::time::sleep(Duration::from_micros(200 + 50 * u64::from(chance[0]))).await;
}

fn partition() -> Partition {
    Partition::of("revocations", &[])
}

fn log_name(number: u64) -> String {
    format!("{LOG}{number:020}")
}

/// One name for whatever is revoked, whatever letters stand in it; for scopes one each, since the next to be taken back
/// may be others.
fn state_names(what: &Revoked) -> Vec<String> {
    let parts: Vec<&str> = match what {
        Revoked::Grant(grant) => vec![grant],
        Revoked::Pair(user, app) => vec![user.as_str(), app.as_str()],
        Revoked::Scopes(user, app, scopes) => {
            return scopes.iter().map(|scope| name(what, &[user.as_str(), app.as_str(), scope.as_str()])).collect();
        }
        Revoked::User(user) => vec![user.as_str()],
        Revoked::App(app) => vec![app.as_str()],
        Revoked::Key { issuer, kid } => vec![issuer, kid],
        Revoked::Token { jti, .. } => vec![jti],
        Revoked::Payments { .. } => Vec::new(),
    };
    vec![name(what, &parts)]
}

fn name(what: &Revoked, parts: &[&str]) -> String {
    format!("{STATE}{}", Partition::of(what.kind(), parts).as_str())
}

/// How long it has to be remembered; `None`: until it is taken back.
fn life(what: &Revoked, now: u64) -> Option<Duration> {
    match what {
        Revoked::Grant(_) => Some(GRANTS_FOR),
        Revoked::Pair(..) | Revoked::Scopes(..) | Revoked::User(_) | Revoked::App(_) => Some(EPOCHS_FOR),
        // Whoever has stolen it makes tokens whenever they like.
        Revoked::Key { .. } => None,
        Revoked::Token { expires_at, .. } => Some(Duration::from_secs(expires_at.saturating_sub(now) + 60)),
        Revoked::Payments { .. } => None,
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Internal(error.to_string()))
}

fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Malformed(format!("the log of revocations: {error}")))
}

#[cfg(test)]
mod tests;
