//! A token of ours that names a key which is not in the ring: another instance may have begun to sign with a key that
//! this one has not heard of yet. It looks, rather than turn a good token away, but not for everybody who makes key ids up.

use super::{Keyring, KeyringError};

/// The last look for an unknown key.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// How many there were.
    count: u64,
    /// In which second, since the Unix epoch.
    at: u64,
    /// Why it found out nothing.
    failed: Option<String>,
}

impl Keyring {
    /// Whether a key that the ring lacks has come into it since. Looks into the store at most once a second, and those
    /// who come while somebody looks wait for that look alone; `now` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// When the last look could not be made, with the reason.
    pub async fn learn(&self, kid: &str, now: u64) -> Result<bool, String> {
        let before = self.count();
        let mut looked = self.looked.lock().await;
        let knows = || self.ring().find(kid, now).is_some();
        if knows() {
            return Ok(true);
        }
        if before == Some(looked.count) && looked.at != now {
            looked.count += 1;
            looked.at = now;
            looked.failed = self.refresh().await.err().map(|error: KeyringError| error.to_string());
        }
        match &looked.failed {
            _ if knows() => Ok(true),
            Some(why) => Err(why.clone()),
            None => Ok(false),
        }
    }

    /// How many looks there were; `None` while somebody is looking.
    fn count(&self) -> Option<u64> {
        self.looked.try_lock().ok().map(|looked| looked.count)
    }
}
