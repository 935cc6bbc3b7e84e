use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::*;
use crate::clock::Clock;
use crate::config;
use crate::metrics::Metrics;
use crate::model::oauth::grant::{Redeemed, Redeemer};
use crate::model::oauth::{Challenge, ClientId, Consent, Digest, Grant, Poll, Via};
use crate::model::{MiniAppId, ScopeSet, UserId};
use crate::store::{self, Backend};

const NOW: u64 = 1_000_000;
const MINUTE: Duration = Duration::from_secs(60);
const VERIFIER: Digest = Digest([7; 32]);
const CALLBACK: &str = "https://shop.example/cb";

fn open() -> (tempfile::TempDir, Arc<dyn Backend>) {
    let folder = tempfile::tempdir().unwrap();
    let place = config::Store::Embedded { path: folder.path().join("store") };
    let metrics = Arc::new(Metrics::new(&[]).unwrap());
    let store = store::open(&place, &Clock::system(), &metrics).unwrap().store;
    (folder, store)
}

fn client() -> ClientId {
    ClientId::of(MiniAppId::parse("ma_shop").unwrap())
}

fn alice() -> UserId {
    UserId::parse("@alice:tween.example").unwrap()
}

fn scopes() -> ScopeSet {
    ScopeSet::from_list("user:read wallet:balance")
}

fn consent() -> Consent {
    Consent {
        client: client(),
        redirect: CALLBACK.to_owned(),
        state: Some("xyz".to_owned()),
        scopes: scopes(),
        challenge: Challenge::parse(&VERIFIER.to_string()).unwrap(),
        user: None,
        asked_at: NOW,
    }
}

async fn code(store: &Arc<dyn Backend>) -> Credential {
    let questions = Questions::new(store.clone());
    let session = questions.put(&consent(), MINUTE).await.unwrap();
    let held = questions.get(&session).await.unwrap().unwrap();
    let held = questions.identify(&session, held, alice(), MINUTE).await.unwrap().unwrap();
    let code = Credential::another(Kind::Code, session.grant()).unwrap();
    assert!(questions.approve(&session, held, (scopes(), &code), Bytes::new(), (NOW, 0), MINUTE).await.unwrap());
    code
}

#[tokio::test]
async fn a_question_is_answered_once() {
    let (_folder, store) = open();
    let questions = Questions::new(store.clone());
    let session = questions.put(&consent(), MINUTE).await.unwrap();
    let stranger = Credential::another(Kind::Consent, session.grant()).unwrap();
    assert!(questions.get(&stranger).await.unwrap().is_none(), "knowing the grant's id is not enough");
    let held = questions.get(&session).await.unwrap().unwrap();
    let code = Credential::another(Kind::Code, session.grant()).unwrap();
    let told = Bytes::from_static(b"sealed");
    let approve = |held| questions.approve(&session, held, (scopes(), &code), told.clone(), (NOW, 0), MINUTE);
    assert!(!approve(held.clone()).await.unwrap());
    let held = questions.identify(&session, held, alice(), MINUTE).await.unwrap().unwrap();
    let mallory = UserId::parse("@mallory:tween.example").unwrap();
    assert!(questions.identify(&session, held.clone(), mallory, MINUTE).await.unwrap().is_none());
    let answers = join_all((0..50).map(|_| approve(held.clone()))).await;
    assert_eq!(answers.into_iter().filter(|done| *done == Ok(true)).count(), 1);
    assert_eq!(questions.told(&session).await.unwrap(), Some(told.clone()));
    assert!(questions.get(&session).await.unwrap().is_none());
    assert!(!questions.refuse(&session, &held, told.clone(), MINUTE).await.unwrap());
}

#[tokio::test]
async fn of_fifty_redemptions_at_once_one_succeeds() {
    let (_folder, store) = open();
    let (grants, code) = (Grants::new(store.clone()), code(&store).await);
    let ours = client();
    let redeem = || async {
        let held = grants.get(code.grant()).await.unwrap().unwrap();
        let refresh = Credential::another(Kind::Refresh, code.grant()).unwrap();
        let by = Redeemer { client: &ours, redirect: CALLBACK, verifier: VERIFIER, code: code.hash(), arrived_at: NOW };
        match held.value.clone().redeemed(&by, refresh.hash(), NOW + 1) {
            Redeemed::Done(grant) => grants.change(code.grant(), &held, &grant, MINUTE).await.unwrap(),
            Redeemed::Raced => false,
            other => panic!("{other:?}"),
        }
    };
    let done = join_all((0..50).map(|_| redeem())).await;
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
}

