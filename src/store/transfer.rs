//! Backup, restore and copy: a whole store read from one place and written to another, piece by piece and while it
//! serves.
//!
//! # What is left out, and why
//! A backup is of a time before now. What could be redeemed then may have been redeemed since: a used code, a spent
//! refresh token or a withdrawn permission would be good again. No one can tell from the backup, so a restore leaves out
//! every permission with its codes and refresh tokens ([`outdates`]). Users sign in to their mini-apps once
//! more; mini-apps, keys and everything else are there. A copy from a store on which an edge may still be working
//! is the same case; a copy from one that stands still takes everything.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as Source, Write};
use std::time::Duration;

use super::archive::{ArchiveError, Reader, Writer};
use super::audit::is_audit;
use super::backend::{Backend, Batch, Operation, Partition, Record, StoreError};
use super::oauth::Place;
use super::replacing::is_note;

/// Records that are moved at a time.
const PIECE: usize = 500;
/// Bytes of values that are moved at a time, but for the last record.
const PIECE_BYTES: usize = 1 << 20;

/// Whether an old copy of the record must not come back: what it holds can be redeemed or withdrawn.
pub fn outdates(record: &Record) -> bool {
    let kind = partition(record).kind();
    Place::ALL.iter().any(|place| place.kind() == kind)
}

