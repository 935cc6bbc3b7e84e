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
}

impl Visits {
    /// Kept in `store`; each lasts `ttl`.
    pub fn new(store: Arc<dyn Backend>, ttl: Duration) -> Visits {
        Visits { store, ttl }
    }

    /// Who sits where `cookie` comes from, if somebody has signed in there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn user(&self, cookie: &str) -> Result<Option<UserId>, StoreError> {
        let Some(entry) = self.store.get(&partition(cookie), NAME, Read::Latest).await? else { return Ok(None) };
        Ok(UserId::parse(&read(&entry.value)?.user).ok())
    }

    /// `user` has signed in at `now` (seconds since the Unix epoch), and is from now on known by `cookie`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(&self, cookie: &str, user: &UserId, now: u64) -> Result<(), StoreError> {
        let until = now + self.ttl.as_secs();
        let stored = Stored { v: 1, user: user.to_string(), wrong_codes: 0, until };
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

    /// Counts a wrong user code against a visit at `now`. The one that is too many ends it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn wrong_code(&self, cookie: &str, now: u64) -> Result<(), StoreError> {
        let partition = partition(cookie);
        loop {
            let Some(entry) = self.store.get(&partition, NAME, Read::Latest).await? else { return Ok(()) };
            let mut stored = read(&entry.value)?;
            stored.wrong_codes += 1;
            let left = Duration::from_secs(stored.until.saturating_sub(now));
            let batch = Batch::new(partition.clone())?.when(NAME, Condition::Is(entry.version));
            let over = stored.wrong_codes >= MOST_WRONG_CODES || left.is_zero();
            let batch = if over { batch.delete(NAME) } else { batch.put(NAME, write(&stored)?, Some(left)) };
            // Another guess at the same moment counts as well: look again.
            if self.store.apply(batch).await? == Applied::Done {
                return Ok(());
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
        visits.begin("a", &alice, clock.unix_secs()).await.unwrap();
        assert_eq!(visits.user("b").await.unwrap(), None);
        for _ in 1..MOST_WRONG_CODES {
            visits.wrong_code("a", clock.unix_secs()).await.unwrap();
            assert_eq!(visits.user("a").await.unwrap().as_ref(), Some(&alice));
        }
        visits.wrong_code("a", clock.unix_secs()).await.unwrap();
        assert_eq!(visits.user("a").await.unwrap(), None);

        visits.begin("a", &alice, clock.unix_secs()).await.unwrap();
        hand.advance(Duration::from_secs(400));
        visits.wrong_code("a", clock.unix_secs()).await.unwrap();
        hand.advance(Duration::from_secs(201));
        assert_eq!(visits.user("a").await.unwrap(), None, "a guess does not prolong a visit");
        visits.begin("a", &alice, clock.unix_secs()).await.unwrap();
        visits.end("a").await.unwrap();
        assert_eq!(visits.user("a").await.unwrap(), None);
    }
}
