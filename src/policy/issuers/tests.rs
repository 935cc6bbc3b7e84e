//! A trusted issuer on a socket of its own, which rotates, lies and falls over.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding,
};
use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use super::*;
use crate::clock::ManualClock;
use crate::model::{MiniAppId, ScopeSet};
use crate::policy::authn::testing::{House, NOW, claims_with, message};
use crate::policy::authn::{Fault, Verifier};

const ISSUER: &str = "https://id.example";

/// What the issuer serves at present.
struct Demo {
    answer: Mutex<(StatusCode, String)>,
    asked: AtomicUsize,
}

impl Demo {
    async fn start(keys: Value) -> (Arc<Demo>, SocketAddr) {
        let answer = Mutex::new((StatusCode::OK, json!({ "keys": keys }).to_string()));
        let demo = Arc::new(Demo { answer, asked: AtomicUsize::new(0) });
        let served = demo.clone();
        let handler = move || {
            served.asked.fetch_add(1, Ordering::SeqCst);
            let answer = served.answer.lock().clone();
            async move { answer }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/jwks", get(handler))).await });
        (demo, address)
    }

    fn serves(&self, keys: Value) {
        *self.answer.lock() = (StatusCode::OK, json!({ "keys": keys }).to_string());
    }

    fn fails(&self) {
        *self.answer.lock() = (StatusCode::BAD_GATEWAY, String::new());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn trust(address: SocketAddr, algorithms: &[Algorithm]) -> Issuer {
    Issuer {
        issuer: ISSUER.to_owned(),
        jwks_url: Url::parse(&format!("http://{address}/jwks")).unwrap(),
        algorithms: algorithms.to_vec(),
        apps: vec![MiniAppId::parse("ma_shop").unwrap()],
        scopes: ScopeSet::from_list("wallet:balance storage:read"),
        server_names: vec!["tween.example".to_owned(), "partner.example".to_owned()],
    }
}

struct Signer {
    kid: &'static str,
    pair: KeyPair,
}

impl Signer {
    fn new(kid: &'static str) -> Signer {
        Signer { kid, pair: KeyPair::generate(KeySize::Rsa2048).unwrap() }
    }

    fn jwk(&self) -> Value {
        let public = self.pair.public_key();
        json!({
            "kty": "RSA", "kid": self.kid,
            "n": URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
            "e": URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
        })
    }

    fn token_as(&self, alg: &str, padding: &'static dyn RsaEncoding, claims: &Value) -> String {
        let message = message(&json!({ "alg": alg, "kid": self.kid }).to_string(), &claims.to_string());
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(padding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(&self, changes: Value) -> String {
        self.token_as("RS256", &RSA_PKCS1_SHA256, &theirs(changes))
    }
}

fn theirs(changes: Value) -> Value {
    let mut all = json!({ "iss": ISSUER, "token_type": null });
    all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims_with(all)
}

struct Scene {
    demo: Arc<Demo>,
    house: House,
    clock: Clock,
    hand: ManualClock,
    verifier: Verifier,
}

impl Scene {
    async fn with(keys: Value, algorithms: &[Algorithm]) -> Scene {
        let (demo, address) = Demo::start(keys).await;
        let (clock, hand) = Clock::manual(NOW);
        let house = House::new().trusting(&[trust(address, algorithms)], &clock);
        let verifier = house.verifier();
        Scene { demo, house, clock, hand, verifier }
    }

    async fn verify(&self, token: &str) -> Result<String, Fault> {
        let verified = self.verifier.examine(token, self.clock.unix_secs()).await;
        verified.map(|verified| verified.claims.scopes.to_string())
    }

    async fn label(&self, token: &str) -> &'static str {
        self.verify(token).await.map_or_else(|fault| fault.label(), |_| "good")
    }

    fn later(&self, seconds: u64) {
        self.hand.advance(Duration::from_secs(seconds));
    }

    /// A background fetch, at the moment that the test chooses.
    async fn fetch(&self) {
        self.house.issuers.get(ISSUER).unwrap().fetch(self.clock.unix_secs()).await;
    }
}

#[tokio::test]
async fn an_issuer_is_confined_to_what_it_is_trusted_with() {
    let key = Signer::new("k1");
    let scene = Scene::with(json!([key.jwk()]), &[Algorithm::Rs256]).await;
    let asked = json!({ "scope": "wallet:balance wallet:pay storage:read" });
    assert_eq!(scene.verify(&key.token(asked)).await.unwrap(), "wallet:balance storage:read");
    assert_eq!(scene.label(&key.token(json!({ "sub": "@zoe:partner.example" }))).await, "good");
    assert_eq!(scene.label(&key.token(json!({ "sub": "@zoe:other.example" }))).await, "confined");
    assert_eq!(scene.label(&key.token(json!({ "app_id": "ma_other", "aud": "ma_other" }))).await, "confined");
    assert_eq!(scene.label(&key.token(json!({ "token_type": "id_token" }))).await, "claims");
    assert_eq!(scene.label(&key.token(json!({ "iss": crate::policy::authn::testing::EDGE }))).await, "unknown_key");
    assert_eq!(
        scene.label(&key.token(json!({ "exp": NOW + 40 * 3600 }))).await,
        "good",
        "its lives are its own business"
    );
    // Our own key does not speak for the issuer.
    assert_eq!(scene.label(&scene.house.token(&theirs(json!({})))).await, "unknown_key");
    assert_eq!(scene.demo.asked(), 1);
}

#[tokio::test]
async fn each_key_is_for_its_own_algorithm() {
    let (rsa, pss) = (Signer::new("rsa"), Signer::new("pss"));
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = ec.public_key().as_ref();
    let ec_jwk = json!({ "kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "use": "sig",
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]) });
    let named = |signer: &Signer, alg: &str| {
        let mut jwk = signer.jwk();
        jwk["alg"] = alg.into();
        jwk
    };
    let keys = json!([named(&rsa, "RS256"), named(&pss, "PS256"), ec_jwk]);
    let scene = Scene::with(keys, &[Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256]).await;
    let good = theirs(json!({}));
    assert_eq!(scene.label(&rsa.token_as("RS256", &RSA_PKCS1_SHA256, &good)).await, "good");
    assert_eq!(scene.label(&pss.token_as("PS256", &RSA_PSS_SHA256, &good)).await, "good");
    let es256 = message(r#"{"alg":"ES256","kid":"ec"}"#, &good.to_string());
    let signature = URL_SAFE_NO_PAD.encode(ec.sign(&SystemRandom::new(), es256.as_bytes()).unwrap());
    assert_eq!(scene.label(&format!("{es256}.{signature}")).await, "good");
    // The right signature under another key's name or algorithm.
    assert_eq!(scene.label(&rsa.token_as("PS256", &RSA_PSS_SHA256, &good)).await, "unknown_key");
    assert_eq!(scene.label(&pss.token_as("RS256", &RSA_PKCS1_SHA256, &good)).await, "unknown_key");
    assert_eq!(scene.label(&rsa.token_as("RS256", &RSA_PSS_SHA256, &good)).await, "signature");
    let confused = message(r#"{"alg":"ES256","kid":"rsa"}"#, &good.to_string());
    assert_eq!(scene.label(&format!("{confused}.{signature}")).await, "unknown_key");
    let narrow = Scene::with(json!([rsa.jwk()]), &[Algorithm::Rs256]).await;
    assert_eq!(narrow.label(&rsa.token_as("PS256", &RSA_PSS_SHA256, &good)).await, "header", "not configured");
}

#[tokio::test]
async fn a_rotation_is_learnt_with_one_fetch_per_cool_down() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let scene = Scene::with(json!([old.jwk()]), &[Algorithm::Rs256]).await;
    assert_eq!(scene.label(&old.token(json!({}))).await, "good");
    scene.later(COOL_DOWN);
    scene.demo.serves(json!([new.jwk(), old.jwk()]));
    assert_eq!(scene.label(&new.token(json!({}))).await, "good");
    assert_eq!(scene.demo.asked(), 2);
    // Key ids that nobody has: one fetch each cool-down, and none for one that is known to be bogus.
    let bogus = Signer { kid: "bogus", pair: new.pair.clone() };
    let another = Signer { kid: "another", pair: new.pair.clone() };
    assert_eq!(scene.label(&bogus.token(json!({}))).await, "unknown_key");
    assert_eq!(scene.demo.asked(), 2, "cooling down");
    scene.later(COOL_DOWN);
    assert_eq!(scene.label(&bogus.token(json!({}))).await, "unknown_key");
    assert_eq!(scene.demo.asked(), 3);
    scene.later(COOL_DOWN);
    assert_eq!(scene.label(&bogus.token(json!({}))).await, "unknown_key");
    assert_eq!(scene.demo.asked(), 3, "known to be bogus");
    assert_eq!(scene.label(&another.token(json!({}))).await, "unknown_key");
    assert_eq!(scene.demo.asked(), 4);
    scene.later(BOGUS_FOR);
    assert_eq!(scene.label(&bogus.token(json!({ "exp": NOW + 9999 }))).await, "unknown_key");
    assert_eq!(scene.demo.asked(), 5, "not for ever");
}

#[tokio::test]
async fn a_key_that_is_withdrawn_takes_its_cached_tokens_along() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let scene = Scene::with(json!([old.jwk(), new.jwk()]), &[Algorithm::Rs256]).await;
    let token = old.token(json!({}));
    assert_eq!(scene.label(&token).await, "good");
    scene.demo.serves(json!([new.jwk()]));
    scene.fetch().await;
    assert_eq!(scene.label(&token).await, "unknown_key");
    assert_eq!(scene.label(&new.token(json!({}))).await, "good");
}

#[tokio::test]
async fn trouble_with_fetching_is_503_and_known_keys_last_a_day() {
    let key = Signer::new("k1");
    let scene = Scene::with(json!([key.jwk()]), &[Algorithm::Rs256]).await;
    let day = json!({ "exp": NOW + 48 * 3600 });
    let token = key.token(day.clone());
    scene.demo.fails();
    assert_eq!(scene.label(&token).await, "no_keys", "never fetched");
    let refusal = scene.verifier.verify(&token, NOW).await.unwrap_err();
    assert_eq!(refusal.code(), crate::error::Code::ServiceUnavailable);
    assert!(refusal.retry_after_seconds().is_some());
    assert_eq!(scene.demo.asked(), 1, "cooling down");
    scene.demo.serves(json!([key.jwk()]));
    scene.later(COOL_DOWN_WITHOUT_KEYS);
    assert_eq!(scene.label(&token).await, "good");
    scene.demo.fails();
    scene.later(COOL_DOWN);
    let unknown = Signer { kid: "new", pair: key.pair.clone() };
    assert_eq!(scene.label(&unknown.token(day.clone())).await, "no_keys", "it might be a new key");
    scene.later(STALE_AFTER - COOL_DOWN - 1);
    scene.fetch().await;
    assert_eq!(scene.label(&token).await, "good", "a day without a fetch is bearable");
    scene.later(61);
    assert_eq!(scene.label(&token).await, "no_keys", "more is not");
    scene.demo.serves(json!([key.jwk()]));
    scene.later(COOL_DOWN);
    assert_eq!(scene.label(&token).await, "good", "and it mends itself");
}

#[tokio::test]
async fn many_requests_with_a_new_key_fetch_once() {
    let key = Signer::new("k1");
    let scene = Arc::new(Scene::with(json!([key.jwk()]), &[Algorithm::Rs256]).await);
    let tokens = (0..20).map(|n| key.token(json!({ "jti": format!("j{n}") })));
    let checks: Vec<_> = tokens
        .map(|token| {
            let scene = scene.clone();
            tokio::spawn(async move { scene.label(&token).await })
        })
        .collect();
    for check in checks {
        assert_eq!(check.await.unwrap(), "good");
    }
    assert_eq!(scene.demo.asked(), 1);
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_an_issuer_that_did_not_change() {
    let key = Signer::new("k1");
    let scene = Scene::with(json!([key.jwk()]), &[Algorithm::Rs256]).await;
    assert_eq!(scene.label(&key.token(json!({}))).await, "good");
    let Scene { demo, house, clock, .. } = scene;
    let before = house.issuers.clone();
    let trusted: Vec<Issuer> = before.iter().map(|issuer| issuer.trust().clone()).collect();
    let house = house.trusting(&trusted, &clock);
    assert!(Arc::ptr_eq(house.issuers.get(ISSUER).unwrap(), before.get(ISSUER).unwrap()));
    let mut narrowed = trusted.clone();
    narrowed[0].scopes = ScopeSet::EMPTY;
    let house = house.trusting(&narrowed, &clock);
    let emptied = house.verifier().examine(&key.token(json!({})), NOW).await.unwrap();
    assert!(emptied.claims.scopes.is_empty(), "the new trust holds for cached tokens too");
    assert_eq!(demo.asked(), 1);
    let mut moved = trusted.clone();
    moved[0].algorithms.push(Algorithm::Ps256);
    let house = house.trusting(&moved, &clock);
    assert!(house.verifier().examine(&key.token(json!({})), NOW).await.is_ok(), "fetched anew");
    assert_eq!(demo.asked(), 2);
    assert_eq!(
        house.trusting(&[], &clock).verifier().examine(&key.token(json!({})), NOW).await.unwrap_err(),
        Fault::UnknownIssuer
    );
}

#[tokio::test]
async fn keys_are_fetched_in_the_background() {
    let key = Signer::new("k1");
    let scene = Scene::with(json!([key.jwk()]), &[Algorithm::Rs256]).await;
    let issuers = scene.house.issuers.clone();
    let background = tokio::spawn(async move { issuers.keep_fresh().await });
    while scene.house.issuers.get(ISSUER).unwrap().fetched_at().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(scene.label(&key.token(json!({}))).await, "good");
    assert_eq!(scene.demo.asked(), 1);
    background.abort();
}

#[test]
fn keys_of_other_kinds_are_passed_over() {
    let good = Signer::new("good").jwk();
    let with = |changes: Value| {
        let mut jwk = good.clone();
        jwk.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        jwk
    };
    let short = vec![0xffu8; 128];
    let padded = [vec![0u8; 200], vec![0xff; 128]].concat();
    for bad in [
        with(json!({ "use": "enc" })),
        with(json!({ "key_ops": ["encrypt"] })),
        with(json!({ "alg": "PS256" })),
        with(json!({ "alg": "HS256" })),
        with(json!({ "kid": "" })),
        with(json!({ "kid": null })),
        with(json!({ "kty": "oct", "k": "c2VjcmV0" })),
        with(json!({ "kty": "EC", "crv": "P-384" })),
        with(json!({ "kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ" })),
        with(json!({ "n": URL_SAFE_NO_PAD.encode(short) })),
        with(json!({ "n": URL_SAFE_NO_PAD.encode(padded) })),
        with(json!({ "e": "AQ" })),
        with(json!({ "e": "AQAA" })),
        with(json!({ "e": "" })),
        with(json!({ "n": "not base64!" })),
        json!(7),
    ] {
        let alone = json!({ "keys": [bad] }).to_string();
        let error = jwks::parse(alone.as_bytes(), &[Algorithm::Rs256]).unwrap_err();
        assert!(error.starts_with("no usable key (key 0: "), "{error}");
        let beside = json!({ "keys": [bad, good, { "kty": "OKP" }] }).to_string();
        assert_eq!(jwks::parse(beside.as_bytes(), &[Algorithm::Rs256]).unwrap().len(), 1);
    }
    let usable = with(json!({ "use": "sig", "key_ops": ["verify"], "alg": "RS256", "x5t": "ignored" }));
    assert!(jwks::parse(json!({ "keys": [usable] }).to_string().as_bytes(), &[Algorithm::Rs256]).is_ok());
    for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#] {
        assert!(jwks::parse(bad.as_bytes(), &[Algorithm::Rs256]).is_err(), "{bad}");
    }
    let many = json!({ "keys": vec![good; 65] }).to_string();
    assert!(jwks::parse(many.as_bytes(), &[Algorithm::Rs256]).unwrap_err().contains("65 keys"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in r#"\{"keys":\[\{("(kty|kid|alg|n|e|x|y|crv|use)":("(RSA|EC|P-256|[A-Za-z0-9_-]{0,8})"|1|null),?){0,6}\}\]\}"#,
                                   bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..64)) {
        let _ = jwks::parse(text.as_bytes(), &[Algorithm::Rs256, Algorithm::Es256]);
        proptest::prop_assert!(jwks::parse(&bytes, &[Algorithm::Rs256]).is_err());
    }
}