/// Why a store could not be moved.
#[derive(Debug)]
pub enum TransferError {
    /// One of the stores.
    Store(StoreError),
    /// The backup file.
    Archive(ArchiveError),
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferError::Store(error) => error.fmt(f),
            TransferError::Archive(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TransferError {}

impl From<StoreError> for TransferError {
    fn from(error: StoreError) -> TransferError {
        TransferError::Store(error)
    }
}

impl From<ArchiveError> for TransferError {
    fn from(error: ArchiveError) -> TransferError {
        TransferError::Archive(error)
    }
}

/// How much was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Records written.
    pub records: u64,
    /// Records left out: permissions ([`outdates`]) and what has expired since.
    pub left_out: u64,
}

/// Writes everything in `store` to a backup; gives the stream back. `taken`: now, in seconds since the Unix epoch.
///
/// # Errors
/// When the store cannot be read or the stream not be written.
pub async fn backup<W: Write>(store: &dyn Backend, to: W, taken: u64) -> Result<(W, u64), TransferError> {
    let mut writer = Writer::begin(to, taken)?;
    let mut cursor = None;
    loop {
        let (records, next) = store.dump(cursor, PIECE).await?;
        for record in records.iter().filter(|record| !is_note(record)) {
            writer.add(record)?;
        }
        match next {
            Some(next) => cursor = Some(next),
            None => return Ok(writer.finish()?),
        }
    }
}

/// Writes a backup into `store`, but for what must not come back. `elapsed`: how long ago it was taken; what has expired
/// since is left out, and what lives on lives that much shorter.
///
/// # Errors
/// When the backup is damaged ([`super::archive::verify`] tells so beforehand) or the store does not take it.
pub async fn restore<R: Source>(
    store: &dyn Backend,
    from: &mut Reader<R>,
    elapsed: Duration,
) -> Result<Moved, TransferError> {
    let mut moved = Moved::default();
    let (mut piece, mut bytes) = (Vec::new(), 0);
    while let Some(record) = from.next_record()? {
        match aged(record, elapsed).filter(|record| !outdates(record)) {
            Some(record) => {
                bytes += size(&record);
                piece.push(record);
            }
            None => moved.left_out += 1,
        }
        if piece.len() >= PIECE || bytes >= PIECE_BYTES {
            moved.records += piece.len() as u64;
            store.load(std::mem::take(&mut piece)).await?;
            bytes = 0;
        }
    }
    moved.records += piece.len() as u64;
    store.load(piece).await?;
    Ok(moved)
}

/// Writes everything in `from` into `to`; without what must not come back, unless `from` is known to stand still.
///
/// # Errors
/// When one of the stores fails.
pub async fn copy(from: &dyn Backend, to: &dyn Backend, stands_still: bool) -> Result<Moved, TransferError> {
    let (mut moved, mut cursor) = (Moved::default(), None);
    loop {
        let (mut records, next) = from.dump(cursor, PIECE).await?;
        records.retain(|record| !is_note(record));
        let all = records.len();
        let kept: Vec<Record> = records.into_iter().filter(|record| stands_still || !outdates(record)).collect();
        moved.records += kept.len() as u64;
        moved.left_out += (all - kept.len()) as u64;
        to.load(kept).await?;
        match next {
            Some(next) => cursor = Some(next),
            None => return Ok(moved),
        }
    }
}

/// What emptying a store leaves in it, and what fills none: of its past, what was changed and what must not be undone.
fn stays(record: &Record) -> bool {
    is_audit(record) || is_note(record)
}

/// Whether nothing is stored but what a try to fill it left.
///
/// # Errors
/// When the store fails.
pub async fn is_empty(store: &dyn Backend) -> Result<bool, StoreError> {
    let mut cursor = None;
    loop {
        match store.dump(cursor, PIECE).await? {
            (records, _) if !records.iter().all(stays) => return Ok(false),
            (_, None) => return Ok(true),
            (_, next) => cursor = next,
        }
    }
}

/// Removes everything that is stored but the audit lines, one of which says who did so, and the note of what has to be done
/// again.
///
/// # Errors
/// When the store fails; part of it may be gone then.
pub async fn clear(store: &dyn Backend) -> Result<(), StoreError> {
    let mut cursor = None;
    loop {
        let (records, next) = store.dump(cursor, PIECE).await?;
        let mut batches: BTreeMap<Partition, Batch> = BTreeMap::new();
        for record in records.into_iter().filter(|record| !stays(record)) {
            let partition = partition(&record).clone();
            let batch = match batches.remove(&partition) {
                Some(batch) => batch,
                None => Batch::new(partition.clone())?,
            };
            let batch = match record {
                Record::Value { name, .. } => batch.delete(name),
                Record::Item { queue, id, .. } => batch.with(Operation::Dequeue { queue, id, lease: None }),
            };
            batches.insert(partition, batch);
        }
        for batch in batches.into_values() {
            store.apply(batch).await?;
        }
        match next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

fn partition(record: &Record) -> &Partition {
    match record {
        Record::Value { partition, .. } | Record::Item { partition, .. } => partition,
    }
}

fn size(record: &Record) -> usize {
    match record {
        Record::Value { entry, .. } => entry.value.len(),
        Record::Item { value, .. } => value.len(),
    }
}

/// The record as it is `elapsed` later; `None` when it has expired.
fn aged(record: Record, elapsed: Duration) -> Option<Record> {
    Some(match record {
        Record::Value { partition, name, entry, ttl } => {
            let ttl = match ttl {
                Some(ttl) => Some(ttl.checked_sub(elapsed).filter(|ttl| !ttl.is_zero())?),
                None => None,
            };
            Record::Value { partition, name, entry, ttl }
        }
        Record::Item { partition, queue, id, value, due_in } => {
            Record::Item { partition, queue, id, value, due_in: due_in.saturating_sub(elapsed) }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::metrics::Metrics;
    use crate::store::archive::verify;
    use crate::store::embedded::Embedded;
    use crate::store::{Applied, Read};

    fn open(folder: &tempfile::TempDir) -> Embedded {
        Embedded::open(folder.path(), Clock::system(), Arc::new(Metrics::new(&[]).unwrap())).unwrap()
    }

    async fn fill(store: &Embedded) {
        for (kind, name) in [("app", "ma_shop_001"), ("grant", "1"), ("approvals", "@alice:tween.example")] {
            let item = Operation::Enqueue {
                queue: "q".to_owned(),
                id: "1".to_owned(),
                value: name.into(),
                due_in: Duration::from_secs(3600),
            };
            let batch = (0..700).fold(Batch::new(Partition::of(kind, &[name])).unwrap().with(item), |batch, n| {
                batch.put(format!("n{n}"), name, None)
            });
            let batch = batch.put("brief", name, Some(Duration::from_secs(60))).put("long", name, Some(HOUR));
            assert_eq!(store.apply(batch).await, Ok(Applied::Done));
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_restore_brings_back_what_lives_and_nothing_that_could_be_redeemed() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (open(&here), open(&there));
        fill(&from).await;
        let (bytes, records) = backup(&from, Vec::new(), 1_766_000_000).await.unwrap();
        assert_eq!((records, verify(bytes.as_slice()).unwrap()), (3 * 703, 3 * 703));
        assert!(is_empty(&to).await.unwrap());
        let mut reader = Reader::begin(bytes.as_slice()).unwrap();
        let moved = restore(&to, &mut reader, Duration::from_secs(120)).await.unwrap();
        assert_eq!(moved, Moved { records: 702, left_out: 2 * 703 + 1 });
        let app = Partition::of("app", &["ma_shop_001"]);
        let entry = to.get(&app, "n699", Read::Latest).await.unwrap();
        assert_eq!(entry, from.get(&app, "n699", Read::Latest).await.unwrap());
        assert!(to.get(&app, "long", Read::Latest).await.unwrap().is_some());
        assert_eq!(to.get(&app, "brief", Read::Latest).await.unwrap(), None);
        assert_eq!(to.get(&Partition::of("grant", &["1"]), "n1", Read::Latest).await.unwrap(), None);
        let audit = Partition::of("audit", &[]);
        to.apply(Batch::new(audit.clone()).unwrap().put("line/1", "{}", None)).await.unwrap();
        clear(&to).await.unwrap();
        assert!(is_empty(&to).await.unwrap());
        assert!(to.get(&audit, "line/1", Read::Latest).await.unwrap().is_some(), "who emptied it is still known");
    }

    #[tokio::test]
    async fn a_copy_takes_everything_only_from_a_store_that_stands_still() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (open(&here), open(&there));
        fill(&from).await;
        assert_eq!(copy(&from, &to, false).await.unwrap(), Moved { records: 703, left_out: 2 * 703 });
        assert_eq!(copy(&from, &to, true).await.unwrap(), Moved { records: 3 * 703, left_out: 0 });
        let grant = Partition::of("grant", &["1"]);
        let entry = from.get(&grant, "n1", Read::Latest).await.unwrap();
        assert!(entry.is_some());
        assert_eq!(to.get(&grant, "n1", Read::Latest).await.unwrap(), entry);
    }
}
