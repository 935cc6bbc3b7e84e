//! User codes that users have typed into a chat app and that no device shows (RFC 8628 section 5.1).
//!
//! A browser's visit ends with a few wrong codes. A chat app shows the same Matrix access token each time, so wrong codes
//! are counted for its user. They are counted before they are looked up, so that many at once are as many, and a right one
//! is taken out again: it makes no room for others.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value;
use crate::model::UserId;
use crate::store::{Applied, Backend, Batch, Condition, Partition, Read, StoreError};

const NAME: &str = "user_codes";
/// Wrong codes that a user may type in [`WITHIN`].
pub const MOST: u32 = 5;
/// How long a wrong code counts, from the first one on.
pub const WITHIN: Duration = Duration::from_secs(600);

/// Everybody's guesses.
#[derive(Clone, Debug)]
pub struct Guesses {
    store: Arc<dyn Backend>,
}

#[derive(Serialize, Deserialize)]
struct Count {
    codes: u32,
    /// Seconds since the Unix epoch.
    until: u64,
}

impl Guesses {
    /// Kept in `store`.
    pub fn new(store: Arc<dyn Backend>) -> Guesses {
        Guesses { store }
    }

    /// `user` types a code at `now` (seconds since the Unix epoch). `Some`: too many have been wrong, and this is how many
    /// seconds to wait.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn typed(&self, user: &UserId, now: u64) -> Result<Option<u64>, StoreError> {
        let until = self.change(user, now, |codes| (codes < MOST).then_some(codes + 1)).await?;
        Ok(until.map(|until| until.saturating_sub(now).max(1)))
    }

    /// The code that `user` typed was right.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn right(&self, user: &UserId, now: u64) -> Result<(), StoreError> {
        self.change(user, now, |codes| codes.checked_sub(1)).await.map(drop)
    }

    /// Changes the count. `Some`: `next` left it as it was, and this is until when it stands.
    async fn change(
        &self,
        user: &UserId,
        now: u64,
        next: impl Fn(u32) -> Option<u32>,
    ) -> Result<Option<u64>, StoreError> {
        let partition = Partition::of("guesses", &[user.as_str()]);
        loop {
            let entry = self.store.get(&partition, NAME, Read::Latest).await?;
            let held = entry.map(|entry| value::read::<Count>("a count of guesses", &entry)).transpose()?;
            let (condition, count) = match held {
                Some(held) => (Condition::Is(held.version), held.value),
                None => (Condition::Absent, Count { codes: 0, until: now + WITHIN.as_secs() }),
            };
            let Some(codes) = next(count.codes) else { return Ok(Some(count.until)) };
            let left = Duration::from_secs(count.until.saturating_sub(now).max(1));
            let batch = Batch::new(partition.clone())?.when(NAME, condition);
            let batch = batch.put(NAME, value::write(&Count { codes, ..count })?, Some(left)).relaxed();
            // Another one at the same moment counts as well: look again.
            if self.store.apply(batch).await? == Applied::Done {
                return Ok(None);
            }
        }
    }
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
    async fn wrong_codes_count_however_many_come_at_once_and_right_ones_make_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let place = config::Store::Embedded { path: folder.path().join("store") };
        let (clock, hand) = Clock::manual(1_800_000_000);
        let store = store::open(&place, &clock, &Arc::new(Metrics::new(&[]).unwrap())).unwrap().store;
        let guesses = Guesses::new(store);
        let [alice, bob] = ["@alice:tween.example", "@bob:tween.example"].map(|user| UserId::parse(user).unwrap());
        let now = clock.unix_secs();
        for _ in 0..20 {
            assert_eq!(guesses.typed(&alice, now).await.unwrap(), None);
            guesses.right(&alice, now).await.unwrap();
        }
        hand.advance(Duration::from_secs(100));
        let now = clock.unix_secs();
        let typed = join_all((0..20).map(|_| guesses.typed(&alice, now))).await;
        let (heard, barred): (Vec<_>, Vec<_>) = typed.into_iter().map(Result::unwrap).partition(Option::is_none);
        assert_eq!((heard.len(), barred), (5, vec![Some(500); 15]));
        assert_eq!(guesses.typed(&bob, now).await.unwrap(), None);
        hand.advance(Duration::from_secs(501));
        assert_eq!(guesses.typed(&alice, clock.unix_secs()).await.unwrap(), None);
    }
}
