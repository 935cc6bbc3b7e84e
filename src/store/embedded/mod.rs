//! The store in the data folder: redb, no server needed.
//!
//! | file | holds |
//! |---|---|
//! | `file` | transactions on the file, and opening it again when the disk has failed us |
//! | `layout` | how values and items lie in the tables |
//! | `change` | what a write transaction does |
//! | `writer` | the thread that writes: group commit |
//! | `chores` | what that thread does in between: listening to other processes, sweeping |
//! | `dump` | reading everything, piece by piece |
//! | `fault` | redb's errors as the store's |
//!
//! Reads run where they are called: the file is mapped through redb's cache and the kernel's, so a look-up costs
//! microseconds, less than handing it to another thread. Every batch goes to disk before it is answered, relaxed ones
//! too: they share the commit of the others.

mod change;
mod chores;
mod dump;
mod fault;
mod file;
mod layout;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{self, OpenOptions};
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redb::{ConcurrencyMode, Database};
use tokio::sync::{oneshot, watch};

use self::fault::fault;
use self::file::{File, Opener};
use self::layout::{Stored, VALUES, malformed, value_key};
use self::writer::{Claim, Job, Reply};
use super::backend::{Applied, Backend, Batch, Claimed, Entry, Partition, Read, Record, StoreError};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// The name of the file in the data folder.
const FILE_NAME: &str = "store.redb";
/// Memory for redb's page cache.
const CACHE_BYTES: usize = 64 << 20;

/// The embedded store, open. Dropping it waits for the writes that are under way.
#[derive(Debug)]
pub struct Embedded {
    file: Arc<File>,
    jobs: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store in `folder`, which [`super::folder::prepare`] has looked at, and makes it when there is none.
    ///
    /// # Errors
    /// When the file cannot be opened, is no store, or is of a later release.
    pub fn open(folder: &Path, clock: Clock, metrics: Arc<Metrics>) -> Result<Embedded, StoreError> {
        let path = folder.join(FILE_NAME);
        let sized = path.clone();
        let opener = move || {
            // Made here, since redb would make it for everybody to read.
            OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path)?;
            Database::builder()
                .set_concurrency_mode(ConcurrencyMode::MultiWriter)
                .set_cache_size(CACHE_BYTES)
                .create(&path)
        };
        let size = move || fs::metadata(&sized).ok().map(|meta| meta.len());
        Embedded::with(Box::new(opener), Box::new(size), clock, metrics)
    }

    fn with(
        opener: Opener,
        size: Box<dyn Fn() -> Option<u64> + Send + Sync>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Embedded, StoreError> {
        let file = Arc::new(File::open(opener, size, clock, metrics)?);
        let (jobs, waiting) = mpsc::channel();
        let writing = file.clone();
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(&writing, &waiting))
            .map_err(|error| StoreError::Internal(format!("no thread to write with: {error}")))?;
        Ok(Embedded { file, jobs: Some(jobs), writer: Some(writer) })
    }

    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let gone = || StoreError::Unavailable("the thread that writes has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        self.jobs.as_ref().ok_or_else(gone)?.send(job(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            // It has told of its own panic, if there was one.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Backend for Embedded {
    async fn get(&self, partition: &Partition, name: &str, _read: Read) -> Result<Option<Entry>, StoreError> {
        let now = self.file.now();
        self.file.read(|transaction| {
            let values = transaction.open_table(VALUES).map_err(fault)?;
            let Some(found) = values.get(value_key(partition, name).as_slice()).map_err(fault)? else {
                return Ok(None);
            };
            let stored = Stored::decode(found.value())?;
            Ok(stored.is_live(now).then(|| entry(&stored)))
        })
    }

    async fn scan(
        &self,
        partition: &Partition,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        _read: Read,
    ) -> Result<Vec<(String, Entry)>, StoreError> {
        let now = self.file.now();
        let (from, start) = (value_key(partition, prefix), value_key(partition, ""));
        let after = after.map(|after| value_key(partition, after)).filter(|after| *after >= from);
        let first = after.as_deref().map_or(Bound::Included(from.as_slice()), Bound::Excluded);
        self.file.read(|transaction| {
            let values = transaction.open_table(VALUES).map_err(fault)?;
            let mut found = Vec::new();
            for item in values.range::<&[u8]>((first, Bound::Unbounded)).map_err(fault)? {
                let (key, value) = item.map_err(fault)?;
                if found.len() >= limit || !key.value().starts_with(&from) {
                    break;
                }
                let stored = Stored::decode(value.value())?;
                if stored.is_live(now) {
                    let name = key.value().get(start.len()..).unwrap_or_default();
                    let name = str::from_utf8(name).map_err(|_| malformed("a name that is not text"))?;
                    found.push((name.to_owned(), entry(&stored)));
                }
            }
            Ok(found)
        })
    }

    async fn apply(&self, batch: Batch) -> Result<Applied, StoreError> {
        self.ask(|reply| Job::Apply(batch, reply)).await
    }

    async fn claim(
        &self,
        partition: &Partition,
        queue: &str,
        lease: Duration,
        max: usize,
    ) -> Result<Vec<Claimed>, StoreError> {
        if !self.file.has_due(partition, queue)? {
            // Nothing to write, so no commit: workers ask often.
            return Ok(Vec::new());
        }
        let claim = Claim { partition: partition.clone(), queue: queue.to_owned(), lease, max };
        self.ask(|reply| Job::Claim(claim, reply)).await
    }

    fn subscribe(&self, topic: &'static str) -> watch::Receiver<u64> {
        self.file.topics.subscribe(topic)
    }

    async fn dump(&self, cursor: Option<String>, limit: usize) -> Result<(Vec<Record>, Option<String>), StoreError> {
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || dump::piece(&file, cursor.as_deref(), limit))
            .await
            .map_err(|error| StoreError::Internal(error.to_string()))?
    }

    async fn load(&self, records: Vec<Record>) -> Result<(), StoreError> {
        self.ask(|reply| Job::Load(records, reply)).await
    }

    fn fault(&self) -> Option<String> {
        let ended = self.writer.as_ref().is_none_or(JoinHandle::is_finished);
        ended.then(|| "the thread that writes to the store has ended".to_owned())
    }
}

fn entry(stored: &Stored<'_>) -> Entry {
    Entry { value: Bytes::copy_from_slice(stored.value), version: stored.version }
}
