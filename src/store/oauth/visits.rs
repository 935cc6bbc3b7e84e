//! Who sits at a browser: the sign-in to the edge's own pages (protocol section 1, "homeserver sign-in").
//!
//! A visit is named by a random cookie, of which only the hash is stored. It lasts minutes, not days: the pages are for
//! one decision. Wrong user codes are counted in it, so that whoever guesses has to sign in again and again (RFC 8628
//! section 5.1).

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Place;
use crate::model::UserId;
use crate::store::seal::sha256;
use crate::store::{Applied, Backend, Batch, Condition, Partition, Read, StoreError};

const NAME: &str = "visit";
/// Wrong user codes after which a visit is over.
pub const MOST_WRONG_CODES: u32 = 5;

/// Everybody's visits.
#[derive(Clone, Debug)]
pub struct Visits {
    store: Arc<dyn Backend>,
    ttl: Duration,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    user: String,
    wrong_codes: u32,
    /// Seconds since the Unix epoch.
    until: u64,
    /// The last revocation that was known of before the user signed in.
    #[serde(default)]
    known: u64,
}

impl Visits {
    /// Kept in `store`; each lasts `ttl`.
    pub fn new(store: Arc<dyn Backend>, ttl: Duration) -> Visits {
        Visits { store, ttl }
    }

    /// Who sits where `cookie` comes from, if somebody has signed in there; and the last revocation before they did.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn user(&self, cookie: &str) -> Result<Option<(UserId, u64)>, StoreError> {
        let Some(entry) = self.store.get(&partition(cookie), NAME, Read::Latest).await? else { return Ok(None) };
        let stored = Some(read(&entry.value)?).filter(|stored| stored.wrong_codes < MOST_WRONG_CODES);
        Ok(stored.and_then(|stored| Some((UserId::parse(&stored.user).ok()?, stored.known))))
    }

    /// `user` has signed in at `now` (seconds since the Unix epoch), and is from now on known by `cookie`. `known`: the last
    /// revocation before they did.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(&self, cookie: &str, user: &UserId, now: u64, known: u64) -> Result<(), StoreError> {
        let until = now + self.ttl.as_secs();
        let stored = Stored { v: 1, user: user.to_string(), wrong_codes: 0, until, known };
        let batch = Batch::new(partition(cookie))?.put(NAME, write(&stored)?, Some(self.ttl)).relaxed();
        self.store.apply(batch).await.map(drop)
    }

    /// Ends a visit.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end(&self, cookie: &str) -> Result<(), StoreError> {
        self.store.apply(Batch::new(partition(cookie))?.delete(NAME)).await.map(drop)
    }

    /// A user code is typed in a visit at `now`. It is counted before it is looked up, so that many at once are as many.
    /// `false`: too many have been wrong, and the visit is over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn typed(&self, cookie: &str, now: u64) -> Result<bool, StoreError> {
        self.count(cookie, now, |codes| (codes < MOST_WRONG_CODES).then_some(codes + 1)).await
    }

    /// The code that was typed was right, and makes no room for others.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn right(&self, cookie: &str, now: u64) -> Result<(), StoreError> {
        self.count(cookie, now, |codes| codes.checked_sub(1)).await.map(drop)
    }

    async fn count(&self, cookie: &str, now: u64, next: impl Fn(u32) -> Option<u32>) -> Result<bool, StoreError> {
        let partition = partition(cookie);
        loop {
            let Some(entry) = self.store.get(&partition, NAME, Read::Latest).await? else { return Ok(false) };
            let stored = read(&entry.value)?;
            let left = Duration::from_secs(stored.until.saturating_sub(now));
            let Some(wrong_codes) = next(stored.wrong_codes).filter(|_| !left.is_zero()) else { return Ok(false) };
            let batch = Batch::new(partition.clone())?.when(NAME, Condition::Is(entry.version));
            let batch = batch.put(NAME, write(&Stored { wrong_codes, ..stored })?, Some(left)).relaxed();
            // Another one at the same moment counts as well: look again.
            if self.store.apply(batch).await? == Applied::Done {
                return Ok(true);
            }
        }
    }
}

fn partition(cookie: &str) -> Partition {
    let hash: String = sha256(cookie.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    Place::Visit.of(&hash)
}

fn read(value: &[u8]) -> Result<Stored, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Malformed(format!("a visit: {error}")))
}

fn write(stored: &Stored) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(stored).map_err(|error| StoreError::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::clock::Clock;
    use crate::config;
    use crate::metrics::Metrics;
    use crate::store;

    #[tokio::test]
    async fn whoever_guesses_has_to_sign_in_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = config::Store::Embedded { path: folder.path().join("store") };
        let (clock, hand) = Clock::manual(1_800_000_000);
        let store = store::open(&place, &clock, &Arc::new(Metrics::new(&[]).unwrap())).unwrap().store;
        let visits = Visits::new(store, Duration::from_secs(600));
        let alice = UserId::parse("@alice:tween.example").unwrap();
        visits.begin("a", &alice, clock.unix_secs(), 7).await.unwrap();
        assert_eq!(visits.user("b").await.unwrap(), None);
        for _ in 0..20 {
            assert!(visits.typed("a", clock.unix_secs()).await.unwrap());
            visits.right("a", clock.unix_secs()).await.unwrap();
        }
        assert_eq!(visits.user("a").await.unwrap(), Some((alice.clone(), 7)));
        let now = clock.unix_secs();
        let typed = join_all((0..20).map(|_| visits.typed("a", now))).await;
        assert_eq!(typed.into_iter().filter(|typed| *typed.as_ref().unwrap()).count(), 5, "however many come at once");
        assert_eq!(visits.user("a").await.unwrap(), None);

        visits.begin("a", &alice, clock.unix_secs(), 7).await.unwrap();
        hand.advance(Duration::from_secs(400));
        assert!(visits.typed("a", clock.unix_secs()).await.unwrap());
        hand.advance(Duration::from_secs(201));
        assert_eq!(visits.user("a").await.unwrap(), None, "a guess does not prolong a visit");
        visits.begin("a", &alice, clock.unix_secs(), 7).await.unwrap();
        visits.end("a").await.unwrap();
        assert_eq!(visits.user("a").await.unwrap(), None);
    }
}
