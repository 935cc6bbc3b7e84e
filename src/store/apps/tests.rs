//! Records and their place.

use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::store::embedded::Embedded;

const NOW: u64 = 1_800_000_000;

fn apps(folder: &tempfile::TempDir) -> AppStore {
    let metrics = Arc::new(Metrics::new(&[]).unwrap());
    AppStore::new(Arc::new(Embedded::open(folder.path(), Clock::system(), metrics).unwrap()))
}

fn sealer(byte: u8) -> Sealer {
    Sealer::new(&Secret::new(format!("{byte:02x}").repeat(32))).unwrap()
}

fn id(text: &str) -> MiniAppId {
    MiniAppId::parse(text).unwrap()
}

fn record(id: &str) -> AppRecord {
    let registration = Registration { id: id.to_owned(), name: "Shop".to_owned(), ..Registration::default() };
    AppRecord::new(registration, NOW)
}

fn hybrid(id: &str, secrets: &[(u8, Option<u64>)]) -> AppRecord {
    let mut record = record(id);
    record.registration.client_type = Some("hybrid".to_owned());
    let secret = |(hash, valid_until): &(u8, Option<u64>)| ClientSecret {
        hash: Digest([*hash; 32]),
        created: NOW,
        valid_until: *valid_until,
    };
    record.secrets = secrets.iter().map(secret).collect();
    record
}

async fn put(apps: &AppStore, record: AppRecord) {
    let id = id(&record.registration.id);
    let done: Result<(), StoreError> = apps
        .update(|records| {
            records.insert(id.clone(), Ok(record.clone()));
            Ok(())
        })
        .await;
    done.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_the_same_time_lose_nothing_and_each_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let apps = apps(&folder);
    assert_eq!((apps.version().await.unwrap(), apps.all().await.unwrap().len()), (None, 0));
    let each = (0..16).map(|n| {
        let apps = apps.clone();
        tokio::spawn(async move { put(&apps, record(&format!("ma_{n}"))).await })
    });
    futures::future::join_all(each).await;
    assert_eq!(apps.all().await.unwrap().len(), 16);
    let before = apps.version().await.unwrap();
    put(&apps, record("ma_1")).await;
    assert_eq!(apps.version().await.unwrap(), before, "nothing was changed");
    put(&apps, AppRecord { changed: NOW + 1, ..record("ma_1") }).await;
    assert_ne!(apps.version().await.unwrap(), before);
}

