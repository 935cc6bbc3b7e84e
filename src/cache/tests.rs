use std::collections::BTreeSet;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;

const LONG: Duration = Duration::from_secs(20);

fn cache() -> (ResponseCache, ManualClock) {
    let (clock, hand) = Clock::manual(1_766_193_300);
    let size = CacheSize { ttl: Duration::from_secs(300), max_size: 1024 * 1024 };
    (ResponseCache::new(size, vec!["authorization".to_owned(), "accept-language".to_owned()], clock), hand)
}

fn alice() -> Identity<'static> {
    Identity { user: Some("@alice:tween.example"), app: Some("ma_shop_001"), claims: &["wallet:balance"] }
}

fn key_of(cache: &ResponseCache, identity: Identity<'_>, path: &str) -> Key {
    let headers = HeaderMap::new();
    let operation = Operation::WalletBalance;
    cache.key(&KeyParts { row: 1, operation, host: "edge.example", path, query: None, identity, headers: &headers })
}

fn look(cache: &ResponseCache, key: &Key) -> Lookup {
    cache.lookup(key, RequestRule::LookAndFill)
}

fn store(cache: &ResponseCache, key: &Key, body: &[u8]) {
    let Lookup::Fill(mut guard) = look(cache, key) else { panic!("nothing to fill") };
    guard.head(StatusCode::OK, &HeaderMap::new()).unwrap();
    guard.body(body);
    guard.finish().unwrap();
}

fn hit(cache: &ResponseCache, key: &Key) -> Option<Bytes> {
    match look(cache, key) {
        Lookup::Hit(entry) => Some(entry.body().clone()),
        _ => None,
    }
}

use bytes::Bytes;

#[test]
fn an_answer_is_kept_until_it_is_old() {
    let (cache, hand) = cache();
    let key = key_of(&cache, alice(), "/balance");
    store(&cache, &key, b"{}");
    hand.advance(Duration::from_secs(299));
    let Lookup::Hit(entry) = look(&cache, &key) else { panic!("not kept") };
    assert_eq!(
        (entry.status(), &entry.body()[..], entry.age(cache.shared.clock.tick())),
        (StatusCode::OK, &b"{}"[..], 299)
    );
    hand.advance(Duration::from_secs(1));
    assert!(matches!(look(&cache, &key), Lookup::Fill(_)));
}

#[test]
fn an_upstream_may_shorten_a_life() {
    let (cache, hand) = cache();
    let key = key_of(&cache, alice(), "/balance");
    let Lookup::Fill(mut guard) = look(&cache, &key) else { panic!() };
    let mut headers = HeaderMap::new();
    headers.insert("cache-control", HeaderValue::from_static("max-age=10"));
    headers.insert("age", HeaderValue::from_static("4"));
    guard.head(StatusCode::OK, &headers).unwrap();
    assert_eq!(guard.finish().unwrap().age(cache.shared.clock.tick()), 4);
    hand.advance(Duration::from_secs(5));
    assert!(hit(&cache, &key).is_some());
    hand.advance(Duration::from_secs(1));
    assert!(hit(&cache, &key).is_none());
}

#[test]
fn a_head_is_answered_from_a_get_and_never_fills() {
    let (cache, _) = cache();
    let key = key_of(&cache, alice(), "/balance");
    let rule = RequestRule::of(&Method::HEAD, &HeaderMap::new());
    assert!(matches!(cache.lookup(&key, rule), Lookup::Pass));
    store(&cache, &key, b"{}");
    assert!(matches!(cache.lookup(&key, rule), Lookup::Hit(_)));
    assert!(matches!(cache.lookup(&key, RequestRule::Bypass), Lookup::Pass));
}

#[test]
fn languages_are_kept_apart_and_so_are_values_in_parts() {
    let (cache, _) = cache();
    let key = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("accept-language", HeaderValue::from_static(value));
        }
        let (operation, identity) = (Operation::WalletBalance, alice());
        cache.key(&KeyParts { row: 1, operation, host: "h", path: "/", query: None, identity, headers: &headers })
    };
    let keys =
        [key(&[]), key(&[""]), key(&["de"]), key(&["en"]), key(&["de", "en"]), key(&["de, en"]), key(&["en", "de"])];
    for (at, one) in keys.iter().enumerate() {
        assert!(keys.iter().skip(at + 1).all(|other| other != one), "key {at} stands twice");
    }
    store(&cache, &keys[2], b"Guthaben");
    assert_eq!(hit(&cache, &key(&["de"])).unwrap(), "Guthaben");
    assert!(hit(&cache, &keys[3]).is_none());
}

