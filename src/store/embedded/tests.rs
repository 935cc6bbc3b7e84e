use super::*;
use crate::store::{Condition, Version};

fn open(folder: &Path) -> Embedded {
    Embedded::open(folder, Clock::system(), Arc::new(Metrics::new(&[]).unwrap())).unwrap()
}

#[tokio::test]
async fn what_is_written_outlives_the_process_and_is_private() {
    use std::os::unix::fs::MetadataExt as _;

    let folder = tempfile::tempdir().unwrap();
    let partition = Partition::of("grant", &["a"]);
    let store = open(folder.path());
    let batch = Batch::new(partition.clone()).unwrap().when("x", Condition::Absent).put("x", "1", None);
    let version: Version = batch.version;
    assert_eq!(store.apply(batch.clone()).await, Ok(Applied::Done));
    assert_eq!(store.apply(batch).await, Ok(Applied::Done), "sent again");
    drop(store);
    assert_eq!(fs::metadata(folder.path().join(FILE_NAME)).unwrap().mode() & 0o777, 0o600);
    let (store, other) = (open(folder.path()), open(folder.path()));
    let found = other.get(&partition, "x", Read::Latest).await.unwrap().unwrap();
    assert_eq!((found.value.as_ref(), found.version), (b"1".as_slice(), version));
    let batch = Batch::new(partition.clone()).unwrap().put("x", "2", None);
    assert_eq!(other.apply(batch).await, Ok(Applied::Done));
    assert_eq!(store.get(&partition, "x", Read::Latest).await.unwrap().unwrap().value.as_ref(), b"2");
}
