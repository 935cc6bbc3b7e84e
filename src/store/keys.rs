//! The key ring: one value of the store, so that every instance on it signs and checks with the same keys.
//!
//! It is small and changes rarely, so it is read and replaced as a whole, on condition that nobody else has replaced it
//! meanwhile. Private keys in it are sealed ([`super::seal`]); everything else may be read by whoever may read the store.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Applied, Backend, Batch, Condition, Partition, Read, StoreError, Version};

/// The format that this release writes.
const VERSION: u32 = 1;
const NAME: &str = "ring";
/// What is told when the ring changes.
const TOPIC: &str = "keys";
/// How often others may come first before that is called a fault.
const TRIES: usize = 100;
/// Where releases before the store kept the ring, in the data folder.
const OLD_FILE: &str = "keyring.json";

/// What a key is used for at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, so that verifiers know it before it signs.
    Announced,
    /// Signs new tokens.
    Signing,
    /// Signs no more; its tokens are good until they expire.
    Retiring,
    /// Its tokens are void. The private key is gone; the entry stays so that the key id is never believed again.
    Revoked,
}

impl KeyState {
    /// The name in the store and in `tmcp-edge keys list`.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeyState::Announced => "announced",
            KeyState::Signing => "signing",
            KeyState::Retiring => "retiring",
            KeyState::Revoked => "revoked",
        }
    }
}

/// One key of the ring as it is stored. Times are seconds since the Unix epoch.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Key id: the `kid` of its tokens.
    pub kid: String,
    /// What it is used for.
    pub state: KeyState,
    /// When it was made.
    pub created: u64,
    /// When it began to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signs_since: Option<u64>,
    /// When the last token that it signed has expired, at the latest; known once it has stopped signing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<u64>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// The private key (PKCS#8), sealed; absent once revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRecord({} {})", self.kid, self.state.as_str())
    }
}

/// The whole ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDocument {
    version: u32,
    /// Fingerprint of the master key that sealed the keys; empty while there are none.
    pub master_key: String,
    /// The keys, oldest first.
    pub keys: Vec<KeyRecord>,
}

/// The ring's place in the store.
#[derive(Clone, Debug)]
pub struct KeyStore {
    store: Arc<dyn Backend>,
}

impl KeyStore {
    /// In `store`.
    pub fn new(store: Arc<dyn Backend>) -> KeyStore {
        KeyStore { store }
    }

    /// A number that moves when somebody changes the ring; the telling can be lost.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.store.subscribe(TOPIC)
    }

    /// The ring and its version; an empty ring and `None` when there is none yet.
    ///
    /// # Errors
    /// When the store fails, or the ring was written by a later release.
    pub async fn read(&self) -> Result<(KeyDocument, Option<Version>), StoreError> {
        match self.store.get(&partition(), NAME, Read::Latest).await? {
            None => Ok((KeyDocument::default(), None)),
            Some(entry) => Ok((decode(&entry.value)?, Some(entry.version))),
        }
    }

    /// Reads the ring, lets `change` work on it and puts the outcome in its place, durably. When somebody else was faster
    /// `change` is called again, on what is there then. When it fails nothing is written.
    ///
    /// # Errors
    /// Those of `change` and of the store.
    pub async fn update<T, E: From<StoreError>>(
        &self,
        mut change: impl FnMut(&mut KeyDocument) -> Result<T, E>,
    ) -> Result<T, E> {
        for _ in 0..TRIES {
            let (before, version) = self.read().await?;
            let mut document = before.clone();
            let outcome = change(&mut document)?;
            if document == before {
                return Ok(outcome);
            }
            let condition = version.map_or(Condition::Absent, Condition::Is);
            if self.put(document, condition).await? {
                return Ok(outcome);
            }
        }
        Err(StoreError::Unavailable("others change the key ring all the time".to_owned()).into())
    }

    /// Takes over the ring that an earlier release kept as a file in `folder`, unless the store has one. The file stays
    /// under another name. Says whether it did.
    ///
    /// # Errors
    /// When the store or the file fails.
    pub async fn import(&self, folder: &Path) -> Result<bool, StoreError> {
        let file = folder.join(OLD_FILE);
        let told = |error: io::Error| StoreError::Internal(format!("{}: {error}", file.display()));
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(told(error)),
        };
        let document = decode(&text)?;
        let taken = self.put(document, Condition::Absent).await?;
        if taken {
            fs::rename(&file, file.with_extension("json.imported")).map_err(told)?;
        }
        Ok(taken)
    }

    async fn put(&self, mut document: KeyDocument, condition: Condition) -> Result<bool, StoreError> {
        document.version = VERSION;
        let value = serde_json::to_vec(&document).map_err(|error| StoreError::Internal(error.to_string()))?;
        let batch = Batch::new(partition())?.when(NAME, condition).put(NAME, value, None).telling(TOPIC);
        Ok(self.store.apply(batch).await? == Applied::Done)
    }
}

