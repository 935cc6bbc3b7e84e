//! Registering mini-apps, and an edge's memory of them.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::registrar::{Added, Done, Registrar, RegistrarError};
use super::*;
use crate::clock::ManualClock;
use crate::config::{MiniApp, Problems, Registration, Secret};
use crate::model::{Revoked, ScopeSet};
use crate::policy::authn::Registry;
use crate::policy::authn::testing::{NOW, master_key};
use crate::store::embedded::Embedded;
use crate::store::failing::Failing;
use crate::store::revocations::RevocationLog;
use crate::store::seal::sha256;
use crate::store::{Applied, Backend, Batch, Partition, Read};

struct House {
    store: Arc<dyn Backend>,
    clock: Clock,
    time: ManualClock,
    metrics: Arc<Metrics>,
    _folder: TempDir,
}

impl House {
    fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        let (clock, time) = Clock::manual(NOW);
        let metrics = Arc::new(Metrics::new(&[]).unwrap());
        let store = Arc::new(Embedded::open(folder.path(), clock.clone(), metrics.clone()).unwrap());
        House { store, clock, time, metrics, _folder: folder }
    }

    fn keyring(&self, master_key: &Secret, previous: Option<&Secret>) -> Keyring {
        Keyring::open_after(self.store.clone(), master_key, previous, Generation::default()).unwrap()
    }

    fn registrar(&self) -> Registrar {
        self.registrar_beside(MiniApps::new(), self.keyring(&master_key(), None))
    }

    fn registrar_beside(&self, named: MiniApps, keyring: Keyring) -> Registrar {
        let (apps, log) = (AppStore::new(self.store.clone()), self.log());
        Registrar::new(apps, log, keyring, self.clock.clone(), (named, Some("c/apps.yaml".into())))
    }

    fn log(&self) -> RevocationLog {
        RevocationLog::new(self.store.clone(), self.clock.clone())
    }

    /// A running edge's memory.
    fn feed(&self) -> (AppFeed, Arc<StoredApps>, Generation) {
        let (stored, generation) = (Arc::<StoredApps>::default(), Generation::default());
        let feed = AppFeed::new(
            AppStore::new(self.store.clone()),
            stored.clone(),
            Arc::new(self.keyring(&master_key(), None)),
            generation.clone(),
            self.clock.clone(),
            self.metrics.clone(),
        );
        (feed, stored, generation)
    }

    async fn revoked(&self) -> usize {
        self.log().since(0).await.unwrap().unwrap().len()
    }
}

fn id(text: &str) -> MiniAppId {
    MiniAppId::parse(text).unwrap()
}

fn entry(id: &str, client_type: &str) -> Registration {
    Registration {
        id: id.to_owned(),
        name: "Shop".to_owned(),
        client_type: Some(client_type.to_owned()),
        scopes: vec!["wallet:balance".to_owned(), "user:read".to_owned()],
        ..Registration::default()
    }
}

async fn add(registrar: &Registrar, entry: &Registration, replace: bool) -> Result<Added, RegistrarError> {
    let source = |complete: &mut dyn FnMut(&mut MiniApp)| -> Result<Vec<MiniApp>, Problems> {
        entry.read("command line", complete).map(|app| vec![app])
    };
    registrar.add(&source, replace).await.map(|mut added| added.remove(0))
}

