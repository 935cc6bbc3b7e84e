mod disk;
mod power;

use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::clock::ManualClock;
use crate::store::Operation;
use crate::store::contract::{self, Place};

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&[]).unwrap())
}

/// A store in a folder of its own, with time at hand.
struct Folder {
    folder: tempfile::TempDir,
    clock: Clock,
    hand: ManualClock,
    metrics: Arc<Metrics>,
}

impl Folder {
    fn new() -> Folder {
        let (clock, hand) = Clock::manual(1_766_000_000);
        Folder { folder: tempfile::tempdir().unwrap(), clock, hand, metrics: metrics() }
    }

    fn store(&self) -> Embedded {
        Embedded::open(self.folder.path(), self.clock.clone(), self.metrics.clone()).unwrap()
    }
}

#[async_trait]
impl Place for Folder {
    async fn open(&self) -> Arc<dyn Backend> {
        Arc::new(self.store())
    }

    async fn pass(&self, time: Duration) {
        self.hand.advance(time);
    }

    fn holds_time(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_the_contract() {
    contract::holds(&Folder::new()).await;
}

#[tokio::test]
async fn what_is_written_outlives_the_process_and_is_private() {
    let place = Folder::new();
    let partition = Partition::of("grant", &["a"]);
    let store = place.store();
    let batch = Batch::new(partition.clone()).unwrap().put("x", "1", None);
    let version = batch.version;
    assert_eq!(store.apply(batch).await, Ok(Applied::Done));
    drop(store);
    assert_eq!(fs::metadata(place.folder.path().join(FILE_NAME)).unwrap().mode() & 0o777, 0o600);
    let found = place.store().get(&partition, "x", Read::Latest).await.unwrap().unwrap();
    assert_eq!((found.value.as_ref(), found.version), (b"1".as_slice(), version));
}

#[tokio::test]
async fn expired_values_are_removed_in_steps() {
    let place = Folder::new();
    let store = place.store();
    let partition = Partition::of("grant", &["a"]);
    let brief = |n| (format!("n{n}"), Some(Duration::from_secs(1)));
    let batch =
        (0..2_500).map(brief).fold(Batch::new(partition.clone()).unwrap(), |b, (name, ttl)| b.put(name, "", ttl));
    let batch = batch.put("stays", "", None).put("later", "", Some(Duration::from_secs(3600)));
    assert_eq!(store.apply(batch).await, Ok(Applied::Done));
    place.hand.advance(Duration::from_secs(60));
    while place.metrics.store_swept.get() < 2_500 {
        // The writing thread does its chores after each group.
        store.apply(Batch::new(partition.clone()).unwrap()).await.unwrap();
    }
    assert_eq!(store.scan(&partition, "", None, 10, Read::Latest).await.unwrap().len(), 2);
    assert_eq!(place.metrics.store_swept.get(), 2_500);
}

#[test]
fn a_file_that_is_no_store_or_a_later_one_is_told_of() {
    let place = Folder::new();
    let path = place.folder.path().join(FILE_NAME);
    fs::write(&path, "something else, and long enough that it is not taken for an empty file".repeat(100)).unwrap();
    let open = || Embedded::open(place.folder.path(), place.clock.clone(), metrics());
    assert!(open().is_err());
    fs::remove_file(&path).unwrap();
    drop(open().unwrap());
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(layout::META).unwrap().insert(layout::FORMAT_KEY, 9).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(open(), Err(StoreError::Malformed(why)) if why.contains("format 9")));
}
