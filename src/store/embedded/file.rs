//! The file: transactions on it, and opening it again when the disk has failed us.
//!
//! It is opened in redb's multi-writer mode. Commands work on the store of a running edge, and an edge shares it with its
//! successor during an upgrade; each write transaction sees what the other process has committed. In this mode a commit
//! is always in two phases and holds what is needed to open the file at once after a crash.
//!
//! After an I/O error redb refuses all further work on its handle. The handle is dropped then, and the next
//! call opens the file again, at the last commit that is whole.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, TableError};

use super::super::backend::{Batch, Partition, StoreError};
use super::super::topics::Topics;
use super::change::Change;
use super::fault::fault;
use super::layout::{DUE, FORMAT, FORMAT_KEY, ITEMS, META, TOPICS, VALUES, due_key, queue_key};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Opens the database, the first time and after a failure.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// The file, opened when it is needed.
pub(super) struct File {
    opener: Opener,
    database: Mutex<Option<Arc<Database>>>,
    clock: Clock,
    metrics: Arc<Metrics>,
    size: Box<dyn Fn() -> Option<u64> + Send + Sync>,
    /// Who wants to know of what.
    pub(super) topics: Topics,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("File(…)")
    }
}

impl File {
    /// Opens it, and makes its tables when it is new.
    ///
    /// # Errors
    /// When it cannot be opened, is no store, or is of a later release.
    pub(super) fn open(
        opener: Opener,
        size: Box<dyn Fn() -> Option<u64> + Send + Sync>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<File, StoreError> {
        let file = File { opener, database: Mutex::new(None), clock, metrics, size, topics: Topics::default() };
        let format = file.read(|transaction| match transaction.open_table(META) {
            Ok(meta) => Ok(meta.get(FORMAT_KEY).map_err(fault)?.map(|format| format.value())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(fault(error)),
        })?;
        match format {
            Some(FORMAT) => {}
            Some(other) => {
                let told = format!("it is of format {other}; this release reads format {FORMAT}");
                return Err(StoreError::Malformed(told));
            }
            None => file.make_tables()?,
        }
        file.measure();
        Ok(file)
    }

    fn make_tables(&self) -> Result<(), StoreError> {
        let transaction = self.database()?.begin_write().map_err(fault)?;
        transaction.open_table(META).map_err(fault)?.insert(FORMAT_KEY, FORMAT).map_err(fault)?;
        transaction.open_table(VALUES).map_err(fault)?;
        transaction.open_table(ITEMS).map_err(fault)?;
        transaction.open_table(DUE).map_err(fault)?;
        transaction.open_table(TOPICS).map_err(fault)?;
        transaction.commit().map_err(fault)
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Milliseconds since the Unix epoch: what expiries and due times are counted in. They have to outlive the process,
    /// so it is the wall clock; when that is set back, what would have gone stays longer by as much.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.clock.unix().as_millis()).unwrap_or(u64::MAX)
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        let mut database = self.database.lock();
        if let Some(open) = &*database {
            return Ok(open.clone());
        }
        let opened = Arc::new((self.opener)().map_err(fault)?);
        *database = Some(opened.clone());
        Ok(opened)
    }

    /// Lets go of a handle that has failed.
    fn give_up(&self, failed: &Arc<Database>) {
        let mut database = self.database.lock();
        if database.as_ref().is_some_and(|open| Arc::ptr_eq(open, failed)) {
            *database = None;
        }
    }

    /// Reads what has been committed before.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.database()?;
        let read = database.begin_read().map_err(fault).and_then(|transaction| read(&transaction));
        if matches!(read, Err(StoreError::Unavailable(_) | StoreError::Full(_))) {
            self.give_up(&database);
        }
        read
    }

    /// Makes a change and commits it to disk. `batches` are the ones in it, so that after a commit that failed half way
    /// it can be told whether it happened.
    pub(super) fn write<T>(
        &self,
        batches: &[&Batch],
        change: impl FnOnce(&mut Change<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.database()?;
        let mut committing = false;
        let written = (|| {
            let transaction = database.begin_write().map_err(fault)?;
            let (done, told) = {
                let mut tables = Change::begin(&transaction, self.now())?;
                let done = change(&mut tables)?;
                (done, tables.into_told())
            };
            committing = true;
            transaction.commit().map_err(fault)?;
            self.metrics.store_commits.inc();
            Ok((done, told))
        })();
        match written {
            Ok((done, told)) => {
                told.into_iter().for_each(|(topic, number)| self.topics.set(topic, number));
                Ok(done)
            }
            Err(error @ (StoreError::Unavailable(_) | StoreError::Full(_))) => {
                log::error!("{error}");
                self.give_up(&database);
                drop(database);
                Err(if committing { self.after_failed_commit(batches, error) } else { error })
            }
            Err(error) => Err(error),
        }
    }

    /// What to say of a commit that failed. It either is in the file or is not; the file knows, once it is open again.
    fn after_failed_commit(&self, batches: &[&Batch], error: StoreError) -> StoreError {
        let looked = self.database().and_then(|database| {
            let transaction = database.begin_write().map_err(fault)?;
            let tables = Change::begin(&transaction, self.now())?;
            batches.iter().try_fold(false, |done, batch| Ok(done || tables.is_done(batch)?))
        });
        match (looked, error) {
            (Ok(true), error) => StoreError::NotDurable(error.to_string()),
            (Ok(false), error) => error,
            (Err(_), StoreError::Full(why)) => StoreError::Unavailable(why),
            (Err(_), error) => error,
        }
    }

    /// Whether a queue has an item that is due.
    pub(super) fn has_due(&self, partition: &Partition, queue: &str) -> Result<bool, StoreError> {
        let prefix = queue_key(partition, queue);
        let (first, end) = (due_key(&prefix, 0, ""), due_key(&prefix, self.now().saturating_add(1), ""));
        self.read(|transaction| {
            let due = transaction.open_table(DUE).map_err(fault)?;
            let mut found = due.range::<&[u8]>(first.as_slice()..end.as_slice()).map_err(fault)?;
            found.next().transpose().map_err(fault).map(|first| first.is_some())
        })
    }

    /// Passes on to subscribers what other processes have told.
    pub(super) fn listen(&self) -> Result<(), StoreError> {
        let names = self.topics.names();
        if names.is_empty() {
            return Ok(());
        }
        self.read(|transaction| {
            let told = transaction.open_table(TOPICS).map_err(fault)?;
            for name in names {
                self.topics.set(name, told.get(name).map_err(fault)?.map_or(0, |told| told.value()));
            }
            Ok(())
        })
    }

    /// Tells the metrics how large the file is.
    pub(super) fn measure(&self) {
        if let Some(bytes) = (self.size)() {
            self.metrics.store_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}