#[tokio::test]
async fn a_failed_change_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let apps = apps(&folder);
    let failed: Result<(), StoreError> = apps
        .update(|records| {
            records.insert(id("ma_a"), Ok(record("ma_a")));
            Err(StoreError::Full("no".to_owned()))
        })
        .await;
    assert!(failed.is_err() && apps.all().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_kept_and_hides_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let apps = apps(&folder);
    put(&apps, record("ma_a")).await;
    for (bad, told) in [
        (&br#"{"v":2,"anything":"else"}"#[..], "format 2"),
        (b"{", "damaged"),
        (br#"{"v":1}"#, "damaged"),
        (&record("ma_c").encoded().unwrap(), "that of ma_c"),
    ] {
        let batch = Batch::new(partition()).unwrap().put("app/ma_b", bad.to_vec(), None);
        assert_eq!(apps.store.apply(batch).await, Ok(Applied::Done));
        let all = apps.all().await.unwrap();
        assert_eq!(all[&id("ma_a")], Ok(record("ma_a")));
        assert!(all[&id("ma_b")].as_ref().unwrap_err().to_string().contains(told), "{told}");
        let over: Result<(), StoreError> = apps
            .update(|records| {
                records.insert(id("ma_b"), Ok(record("ma_b")));
                Ok(())
            })
            .await;
        let error = over.unwrap_err().to_string();
        assert!(error.contains("mini-app ma_b") && error.contains(told), "{error}");
        put(&apps, record("ma_c")).await;
        let kept = apps.store.get(&partition(), "app/ma_b", Read::Latest).await.unwrap().unwrap();
        assert_eq!(kept.value, bad, "whoever changes another");
    }
}

#[test]
fn secrets_end_by_themselves() {
    let record = hybrid("ma_a", &[(1, Some(NOW + 10)), (2, None)]);
    let hashes = |now| record.app(&sealer(1), now).unwrap().secret_hashes;
    assert_eq!(hashes(NOW), [[1; 32], [2; 32]]);
    assert_eq!((hashes(NOW + 9).len(), hashes(NOW + 10)), (2, vec![[2; 32]]));
    assert_eq!((record.next_end(NOW), record.next_end(NOW + 10)), (Some(NOW + 10), None));
}

#[test]
fn a_record_is_checked_as_an_entry_of_the_config() {
    let three = hybrid("ma_a", &[(1, None), (2, None), (3, None)]).app(&sealer(1), NOW).unwrap_err();
    assert!(three.to_string().contains("3 secrets"), "{three}");
    let none = hybrid("ma_a", &[]).app(&sealer(1), NOW).unwrap_err();
    assert!(none.to_string().contains("hybrid without a client secret"), "{none}");
    let mut official = record("ma_a");
    official.registration.scopes = vec!["wallet:admin".to_owned()];
    let refused = official.app(&sealer(1), NOW).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the store: scopes: wallet:admin is for official mini-apps only, expected classification: official"
    );
}

#[test]
fn a_webhook_secret_opens_for_its_own_mini_app_and_moves_to_another_master_key() {
    let (old, new) = (sealer(1), sealer(2));
    let both = Sealer::after(&Secret::new("02".repeat(32)), Some(&Secret::new("01".repeat(32)))).unwrap();
    let secret = Secret::new(format!("whsec_{}", "A".repeat(32)));
    let mut record = record("ma_a");
    record.seal_webhook_secret(&old, Some(&secret)).unwrap();
    assert!(!String::from_utf8(record.encoded().unwrap().to_vec()).unwrap().contains("whsec_"));
    assert_eq!(record.app(&old, NOW).unwrap().webhook_secret, Some(secret.clone()));
    assert_eq!(record.app(&new, NOW), Err(RecordError::Sealed(SealError::DoesNotOpen)));
    let mut stolen = record.clone();
    stolen.registration.id = "ma_b".to_owned();
    assert_eq!(stolen.app(&old, NOW), Err(RecordError::Sealed(SealError::DoesNotOpen)));
    assert_eq!(record.clone().reseal(&new), Err(RecordError::Sealed(SealError::DoesNotOpen)));
    record.reseal(&both).unwrap();
    let resealed = record.clone();
    record.reseal(&both).unwrap();
    assert!(record == resealed, "it was sealed under the current key already");
    assert_eq!(record.app(&new, NOW).unwrap().webhook_secret, Some(secret));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = AppRecord::parse(&bytes);
    }

    #[test]
    fn another_format_is_named_whatever_else_stands_there(v in 2u32.., more in "[a-z]{2,8}") {
        let text = serde_json::json!({ "v": v, more: [1, 2] }).to_string();
        let error = AppRecord::parse(text.as_bytes()).unwrap_err().to_string();
        prop_assert!(error.contains(&format!("format {v}")) && error.contains("later release"), "{}", error);
    }

    #[test]
    fn what_is_written_is_read(
        name in "\\PC{0,40}", hashes in prop::collection::vec((any::<[u8; 32]>(), any::<Option<u64>>()), 0..3),
        reason: Option<String>, times: [u64; 3], removed: Option<u64>,
    ) {
        let registration = Registration { id: "ma_a".to_owned(), name, ..Registration::default() };
        let mut record = AppRecord::new(registration, times[0]);
        record.changed = times[1];
        record.suspended = reason.map(|reason| Suspension { since: times[2], reason: Some(reason) });
        record.removed = removed;
        let secret = |(hash, valid_until)| ClientSecret { hash: Digest(hash), created: times[0], valid_until };
        record.secrets = hashes.into_iter().map(secret).collect();
        let value = record.encoded().unwrap();
        prop_assert!(AppRecord::parse(&value).unwrap() == record);
        // Never half a record for a whole one.
        prop_assert!(AppRecord::parse(&value[..value.len() - 1]).is_err());
    }
}
