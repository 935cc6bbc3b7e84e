use futures::FutureExt as _;
use serde_json::Value;
use url::Url;

use super::*;
use crate::clock::Clock;
use crate::model::{MiniAppId, ScopeSet, UserId};
use crate::policy::authn::testing::{EDGE, NOW, master_key};
use crate::policy::authn::verifier::MAX_LIFETIME;
use crate::store::embedded::Embedded;

fn store(folder: &tempfile::TempDir) -> Arc<dyn Backend> {
    let metrics = Arc::new(crate::metrics::Metrics::new(&[]).unwrap());
    Arc::new(Embedded::open(folder.path(), Clock::system(), metrics).unwrap())
}

fn open(store: &Arc<dyn Backend>) -> Keyring {
    Keyring::open(store.clone(), &master_key(), Generation::default()).unwrap()
}

/// The ring as it lies in the store.
fn stored(keyring: &Keyring) -> KeyDocument {
    store::blocking(keyring.keys.read()).unwrap().0
}

fn states(keyring: &Keyring, now: u64) -> Vec<(String, Option<KeyState>)> {
    keyring.list(now).unwrap().into_iter().map(|line| (line.kid, line.state)).collect()
}

fn published(keyring: &Keyring) -> Vec<String> {
    let jwks: Value = serde_json::from_slice(&keyring.jwks()).unwrap();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn mint(keyring: &Keyring, ttl: u64) -> Result<String, MintError> {
    let (user, app) = (UserId::parse("@alice:tween.example").unwrap(), MiniAppId::parse("ma_shop").unwrap());
    keyring.mint(EDGE, &TokenRequest::new(user, app, ScopeSet::EMPTY, ttl), NOW)
}

#[test]
fn a_key_is_published_before_it_signs_and_after() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = open(&store(&folder));
    assert_eq!(keyring.jwks(), r#"{"keys":[]}"#);
    assert_eq!(mint(&keyring, 60), Err(MintError::NoSigningKey));
    let first = keyring.ensure_signing_key(NOW).unwrap().unwrap();
    assert_eq!(keyring.ensure_signing_key(NOW).unwrap(), None);
    assert!(matches!(keyring.rotate(NOW), Err(KeyringError::NothingAnnounced)));

    let second = keyring.announce(NOW + 1).unwrap();
    assert_eq!(keyring.ring().signing_kid(), Some(first.as_str()));
    assert_eq!(published(&keyring), [first.clone(), second.clone()]);

    let rotated = keyring.rotate(NOW + 600).unwrap();
    assert_eq!(rotated, Rotated { signing: second.clone(), retiring: Some(first.clone()), announced_for: 599 });
    assert_eq!(
        states(&keyring, NOW + 600),
        [(first.clone(), Some(KeyState::Retiring)), (second.clone(), Some(KeyState::Signing))]
    );
    assert_eq!(keyring.ring().signing_kid(), Some(second.as_str()));

    let last_token = NOW + 600 + MAX_LIFETIME;
    assert!(keyring.ring().find(&first, last_token).is_some(), "its last token may still be about");
    assert!(keyring.ring().find(&first, last_token + 61).is_none());
    assert_eq!(states(&keyring, last_token + 61)[0], (first.clone(), None));
    keyring.announce(last_token + 61).unwrap();
    assert!(!published(&keyring).contains(&first), "what has retired is swept out");
}

#[test]
fn what_is_published_is_a_jwk_set_of_public_keys() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = open(&store(&folder));
    let kid = keyring.ensure_signing_key(NOW).unwrap().unwrap();
    let jwks: Value = serde_json::from_slice(&keyring.jwks()).unwrap();
    let key = jwks["keys"][0].as_object().unwrap();
    let mut names: Vec<&str> = key.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["alg", "e", "kid", "kty", "n", "use"]);
    assert_eq!(
        (&key["alg"], &key["use"], &key["kid"], &key["e"]),
        (&"RS256".into(), &"sig".into(), &kid.into(), &"AQAB".into())
    );
    assert_eq!(URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap().len(), 256);
}

#[test]
fn a_running_edge_notices_what_commands_do() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let (edge, command) = (open(&store), open(&store));
    let refresh = || crate::store::blocking(edge.refresh()).unwrap();
    assert!(!refresh());
    let first = command.ensure_signing_key(NOW).unwrap().unwrap();
    let before = edge.generation.current();
    assert!(refresh());
    assert!(!refresh());
    assert_ne!(edge.generation.current(), before);
    assert_eq!(edge.ring().signing_kid(), Some(first.as_str()));
    let second = store::blocking(command.revoke(&first, NOW)).unwrap().unwrap();
    assert!(refresh());
    assert!(edge.ring().find(&first, NOW).is_none());
    assert_eq!(edge.ring().signing_kid(), Some(second.as_str()), "another one takes its place at once");
    assert_eq!(edge.ensure_signing_key(NOW).unwrap(), None);
}

