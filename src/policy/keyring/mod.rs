//! Our own signing keys: a ring of several, so that rotating one voids no token and surprises no verifier.
//!
//! A key is announced before it signs, signs, and stays good for its tokens after it has stopped. The ring lies in the
//! store ([`crate::store::keys`]), where commands and other instances change it; an edge is told, and looks twice a
//! second in any case, and swaps the ring in memory when it is another one. What cannot be read leaves the ring as it
//! was.

mod commands;
mod learn;
mod mint;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use parking_lot::Mutex;
use zeroize::Zeroizing;

pub use commands::{KeyLine, Rotated};
use learn::Looked;
pub use mint::{MintError, TokenRequest, issuer_of};

use super::authn::generation::Generation;
use super::authn::key::VerifyKey;
use crate::config::{Algorithm, Secret};
use crate::store::keys::{KeyDocument, KeyRecord, KeyState, KeyStore};
use crate::store::seal::{SealError, Sealer, sha256};
use crate::store::{self, Backend, StoreError, Version, told_or_after};

/// How often a running edge looks for what a command or another instance did, when it is not told.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What a sealed private key is bound to, besides its key id.
const PURPOSE: &str = "token signing key";

/// Why the ring cannot be used as asked.
#[derive(Debug)]
pub enum KeyringError {
    /// The store.
    Store(StoreError),
    /// The master key is not one.
    MasterKey(SealError),
    /// The ring was sealed under another master key.
    WrongMasterKey {
        /// Of the ring.
        ring: String,
        /// Of the configured key.
        configured: String,
    },
    /// One key does not open or is no RSA key.
    Key {
        /// Which one.
        kid: String,
        /// What is wrong.
        reason: String,
    },
    /// No key of that id is in the ring.
    NoSuchKey(String),
    /// There is no announced key to rotate to.
    NothingAnnounced,
    /// A ring in use is gone from the store.
    Vanished,
    /// The cryptographic library refused.
    Library(&'static str),
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyringError::Store(error) => write!(f, "key ring: {error}"),
            KeyringError::MasterKey(error) => write!(f, "keys.master_key_file: {error}"),
            KeyringError::WrongMasterKey { ring, configured } => write!(
                f,
                "the store's key ring was sealed under another master key (fingerprint {ring}) than the configured one \
                 (fingerprint {configured}): configure the right one"
            ),
            KeyringError::Key { kid, reason } => write!(f, "key {kid}: {reason}"),
            KeyringError::NoSuchKey(kid) => write!(f, "no key {kid} in the ring; `keys list` shows what there is"),
            KeyringError::NothingAnnounced => f.write_str(
                "no announced key to rotate to: make one with `keys new`, let verifiers fetch it, then rotate",
            ),
            KeyringError::Vanished => {
                f.write_str("the store's key ring is gone; the keys in memory stay in use until a restart")
            }
            KeyringError::Library(doing) => write!(f, "the cryptographic library cannot {doing}"),
        }
    }
}

impl std::error::Error for KeyringError {}

impl From<StoreError> for KeyringError {
    fn from(error: StoreError) -> KeyringError {
        KeyringError::Store(error)
    }
}

/// The ring as it is in memory.
pub struct Keyring {
    keys: KeyStore,
    sealer: Sealer,
    generation: Generation,
    ring: ArcSwap<Ring>,
    seen: Mutex<Option<Version>>,
    looked: tokio::sync::Mutex<Looked>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({:?})", self.ring.load().keys)
    }
}

/// One state of the ring.
#[derive(Default)]
pub struct Ring {
    keys: Vec<RingKey>,
    signing: Option<Signing>,
    jwks: Bytes,
}

struct RingKey {
    verify: VerifyKey,
    state: KeyState,
    accepted_until: Option<u64>,
}

impl fmt::Debug for RingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verify.kid(), self.state.as_str())
    }
}

struct Signing {
    kid: String,
    pair: KeyPair,
}

impl Ring {
    /// The key that a token with this key id is to be checked with at `now` (seconds since the Unix epoch). An announced
    /// key is taken: another instance may have rotated to it a moment before this one has noticed.
    pub fn find(&self, kid: &str, now: u64) -> Option<&VerifyKey> {
        let key = self.keys.iter().find(|key| key.verify.kid() == kid)?;
        key.accepted_until.is_none_or(|until| now < until).then_some(&key.verify)
    }

    /// Signs anything at all, as only a test may want to.
    #[cfg(test)]
    pub(in crate::policy) fn sign_anything(&self, message: &[u8]) -> Vec<u8> {
        self.signing.as_ref().unwrap().sign(message).unwrap()
    }

    /// The id of the key that signs.
    pub fn signing_kid(&self) -> Option<&str> {
        self.signing.as_ref().map(|signing| signing.kid.as_str())
    }
}

impl Keyring {
    /// Opens the ring in `store`; where there is none it is empty. `generation` moves whenever the ring changes, so that
    /// cached tokens are looked at again. Blocks.
    ///
    /// # Errors
    /// When the master key is malformed or not the ring's, or the ring or a key in it cannot be read.
    pub fn open(store: Arc<dyn Backend>, master_key: &Secret, generation: Generation) -> Result<Keyring, KeyringError> {
        Keyring::open_after(store, master_key, None, generation)
    }

