//! Sealing: what is secret leaves memory only encrypted under the config's master key.
//!
//! AES-256-GCM with a random nonce. The additional data says what a value is and whose it is, so that a sealed value
//! copied to another place does not open there.

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

/// The master key, ready to seal and open.
pub struct Sealer {
    key: RandomizedNonceKey,
    master: Zeroizing<[u8; KEY_LEN]>,
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

impl Sealer {
    /// Takes the master key: 32 bytes as hex or base64; white space around it is not part of it.
    ///
    /// # Errors
    /// [`SealError::MasterKey`] when it is anything else.
    pub fn new(master_key: &Secret) -> Result<Sealer, SealError> {
        let master = decode(master_key.expose().trim()).ok_or(SealError::MasterKey)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, master.as_slice()).map_err(|_| SealError::Library)?;
        Ok(Sealer { key, master })
    }

    /// Names the master key without telling it: lets a wrong key be told from a damaged file.
    pub fn fingerprint(&self) -> String {
        let name = self.derive("fingerprint");
        name.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// A key for another purpose, from which the master key cannot be had.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; KEY_LEN]> {
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

    /// Seals `plain`, bound to what it is and whose; the result is base64.
    ///
    /// # Errors
    /// [`SealError::Library`].
    pub fn seal(&self, what: &str, whose: &str, plain: &[u8]) -> Result<String, SealError> {
        // Encrypted in place: the plain bytes are gone from this buffer when the call returns.
        let mut buffer = plain.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(binding(what, whose)), &mut buffer)
            .map_err(|_| SealError::Library)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut buffer);
        Ok(STANDARD.encode(sealed))
    }

    /// Opens what [`Sealer::seal`] made for the same `what` and `whose`.
    ///
    /// # Errors
    /// [`SealError::DoesNotOpen`].
    pub fn open(&self, what: &str, whose: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| SealError::DoesNotOpen)?;
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
