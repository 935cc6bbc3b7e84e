//! The seam: what a place that remembers has to be able to do.
//!
//! Five verbs, small enough for two back ends to mean the same by them: *get*, *scan*, *apply a conditional batch*,
//! *claim due items*, and *subscribe* to what others change. Everything typed (grants, codes, keys, mini-apps) is written
//! once on top of them, so the back ends cannot drift apart in what they remember; one contract suite holds them to it.
//!
//! # Partitions
//! What must commit together lies in one [`Partition`]: one transaction here, one hash slot and one script on Redis.
//! A batch never reaches beyond its partition. What crosses partitions is told by one and repeated by the other until it
//! is there (an idempotent relay), never "one atomic step".
//!
//! # Versions
//! Every batch carries a number drawn at random, its [`Version`], and everything that it puts is of that version.
//! A condition compares versions for equality only. It also makes a batch safe to send again when the answer
//! got lost: a back end that finds the batch's own version in place answers that it is done. One where answers get lost
//! on the way remembers a batch for two minutes besides, so that it is known even when another has overtaken it.
//!
//! # Time
//! Times to live and due times are durations from now, by the back end's own clock: instances whose clocks differ
//! agree all the same.

mod batch;
mod error;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

pub use self::batch::{Applied, Batch, Condition, Operation};
pub use self::error::StoreError;
use super::seal::sha256;

/// What commits together. Its text is `kind:` and 32 hex digits, safe in a Redis hash tag.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(String);

impl Partition {
    /// The partition of a kind that belongs to `parts`, which are hashed with their lengths: no two lists of parts can be
    /// spelled so that they meet.
    pub fn of(kind: &'static str, parts: &[&str]) -> Partition {
        let mut spelled = Vec::new();
        for part in parts {
            spelled.extend_from_slice(&(part.len() as u64).to_be_bytes());
            spelled.extend_from_slice(part.as_bytes());
        }
        let digest = sha256(&spelled);
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Partition(format!("{kind}:{hex}"))
    }

    /// A partition as it was written down before, by [`Partition::as_str`]; `None` when that is none.
    pub fn parse(text: &str) -> Option<Partition> {
        let (kind, id) = text.split_once(':')?;
        let plain = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let hex = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (plain && hex).then(|| Partition(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What kind of thing it holds.
    pub fn kind(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which batch put a value. Compared for equality only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(pub u64);

/// A value and the batch that put it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// Its version.
    pub version: Version,
}

impl fmt::Debug for Entry {
    /// The length only: values hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} bytes, {:?})", self.value.len(), self.version)
    }
}

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Sees every batch that was answered before the read began, as far as the back end knows: a Redis primary that
    /// has been cut off, and replaced behind its back, sees none of those that its successor answers.
    Latest,
    /// As [`Read::Latest`], and proved: where batches have to reach replicas, one of them acknowledges that it still
    /// follows. It fails as a durable batch does, and costs as much.
    Confirmed,
    /// May come from a replica that lags behind. Never for money, codes or revocations.
    Stale,
}

/// How safe a batch has to be before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It outlives a power cut: on disk here; on Redis in its log and, where there are replicas, with one of them.
    Durable,
    /// It may be lost when the power is cut or a primary fails.
    Relaxed,
}

/// Who holds a claimed item: a number that no other claim of this item has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease(pub u64);

/// An item that was due and is now ours until its lease ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The item's id.
    pub id: String,
    /// What it says.
    pub value: Bytes,
    /// Our hold on it, to be shown when it is taken off the queue.
    pub lease: Lease,
    /// How often it has been claimed, this time included.
    pub claims: u32,
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claimed({}, {} bytes, {:?}, claim {})", self.id, self.value.len(), self.lease, self.claims)
    }
}

/// A piece of a whole store, for backups and copies: everything that lives, nothing that has expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A value.
    Value {
        /// Its partition.
        partition: Partition,
        /// Its name.
        name: String,
        /// Value and version.
        entry: Entry,
        /// What is left of its life.
        ttl: Option<Duration>,
    },
    /// An item of a queue.
    Item {
        /// Its partition.
        partition: Partition,
        /// Its queue.
        queue: String,
        /// Its id.
        id: String,
        /// What it says.
        value: Bytes,
        /// How long from now it is due.
        due_in: Duration,
    },
}

/// A place that remembers.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// The value of a name, if there is one that has not expired.
    async fn get(&self, partition: &Partition, name: &str, read: Read) -> Result<Option<Entry>, StoreError>;

    /// Names that begin with `prefix` and lie after `after` (bytewise), with their values, in order, at most `limit`.
    async fn scan(
        &self,
        partition: &Partition,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        read: Read,
    ) -> Result<Vec<(String, Entry)>, StoreError>;

    /// Does all of a batch, or nothing. Sending the same batch again after an error is safe.
    async fn apply(&self, batch: Batch) -> Result<Applied, StoreError>;

    /// Takes hold of up to `max` items of a queue that are due and whose lease, if any, has ended; the longest due first.
    /// They are due again when the lease ends.
    async fn claim(
        &self,
        partition: &Partition,
        queue: &str,
        lease: Duration,
        max: usize,
    ) -> Result<Vec<Claimed>, StoreError>;

    /// A number that moves when somebody tells `topic`, here or in another process. A push can be lost: whoever must know
    /// looks now and then as well.
    fn subscribe(&self, topic: &'static str) -> watch::Receiver<u64>;

    /// The next piece of everything that is stored, at most about `limit` records, and where to go on; `None` at the end.
    /// What is written meanwhile may or may not be in it.
    async fn dump(&self, cursor: Option<String>, limit: usize) -> Result<(Vec<Record>, Option<String>), StoreError>;

    /// Writes what [`Backend::dump`] gave, in place of whatever has the same names.
    async fn load(&self, records: Vec<Record>) -> Result<(), StoreError>;

    /// Why it will do nothing more before this process is started anew, in words for a person; `None`: no such thing is
    /// known. What may pass by itself is no fault.
    fn fault(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_other_parts_never_meet() {
        let texts = [
            Partition::of("grant", &["ab", "c"]),
            Partition::of("grant", &["a", "bc"]),
            Partition::of("grant", &["abc"]),
            Partition::of("app", &["abc"]),
        ];
        for (at, one) in texts.iter().enumerate() {
            assert_eq!(Partition::parse(one.as_str()).as_ref(), Some(one));
            assert!(texts.iter().skip(at + 1).all(|other| other != one));
        }
        assert_eq!(texts[0].kind(), "grant");
        for bad in ["", "grant", "grant:", "grant:zz", "Grant:00000000000000000000000000000000", ":0"] {
            assert_eq!(Partition::parse(bad), None, "{bad}");
        }
    }
}
