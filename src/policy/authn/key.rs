//! A public key that may have signed a token, and nothing more: which algorithms it is for is decided when the key is
//! taken in, never by the token that it is asked about.
//!
//! Signatures are checked with `aws-lc-rs` itself rather than through a JWT library: header and claims have stricter
//! rules here than such a library applies, and a key parsed once saves parsing it for each token.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters,
};
use smallvec::SmallVec;

use crate::config::Algorithm;

/// The algorithm that a token's header names, if it is one that can ever be trusted. `none` and the HMAC family
/// have no variant: no configuration brings them back.
pub fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::Rs256),
        "PS256" => Some(Algorithm::Ps256),
        "ES256" => Some(Algorithm::Es256),
        _ => None,
    }
}

/// A public key, parsed, for exactly the algorithms it was taken in for.
pub struct VerifyKey {
    kid: Box<str>,
    forms: SmallVec<[(Algorithm, ParsedPublicKey); 1]>,
}

impl std::fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyKey({})", self.kid)
    }
}

impl VerifyKey {
    /// An RSA key from its modulus and exponent, big-endian, for those of `algorithms` that are RSA's.
    ///
    /// # Errors
    /// Says what is wrong with the key: 2048 to 8192 bits and an odd exponent of at least 3 are taken.
    pub fn rsa(kid: &str, n: &[u8], e: &[u8], algorithms: &[Algorithm]) -> Result<VerifyKey, &'static str> {
        let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
        let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err("an RSA key has to have 2048 to 8192 bits");
        }
        if e.last().is_none_or(|byte| byte % 2 == 0) || e == [1] || e.len() > 8 {
            return Err("the RSA exponent is not an odd number of at least 3");
        }
        let parse = |parameters: &'static RsaParameters| {
            PublicKeyComponents { n, e }.to_parsed_public_key(parameters).map_err(|_| "not an RSA public key")
        };
        let mut forms = SmallVec::new();
        for algorithm in algorithms {
            match algorithm {
                Algorithm::Rs256 => forms.push((*algorithm, parse(&RSA_PKCS1_2048_8192_SHA256)?)),
                Algorithm::Ps256 => forms.push((*algorithm, parse(&RSA_PSS_2048_8192_SHA256)?)),
                Algorithm::Es256 => {}
            }
        }
        VerifyKey::with(kid, forms)
    }

    /// A P-256 key from its coordinates, for ES256 if `algorithms` holds it.
    ///
    /// # Errors
    /// Says what is wrong with the key.
    pub fn p256(kid: &str, x: &[u8], y: &[u8], algorithms: &[Algorithm]) -> Result<VerifyKey, &'static str> {
        if x.len() != 32 || y.len() != 32 {
            return Err("the coordinates of a P-256 key have 32 bytes");
        }
        let point = [&[4u8], x, y].concat();
        let mut forms = SmallVec::new();
        if algorithms.contains(&Algorithm::Es256) {
            let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| "not a point of P-256")?;
            forms.push((Algorithm::Es256, key));
        }
        VerifyKey::with(kid, forms)
    }

    fn with(kid: &str, forms: SmallVec<[(Algorithm, ParsedPublicKey); 1]>) -> Result<VerifyKey, &'static str> {
        if forms.is_empty() {
            return Err("the key is for no algorithm that is taken from this issuer");
        }
        Ok(VerifyKey { kid: kid.into(), forms })
    }

    /// The key's id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Whether the key is for `algorithm`.
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.forms.iter().any(|(own, _)| *own == algorithm)
    }

    /// Whether `signature` is this key's over `message`. Never so for an algorithm that the key is not for.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.forms.iter().any(|(own, key)| *own == algorithm && key.verify_sig(message, signature).is_ok())
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
