//! Sealing: what is secret leaves memory only encrypted under the config's master key.
//!
//! AES-256-GCM with a random nonce. The additional data says what a value is and whose it is, so that a sealed value
//! copied to another place does not open there. Before it stands the fingerprint of the master key, so that the master key
//! can be changed: what an earlier one sealed opens as long as that one is configured too, and
//! [`Sealer::seals_afresh`] tells what is still to be sealed under the new one.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::config::Secret;

const KEY_LEN: usize = 32;

/// Why something could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The master key is not 32 bytes in hex or base64.
    MasterKey,
    /// The value does not open: another master key sealed it, it belongs elsewhere, or it was changed.
    DoesNotOpen,
    /// The cryptographic library refused; never seen in a healthy process.
    Library,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SealError::MasterKey => "the master key has to be 32 bytes, written as 64 hex digits or as base64",
            SealError::DoesNotOpen => "it was sealed under another master key, or changed since",
            SealError::Library => "the cryptographic library refused the operation",
        })
    }
}

impl std::error::Error for SealError {}

/// The master key, ready to seal and open, and the one before it, which only opens.
pub struct Sealer {
    current: MasterKey,
    previous: Option<MasterKey>,
}

struct MasterKey {
    key: RandomizedNonceKey,
    master: Zeroizing<[u8; KEY_LEN]>,
    fingerprint: String,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl MasterKey {
    fn new(master_key: &Secret) -> Result<MasterKey, SealError> {
        let master = decode(master_key.expose().trim()).ok_or(SealError::MasterKey)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, master.as_slice()).map_err(|_| SealError::Library)?;
        let mut made = MasterKey { key, master, fingerprint: String::new() };
        made.fingerprint = made.derive("fingerprint").iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(made)
    }

    fn derive(&self, purpose: &str) -> Zeroizing<[u8; KEY_LEN]> {
        let mut out = Zeroizing::new([0u8; KEY_LEN]);
        let extracted = Salt::new(HKDF_SHA256, b"tmcp-edge master key").extract(self.master.as_slice());
        let info = [purpose.as_bytes()];
        if let Ok(okm) = extracted.expand(&info, Length(KEY_LEN)) {
            // Filling fails only for a length other than the one asked for, which is the same constant here.
            let filled = okm.fill(out.as_mut_slice());
            debug_assert!(filled.is_ok());
        }
        out
    }

    fn open(&self, what: &str, whose: &str, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, body) = bytes.split_at_checked(NONCE_LEN).ok_or(SealError::DoesNotOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::DoesNotOpen)?;
        let mut buffer = Zeroizing::new(body.to_vec());
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(binding(what, whose)), &mut buffer)
            .map_err(|_| SealError::DoesNotOpen)?
            .len();
        buffer.truncate(plain);
        Ok(buffer)
    }
}

impl Sealer {
    /// Takes the master key: 32 bytes as hex or base64; white space around it is not part of it.
    ///
    /// # Errors
    /// [`SealError::MasterKey`] when it is anything else.
    pub fn new(master_key: &Secret) -> Result<Sealer, SealError> {
        Sealer::after(master_key, None)
    }

    /// As [`Sealer::new`], and opens besides what `previous` has sealed.
    ///
    /// # Errors
    /// [`SealError::MasterKey`] when either is anything else.
    pub fn after(master_key: &Secret, previous: Option<&Secret>) -> Result<Sealer, SealError> {
        let previous = previous.map(MasterKey::new).transpose()?;
        Ok(Sealer { current: MasterKey::new(master_key)?, previous })
    }

    /// Names the master key without telling it: lets a wrong key be told from a damaged file.
    pub fn fingerprint(&self) -> String {
        self.current.fingerprint.clone()
    }

    /// Whether a fingerprint is that of the master key or of the one before it.
    pub fn knows(&self, fingerprint: &str) -> bool {
        self.keys().any(|key| key.fingerprint == fingerprint)
    }

    /// A key for another purpose, from which the master key cannot be had. Another master key gives another one.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; KEY_LEN]> {
        self.current.derive(purpose)
    }

    fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// Seals `plain`, bound to what it is and whose; the result is text: the master key's fingerprint, a dot, base64.
    ///
    /// # Errors
    /// [`SealError::Library`].
    pub fn seal(&self, what: &str, whose: &str, plain: &[u8]) -> Result<String, SealError> {
        // Encrypted in place: the plain bytes are gone from this buffer when the call returns.
        let mut buffer = plain.to_vec();
        let nonce = self
            .current
            .key
            .seal_in_place_append_tag(Aad::from(binding(what, whose)), &mut buffer)
            .map_err(|_| SealError::Library)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut buffer);
        Ok(format!("{}.{}", self.current.fingerprint, STANDARD.encode(sealed)))
    }

    /// Opens what [`Sealer::seal`] made for the same `what` and `whose`.
    ///
    /// # Errors
    /// [`SealError::DoesNotOpen`].
    pub fn open(&self, what: &str, whose: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        // Earlier releases wrote no fingerprint: any key may be the one.
        let (fingerprint, text) = match sealed.split_once('.') {
            Some((fingerprint, text)) => (Some(fingerprint), text),
            None => (None, sealed),
        };
        let bytes = STANDARD.decode(text).map_err(|_| SealError::DoesNotOpen)?;
        self.keys()
            .filter(|key| fingerprint.is_none_or(|fingerprint| fingerprint == key.fingerprint))
            .find_map(|key| key.open(what, whose, &bytes).ok())
            .ok_or(SealError::DoesNotOpen)
    }

    /// What was sealed under the previous master key, or by an earlier release, sealed under the current one; `None` when
    /// it is already.
    ///
    /// # Errors
    /// [`SealError::DoesNotOpen`] and [`SealError::Library`].
    pub fn seals_afresh(&self, what: &str, whose: &str, sealed: &str) -> Result<Option<String>, SealError> {
        if sealed.split_once('.').is_some_and(|(fingerprint, _)| fingerprint == self.current.fingerprint) {
            return Ok(None);
        }
        let plain = self.open(what, whose, sealed)?;
        self.seal(what, whose, &plain).map(Some)
    }
}