#[tokio::test]
async fn a_grant_is_listed_as_long_as_it_lives_and_remembers_what_is_spent() {
    let (_folder, store) = open();
    let (grants, code) = (Grants::new(store.clone()), code(&store).await);
    let id = code.grant();
    assert_eq!(grants.of_user(&alice(), None, NOW).await.unwrap().len(), 1);
    let held = grants.get(id).await.unwrap().unwrap();
    let [first, second] = [(); 2].map(|()| Credential::another(Kind::Refresh, id).unwrap());
    let begun = held.value.clone().begun(first.hash(), NOW);
    assert!(grants.change(id, &held, &begun, MINUTE).await.unwrap());
    let held = grants.get(id).await.unwrap().unwrap();
    let rotated = held.value.clone().rotated(second.hash(), NOW + 1);
    let answer = Bytes::from_static(b"sealed");
    assert!(grants.rotate(id, &held, &rotated, first.hash(), answer.clone(), MINUTE).await.unwrap());
    assert!(!grants.rotate(id, &held, &rotated, first.hash(), answer.clone(), MINUTE).await.unwrap());
    assert_eq!(grants.last_answer(id).await.unwrap(), Some(answer));
    assert!(grants.was_spent(&first).await.unwrap() && !grants.was_spent(&second).await.unwrap());
    let other = MiniAppId::parse("ma_shop2").unwrap();
    assert!(grants.of_user(&alice(), Some(&other), NOW).await.unwrap().is_empty());
    // A grant that is marked is found once more by whoever ends it next.
    for ended in [false, true] {
        assert_eq!(grants.close(id).await.unwrap().map(|grant| grant.ended), Some(ended));
    }
    assert_eq!(grants.end(id).await.unwrap().map(|grant| grant.user), Some(alice()));
    assert_eq!(grants.close(id).await.unwrap(), None);
    assert_eq!(grants.end(id).await.unwrap(), None);
    assert!(grants.of_user(&alice(), None, NOW).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_device_is_found_by_its_user_code_and_granted_once() {
    let (_folder, store) = open();
    let (devices, grants) = (Devices::new(store.clone()), Grants::new(store.clone()));
    let (device_code, user_code) = devices.begin(client(), scopes(), NOW, MINUTE).await.unwrap();
    let (id, held) = devices.by_user_code(&user_code).await.unwrap().unwrap();
    assert_eq!((id, held.value.hash), (device_code.grant(), device_code.hash()));
    let approved = held.value.clone().approved(alice(), scopes(), NOW, 0).unwrap();
    assert!(devices.change(id, &held, &approved, NOW).await.unwrap());
    assert!(!devices.change(id, &held, &held.value.clone().denied().unwrap(), NOW).await.unwrap());
    let held = devices.get(id).await.unwrap().unwrap();
    let Poll::Granted(grant) = held.value.clone().polled(NOW + 1) else { panic!("granted") };
    let redeem = (0..50).map(|_| grants.from_device(id, &held, &grant, MINUTE));
    assert_eq!(join_all(redeem).await.into_iter().filter(|done| *done == Ok(true)).count(), 1);
    assert!(devices.by_user_code(&user_code).await.unwrap().is_none());
}

#[tokio::test]
async fn operators_list_the_grants_of_a_user_a_mini_app_or_everybody_page_by_page() {
    let (_folder, store) = open();
    grants_are_listed_page_by_page(store).await;
}

/// To be called with a store that holds nothing yet, of whatever kind.
pub(crate) async fn grants_are_listed_page_by_page(store: Arc<dyn Backend>) {
    let grants = Grants::new(store.clone());
    let [shop, notes] = ["ma_shop", "ma_notes"].map(|app| MiniAppId::parse(app).unwrap());
    let held = grants.get(code(&store).await.grant()).await.unwrap().unwrap().value;
    for n in 0..7 {
        let user = UserId::parse(&format!("@user{n}:tween.example")).unwrap();
        for app in [&shop, &notes] {
            let grant =
                crate::model::oauth::Grant { client: ClientId::of(app.clone()), user: user.clone(), ..held.clone() };
            let id = Credential::first(Kind::Refresh).unwrap().grant();
            grants.create(id, &grant, MINUTE).await.unwrap();
        }
    }
    let user = UserId::parse("@user3:tween.example").unwrap();
    for (user, app, limit, expected) in
        [(Some(&user), None, 1, 2), (Some(&user), Some(&notes), 10, 1), (None, Some(&notes), 3, 7), (None, None, 4, 15)]
    {
        let (mut found, mut cursor) = (std::collections::BTreeSet::new(), None::<String>);
        loop {
            let page = grants.page(user, app, cursor.as_deref(), limit).await.unwrap();
            for (id, held) in page.grants {
                assert!(user.is_none_or(|user| *user == held.value.user), "{held:?}");
                assert!(app.is_none_or(|app| *app == held.value.client.app), "{held:?}");
                found.insert(id);
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(found.len(), expected, "{user:?} {app:?}");
    }
    let theirs = grants.page(Some(&user), None, None, 1).await.unwrap().next.unwrap();
    for bad in ["", "x", "dQ!", &theirs] {
        assert!(matches!(grants.page(None, None, Some(bad), 10).await, Err(store::StoreError::NoSuchCursor)), "{bad}");
    }
    assert_eq!(
        grants
            .end(grants.page(Some(&user), Some(&shop), None, 9).await.unwrap().grants[0].0)
            .await
            .unwrap()
            .unwrap()
            .user,
        user
    );
    assert!(grants.page(Some(&user), Some(&shop), None, 9).await.unwrap().grants.is_empty());
}

/// Its entry is written before it is, and whoever reads in between must not take it off the list.
#[tokio::test]
async fn a_grant_that_is_being_made_stays_listed() {
    let (_folder, store) = open();
    let (grants, id) = (Grants::new(store.clone()), GrantId([9; 16]));
    let grant = Grant::given(client(), alice(), ScopeSet::EMPTY, Via::Code, (NOW, 0));
    index::add(&*store, id, &grant).await.unwrap();
    assert!(grants.of_user(&alice(), None, NOW + 1).await.unwrap().is_empty());
    grants.create(id, &grant, MINUTE).await.unwrap();
    assert_eq!(grants.of_user(&alice(), None, NOW + 2).await.unwrap().len(), 1);
    // One that never came is dropped once it can no longer come.
    let never = GrantId([8; 16]);
    index::add(&*store, never, &grant).await.unwrap();
    for (now, listed) in [(NOW + 3_600_000, 2), (NOW + 3_600_001, 1)] {
        assert_eq!(grants.of_user(&alice(), None, now).await.unwrap().len(), 1);
        assert_eq!(index::list(&*store, &alice(), None).await.unwrap().len(), listed);
    }
}
