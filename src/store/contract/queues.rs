//! Due items and leases.

use std::time::Duration;

use bytes::Bytes;

use super::super::backend::{Backend, Claimed, Lease, Operation, Partition};
use super::{Place, batch, done, fresh};

const HOUR: Duration = Duration::from_secs(3600);
const MOMENT: Duration = Duration::from_millis(40);

/// An item that says its own id.
pub(super) fn item(queue: &str, id: &str, due_in: Duration) -> Operation {
    let value = Bytes::copy_from_slice(id.as_bytes());
    Operation::Enqueue { queue: queue.to_owned(), id: id.to_owned(), value, due_in }
}

pub(super) fn dequeue(queue: &str, id: &str, lease: Option<Lease>) -> Operation {
    Operation::Dequeue { queue: queue.to_owned(), id: id.to_owned(), lease }
}

async fn claim(store: &dyn Backend, partition: &Partition, lease: Duration, max: usize) -> Vec<Claimed> {
    let claimed = store.claim(partition, "q", lease, max).await.unwrap();
    assert!(claimed.iter().all(|item| item.value == item.id));
    claimed
}

fn ids(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|item| item.id.as_str()).collect()
}

pub(super) async fn due_in_order(store: &dyn Backend, place: &dyn Place) {
    let (here, there) = (fresh(), fresh());
    assert!(claim(store, &here, HOUR, 10).await.is_empty());
    let apart = batch(&here).with(item("q", "c", MOMENT * 2)).with(item("q", "far", HOUR)).with(item("r", "x", HOUR));
    done(store, apart.with(item("q", "b", MOMENT)).with(item("q", "a", MOMENT * 3))).await;
    assert!(claim(store, &here, HOUR, 10).await.is_empty(), "nothing is due yet");
    place.pass(MOMENT * 4).await;
    assert!(claim(store, &there, HOUR, 10).await.is_empty(), "partitions are apart");
    assert!(store.claim(&here, "r", HOUR, 10).await.unwrap().is_empty(), "queues are apart");
    assert!(claim(store, &here, HOUR, 0).await.is_empty());
    assert_eq!(ids(&claim(store, &here, HOUR, 2).await), ["b", "c"], "the longest due first");
    assert_eq!(ids(&claim(store, &here, HOUR, 2).await), ["a"]);
    // Put again it is due as it says, and nobody's.
    done(store, batch(&here).with(item("q", "far", Duration::ZERO)).with(item("q", "c", Duration::ZERO))).await;
    let again = claim(store, &here, HOUR, 10).await;
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|item| item.claims == 1), "{again:?}");
}

pub(super) async fn leases(store: &dyn Backend, place: &dyn Place) {
    let here = fresh();
    done(store, batch(&here).with(item("q", "a", Duration::ZERO)).with(item("q", "b", Duration::ZERO))).await;
    let first = claim(store, &here, MOMENT, 10).await;
    assert_eq!(first.iter().map(|item| item.claims).collect::<Vec<_>>(), [1, 1]);
    assert!(first.first().map(|item| item.lease) != first.last().map(|item| item.lease));
    place.pass(MOMENT * 2).await;
    let second = claim(store, &here, HOUR, 10).await;
    assert_eq!(second.len(), 2, "due again once the lease has ended");
    let [a, b] = ["a", "b"].map(|id| second.iter().find(|item| item.id == id).unwrap());
    assert_eq!((a.claims, b.claims), (2, 2));
    let stale = first.iter().find(|item| item.id == "a").unwrap().lease;
    assert_ne!(stale, a.lease);
    // Who has lost the item to another takes nothing away; who holds it does.
    let (stale, held) = (dequeue("q", "a", Some(stale)), dequeue("q", "b", Some(b.lease)));
    done(store, batch(&here).with(stale).with(held).with(dequeue("q", "never", None))).await;
    let again = batch(&here).with(dequeue("q", "b", Some(b.lease))).with(item("q", "c", Duration::ZERO));
    done(store, again).await;
    assert_eq!(ids(&claim(store, &here, HOUR, 10).await), ["c"], "a is still held");
    done(store, batch(&here).with(dequeue("q", "a", None)).with(item("q", "a", Duration::ZERO))).await;
    let anew = claim(store, &here, HOUR, 10).await;
    assert_eq!((ids(&anew), anew.first().map(|item| item.claims)), (vec!["a"], Some(1)));
    // An item that was put again is no longer the old holder's to take away.
    done(store, batch(&here).with(item("q", "a", Duration::ZERO))).await;
    done(store, batch(&here).with(dequeue("q", "a", anew.first().map(|item| item.lease)))).await;
    assert_eq!(ids(&claim(store, &here, HOUR, 10).await), ["a"]);
}

pub(super) async fn sent_again(store: &dyn Backend) {
    let here = fresh();
    let once = batch(&here).with(item("q", "a", Duration::ZERO));
    done(store, once.clone()).await;
    assert_eq!(ids(&claim(store, &here, HOUR, 10).await), ["a"]);
    done(store, once).await;
    assert!(claim(store, &here, HOUR, 10).await.is_empty(), "it is still held");
}