    /// As [`Keyring::open`], for a ring that the previous master key may have sealed.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn open_after(
        store: Arc<dyn Backend>,
        master_key: &Secret,
        previous: Option<&Secret>,
        generation: Generation,
    ) -> Result<Keyring, KeyringError> {
        let keyring = Keyring {
            keys: KeyStore::new(store),
            sealer: Sealer::after(master_key, previous).map_err(KeyringError::MasterKey)?,
            generation,
            ring: ArcSwap::default(),
            seen: Mutex::new(None),
            looked: tokio::sync::Mutex::default(),
        };
        keyring.ring.store(Arc::new(keyring.build(&KeyDocument::default())?));
        store::blocking(keyring.refresh())?;
        Ok(keyring)
    }

    /// Reads the ring again; says whether it had changed since it was last read.
    ///
    /// # Errors
    /// As [`Keyring::open`]; the ring then stays as it was.
    pub async fn refresh(&self) -> Result<bool, KeyringError> {
        let (document, version) = self.keys.read().await?;
        if version == *self.seen.lock() {
            return Ok(false);
        }
        if version.is_none() {
            // An emptied ring would turn every caller away, and nobody asks for that.
            return Err(KeyringError::Vanished);
        }
        let ring = self.build(&document)?;
        self.ring.store(Arc::new(ring));
        *self.seen.lock() = version;
        self.generation.bump();
        Ok(true)
    }

    /// Refreshes whenever somebody tells of a change, and twice a second; ends only by being dropped.
    pub async fn keep_fresh(&self) {
        let mut told = self.keys.subscribe();
        let mut failing = false;
        loop {
            told_or_after(&mut told, LOOK_EVERY).await;
            let looked = self.refresh().await;
            match &looked {
                Ok(true) => log::info!("key ring changed: {:?}", self.ring.load().keys),
                // Said once, not twice a second.
                Err(error) if !failing => log::error!("{error}; the keys in memory stay in use"),
                _ => {}
            }
            failing = looked.is_err();
        }
    }

    /// The keys of the moment.
    pub fn ring(&self) -> arc_swap::Guard<Arc<Ring>> {
        self.ring.load()
    }

    /// The JWK Set that we publish: every key that signs, is about to, or has signed what is still good.
    pub fn jwks(&self) -> Bytes {
        self.ring.load().jwks.clone()
    }

    /// Seals other secrets of the store under the same master key.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// A salt for user names in logs that stays the same as long as the master key does.
    pub fn log_salt(&self) -> Zeroizing<[u8; 32]> {
        self.sealer.derive("user names in logs")
    }

    fn build(&self, document: &KeyDocument) -> Result<Ring, KeyringError> {
        self.check_master_key(document)?;
        let mut ring = Ring::default();
        let mut published = Vec::new();
        for record in &document.keys {
            // A revoked key has no private part any more, so nothing of it gets into the ring.
            let Some(sealed) = record.sealed.as_deref().filter(|_| record.state != KeyState::Revoked) else { continue };
            let wrong = |reason: String| KeyringError::Key { kid: record.kid.clone(), reason };
            let der = self.sealer.open(PURPOSE, &record.kid, sealed).map_err(|e| wrong(e.to_string()))?;
            let pair = KeyPair::from_pkcs8(&der).map_err(|e| wrong(format!("not an RSA key: {e}")))?;
            let (n, e) = public_parts(&pair);
            let verify = VerifyKey::rsa(&record.kid, &n, &e, &[Algorithm::Rs256]).map_err(|e| wrong(e.to_owned()))?;
            published.push(serde_json::json!({
                "kty": "RSA", "use": "sig", "alg": "RS256", "kid": record.kid,
                "n": URL_SAFE_NO_PAD.encode(&n), "e": URL_SAFE_NO_PAD.encode(&e),
            }));
            if record.state == KeyState::Signing {
                ring.signing = Some(Signing { kid: record.kid.clone(), pair });
            }
            ring.keys.push(RingKey { verify, state: record.state, accepted_until: record.accepted_until });
        }
        ring.jwks = Bytes::from(serde_json::json!({ "keys": published }).to_string());
        Ok(ring)
    }

    fn check_master_key(&self, document: &KeyDocument) -> Result<(), KeyringError> {
        let configured = self.sealer.fingerprint();
        if document.master_key.is_empty() || self.sealer.knows(&document.master_key) {
            return Ok(());
        }
        Err(KeyringError::WrongMasterKey { ring: document.master_key.clone(), configured })
    }

    /// A new key pair as a record of the ring. Its id is the beginning of its RFC 7638 thumbprint, in hex: never the same
    /// for two keys, and fit for a command line.
    fn new_record(&self, now: u64) -> Result<KeyRecord, KeyringError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyringError::Library("make a key pair"))?;
        let (n, e) = public_parts(&pair);
        let thumbprint =
            format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, URL_SAFE_NO_PAD.encode(e), URL_SAFE_NO_PAD.encode(n));
        let kid: String = sha256(thumbprint.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| KeyringError::Library("encode a key pair"))?;
        let sealed = self.sealer.seal(PURPOSE, &kid, der.as_ref()).map_err(KeyringError::MasterKey)?;
        Ok(KeyRecord {
            kid,
            state: KeyState::Announced,
            created: now,
            signs_since: None,
            accepted_until: None,
            revoked: None,
            sealed: Some(sealed),
        })
    }
}

/// Modulus and exponent, big-endian and without leading zeros.
fn public_parts(pair: &KeyPair) -> (Vec<u8>, Vec<u8>) {
    let public = pair.public_key();
    let part = |number: aws_lc_rs::io::Positive<'_>| number.big_endian_without_leading_zero().to_vec();
    (part(public.modulus()), part(public.exponent()))
}