/// What a sealed value is bound to, each part with its length so that no two pairs read alike.
fn binding(what: &str, whose: &str) -> Vec<u8> {
    let mut aad = b"tmcp-edge sealed value 1".to_vec();
    for part in [what, whose] {
        aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
        aad.extend_from_slice(part.as_bytes());
    }
    aad
}

fn decode(text: &str) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let bytes = Zeroizing::new(match text.len() {
        64 => from_hex(text)?,
        _ => [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD].iter().find_map(|e| e.decode(text).ok())?,
    });
    <[u8; KEY_LEN]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    Some(digits?.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    out.iter_mut().zip(digest::digest(&digest::SHA256, bytes).as_ref()).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&Secret::new(format!("{byte:02x}").repeat(32))).unwrap()
    }

    #[test]
    fn opens_only_where_it_belongs() {
        let ours = sealer(1);
        let sealed = ours.seal("signing key", "k1", b"plain").unwrap();
        assert_eq!(ours.open("signing key", "k1", &sealed).unwrap().as_slice(), b"plain");
        assert_eq!(ours.open("signing key", "k2", &sealed), Err(SealError::DoesNotOpen));
        assert_eq!(ours.open("webhook secret", "k1", &sealed), Err(SealError::DoesNotOpen));
        assert_eq!(ours.open("signing keyk", "1", &sealed), Err(SealError::DoesNotOpen));
        assert_eq!(sealer(2).open("signing key", "k1", &sealed), Err(SealError::DoesNotOpen));
        for bad in ["", "AA==", "!", &sealed[4..]] {
            assert_eq!(ours.open("signing key", "k1", bad), Err(SealError::DoesNotOpen), "{bad}");
        }
        assert_ne!(ours.seal("a", "b", b"x").unwrap(), ours.seal("a", "b", b"x").unwrap(), "nonces differ");
    }

    #[test]
    fn the_master_key_can_be_changed() {
        let key = |byte: u8| Secret::new(format!("{byte:02x}").repeat(32));
        let old = sealer(1);
        let sealed = old.seal("signing key", "k1", b"plain").unwrap();
        let unnamed = sealed.split_once('.').unwrap().1;
        let both = Sealer::after(&key(2), Some(&key(1))).unwrap();
        assert!(both.knows(&old.fingerprint()) && both.knows(&sealer(2).fingerprint()));
        assert!(!sealer(2).knows(&old.fingerprint()));
        for sealed in [sealed.as_str(), unnamed] {
            assert_eq!(both.open("signing key", "k1", sealed).unwrap().as_slice(), b"plain");
            let fresh = both.seals_afresh("signing key", "k1", sealed).unwrap().unwrap();
            assert_eq!(both.seals_afresh("signing key", "k1", &fresh), Ok(None));
            assert_eq!(sealer(2).open("signing key", "k1", &fresh).unwrap().as_slice(), b"plain");
            assert_eq!(old.open("signing key", "k1", &fresh), Err(SealError::DoesNotOpen));
            assert_eq!(sealer(3).seals_afresh("signing key", "k1", sealed), Err(SealError::DoesNotOpen));
        }
    }

    #[test]
    fn master_keys_in_hex_and_base64() {
        let hex = sealer(0xfb);
        let base64 = Sealer::new(&Secret::new(STANDARD.encode([0xfb; 32]) + "\n")).unwrap();
        let url = Sealer::new(&Secret::new(URL_SAFE_NO_PAD.encode([0xfb; 32]))).unwrap();
        assert_eq!(hex.fingerprint(), base64.fingerprint());
        assert_eq!(hex.fingerprint(), url.fingerprint());
        assert_ne!(hex.fingerprint(), sealer(0xfc).fingerprint());
        assert_ne!(*hex.derive("a"), *hex.derive("b"));
        for bad in ["", "short", &"0".repeat(63), &"g".repeat(64), &STANDARD.encode([1; 31])] {
            assert_eq!(Sealer::new(&Secret::new(bad)).err(), Some(SealError::MasterKey), "{bad}");
        }
    }
}
