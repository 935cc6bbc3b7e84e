//! A store that does not take what a test says, around one that would.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Applied, Backend, Batch, Claimed, Entry, Partition, Read, Record, StoreError};

/// Refuses every batch of some kinds of partitions, or answers nothing at all, as it is told.
#[derive(Debug)]
pub(crate) struct Failing {
    inner: Arc<dyn Backend>,
    kinds: Mutex<&'static [&'static str]>,
    lost: AtomicBool,
    lost_after_next: AtomicBool,
    /// How much more it takes; `None`: whatever comes.
    takes: Mutex<Option<usize>>,
    /// Where nobody is told anything; `None` while everybody is.
    silence: Mutex<Option<watch::Sender<u64>>>,
}

impl Failing {
    pub(crate) fn new(inner: Arc<dyn Backend>) -> Failing {
        Failing {
            inner,
            kinds: Mutex::default(),
            lost: AtomicBool::new(false),
            lost_after_next: AtomicBool::new(false),
            takes: Mutex::default(),
            silence: Mutex::default(),
        }
    }

    /// Nobody can read from it once it has taken one more batch.
    pub(crate) fn lose_after_next(&self) {
        self.lost_after_next.store(true, Ordering::Relaxed);
    }

    /// Takes so many batches and pieces of a restore, and then nothing more; `None`: whatever comes.
    pub(crate) fn take(&self, more: Option<usize>) {
        *self.takes.lock() = more;
    }

    fn takes(&self) -> Result<(), StoreError> {
        match &mut *self.takes.lock() {
            Some(0) => Err(StoreError::Unavailable("the test lets nothing more through".to_owned())),
            Some(more) => {
                *more -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whoever subscribes from now on is told nothing.
    pub(crate) fn silence(&self) {
        *self.silence.lock() = Some(watch::Sender::new(0));
    }

    /// Whether nobody can read from it.
    pub(crate) fn lose(&self, lost: bool) {
        self.lost.store(lost, Ordering::Relaxed);
    }

    fn reached(&self) -> Result<(), StoreError> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("the test has cut it off".to_owned()));
        }
        Ok(())
    }

    /// Lets batches of these kinds fail from now on, and no others.
    pub(crate) fn fail(&self, kinds: &'static [&'static str]) {
        *self.kinds.lock() = kinds;
    }
}

#[async_trait]
impl Backend for Failing {
    async fn get(&self, partition: &Partition, name: &str, read: Read) -> Result<Option<Entry>, StoreError> {
        self.reached()?;
        self.inner.get(partition, name, read).await
    }

    async fn scan(
        &self,
        partition: &Partition,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        read: Read,
    ) -> Result<Vec<(String, Entry)>, StoreError> {
        self.reached()?;
        self.inner.scan(partition, prefix, after, limit, read).await
    }

    async fn apply(&self, batch: Batch) -> Result<Applied, StoreError> {
        if self.kinds.lock().contains(&batch.partition.kind()) {
            return Err(StoreError::Full(format!("the test lets no {} through", batch.partition.kind())));
        }
        self.takes()?;
        let applied = self.inner.apply(batch).await;
        if self.lost_after_next.swap(false, Ordering::Relaxed) {
            self.lose(true);
        }
        applied
    }

    async fn claim(
        &self,
        partition: &Partition,
        queue: &str,
        lease: Duration,
        max: usize,
    ) -> Result<Vec<Claimed>, StoreError> {
        self.inner.claim(partition, queue, lease, max).await
    }

    fn subscribe(&self, topic: &'static str) -> watch::Receiver<u64> {
        self.silence.lock().as_ref().map_or_else(|| self.inner.subscribe(topic), watch::Sender::subscribe)
    }

    async fn dump(&self, cursor: Option<String>, limit: usize) -> Result<(Vec<Record>, Option<String>), StoreError> {
        self.inner.dump(cursor, limit).await
    }

    async fn load(&self, records: Vec<Record>) -> Result<(), StoreError> {
        self.takes()?;
        self.inner.load(records).await
    }
}
