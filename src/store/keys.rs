//! The key ring's file: `keyring.json` in the store's folder.
//!
//! A plain file rather than a table, because commands change it while an edge is running: they take a lock, replace
//! the file in one step and leave; the edge sees that the file is another one and reads it. Private keys in it are
//! sealed ([`super::seal`]); everything else may be read by whoever may read the folder.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The format that this release writes.
const VERSION: u32 = 1;
/// More than any ring needs; a larger file is not ours.
const MAX_BYTES: u64 = 1 << 20;

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
    /// The name in the file and in `tmcp-edge keys list`.
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

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDocument {
    version: u32,
    /// Fingerprint of the master key that sealed the keys; empty while there are none.
    pub master_key: String,
    /// The keys, oldest first.
    pub keys: Vec<KeyRecord>,
}

/// Why the file could not be read or written.
#[derive(Debug)]
pub enum KeyFileError {
    /// The operating system refused.
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The file is not a key ring.
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFileError::Io { doing, path, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
            KeyFileError::Malformed { path, reason } => write!(f, "{} is not a key ring: {reason}", path.display()),
        }
    }
}

impl std::error::Error for KeyFileError {}

/// Tells one version of the file from the next without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// The ring's place on disk.
#[derive(Clone, Debug)]
pub struct KeyFile {
    folder: PathBuf,
    path: PathBuf,
}

impl KeyFile {
    /// The ring of the store in `folder`. Nothing is touched yet.
    pub fn in_folder(folder: &Path) -> KeyFile {
        KeyFile { folder: folder.to_owned(), path: folder.join("keyring.json") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What [`KeyFile::read`] would read now; `None`: there is no file.
    pub fn stamp(&self) -> Option<Stamp> {
        let meta = fs::metadata(&self.path).ok()?;
        Some(Stamp { inode: meta.ino(), length: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }

    /// Reads the ring; an absent file is an empty ring.
    ///
    /// # Errors
    /// When the file cannot be read, is not a key ring, or was written by a later release in a later format.
    pub fn read(&self) -> Result<KeyDocument, KeyFileError> {
        let mut text = String::new();
        match File::open(&self.path) {
            Ok(file) => file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| self.io("read", e))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(KeyDocument::default()),
            Err(error) => return Err(self.io("open", error)),
        };
        if text.len() as u64 > MAX_BYTES {
            return Err(self.malformed("it is larger than 1 MiB".to_owned()));
        }
        let document: KeyDocument = serde_json::from_str(&text).map_err(|e| self.malformed(e.to_string()))?;
        match document.version {
            VERSION => Ok(document),
            other => Err(self.malformed(format!("format {other}; this release reads format {VERSION}"))),
        }
    }

    /// Reads the ring, lets `change` work on it and writes the outcome, all under the ring's lock: two commands at
    /// the same time happen one after the other. The new file is on disk, name and all, when this returns. When
    /// `change` fails nothing is written.
    ///
    /// # Errors
    /// Those of `change`, of reading and of writing.
    pub fn update<T, E: From<KeyFileError>>(
        &self,
        change: impl FnOnce(&mut KeyDocument) -> Result<T, E>,
    ) -> Result<T, E> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|e| self.io("make the folder of", e))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.folder.join("keyring.lock"))
            .map_err(|e| self.io("open the lock of", e))?;
        // Held until `lock` is closed, at the end of this function.
        lock.lock().map_err(|e| self.io("lock", e))?;
        let before = self.read()?;
        let mut document = before.clone();
        let outcome = change(&mut document)?;
        if document != before {
            document.version = VERSION;
            self.write(&document)?;
        }
        Ok(outcome)
    }

    fn write(&self, document: &KeyDocument) -> Result<(), KeyFileError> {
        let mut text = serde_json::to_vec_pretty(document).map_err(|e| self.malformed(e.to_string()))?;
        text.push(b'\n');
        let fresh = self.path.with_extension("json.new");
        // What a killed command left behind must not lend its mode to the new file.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.io("replace", error)),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(|e| self.io("write beside", e))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(|e| self.io("write beside", e))?;
        fs::rename(&fresh, &self.path).map_err(|e| self.io("replace", e))?;
        // Without this a power cut may bring the old name back.
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(|e| self.io("sync the folder of", e))
    }

    fn io(&self, doing: &'static str, source: io::Error) -> KeyFileError {
        KeyFileError::Io { doing, path: self.path.clone(), source }
    }

    fn malformed(&self, reason: String) -> KeyFileError {
        KeyFileError::Malformed { path: self.path.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn add(file: &KeyFile, kid: &str) {
        let added: Result<(), KeyFileError> = file.update(|document| {
            document.keys.push(record(kid));
            Ok(())
        });
        added.unwrap();
    }

    #[test]
    fn is_kept_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::in_folder(&folder.path().join("store"));
        assert_eq!(file.stamp(), None);
        assert_eq!(file.read().unwrap(), KeyDocument::default());
        add(&file, "a");
        let first = file.stamp();
        fs::write(file.path().with_extension("json.new"), "left behind").unwrap();
        add(&file, "b");
        assert_ne!(file.stamp(), first);
        assert_eq!(file.read().unwrap().keys, [record("a"), record("b")]);
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.path().parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn commands_at_the_same_time_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::in_folder(folder.path());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let file = file.clone();
                scope.spawn(move || (0..4).for_each(|n| add(&file, &format!("{thread}.{n}"))));
            }
        });
        assert_eq!(file.read().unwrap().keys.len(), 32);
    }

    #[test]
    fn a_failed_change_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::in_folder(folder.path());
        let failed: Result<(), KeyFileError> = file.update(|document| {
            document.keys.push(record("a"));
            Err(file.malformed("no".to_owned()))
        });
        assert!(failed.is_err() && file.stamp().is_none());
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::in_folder(folder.path());
        fs::write(file.path(), "{").unwrap();
        assert!(file.read().unwrap_err().to_string().contains("keyring.json is not a key ring"));
        fs::write(file.path(), r#"{"version":9,"master_key":"","keys":[]}"#).unwrap();
        assert!(file.read().unwrap_err().to_string().contains("format 9; this release reads format 1"));
    }
}
