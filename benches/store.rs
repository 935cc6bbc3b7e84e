//! How many durable changes a second the embedded store takes, beside redb alone in the same run.
//!
//! 64 callers each put a 300-byte value under a name of its own choosing and wait until it is on disk. redb alone puts
//! as many such values into each transaction as the store's group commit did, in the same mode, on the same disk. Rounds
//! take turns, so that what drifts on the machine drifts for both.
#![expect(clippy::unwrap_used, reason = "a benchmark that meets the unexpected has failed, and this says where")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redb::{ConcurrencyMode, Database, TableDefinition};
use tmcp_edge::clock::Clock;
use tmcp_edge::config;
use tmcp_edge::metrics::Metrics;
use tmcp_edge::store::{self, Applied, Batch, Partition};

const CALLERS: u64 = 64;
const VALUE: [u8; 300] = [b'x'; 300];
/// Names that each caller writes in turn: the file stops growing soon, as a store's does that forgets.
const NAMES: u64 = 1_000;
const ROUNDS: usize = 3;
const SECONDS: u64 = 5;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("values");

fn main() {
    // `cargo test` runs benches to see that they start.
    let length = if std::env::args().any(|argument| argument == "--bench") {
        Duration::from_secs(SECONDS)
    } else {
        Duration::from_millis(50)
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    println!(
        "{:>8}  {:>14}  {:>10}  {:>14}  {:>6}",
        "round", "edge, changes/s", "per commit", "redb, values/s", "ratio"
    );
    for round in 1..=ROUNDS {
        let (edge, group) = edge(&folder.path().join(format!("edge-{round}")), length);
        let bare = bare(&folder.path().join(format!("redb-{round}")), length, group.max(1));
        println!("{round:>8}  {edge:>15.0}  {group:>10}  {bare:>14.0}  {:>6.2}", edge / bare);
    }
}

/// Changes a second through the store, and how many of them one commit held.
fn edge(folder: &Path, length: Duration) -> (f64, u64) {
    let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new(&[]).unwrap()));
    let place = config::Store::Embedded { path: folder.to_owned() };
    let store = store::open(&place, &clock, &metrics).unwrap().store;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let before = metrics.store_commits.get();
    let took = runtime.block_on(async {
        let began = clock.tick();
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (store, stop, done) = (store.clone(), stop.clone(), done.clone());
                tokio::spawn(async move {
                    let mut n = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let partition = Partition::of("bench", &[&caller.to_string(), &(n % NAMES).to_string()]);
                        let batch = Batch::new(partition).unwrap().put("value", VALUE.as_slice(), None);
                        assert_eq!(store.apply(batch).await, Ok(Applied::Done));
                        done.fetch_add(1, Ordering::Relaxed);
                        n += 1;
                    }
                })
            })
            .collect();
        tokio::time::sleep(length).await;
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.await.unwrap();
        }
        clock.tick().since(began)
    });
    let (done, commits) = (done.load(Ordering::Relaxed), metrics.store_commits.get() - before);
    (done as f64 / took.as_secs_f64(), done / commits.max(1))
}

/// Values a second that redb alone takes with `group` of them in a transaction.
fn bare(path: &Path, length: Duration, group: u64) -> f64 {
    let clock = Clock::system();
    let mut builder = Database::builder();
    let database = builder.set_concurrency_mode(ConcurrencyMode::MultiWriter).create(path).unwrap();
    let (began, mut done) = (clock.tick(), 0_u64);
    while clock.tick().since(began) < length {
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for _ in 0..group {
                // Keys as long as the store's, and as far apart.
                let (caller, n) = (done % CALLERS, done / CALLERS % NAMES);
                let partition = Partition::of("bench", &[&caller.to_string(), &n.to_string()]);
                let key = format!("{}\0value", partition.as_str());
                table.insert(key.as_bytes(), VALUE.as_slice()).unwrap();
                done += 1;
            }
        }
        transaction.commit().unwrap();
    }
    done as f64 / clock.tick().since(began).as_secs_f64()
}