#[test]
fn a_callers_write_forgets_what_it_was_answered_and_what_is_on_its_way() {
    let (cache, _) = cache();
    let bob = Identity { user: Some("@bob:tween.example"), ..alice() };
    let (hers, his) = (key_of(&cache, alice(), "/balance"), key_of(&cache, bob, "/balance"));
    store(&cache, &his, b"his");
    let Lookup::Fill(mut on_its_way) = look(&cache, &hers) else { panic!() };
    // Another mini-app of hers pays.
    cache.invalidate_caller(&Identity { app: Some("ma_other"), ..alice() });
    on_its_way.head(StatusCode::OK, &HeaderMap::new()).unwrap();
    on_its_way.body(b"before");
    on_its_way.finish().unwrap();
    assert!(hit(&cache, &key_of(&cache, alice(), "/balance")).is_none());
    // Callers may share a generation, which the hash decides; his answer is his own or gone.
    assert!(hit(&cache, &key_of(&cache, bob, "/balance")).is_none_or(|body| body == "his"));
}

#[test]
fn purges_take_what_they_name() {
    let (cache, _) = cache();
    let bob = Identity { user: Some("@bob:tween.example"), app: Some("ma_other"), claims: &[] };
    let keys = [
        key_of(&cache, alice(), "/api/v1/wallet/balance"),
        key_of(&cache, alice(), "/partner/v1/a"),
        key_of(&cache, bob, "/partner/v1/a"),
    ];
    let left = |what: &Purge| {
        cache.purge(&Purge::All);
        for key in &keys {
            store(&cache, key, b"x");
        }
        let count = cache.purge(what);
        let left: Vec<usize> = (0..3).filter(|at| hit(&cache, &keys[*at]).is_some()).collect();
        assert_eq!(count, 3 - left.len() as u64);
        left
    };
    assert_eq!(left(&Purge::User("@alice:tween.example".to_owned())), [2]);
    assert_eq!(left(&Purge::App("ma_other".to_owned())), [0, 1]);
    assert_eq!(left(&Purge::PathPrefix("/partner/".to_owned())), [0]);
    assert_eq!(left(&Purge::Operation(Operation::WalletHistory)), [0, 1, 2]);
    assert_eq!(left(&Purge::Operation(Operation::WalletBalance)), [0usize; 0]);
    assert_eq!(left(&Purge::All), [0usize; 0]);
}

#[test]
fn an_answer_fetched_before_a_purge_is_not_kept_after_it() {
    let (cache, _) = cache();
    let key = key_of(&cache, alice(), "/balance");
    let Lookup::Fill(mut guard) = look(&cache, &key) else { panic!() };
    guard.head(StatusCode::OK, &HeaderMap::new()).unwrap();
    cache.purge(&Purge::App("ma_shop_001".to_owned()));
    assert_eq!(guard.finish().unwrap_err(), Unstorable::Old);
    assert!(matches!(look(&cache, &key), Lookup::Fill(_)));
}

#[test]
fn what_may_not_be_kept_makes_nobody_wait_for_a_while() {
    let (cache, hand) = cache();
    let key = key_of(&cache, alice(), "/balance");
    let mut headers = HeaderMap::new();
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    let Lookup::Fill(mut guard) = look(&cache, &key) else { panic!() };
    assert_eq!(guard.head(StatusCode::OK, &headers), Err(Unstorable::Forbidden));
    guard.body(b"secret");
    assert!(matches!(look(&cache, &key), Lookup::Pass));
    assert!(guard.finish().is_err());
    hand.advance(PASS);
    assert!(matches!(look(&cache, &key), Lookup::Fill(_)));
}

#[test]
fn an_error_is_neither_kept_nor_remembered() {
    let (cache, _) = cache();
    let key = key_of(&cache, alice(), "/balance");
    let Lookup::Fill(mut guard) = look(&cache, &key) else { panic!() };
    assert_eq!(guard.head(StatusCode::BAD_GATEWAY, &HeaderMap::new()), Err(Unstorable::Status));
    assert!(matches!(look(&cache, &key), Lookup::Fill(_)));
}

#[test]
fn what_is_cut_short_or_too_large_is_not_kept() {
    let (cache, _) = cache();
    let key = key_of(&cache, alice(), "/balance");
    let mut headers = HeaderMap::new();
    headers.insert("content-length", HeaderValue::from_static("10"));
    let Lookup::Fill(mut guard) = look(&cache, &key) else { panic!() };
    guard.head(StatusCode::OK, &headers).unwrap();
    guard.body(b"short");
    assert_eq!(guard.finish().unwrap_err(), Unstorable::Incomplete);

    let Lookup::Fill(mut guard) = look(&cache, &key) else { panic!() };
    guard.head(StatusCode::OK, &HeaderMap::new()).unwrap();
    for _ in 0..100 {
        guard.body(&[0; 1024]);
    }
    assert!(guard.body.is_empty(), "{} bytes are held", guard.body.len());
    assert!(guard.finish().is_err());
    assert!(matches!(look(&cache, &key), Lookup::Pass));
}