#[test]
fn a_revoked_key_is_gone_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = open(&store(&folder));
    let first = keyring.ensure_signing_key(NOW).unwrap().unwrap();
    let announced = keyring.announce(NOW).unwrap();
    assert_eq!(store::blocking(keyring.revoke(&first, NOW + 5)).unwrap(), Some(announced.clone()));
    assert_eq!(published(&keyring), [announced]);
    let record = stored(&keyring).keys.remove(0);
    assert_eq!((record.state, record.sealed), (KeyState::Revoked, None), "the private key is destroyed");
    let line = keyring.list(NOW + 9).unwrap().remove(0);
    assert_eq!((line.state, line.revoked), (Some(KeyState::Revoked), Some(NOW + 5)));
    assert!(matches!(store::blocking(keyring.revoke("nope", NOW)), Err(KeyringError::NoSuchKey(_))));
    assert_eq!(store::blocking(keyring.revoke(&first, NOW + 9)).unwrap(), None, "revoking twice changes nothing");
    assert_eq!(keyring.list(NOW + 9).unwrap()[0].revoked, Some(NOW + 5));
}

#[test]
fn the_store_does_not_tell_private_keys() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let keyring = open(&store);
    keyring.ensure_signing_key(NOW).unwrap();
    let other = |key: Secret| Keyring::open(store.clone(), &key, Generation::default()).unwrap_err();
    let text = other(Secret::new("0f".repeat(32))).to_string();
    assert!(text.contains("key ring was sealed under another master key (fingerprint "), "{text}");
    let error = other(Secret::new("short"));
    assert!(error.to_string().contains("32 bytes"), "{error}");
    assert!(!format!("{keyring:?}").contains("sealed"));
}

#[test]
fn a_record_that_was_tampered_with_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let keyring = open(&store);
    let first = keyring.ensure_signing_key(NOW).unwrap().unwrap();
    keyring.announce(NOW).unwrap();
    // Two keys change names: each would be sealed for the other.
    let swap = |document: &mut KeyDocument| {
        let kids: Vec<String> = document.keys.iter().map(|key| key.kid.clone()).collect();
        document.keys.iter_mut().zip(kids.into_iter().rev()).for_each(|(key, kid)| key.kid = kid);
        Ok::<(), KeyringError>(())
    };
    crate::store::blocking(keyring.keys.update(swap)).unwrap();
    let again = Keyring::open(store.clone(), &master_key(), Generation::default());
    assert!(matches!(again, Err(KeyringError::Key { .. })));
    assert!(crate::store::blocking(keyring.refresh()).is_err());
    assert_eq!(keyring.ring().signing_kid(), Some(first.as_str()), "the ring in memory stays");
}

#[test]
fn lives_of_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = open(&store(&folder));
    keyring.ensure_signing_key(NOW).unwrap();
    assert!(mint(&keyring, 1).is_ok() && mint(&keyring, MAX_LIFETIME).is_ok());
    assert_eq!(mint(&keyring, 0), Err(MintError::Lifetime));
    assert_eq!(mint(&keyring, MAX_LIFETIME + 1), Err(MintError::Lifetime));
    assert_ne!(mint(&keyring, 60), mint(&keyring, 60), "no two tokens have one jti");
    let url = |text: &str| issuer_of(&Url::parse(text).unwrap());
    assert_eq!(url("https://edge.example"), "https://edge.example");
    assert_eq!(url("https://edge.example/tmcp"), "https://edge.example/tmcp");
}

#[tokio::test(start_paused = true)]
async fn the_edge_looks_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let (edge, command) = (Arc::new(open(&store)), open(&store));
    let looking = edge.clone();
    let background = tokio::spawn(async move { looking.keep_fresh().await });
    let kid = command.ensure_signing_key(NOW).unwrap().unwrap();
    while edge.ring().signing_kid() != Some(kid.as_str()) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    background.abort();
}

#[test]
fn the_master_key_can_be_changed_while_an_edge_runs() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let running = open(&store);
    let kid = running.ensure_signing_key(NOW).unwrap().unwrap();
    let new = Secret::new("cd".repeat(32));
    let old = master_key();
    let alone = |key: &Secret| Keyring::open(store.clone(), key, Generation::default());
    assert!(matches!(alone(&new), Err(KeyringError::WrongMasterKey { .. })));
    let both = Keyring::open_after(store.clone(), &new, Some(&old), Generation::default()).unwrap();
    assert_eq!(both.ring().signing_kid(), Some(kid.as_str()));
    assert!(alone(&old).is_ok(), "nothing is sealed afresh before it is asked for");
    both.reseal(NOW).unwrap();
    assert_eq!(alone(&new).unwrap().ring().signing_kid(), Some(kid.as_str()));
    assert!(matches!(alone(&old), Err(KeyringError::WrongMasterKey { .. })));
    // An edge that still has the old key keeps what it has in memory.
    assert!(crate::store::blocking(running.refresh()).is_err());
    assert_eq!(running.ring().signing_kid(), Some(kid.as_str()));
}

#[test]
fn a_key_that_another_instance_made_is_looked_for_once_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let (here, there) = (open(&store), open(&store));
    let learn = |kid: &str, now: u64| here.learn(kid, now).now_or_never().unwrap();
    let first = there.ensure_signing_key(NOW).unwrap().unwrap();
    assert_eq!((learn(&first, NOW), here.ring().signing_kid()), (Ok(true), Some(first.as_str())));
    assert_eq!(learn("made up", NOW + 1), Ok(false));
    let second = there.announce(NOW).unwrap();
    assert_eq!(learn(&second, NOW + 1), Ok(false), "somebody made the edge look in this second already");
    assert_eq!(learn(&second, NOW + 2), Ok(true));
}