fn hash(secret: &Secret) -> [u8; 32] {
    sha256(secret.expose().as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mini_app_is_given_secrets_once_and_an_edge_knows_their_hashes() {
    let house = House::new();
    let (registrar, (feed, stored, generation)) = (house.registrar(), house.feed());
    assert!(!feed.look().await.unwrap(), "nothing is there");
    let before = generation.current();
    let hooked = Registration { webhook_url: Some("https://shop.example/h".to_owned()), ..entry("ma_a", "hybrid") };
    let added = add(&registrar, &hooked, false).await.unwrap();
    assert_eq!(added.done, Done::Registered);
    let (client, webhook) = (added.client_secret.unwrap(), added.webhook_secret.unwrap());
    assert!(client.expose().starts_with("tmcp_secret_") && webhook.expose().starts_with("whsec_"));
    assert!(feed.look().await.unwrap() && !feed.look().await.unwrap(), "news once");
    assert_ne!(generation.current(), before, "cached tokens are looked at again");
    let known = stored.get(&id("ma_a")).unwrap();
    assert_eq!((&known.secret_hashes, known.webhook_secret.as_ref()), (&vec![hash(&client)], Some(&webhook)));

    let again = add(&registrar, &hooked, true).await.unwrap();
    assert_eq!((again.done, again.client_secret, again.webhook_secret), (Done::Unchanged, None, None));
    assert!(!feed.look().await.unwrap());
    let other = Registration { name: "Other".to_owned(), scopes: vec!["user:read".to_owned()], ..hooked };
    let changed = add(&registrar, &other, true).await.unwrap();
    assert_eq!((changed.done, changed.lost), (Done::Replaced, ScopeSet::from_list("wallet:balance")));
    assert!(changed.client_secret.is_none() && changed.webhook_secret.is_none(), "it keeps those that it has");
    feed.look().await.unwrap();
    let known = stored.get(&id("ma_a")).unwrap();
    assert_eq!((known.name.as_str(), &known.secret_hashes), ("Other", &vec![hash(&client)]));
    assert_eq!((known.scopes, known.webhook_secret.as_ref()), (ScopeSet::from_list("user:read"), Some(&webhook)));

    let public = add(&registrar, &entry("ma_a", "public"), true).await.unwrap();
    assert!(public.client_secret.is_none());
    feed.look().await.unwrap();
    assert!(stored.get(&id("ma_a")).unwrap().secret_hashes.is_empty());
    assert!(matches!(registrar.rotate(&id("ma_a"), Duration::ZERO).await, Err(RegistrarError::KeepsNoSecret(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_secrets_are_good_while_one_is_replaced() {
    let house = House::new();
    let (registrar, (feed, stored, _)) = (house.registrar(), house.feed());
    let first = add(&registrar, &entry("ma_a", "confidential"), false).await.unwrap().client_secret.unwrap();
    let day = Duration::from_secs(24 * 3600);
    let hashes = async || {
        feed.look().await.unwrap();
        stored.get(&id("ma_a")).unwrap().secret_hashes.clone()
    };
    let second = registrar.rotate(&id("ma_a"), day).await.unwrap();
    assert_eq!(second.old_until, Some(NOW + day.as_secs()));
    assert_eq!(hashes().await, [hash(&first), hash(&second.secret)]);
    // The third does not wait for the first to end.
    let third = registrar.rotate(&id("ma_a"), Duration::from_secs(60)).await.unwrap();
    assert_eq!(hashes().await, [hash(&second.secret), hash(&third.secret)]);
    house.time.advance(Duration::from_secs(59));
    assert!(!feed.look().await.unwrap());
    house.time.advance(Duration::from_secs(1));
    assert_eq!(hashes().await, [hash(&third.secret)], "it ends without anybody doing anything");
    let fourth = registrar.rotate(&id("ma_a"), Duration::ZERO).await.unwrap();
    assert_eq!((fourth.old_until, hashes().await), (None, vec![hash(&fourth.secret)]));

    // Back to the old one, by naming it.
    let fifth = registrar.rotate(&id("ma_a"), day).await.unwrap();
    let old = hash(&fourth.secret);
    let source = |complete: &mut dyn FnMut(&mut MiniApp)| -> Result<Vec<MiniApp>, Problems> {
        let mut named = |app: &mut MiniApp| {
            app.secret_hashes.push(old);
            complete(app);
        };
        entry("ma_a", "confidential").read("command line", &mut named).map(|app| vec![app])
    };
    registrar.add(&source, true).await.unwrap();
    assert!(hashes().await == [old] && fifth.old_until.is_some());
    house.time.advance(day * 2);
    feed.look().await.unwrap();
    assert_eq!(stored.get(&id("ma_a")).unwrap().secret_hashes, [old], "it does not end any more");

    assert!(matches!(registrar.rotate_webhook(&id("ma_a")).await, Err(RegistrarError::NoWebhook(_))));
    let hooked =
        Registration { webhook_url: Some("https://shop.example/h".to_owned()), ..entry("ma_a", "confidential") };
    add(&registrar, &hooked, true).await.unwrap();
    let webhook = registrar.rotate_webhook(&id("ma_a")).await.unwrap();
    assert_eq!(hashes().await, [hash(&fourth.secret)]);
    assert_eq!(stored.get(&id("ma_a")).unwrap().webhook_secret, Some(webhook));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_mini_app_is_off_until_it_is_resumed_and_its_tokens_for_good() {
    let house = House::new();
    let (registrar, (feed, stored, _)) = (house.registrar(), house.feed());
    add(&registrar, &entry("ma_a", "hybrid"), false).await.unwrap();
    let suspended = async || {
        feed.look().await.unwrap();
        stored.get(&id("ma_a")).unwrap().suspended
    };
    assert!(!suspended().await && house.revoked().await == 0);
    assert!(matches!(registrar.resume(&id("ma_a")).await, Err(RegistrarError::NotSuspended(_))));
    assert!(matches!(registrar.suspend(&id("ma_a"), Some("a\nb".to_owned())).await, Err(RegistrarError::Reason)));
    registrar.suspend(&id("ma_a"), Some("fraud".to_owned())).await.unwrap();
    assert!(suspended().await);
    assert_eq!(house.log().since(0).await.unwrap().unwrap()[0].what, Revoked::App(id("ma_a")));
    add(&registrar, &entry("ma_a", "hybrid"), true).await.unwrap();
    assert!(suspended().await, "registering it again does not bring it back");
    registrar.suspend(&id("ma_a"), None).await.unwrap();
    let record = AppStore::new(house.store.clone()).all().await.unwrap().remove(&id("ma_a")).unwrap().unwrap();
    assert_eq!(record.suspended.unwrap().reason.as_deref(), Some("fraud"));
    registrar.resume(&id("ma_a")).await.unwrap();
    assert!(!suspended().await);
    assert_eq!(house.revoked().await, 3, "what an edge issued that had not heard of it is void, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_removed_mini_app_stays_taken() {
    let house = House::new();
    let (registrar, (feed, stored, _)) = (house.registrar(), house.feed());
    add(&registrar, &entry("ma_a", "hybrid"), false).await.unwrap();
    registrar.remove(&id("ma_a")).await.unwrap();
    feed.look().await.unwrap();
    assert!(stored.get(&id("ma_a")).is_none() && house.revoked().await == 1);
    let registry = Registry::new(MiniApps::new(), stored);
    assert!(registry.get(&id("ma_a")).is_none());
    for refused in [registrar.resume(&id("ma_a")).await, registrar.suspend(&id("ma_a"), None).await] {
        assert!(matches!(refused, Err(RegistrarError::Unknown(_))));
    }
    registrar.remove(&id("ma_a")).await.unwrap();
    assert_eq!(house.revoked().await, 2, "for whoever could not write it down the first time");
    let refused = add(&registrar, &entry("ma_a", "hybrid"), false).await.unwrap_err();
    assert!(refused.to_string().contains("has been removed"), "{refused}");
    let back = add(&registrar, &entry("ma_a", "hybrid"), true).await.unwrap();
    assert!(back.client_secret.is_some(), "the secrets of before are gone");
    assert_eq!(house.revoked().await, 3, "and what was allowed is void, had it not been when it was removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_be_registered_is_told_why() {
    let house = House::new();
    let named = MiniApp { client_type: crate::model::miniapp::ClientType::Hybrid, ..MiniApp::new(id("ma_c"), "C") };
    let named = MiniApps::from([(id("ma_c"), Arc::new(named))]);
    let registrar = house.registrar_beside(named, house.keyring(&master_key(), None));
    add(&registrar, &entry("ma_a", "hybrid"), false).await.unwrap();
    add(&registrar, &entry("ma_x_backend", "public"), false).await.unwrap();
    for (entry, told) in [
        (entry("ma_a", "public"), "there is a mini-app ma_a already; --replace puts this one in its place"),
        (entry("ma_c", "public"), "ma_c stands in the config: change it in c/apps.yaml, then reload"),
        (entry("ma_a_backend", "public"), "ma_a_backend cannot be told from ma_a"),
        (entry("ma_c_backend", "public"), "ma_c_backend cannot be told from ma_c"),
        (entry("ma_x", "hybrid"), "ma_x cannot be told from ma_x_backend"),
        (entry("shop", "public"), "command line: id: found \"shop\", expected a mini-app id such as ma_shop_001"),
        (entry("ma_b", "privat"), "command line: type: found \"privat\""),
    ] {
        let error = add(&registrar, &entry, false).await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}\n is not\n{told}");
    }
    let changes = [registrar.suspend(&id("ma_c"), None).await, registrar.remove(&id("ma_c")).await];
    for refused in changes {
        assert!(matches!(refused, Err(RegistrarError::Named(..))), "{refused:?}");
    }
    let unknown = registrar.resume(&id("ma_none")).await.unwrap_err().to_string();
    assert_eq!(unknown, "there is no mini-app ma_none; `app list` shows what there is");
    // All or none.
    let both = |complete: &mut dyn FnMut(&mut MiniApp)| -> Result<Vec<MiniApp>, Problems> {
        [entry("ma_new", "public"), entry("ma_a", "public")].iter().map(|entry| entry.read("x", complete)).collect()
    };
    assert!(registrar.add(&both, false).await.is_err());
    assert!(!AppStore::new(house.store.clone()).all().await.unwrap().contains_key(&id("ma_new")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_leaves_its_mini_app_as_it_was() {
    let house = House::new();
    let (registrar, (feed, stored, _)) = (house.registrar(), house.feed());
    add(&registrar, &entry("ma_a", "public"), false).await.unwrap();
    add(&registrar, &entry("ma_b", "public"), false).await.unwrap();
    feed.look().await.unwrap();
    registrar.suspend(&id("ma_b"), None).await.unwrap();
    // As a later release might.
    let later = Batch::new(Partition::of("apps", &[])).unwrap();
    let later = later.put("app/ma_a", r#"{"v":2}"#, None).put("head", r#"{"v":2}"#, None);
    assert_eq!(house.store.apply(later).await, Ok(Applied::Done));
    assert!(feed.look().await.unwrap());
    assert!(!stored.get(&id("ma_a")).unwrap().suspended && stored.get(&id("ma_b")).unwrap().suspended);
    assert!(!feed.look().await.unwrap(), "said once");
    let (fresh, ..) = house.feed();
    let refused = fresh.look().await.unwrap_err().to_string();
    assert!(refused.starts_with("mini-app ma_a: its record is of format 2"), "{refused}");
    // It is nobody's to change until it can be read, and stands in no other's way.
    let replaced = add(&registrar, &entry("ma_a", "public"), true).await.map(drop);
    for refused in [registrar.suspend(&id("ma_a"), None).await, registrar.remove(&id("ma_a")).await, replaced] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.starts_with("mini-app ma_a: its record is of format 2"), "{refused}");
    }
    let refused = registrar.reseal().await.unwrap_err().to_string();
    assert!(refused.contains("ma_a") && refused.contains("format 2"), "{refused}");
    let namesake = add(&registrar, &entry("ma_a_backend", "public"), false).await.unwrap_err();
    assert!(matches!(namesake, RegistrarError::Namesake(..)), "it may have a back end: {namesake}");
    registrar.resume(&id("ma_b")).await.unwrap();
    add(&registrar, &entry("ma_c", "public"), false).await.unwrap();
    assert!(feed.look().await.unwrap());
    assert!(!stored.get(&id("ma_b")).unwrap().suspended && stored.get(&id("ma_c")).is_some());
    let kept = house.store.get(&Partition::of("apps", &[]), "app/ma_a", Read::Latest).await.unwrap().unwrap();
    assert_eq!(kept.value, r#"{"v":2}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_has_lost_them_empties_no_memory() {
    let house = House::new();
    let (registrar, (feed, stored, _)) = (house.registrar(), house.feed());
    add(&registrar, &entry("ma_a", "public"), false).await.unwrap();
    feed.look().await.unwrap();
    let lost = Batch::new(Partition::of("apps", &[])).unwrap().delete("head").delete("app/ma_a");
    assert_eq!(house.store.apply(lost).await, Ok(Applied::Done));
    assert!(matches!(feed.look().await, Err(AppsError::Vanished)));
    assert!(stored.get(&id("ma_a")).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_secrets_move_to_another_master_key() {
    let house = House::new();
    let hooked = Registration { webhook_url: Some("https://shop.example/h".to_owned()), ..entry("ma_a", "public") };
    let secret = add(&house.registrar(), &hooked, false).await.unwrap().webhook_secret;
    let new = Secret::new("b7".repeat(32));
    let both = house.registrar_beside(MiniApps::new(), house.keyring(&new, Some(&master_key())));
    both.reseal().await.unwrap();
    let records = AppStore::new(house.store.clone()).all().await.unwrap();
    let alone = house.keyring(&new, None);
    assert_eq!(records[&id("ma_a")].as_ref().unwrap().open_webhook_secret(alone.sealer()).unwrap(), secret);
    let refused = house.registrar().reseal().await.unwrap_err().to_string();
    assert!(refused.contains("mini-app ma_a") && refused.contains("another master key"), "{refused}");
}

/// Whatever fails in between, asking again does what is missing, and no secret is made that nobody gets to see.
#[tokio::test(flavor = "multi_thread")]
async fn what_broke_off_is_made_whole_by_asking_again() {
    let mut house = House::new();
    let failing = Arc::new(Failing::new(house.store.clone()));
    house.store = failing.clone();
    let (registrar, (feed, stored, _)) = (house.registrar(), house.feed());
    let a = id("ma_a");
    // Registered when it is switched off already.
    let off = |complete: &mut dyn FnMut(&mut MiniApp)| -> Result<Vec<MiniApp>, Problems> {
        let mut app = entry("ma_a", "hybrid").read("x", complete)?;
        app.suspended = true;
        Ok(vec![app])
    };
    failing.fail(&["apps"]);
    assert!(matches!(registrar.add(&off, false).await, Err(RegistrarError::Store(_))));
    failing.fail(&[]);
    assert!(AppStore::new(house.store.clone()).all().await.unwrap().is_empty());
    assert!(registrar.add(&off, false).await.unwrap()[0].client_secret.is_some());
    // The same where what one that was removed was allowed could not be made void.
    registrar.remove(&a).await.unwrap();
    failing.fail(&["revocations"]);
    assert!(matches!(registrar.add(&off, true).await, Err(RegistrarError::Store(_))));
    failing.fail(&[]);
    assert!(registrar.add(&off, true).await.unwrap()[0].client_secret.is_some());
    // Everything else: the record is changed, and the log does not take it.
    let revoked = async || house.revoked().await;
    let mut before = revoked().await;
    failing.fail(&["revocations"]);
    registrar.resume(&a).await.unwrap_err();
    feed.look().await.unwrap();
    assert!(stored.get(&a).unwrap().suspended, "not before what was issued is void");
    failing.fail(&[]);
    registrar.resume(&a).await.unwrap();
    assert_eq!(revoked().await, before + 1);
    for what in ["suspend", "replace", "remove"] {
        let asked = async || match what {
            "suspend" => registrar.suspend(&a, None).await,
            "replace" => registrar.add(&off, true).await.map(drop),
            _ => registrar.remove(&a).await,
        };
        before = revoked().await;
        failing.fail(&["revocations"]);
        assert!(matches!(asked().await, Err(RegistrarError::Store(_))), "{what}");
        failing.fail(&[]);
        asked().await.unwrap();
        assert_eq!(revoked().await, before + 1, "{what}");
        feed.look().await.unwrap();
        assert!(stored.get(&a).is_none_or(|app| app.suspended), "{what}");
    }
}

/// Follows, resting so long between two looks, until what a command does is in force.
async fn follows(house: &House, rest: Duration) {
    let (registrar, (feed, stored, _)) = (house.registrar(), house.feed());
    let changed = async {
        add(&registrar, &entry("ma_a", "public"), false).await.unwrap();
        while stored.get(&id("ma_a")).is_none() {
            tokio::task::yield_now().await;
        }
        registrar.suspend(&id("ma_a"), None).await.unwrap();
        while !stored.get(&id("ma_a")).unwrap().suspended {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = feed.follow_resting(rest) => unreachable!("it never ends"),
        () = changed => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn following_is_told_of_changes() {
    follows(&House::new(), Duration::MAX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn following_finds_changes_that_nobody_tells() {
    let mut house = House::new();
    let silent = Failing::new(house.store.clone());
    silent.silence();
    house.store = Arc::new(silent);
    follows(&house, Duration::from_millis(1)).await;
}