fn partition() -> Partition {
    Partition::of("keys", &[])
}

fn decode(value: &[u8]) -> Result<KeyDocument, StoreError> {
    let document: KeyDocument =
        serde_json::from_slice(value).map_err(|error| StoreError::Malformed(format!("the key ring: {error}")))?;
    match document.version {
        VERSION => Ok(document),
        other => {
            Err(StoreError::Malformed(format!("the key ring: format {other}; this release reads format {VERSION}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::embedded::Embedded;

    fn record(kid: &str) -> KeyRecord {
        KeyRecord {
            kid: kid.to_owned(),
            state: KeyState::Announced,
            created: 1,
            signs_since: None,
            accepted_until: None,
            revoked: None,
            sealed: Some("c2VhbGVk".to_owned()),
        }
    }

    fn keys(folder: &Path) -> KeyStore {
        let metrics = Arc::new(crate::metrics::Metrics::new(&[]).unwrap());
        KeyStore::new(Arc::new(Embedded::open(folder, Clock::system(), metrics).unwrap()))
    }

    async fn add(keys: &KeyStore, kid: &str) {
        let added: Result<(), StoreError> = keys
            .update(|document| {
                document.keys.push(record(kid));
                Ok(())
            })
            .await;
        added.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn changes_at_the_same_time_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(folder.path());
        assert_eq!(keys.read().await.unwrap(), (KeyDocument::default(), None));
        let each = (0..16).map(|n| {
            let keys = keys.clone();
            tokio::spawn(async move { add(&keys, &n.to_string()).await })
        });
        futures::future::join_all(each).await;
        assert_eq!(keys.read().await.unwrap().0.keys.len(), 16);
    }

    #[tokio::test]
    async fn a_failed_change_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(folder.path());
        let failed: Result<(), StoreError> = keys
            .update(|document| {
                document.keys.push(record("a"));
                Err(StoreError::Full("no".to_owned()))
            })
            .await;
        assert!(failed.is_err());
        assert_eq!(keys.read().await.unwrap().1, None);
    }

    #[tokio::test]
    async fn the_file_of_an_earlier_release_is_taken_over_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(OLD_FILE);
        let keys = keys(folder.path());
        assert!(!keys.import(folder.path()).await.unwrap());
        for bad in ["{", r#"{"version":9,"master_key":"","keys":[]}"#] {
            fs::write(&file, bad).unwrap();
            assert!(matches!(keys.import(folder.path()).await, Err(StoreError::Malformed(_))), "{bad}");
        }
        let document = KeyDocument { version: 1, master_key: "f".to_owned(), keys: vec![record("a")] };
        fs::write(&file, serde_json::to_vec(&document).unwrap()).unwrap();
        assert!(keys.import(folder.path()).await.unwrap() && !file.exists());
        assert_eq!(keys.read().await.unwrap().0, document);
        fs::write(&file, serde_json::to_vec(&KeyDocument { keys: Vec::new(), ..document }).unwrap()).unwrap();
        assert!(!keys.import(folder.path()).await.unwrap() && file.exists(), "the store's own ring stays");
    }
}
