//! Counting around a back end: how long each verb takes and what comes of it, the same for all of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::backend::{Applied, Backend, Batch, Claimed, Entry, Partition, Read, Record, StoreError};
use crate::clock::{Clock, Tick};
use crate::metrics::{Metrics, StoreResult, StoreVerb};

/// A back end that is counted.
#[derive(Debug)]
pub(super) struct Measured<B> {
    inner: B,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl<B: Backend> Measured<B> {
    pub(super) fn new(inner: B, clock: Clock, metrics: Arc<Metrics>) -> Measured<B> {
        Measured { inner, clock, metrics }
    }

    fn count<T>(&self, verb: StoreVerb, began: Tick, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.count_as(verb, began, result, |_| StoreResult::Ok)
    }

    fn count_as<T>(
        &self,
        verb: StoreVerb,
        began: Tick,
        result: Result<T, StoreError>,
        good: impl FnOnce(&T) -> StoreResult,
    ) -> Result<T, StoreError> {
        self.metrics.store.observe(verb, self.clock.tick().since(began));
        self.metrics.store_calls.inc(verb, result.as_ref().map_or_else(name_of, good));
        result
    }
}

fn name_of(error: &StoreError) -> StoreResult {
    match error {
        StoreError::Unavailable(_) => StoreResult::Unavailable,
        StoreError::NotDurable(_) => StoreResult::NotDurable,
        StoreError::Full(_) => StoreResult::Full,
        StoreError::Malformed(_) => StoreResult::Malformed,
        StoreError::NoSuchCursor | StoreError::Internal(_) => StoreResult::Internal,
    }
}

#[async_trait]
impl<B: Backend> Backend for Measured<B> {
    async fn get(&self, partition: &Partition, name: &str, read: Read) -> Result<Option<Entry>, StoreError> {
        let began = self.clock.tick();
        self.count(StoreVerb::Get, began, self.inner.get(partition, name, read).await)
    }

    async fn scan(
        &self,
        partition: &Partition,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        read: Read,
    ) -> Result<Vec<(String, Entry)>, StoreError> {
        let began = self.clock.tick();
        self.count(StoreVerb::Scan, began, self.inner.scan(partition, prefix, after, limit, read).await)
    }

    async fn apply(&self, batch: Batch) -> Result<Applied, StoreError> {
        let began = self.clock.tick();
        self.count_as(StoreVerb::Apply, began, self.inner.apply(batch).await, |applied| match applied {
            Applied::Done => StoreResult::Ok,
            Applied::Conflict { .. } => StoreResult::Conflict,
        })
    }

    async fn claim(
        &self,
        partition: &Partition,
        queue: &str,
        lease: Duration,
        max: usize,
    ) -> Result<Vec<Claimed>, StoreError> {
        let began = self.clock.tick();
        self.count(StoreVerb::Claim, began, self.inner.claim(partition, queue, lease, max).await)
    }

    fn subscribe(&self, topic: &'static str) -> watch::Receiver<u64> {
        self.inner.subscribe(topic)
    }

    async fn dump(&self, cursor: Option<String>, limit: usize) -> Result<(Vec<Record>, Option<String>), StoreError> {
        let began = self.clock.tick();
        self.count(StoreVerb::Dump, began, self.inner.dump(cursor, limit).await)
    }

    async fn load(&self, records: Vec<Record>) -> Result<(), StoreError> {
        let began = self.clock.tick();
        self.count(StoreVerb::Load, began, self.inner.load(records).await)
    }

    fn fault(&self) -> Option<String> {
        self.inner.fault()
    }
}
