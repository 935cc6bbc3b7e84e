//! Values, conditions, expiry, dumps and pushes.

use std::time::Duration;

use bytes::Bytes;

use super::super::backend::{Applied, Backend, Batch, Condition, Partition, Read, Record};
use super::{Place, batch, done, entry, fresh, get, text};

const HOUR: Duration = Duration::from_secs(3600);

pub(super) async fn values(store: &dyn Backend) {
    let (here, there) = (fresh(), fresh());
    assert_eq!(get(store, &here, "a").await, None);
    let first = done(store, batch(&here).put("a", "1", None).put("b", "", None)).await;
    assert_eq!(get(store, &here, "a").await, Some(entry("1", first)));
    assert_eq!(get(store, &here, "b").await, Some(entry("", first)), "an empty value is a value");
    assert_eq!(get(store, &there, "a").await, None, "partitions are apart");
    let second = done(store, batch(&here).put("a", "2", None)).await;
    assert_eq!(get(store, &here, "a").await, Some(entry("2", second)));
    assert_eq!(get(store, &here, "b").await, Some(entry("", first)));
    done(store, batch(&here).delete("a").delete("never there")).await;
    assert_eq!(get(store, &here, "a").await, None);

    // Bytes of any kind, and names that a back end might take for something else.
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let names = ["", "{a}", "a\0b", "a:b", "é✓", "a b\n", "*", "%"];
    let odd = names.iter().fold(batch(&here), |batch, name| batch.put(*name, bytes.clone(), None));
    done(store, odd).await;
    for name in names {
        assert_eq!(get(store, &here, name).await.unwrap().value, bytes, "{name:?}");
        assert_eq!(get(store, &there, name).await, None, "{name:?}");
    }
    done(store, batch(&here)).await;
    for read in [Read::Latest, Read::Confirmed] {
        let value = store.get(&here, "{a}", read).await.unwrap().unwrap().value;
        assert_eq!(value, bytes, "{read:?}");
        let found = store.scan(&here, "{", None, 10, read).await.unwrap();
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["{a}"], "{read:?}");
        assert_eq!(store.get(&there, "{a}", read).await.unwrap(), None, "{read:?}");
    }
}

