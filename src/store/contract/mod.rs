//! The contract of [`Backend`], as tests that every back end has to pass.
//!
//! Each case works in partitions of its own, so that all of them run on one store, one after the other, and on one that
//! others have used. A case never waits for an answer by the clock: what has to become true is awaited.

mod cases;
mod model;
mod queues;
mod races;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::backend::{Applied, Backend, Batch, Entry, Partition, Read, Version};

/// A store to be tested.
#[async_trait]
pub(crate) trait Place: Send + Sync {
    /// One more handle on it, as another process would have.
    async fn open(&self) -> Arc<dyn Backend>;

    /// Returns when at least that much time has passed for the store.
    async fn pass(&self, time: Duration);

    /// Whether time stands still but for [`Place::pass`].
    fn holds_time(&self) -> bool;
}

/// Runs every case. To be called on a runtime of several threads.
pub(crate) async fn holds(place: &dyn Place) {
    let store = place.open().await;
    cases::values(&*store).await;
    cases::scans(&*store).await;
    cases::conditions(&*store).await;
    cases::all_or_nothing(&*store).await;
    cases::expiry(&*store, place).await;
    cases::sent_again(&*store).await;
    cases::dumps(&*store, place).await;
    cases::handles_see_each_other(&*store, &*place.open().await).await;
    cases::tells(&*store, &*place.open().await).await;
    queues::due_in_order(&*store, place).await;
    queues::leases(&*store, place).await;
    queues::sent_again(&*store).await;
    races::one_winner(&store, &place.open().await).await;
    races::nothing_is_lost(&store, &place.open().await).await;
    races::claimed_once(&store, &place.open().await).await;
    model::agrees(&store, place);
}

/// A partition that nobody has used before.
fn fresh() -> Partition {
    let unique = batch(&Partition::of("contract", &[])).version.0.to_string();
    Partition::of("contract", &[&unique])
}

fn batch(partition: &Partition) -> Batch {
    Batch::new(partition.clone()).unwrap()
}

/// Applies a batch that has to succeed, and gives its version.
async fn done(store: &dyn Backend, batch: Batch) -> Version {
    let version = batch.version;
    assert_eq!(store.apply(batch).await, Ok(Applied::Done));
    version
}

async fn get(store: &dyn Backend, partition: &Partition, name: &str) -> Option<Entry> {
    store.get(partition, name, Read::Latest).await.unwrap()
}

async fn text(store: &dyn Backend, partition: &Partition, name: &str) -> Option<String> {
    get(store, partition, name).await.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
}

fn entry(value: &'static str, version: Version) -> Entry {
    Entry { value: Bytes::from_static(value.as_bytes()), version }
}
