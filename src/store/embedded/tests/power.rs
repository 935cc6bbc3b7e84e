//! Power cuts and full disks.

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::disk::Disk;
use super::*;
use crate::store::Condition;

const RUNS: usize = 200;
const CALLERS: usize = 8;

fn on(disk: &Disk) -> Result<Embedded, StoreError> {
    let (disk, sized) = (disk.clone(), disk.clone());
    let opener = move || {
        // A small cache, so that pages are written before the commit too.
        let mut builder = Database::builder();
        builder.set_concurrency_mode(ConcurrencyMode::MultiWriter).set_cache_size(64 << 10);
        builder.create_with_backend(disk.clone())
    };
    Embedded::with(Box::new(opener), Box::new(move || Some(sized.len())), Clock::system(), metrics())
}

/// The caller's two values and its item, which every one of its batches changes together.
fn change(caller: usize, from: u64, to: u64) -> Batch {
    let item = |n: u64| format!("{n}");
    let batch = Batch::new(partition(caller)).unwrap();
    let batch = if from == 0 { batch.when("a", Condition::Absent) } else { batch.when("a", Condition::Present) };
    // Values of several sizes, so that pages split and merge.
    let filler = "x".repeat(usize::try_from(to * 37 % 3_000).unwrap());
    let (a, b) = (format!("{to} {filler}"), format!("{to} {filler}"));
    batch
        .put("a", a, None)
        .put(format!("b{}", to % 50), "", None)
        .delete(format!("b{}", (to + 25) % 50))
        .put("z", b, None)
        .with(Operation::Dequeue { queue: "q".to_owned(), id: item(from), lease: None })
        .with(Operation::Enqueue { queue: "q".to_owned(), id: item(to), value: Bytes::new(), due_in: Duration::ZERO })
}

fn partition(caller: usize) -> Partition {
    Partition::of("power", &[&caller.to_string()])
}

/// What a caller finds: the number that all it has written agrees on.
async fn found(store: &Embedded, caller: usize) -> u64 {
    let partition = partition(caller);
    let number = async |name| -> Option<u64> {
        let entry = store.get(&partition, name, Read::Latest).await.unwrap()?;
        Some(str::from_utf8(&entry.value).unwrap().split_once(' ').unwrap().0.parse().unwrap())
    };
    let (a, z) = (number("a").await, number("z").await);
    assert_eq!(a, z, "half a batch");
    let items = store.claim(&partition, "q", Duration::from_millis(1), 9).await.unwrap();
    let items: Vec<u64> = items.into_iter().map(|item| item.id.parse().unwrap()).collect();
    assert_eq!(items, a.into_iter().collect::<Vec<_>>(), "half a batch");
    a.unwrap_or(0)
}

/// Writes until the power fails; gives what was answered last, and what was asked last.
async fn write(store: &Embedded, caller: usize, mut at: u64) -> (u64, u64) {
    loop {
        match store.apply(change(caller, at, at + 1)).await {
            Ok(Applied::Done) => at += 1,
            Ok(conflict) => panic!("{conflict:?}"),
            Err(_) => return (at, at + 1),
        }
    }
}

#[tokio::test]
async fn a_power_cut_loses_nothing_acknowledged_and_leaves_nothing_half_done() {
    let mut chance = TestRng::from_seed(RngAlgorithm::ChaCha, b"two hundred cuts of the power...");
    let disk = Disk::default();
    drop(on(&disk).unwrap());
    let mut last = [(0, 0); CALLERS];
    let mut acknowledged = 0;
    for run in 0..RUNS {
        let store = on(&disk).unwrap();
        for (caller, (answered, asked)) in last.iter_mut().enumerate() {
            let found = found(&store, caller).await;
            assert!((*answered..=*asked).contains(&found), "run {run}: {found}, not {answered} to {asked}");
            (*answered, *asked) = (found, found);
        }
        disk.cut_after(1 + usize::try_from(chance.next_u32() % 400).unwrap());
        let writing = last.iter().enumerate().map(|(caller, (at, _))| write(&store, caller, *at));
        let written = futures::future::join_all(writing).await;
        for (last, written) in last.iter_mut().zip(written) {
            acknowledged += written.0 - last.0;
            *last = written;
        }
        drop(store);
        disk.power_on(&mut chance);
    }
    assert!(acknowledged > 1_000, "{acknowledged} batches were acknowledged in {RUNS} runs");
}

#[tokio::test]
async fn a_full_disk_is_told_of_and_over_once_there_is_room() {
    let disk = Disk::default();
    let store = on(&disk).unwrap();
    let partition = partition(0);
    let mut kept = 0_usize;
    let mut filler = vec![0; 50_000];
    TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]).fill_bytes(&mut filler);
    disk.set_room(Some(disk.len() + 2_000_000));
    let put = async |n: usize| {
        let batch = Batch::new(partition.clone()).unwrap().put(format!("n{n:05}"), filler.clone(), None);
        store.apply(batch).await
    };
    let error = loop {
        match put(kept).await {
            Ok(applied) => assert_eq!(applied, Applied::Done),
            Err(error) => break error,
        }
        kept += 1;
    };
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert!(kept > 5, "{kept}");
    assert!(matches!(put(kept).await, Err(StoreError::Full(_))), "it is still full");
    let names = async || store.scan(&partition, "", None, 10_000, Read::Latest).await.unwrap().len();
    assert_eq!(names().await, kept, "what is there can be read, and nothing else is there");
    disk.set_room(None);
    assert_eq!(put(kept).await, Ok(Applied::Done));
    assert_eq!(names().await, kept + 1);
}

#[tokio::test]
async fn one_sync_serves_many_callers() {
    let disk = Disk::default();
    let store = on(&disk).unwrap();
    let before = disk.syncs();
    let callers = (0..200).map(|caller| store.apply(change(caller, 0, 1)));
    let applied = futures::future::join_all(callers).await;
    assert!(applied.into_iter().all(|applied| applied == Ok(Applied::Done)));
    assert!(disk.syncs() - before <= 20, "{} syncs for 200 callers", disk.syncs() - before);
}

#[tokio::test]
async fn a_thread_that_has_panicked_is_told_of() {
    let disk = Disk::default();
    let store = on(&disk).unwrap();
    assert_eq!(store.apply(change(0, 0, 1)).await, Ok(Applied::Done));
    assert_eq!(store.fault(), None);
    disk.break_once();
    assert!(matches!(store.apply(change(0, 1, 2)).await, Err(StoreError::Unavailable(_))));
    while store.fault().is_none() {
        tokio::task::yield_now().await;
    }
    // The panic came while redb held its locks: it cannot be closed either.
    std::mem::forget(store);
}