pub(super) async fn scans(store: &dyn Backend) {
    let (here, there) = (fresh(), fresh());
    let names = ["a", "b", "b/", "b/1", "b/10", "b/2", "b/é", "b0", "c"];
    let all = names.iter().rev().fold(batch(&here), |batch, name| batch.put(*name, *name, None));
    let version = done(store, all).await;
    done(store, batch(&there).put("b/3", "", None)).await;
    let scan = async |prefix, after, limit| -> Vec<String> {
        let found = store.scan(&here, prefix, after, limit, Read::Latest).await.unwrap();
        for (name, entry) in &found {
            assert_eq!((entry.value.as_ref(), entry.version), (name.as_bytes(), version));
        }
        found.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(scan("", None, 100).await, names, "bytewise");
    assert_eq!(scan("b/", None, 100).await, ["b/", "b/1", "b/10", "b/2", "b/é"]);
    assert_eq!(scan("b/", None, 2).await, ["b/", "b/1"]);
    assert_eq!(scan("b/", Some("b/1"), 2).await, ["b/10", "b/2"]);
    assert_eq!(scan("b/", Some("b/11"), 100).await, ["b/2", "b/é"], "after a name that is not there");
    assert_eq!(scan("b/", Some("a"), 1).await, ["b/"], "after a name before the prefix");
    assert!(scan("b/", Some("c"), 100).await.is_empty(), "after a name behind the prefix");
    assert!(scan("x", None, 100).await.is_empty());
    assert!(scan("", None, 0).await.is_empty());
    done(store, batch(&here).delete("b/10")).await;
    assert_eq!(scan("b/1", None, 100).await, ["b/1"]);
}

pub(super) async fn conditions(store: &dyn Backend) {
    let here = fresh();
    let conflict = |condition, found| Ok(Applied::Conflict { condition, found });
    let first = done(store, batch(&here).when("a", Condition::Absent).put("a", "1", None)).await;
    let again = batch(&here).when("a", Condition::Absent).put("a", "2", None);
    assert_eq!(store.apply(again).await, conflict(0, Some(entry("1", first))));
    let missing = batch(&here).when("a", Condition::Present).when("b", Condition::Present).put("a", "2", None);
    assert_eq!(store.apply(missing).await, conflict(1, None));
    let second =
        done(store, batch(&here).when("b", Condition::Absent).when("a", Condition::Is(first)).put("a", "2", None))
            .await;
    let stale = batch(&here).when("a", Condition::Is(first)).delete("a");
    assert_eq!(store.apply(stale).await, conflict(0, Some(entry("2", second))));
    let gone = batch(&here).when("b", Condition::Is(first)).put("b", "1", None);
    assert_eq!(store.apply(gone).await, conflict(0, None));
    assert_eq!(text(store, &here, "a").await.as_deref(), Some("2"));
    // A batch of conditions alone only looks.
    done(store, batch(&here).when("a", Condition::Present)).await;
}

pub(super) async fn all_or_nothing(store: &dyn Backend) {
    let here = fresh();
    let kept = done(store, batch(&here).put("kept", "1", None)).await;
    let refused = batch(&here).when("kept", Condition::Absent).put("new", "1", None).delete("kept");
    assert!(matches!(store.apply(refused).await, Ok(Applied::Conflict { .. })));
    assert_eq!(get(store, &here, "new").await, None);
    assert_eq!(get(store, &here, "kept").await, Some(entry("1", kept)));
    // Conditions see what was there before; operations happen in order.
    let ordered = batch(&here).put("x", "1", None).put("x", "2", None).put("y", "1", None).delete("y").delete("kept");
    done(store, ordered.put("kept", "2", None).when("x", Condition::Absent)).await;
    assert_eq!(text(store, &here, "x").await.as_deref(), Some("2"));
    assert_eq!(text(store, &here, "y").await, None);
    assert_eq!(text(store, &here, "kept").await.as_deref(), Some("2"));
}

pub(super) async fn expiry(store: &dyn Backend, place: &dyn Place) {
    let here = fresh();
    let (brief, longer) = (Some(Duration::from_millis(50)), Some(HOUR));
    let puts = batch(&here).put("brief", "1", brief).put("longer", "1", longer).put("stays", "1", brief);
    let first = done(store, puts.put("tiny", "1", Some(Duration::ZERO))).await;
    done(store, batch(&here).put("stays", "2", None)).await;
    place.pass(Duration::from_millis(60)).await;
    for name in ["brief", "tiny"] {
        assert_eq!(get(store, &here, name).await, None, "{name}");
    }
    assert_eq!(get(store, &here, "longer").await, Some(entry("1", first)));
    assert_eq!(text(store, &here, "stays").await.as_deref(), Some("2"), "put again without an end");
    let left = store.scan(&here, "", None, 10, Read::Latest).await.unwrap();
    assert_eq!(left.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["longer", "stays"]);
    let stale = batch(&here).when("brief", Condition::Is(first)).delete("brief");
    assert_eq!(store.apply(stale).await, Ok(Applied::Conflict { condition: 0, found: None }));
    done(store, batch(&here).when("brief", Condition::Absent).put("brief", "2", None)).await;
    assert_eq!(text(store, &here, "brief").await.as_deref(), Some("2"));
}

pub(super) async fn sent_again(store: &dyn Backend) {
    let here = fresh();
    let once = batch(&here).when("a", Condition::Absent).put("a", "1", None).delete("b");
    for _ in 0..3 {
        done(store, once.clone()).await;
    }
    let swap = batch(&here).when("a", Condition::Is(once.version)).put("a", "2", None);
    for _ in 0..3 {
        done(store, swap.clone()).await;
    }
    assert_eq!(get(store, &here, "a").await, Some(entry("2", swap.version)));
    // What has been overtaken meanwhile is not done a second time, whether the back end remembers it or not.
    store.apply(once).await.unwrap();
    assert_eq!(get(store, &here, "a").await, Some(entry("2", swap.version)));
}

async fn dump(store: &dyn Backend, partition: &Partition) -> Vec<Record> {
    let (mut cursor, mut ours) = (None, Vec::new());
    loop {
        let (records, next) = store.dump(cursor, 7).await.unwrap();
        ours.extend(records.into_iter().filter(|record| match record {
            Record::Value { partition: of, .. } | Record::Item { partition: of, .. } => of == partition,
        }));
        match next {
            Some(next) => cursor = Some(next),
            None => return ours,
        }
    }
}

pub(super) async fn dumps(store: &dyn Backend, place: &dyn Place) {
    let here = fresh();
    let puts = (0..20).fold(batch(&here), |batch, n| batch.put(format!("n{n:02}"), format!("{n}"), None));
    let version = done(store, puts).await;
    let timed = batch(&here).put("timed", "1", Some(HOUR)).put("gone", "1", Some(Duration::from_millis(1)));
    let timed = done(store, timed.with(super::queues::item("q", "later", HOUR))).await;
    done(store, batch(&here).with(super::queues::item("q", "now", Duration::ZERO))).await;
    place.pass(Duration::from_millis(5)).await;
    let mut records = dump(store, &here).await;
    // A back end may hand a record out twice when it moves meanwhile; here nothing moves but what others do.
    records.dedup();
    assert_eq!(records.len(), 23, "{records:?}");
    for record in &records {
        match record {
            Record::Value { name, entry, ttl, .. } if name == "timed" => {
                assert_eq!(entry.version, timed);
                assert!(ttl.is_some_and(|ttl| ttl <= HOUR && ttl > HOUR / 2), "{ttl:?}");
            }
            Record::Value { name, entry, ttl, .. } => {
                assert_eq!((entry.version, *ttl), (version, None), "{name}");
            }
            Record::Item { queue, id, value, due_in, .. } => {
                assert_eq!((queue.as_str(), value.as_ref()), ("q", id.as_bytes()));
                assert_eq!(*due_in > HOUR / 2, id == "later", "{due_in:?}");
            }
        }
    }

    let wiped = (0..20).fold(batch(&here), |batch, n| batch.delete(format!("n{n:02}"))).delete("timed");
    let dequeue = |id: &str| super::queues::dequeue("q", id, None);
    done(store, wiped.put("n00", "other", None).with(dequeue("later")).with(dequeue("now"))).await;
    store.load(records.clone()).await.unwrap();
    assert_eq!(get(store, &here, "n00").await, Some(entry("0", version)), "in place of what has the same name");
    assert_eq!(get(store, &here, "n19").await, Some(entry("19", version)));
    let claimed = store.claim(&here, "q", HOUR, 10).await.unwrap();
    assert_eq!(claimed.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["now"]);
    assert_eq!(dump(store, &here).await.len(), 23);
    // What a batch put together need not come together.
    done(store, batch(&here).delete("n01")).await;
    store.load(records.clone()).await.unwrap();
    assert_eq!(get(store, &here, "n01").await, Some(entry("1", version)), "beside what is there of its version");
    assert!(store.dump(Some("nonsense".to_owned()), 1).await.is_err());
}

pub(super) async fn handles_see_each_other(one: &dyn Backend, other: &dyn Backend) {
    let here = fresh();
    for n in 0..20 {
        let (writes, reads) = if n % 2 == 0 { (one, other) } else { (other, one) };
        let value = Bytes::from(n.to_string());
        done(writes, batch(&here).put("a", value.clone(), None)).await;
        assert_eq!(get(reads, &here, "a").await.unwrap().value, value);
    }
}

pub(super) async fn tells(one: &dyn Backend, other: &dyn Backend) {
    let here = fresh();
    let mut watching = [one.subscribe("contract"), other.subscribe("contract")];
    let telling = |batch: Batch| batch.telling("contract");
    done(one, telling(batch(&here).put("a", "1", None))).await;
    for watcher in &mut watching {
        watcher.changed().await.unwrap();
        watcher.mark_unchanged();
    }
    done(other, telling(batch(&here))).await;
    for watcher in &mut watching {
        watcher.changed().await.unwrap();
    }
}
