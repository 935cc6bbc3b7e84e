//! A verifier with keys of its own, and tokens of any shape for it to refuse.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cache::TokenCache;
use super::{Fault, Generation, Registry, Revocations, Rules, UserHasher, Verified, Verifier, VerifierState};
use crate::clock::Clock;
use crate::config::{CacheSize, Issuer, MiniApp, Secret};
use crate::error::Code;
use crate::metrics::Metrics;
use crate::model::miniapp::ClientType;
use crate::model::token::TepClaims;
use crate::model::{MiniAppId, ScopeSet, UserId};
use crate::policy::issuers::Issuers;
use crate::policy::keyring::Keyring;
use crate::store::embedded::Embedded;
use crate::store::keys::{KeyDocument, KeyStore};
use crate::store::{Backend, StoreError, blocking};
use crate::upstream::egress::{Egress, EgressPolicy};

/// When the tests happen, seconds since the Unix epoch.
pub(in crate::policy) const NOW: u64 = 1_800_000_000;
/// Our issuer.
pub(in crate::policy) const EDGE: &str = "https://edge.example";

/// What outlives a verifier, and a folder for the keys.
pub(in crate::policy) struct House {
    pub state: VerifierState,
    pub apps: Vec<MiniApp>,
    pub issuers: Issuers,
    _folder: TempDir,
}

/// A mini-app with all scopes that anybody may register.
pub(in crate::policy) fn app(id: &str) -> MiniApp {
    MiniApp {
        client_type: ClientType::Hybrid,
        scopes: ScopeSet::from_list("wallet:balance wallet:pay wallet:history user:read"),
        ..MiniApp::new(MiniAppId::parse(id).unwrap(), "Demo")
    }
}

/// A ring with one signing key, made once for all tests: making keys takes most of a test's time.
fn ring() -> &'static KeyDocument {
    static RING: OnceLock<KeyDocument> = OnceLock::new();
    RING.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let keyring = Keyring::open(store.clone(), &master_key(), Generation::default()).unwrap();
        keyring.ensure_signing_key(NOW).unwrap();
        blocking(KeyStore::new(store).read()).unwrap().0
    })
}

fn store(folder: &TempDir) -> Arc<dyn Backend> {
    let metrics = Arc::new(Metrics::new(&[]).unwrap());
    Arc::new(Embedded::open(folder.path(), Clock::system(), metrics).unwrap())
}

/// A master key that is made up for the test.
pub(in crate::policy) fn master_key() -> Secret {
    Secret::new("5a".repeat(32))
}

impl House {
    /// One signing key, mini-apps `ma_shop` and `ma_other`, no trusted issuers.
    pub fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        let generation = Generation::default();
        let store = store(&folder);
        let put = |document: &mut KeyDocument| {
            document.clone_from(ring());
            Ok::<(), StoreError>(())
        };
        blocking(KeyStore::new(store.clone()).update(put)).unwrap();
        let keyring = Keyring::open(store, &master_key(), generation.clone()).unwrap();
        let size = CacheSize { ttl: Duration::from_secs(60), max_size: 1 << 20 };
        let state = VerifierState {
            keyring: Arc::new(keyring),
            revocations: Arc::new(Revocations::new(generation.clone())),
            apps: Arc::default(),
            cache: Arc::new(TokenCache::new(size)),
            metrics: Arc::new(Metrics::new(Code::NAMES).unwrap()),
            generation,
        };
        House { state, apps: vec![app("ma_shop"), app("ma_other")], issuers: Issuers::default(), _folder: folder }
    }

    /// Trusts these issuers besides.
    pub fn trusting(mut self, trusted: &[Issuer], clock: &Clock) -> House {
        let egress = Arc::new(Egress::new(EgressPolicy::with_loopback()).unwrap());
        self.issuers = Issuers::new(trusted, &self.issuers, &egress, clock, &self.state.generation);
        self
    }

    /// A verifier under the rules of the moment.
    pub fn verifier(&self) -> Verifier {
        let apps = self.apps.iter().map(|app| (app.id.clone(), Arc::new(app.clone()))).collect();
        let rules = Rules {
            issuer: EDGE.to_owned(),
            server_name: "tween.example".to_owned(),
            registry: Registry::new(apps, self.state.apps.clone()),
            issuers: self.issuers.clone(),
            user_hasher: UserHasher::new(b"salt"),
        };
        Verifier::new(self.state.clone(), rules)
    }

    /// The key id that signs.
    pub fn kid(&self) -> String {
        self.state.keyring.ring().signing_kid().unwrap().to_owned()
    }

    /// The header of a good token.
    pub fn header(&self) -> Value {
        json!({ "alg": "RS256", "typ": "JWT", "kid": self.kid() })
    }

    /// Our key's signature over any header and claims.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let message = message(header, claims);
        let signature = self.state.keyring.ring().sign_anything(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token with good header and these claims, signed.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }
}

/// What gets signed.
pub(in crate::policy) fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

/// The claims of a good token of ours.
pub(in crate::policy) fn claims() -> Value {
    json!({
        "iss": EDGE, "sub": "@alice:tween.example", "aud": "ma_shop", "app_id": "ma_shop",
        "exp": NOW + 3600, "iat": NOW, "nbf": NOW, "jti": "j1", "scope": "wallet:balance wallet:pay",
        "token_type": "tep_access_token", "session_id": "s1", "wallet_id": "tw_1",
    })
}

/// [`claims`] with some of them changed; `null` takes one out.
pub(in crate::policy) fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

/// Verifies a token that needs nobody else to be asked.
pub(in crate::policy) fn verify(verifier: &Verifier, token: &str, now: u64) -> Result<Arc<Verified>, Fault> {
    verifier.examine(token, now).now_or_never().expect("nothing to wait for")
}

/// What a token says that was issued at second 100, by nobody in particular.
pub(in crate::policy) fn tep_claims() -> TepClaims {
    TepClaims {
        user: UserId::parse("@alice:tween.example").unwrap(),
        app: MiniAppId::parse("ma_shop").unwrap(),
        scopes: ScopeSet::EMPTY,
        session_id: None,
        wallet_id: None,
        jti: Some("j1".to_owned()),
        grant_id: Some("g1".to_owned()),
        room: None,
        privileged: false,
        issuer: "https://edge.example".to_owned(),
        kid: "k1".to_owned(),
        revocation: None,
        issued_at: 100,
        expires_at: 200,
    }
}
