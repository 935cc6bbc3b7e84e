//! What a restore must not undo.
//!
//! Whoever puts an older backup in place of a store wants its content back, and not the keys that have been revoked since,
//! nor payments that have been called off: of those the store that is replaced knows better. So they are read before it
//! is emptied and done again afterwards. To revoke what is revoked already does no harm.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::keys::{KeyDocument, KeyState, KeyStore};
use super::revocations::RevocationLog;
use super::{Backend, StoreError};
use crate::clock::Clock;
use crate::model::Revocation;

/// What a store that is about to be replaced knows to be void.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    ring: KeyDocument,
    revocations: Vec<Revocation>,
}

/// What was done again, and which keys there are then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// Ids of keys that were good in what was restored, and are revoked.
    pub keys: Vec<String>,
    /// How many other revocations and switches of payments were newer.
    pub revocations: usize,
    /// Ids of the keys that sign now. When there is none, the next start makes one.
    pub signing: Vec<String>,
}

impl Kept {
    /// Reads it.
    ///
    /// # Errors
    /// When the store fails, or what it holds cannot be read.
    pub async fn read(store: &Arc<dyn Backend>, clock: &Clock) -> Result<Kept, StoreError> {
        let (ring, _) = KeyStore::new(store.clone()).read().await?;
        // In the order in which they happened: of the switches of payments the last one counts.
        let (_, revocations) = RevocationLog::new(store.clone(), clock.clone()).all().await?;
        Ok(Kept { ring, revocations })
    }

    /// With what an earlier try to replace the same store knew, which did not come to doing it again.
    #[must_use]
    pub fn and(mut self, earlier: Kept) -> Kept {
        self.revocations.extend(earlier.revocations);
        self.revocations.sort_by_key(|revocation| revocation.number);
        // Whole entries: a clock that was set back may have given one number to two of them.
        self.revocations.dedup();
        // A key that either knows to be revoked is.
        let revoked = earlier.ring.keys.into_iter().filter(|key| key.state == KeyState::Revoked);
        for key in revoked {
            self.ring.keys.retain(|own| own.kid != key.kid);
            self.ring.keys.push(key);
        }
        self
    }

    /// Does it again, in what has taken the store's place.
    ///
    /// # Errors
    /// When the store fails; what was not done again is void no more then.
    pub async fn apply_again(&self, store: &Arc<dyn Backend>, clock: &Clock) -> Result<Again, StoreError> {
        let mut again = Again::default();
        let keys = KeyStore::new(store.clone());
        if self.ring.keys.iter().any(|key| key.state == KeyState::Revoked) {
            keys.update(|ring| {
                again.keys = self.revoke_keys(ring);
                Ok::<_, StoreError>(())
            })
            .await?;
        }
        let (ring, _) = keys.read().await?;
        let signing = ring.keys.iter().filter(|key| key.state == KeyState::Signing);
        again.signing = signing.map(|key| key.kid.clone()).collect();
        let log = RevocationLog::new(store.clone(), clock.clone());
        let (_, restored) = log.all().await?;
        for kept in &self.revocations {
            let known = restored.iter().any(|other| other.what.same_subject(&kept.what) && other.number >= kept.number);
            if !known {
                // Not before what it was: the clock of this machine may be behind.
                log.append_after(kept.number, kept.what.clone()).await?;
                again.revocations += 1;
            }
        }
        Ok(again)
    }

    fn revoke_keys(&self, ring: &mut KeyDocument) -> Vec<String> {
        let mut revoked = Vec::new();
        for kept in self.ring.keys.iter().filter(|key| key.state == KeyState::Revoked) {
            match ring.keys.iter_mut().find(|key| key.kid == kept.kid) {
                Some(key) if key.state == KeyState::Revoked => {}
                Some(key) => {
                    key.clone_from(kept);
                    revoked.push(kept.kid.clone());
                }
                // So that its id is never believed again.
                None => ring.keys.push(kept.clone()),
            }
        }
        revoked
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::Metrics;
    use crate::model::{Revoked, UserId};
    use crate::store::archive::Reader;
    use crate::store::embedded::Embedded;
    use crate::store::keys::KeyRecord;
    use crate::store::transfer;

    fn record(kid: &str, state: KeyState) -> KeyRecord {
        let sealed = (state != KeyState::Revoked).then(|| "c2VhbGVk".to_owned());
        let revoked = (state == KeyState::Revoked).then_some(5);
        KeyRecord { kid: kid.to_owned(), state, created: 1, signs_since: None, accepted_until: None, revoked, sealed }
    }

    async fn set_ring(store: &Arc<dyn Backend>, keys: &[(&str, KeyState)]) {
        let change = |ring: &mut KeyDocument| -> Result<(), StoreError> {
            ring.keys = keys.iter().map(|(kid, state)| record(kid, *state)).collect();
            Ok(())
        };
        KeyStore::new(store.clone()).update(change).await.unwrap();
    }

    #[tokio::test]
    async fn an_older_backup_revives_no_key_and_lets_no_payments_through() {
        use KeyState::{Revoked as Void, Signing};
        let folder = tempfile::tempdir().unwrap();
        let (clock, time) = Clock::manual(1_800_000_000);
        let metrics = Arc::new(Metrics::new(&[]).unwrap());
        let store: Arc<dyn Backend> = Arc::new(Embedded::open(folder.path(), clock.clone(), metrics).unwrap());
        let log = RevocationLog::new(store.clone(), clock.clone());
        let banned = |name: &str| Revoked::User(UserId::parse(name).unwrap());
        set_ring(&store, &[("old", Signing)]).await;
        log.append(banned("@early:x")).await.unwrap();
        log.append(Revoked::Payments { off: false }).await.unwrap();
        let (backup, _) = transfer::backup(&*store, Vec::new(), clock.unix_secs()).await.unwrap();

        time.advance(Duration::from_secs(60));
        set_ring(&store, &[("old", Void), ("stray", Void), ("new", Signing)]).await;
        log.append(banned("@late:x")).await.unwrap();
        log.append(Revoked::Payments { off: true }).await.unwrap();
        let kept = Kept::read(&store, &clock).await.unwrap();
        transfer::clear(&*store).await.unwrap();
        let mut reader = Reader::begin(backup.as_slice()).unwrap();
        transfer::restore(&*store, &mut reader, Duration::from_secs(60)).await.unwrap();

        let again = kept.apply_again(&store, &clock).await.unwrap();
        assert_eq!(again, Again { keys: vec!["old".to_owned()], revocations: 2, signing: Vec::new() });
        let (ring, _) = KeyStore::new(store.clone()).read().await.unwrap();
        let found: Vec<_> = ring.keys.iter().map(|key| (key.kid.as_str(), key.state, key.sealed.is_some())).collect();
        assert_eq!(found, [("old", Void, false), ("stray", Void, false)]);
        let (_, all) = log.all().await.unwrap();
        for what in [banned("@early:x"), banned("@late:x"), Revoked::Payments { off: true }] {
            assert_eq!(all.iter().filter(|revocation| revocation.what == what).count(), 1, "{what:?}");
        }
        // Once more there is nothing left to do.
        assert_eq!(kept.apply_again(&store, &clock).await.unwrap(), Again::default());
    }
}
