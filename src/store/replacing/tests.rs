//! A restore that breaks off anywhere.

use std::time::Duration;

use super::*;
use crate::metrics::Metrics;
use crate::model::{MiniAppId, Revoked, ScopeSet, UserId};
use crate::store::archive::Reader;
use crate::store::embedded::Embedded;
use crate::store::failing::Failing;
use crate::store::keys::{KeyDocument, KeyRecord, KeyState, KeyStore};
use crate::store::revocations::RevocationLog;

async fn set_key(store: &Arc<dyn Backend>, state: KeyState) {
    let sealed = (state != KeyState::Revoked).then(|| "c2VhbGVk".to_owned());
    let revoked = (state == KeyState::Revoked).then_some(5);
    let key =
        KeyRecord { kid: "k".to_owned(), state, created: 1, signs_since: None, accepted_until: None, revoked, sealed };
    let change = |ring: &mut KeyDocument| -> Result<(), StoreError> {
        ring.keys = vec![key.clone()];
        Ok(())
    };
    KeyStore::new(store.clone()).update(change).await.unwrap();
}

async fn restored(store: &Arc<dyn Backend>, clock: &Clock, backup: &[u8]) -> Result<Again, String> {
    let replacing = Replacing::begin(store, clock, true).await.map_err(|refused| format!("{refused:?}"))?;
    let mut reader = Reader::begin(backup).unwrap();
    let filled = transfer::restore(&**store, &mut reader, Duration::from_secs(60)).await;
    filled.map_err(|error| error.to_string())?;
    replacing.finish().await.map_err(|error| error.to_string())
}

/// Wherever it breaks off, edges are kept away until it is done, and then nothing is good that was void.
#[tokio::test]
async fn whatever_breaks_off_is_picked_up() {
    let (user, app) = (UserId::parse("@a:x").unwrap(), MiniAppId::parse("ma_shop").unwrap());
    let late = [
        Revoked::User(user.clone()),
        Revoked::Scopes(user, app, ScopeSet::from_list("user:read wallet:pay")),
        Revoked::Payments { off: true },
    ];
    let mut broken = 0;
    for takes in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let (clock, time) = Clock::manual(1_800_000_000);
        let metrics = Arc::new(Metrics::new(&[]).unwrap());
        let inner = Arc::new(Embedded::open(folder.path(), clock.clone(), metrics).unwrap());
        let failing = Arc::new(Failing::new(inner));
        let store: Arc<dyn Backend> = failing.clone();
        let log = RevocationLog::new(store.clone(), clock.clone());
        set_key(&store, KeyState::Signing).await;
        log.append(Revoked::Payments { off: false }).await.unwrap();
        let (backup, _) = transfer::backup(&*store, Vec::new(), clock.unix_secs()).await.unwrap();
        time.advance(Duration::from_secs(60));
        set_key(&store, KeyState::Revoked).await;
        for what in &late {
            log.append(what.clone()).await.unwrap();
        }

        failing.take(Some(takes));
        let first = restored(&store, &clock, &backup).await;
        failing.take(None);
        let (ring, _) = KeyStore::new(store.clone()).read().await.unwrap();
        let untouched = ring.keys.iter().any(|key| key.state == KeyState::Revoked);
        if first.is_err() {
            broken += 1;
            assert!(is_unfinished(&*store).await.unwrap() || untouched, "{takes}");
            restored(&store, &clock, &backup).await.unwrap();
        }
        assert!(!is_unfinished(&*store).await.unwrap(), "{takes}");
        let (ring, _) = KeyStore::new(store.clone()).read().await.unwrap();
        assert_eq!(ring.keys.iter().map(|key| key.state).collect::<Vec<_>>(), [KeyState::Revoked], "{takes}");
        let (_, mut all) = log.all().await.unwrap();
        all.sort_by_key(|revocation| revocation.number);
        for what in &late {
            assert!(all.iter().any(|revocation| revocation.what == *what), "{takes}: {what:?}");
        }
        let switch = all.iter().rfind(|revocation| matches!(revocation.what, Revoked::Payments { .. }));
        assert_eq!(switch.unwrap().what, Revoked::Payments { off: true }, "{takes}");
        if first.is_ok() {
            break;
        }
    }
    assert!(broken > 5, "it has that many steps");
}

#[tokio::test]
async fn what_has_to_be_done_again_is_in_no_backup_and_no_copy() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (clock, _) = Clock::manual(1_800_000_000);
    let [from, to] = folders.each_ref().map(|folder| {
        let metrics = Arc::new(Metrics::new(&[]).unwrap());
        let store: Arc<dyn Backend> = Arc::new(Embedded::open(folder.path(), clock.clone(), metrics).unwrap());
        store
    });
    Replacing::begin(&from, &clock, false).await.unwrap();
    transfer::copy(&*from, &*to, true).await.unwrap();
    assert!(is_unfinished(&*from).await.unwrap() && !is_unfinished(&*to).await.unwrap());
    let (backup, _) = transfer::backup(&*from, Vec::new(), clock.unix_secs()).await.unwrap();
    let mut reader = Reader::begin(backup.as_slice()).unwrap();
    assert_eq!(transfer::restore(&*to, &mut reader, Duration::ZERO).await.unwrap().records, 0);
}