#[test]
fn the_cache_stays_within_its_size() {
    let (cache, _) = cache();
    for number in 0..200 {
        store(&cache, &key_of(&cache, alice(), &format!("/{number}")), &[0; 32 * 1024]);
    }
    cache.shared.stored.run_pending_tasks();
    let (entries, bytes) = cache.usage();
    assert!(entries > 0 && bytes <= 1024 * 1024, "{entries} entries of {bytes} bytes");
}

#[tokio::test]
async fn of_many_one_fetches() {
    let (cache, _) = cache();
    let key = key_of(&cache, alice(), "/balance");
    let Lookup::Fill(mut guard) = look(&cache, &key) else { panic!() };
    let waiting: Vec<_> = (0..20)
        .map(|_| match look(&cache, &key) {
            Lookup::Wait(waiter) => tokio::spawn(waiter.wait(LONG)),
            other => panic!("{other:?}"),
        })
        .collect();
    guard.head(StatusCode::OK, &HeaderMap::new()).unwrap();
    guard.body(b"{}");
    guard.finish().unwrap();
    for waiter in waiting {
        assert!(matches!(waiter.await.unwrap(), Waited::Hit(entry) if &entry.body()[..] == b"{}"));
    }
    assert!(cache.shared.flights.lock().is_empty());
}

#[tokio::test]
async fn when_the_one_fails_the_others_go_themselves() {
    let (cache, _) = cache();
    let key = key_of(&cache, alice(), "/balance");
    let Lookup::Fill(guard) = look(&cache, &key) else { panic!() };
    let Lookup::Wait(waiter) = look(&cache, &key) else { panic!() };
    let waiting = tokio::spawn(waiter.wait(LONG));
    drop(guard);
    assert!(matches!(waiting.await.unwrap(), Waited::Alone));
    assert!(matches!(look(&cache, &key), Lookup::Fill(_)));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let (cache, _) = cache();
    let key = key_of(&cache, alice(), "/balance");
    let Lookup::Fill(_guard) = look(&cache, &key) else { panic!() };
    let Lookup::Wait(waiter) = look(&cache, &key) else { panic!() };
    assert!(matches!(waiter.wait(LONG).await, Waited::Alone));
}

/// Everything that a key is made of, as values that can be compared.
type Request = (u64, String, String, Option<String>, Option<String>, Option<String>, Vec<String>, Vec<String>);

fn request() -> impl Strategy<Value = Request> {
    // Few letters, so that parts that run into each other would collide.
    let text = || "[ab]{0,2}";
    let maybe = move || prop::option::of(text());
    let list = move || prop::collection::vec(text(), 0..3);
    (0u64..2, text(), text(), maybe(), maybe(), maybe(), list(), list())
}

proptest! {
    #[test]
    fn keys_are_equal_exactly_when_requests_are(requests in prop::collection::vec(request(), 2..30)) {
        let (cache, _) = cache();
        let key = |request: &Request| {
            let (row, host, path, query, user, app, claims, languages) = request;
            let mut headers = HeaderMap::new();
            for language in languages {
                headers.append("accept-language", HeaderValue::from_str(language).unwrap());
            }
            let claims: Vec<&str> = claims.iter().map(String::as_str).collect();
            let identity = Identity { user: user.as_deref(), app: app.as_deref(), claims: &claims };
            let (operation, query) = (Operation::WalletBalance, query.as_deref());
            cache.key(&KeyParts { row: *row, operation, host, path, query, identity, headers: &headers })
        };
        for one in &requests {
            for other in &requests {
                prop_assert_eq!(key(one) == key(other), one == other, "{:?} {:?}", one, other);
            }
        }
    }

    #[test]
    fn what_one_caller_is_told_no_other_is(callers in prop::collection::btree_set("[ab]{1,3}(/[ab]{1,3})?", 2..12)) {
        let (cache, _) = cache();
        let callers: BTreeSet<String> = callers;
        let key = |caller: &str| {
            let (user, app) = caller.split_once('/').map_or((caller, None), |(user, app)| (user, Some(app)));
            key_of(&cache, Identity { user: Some(user), app, claims: &[] }, "/balance")
        };
        for caller in &callers {
            if hit(&cache, &key(caller)).is_none() {
                store(&cache, &key(caller), caller.as_bytes());
            }
        }
        for caller in &callers {
            prop_assert_eq!(hit(&cache, &key(caller)).unwrap(), caller.as_bytes());
        }
    }
}
