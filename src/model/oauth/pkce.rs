//! Proof Key for Code Exchange (RFC 7636), S256 only.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Digest;

/// A code challenge: base64url of a verifier's SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge(Digest);

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenge(…)")
    }
}

impl Challenge {
    /// Reads `code_challenge` (RFC 7636 section 4.2): 43 characters of base64url. Another length cannot be the hash of
    /// anything, and a client that sends its verifier here by mistake is better told so at once.
    pub fn parse(text: &str) -> Option<Challenge> {
        Digest::try_from(text.to_owned()).ok().map(Challenge)
    }

    /// Whether this is the challenge to a verifier with that SHA-256.
    pub fn answered_by(self, verifier: Digest) -> bool {
        self.0 == verifier
    }
}

/// A code verifier: 43 to 128 unreserved characters (RFC 7636 section 4.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier(String);

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

impl Verifier {
    /// Reads `code_verifier`.
    pub fn parse(text: &str) -> Option<Verifier> {
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        ((43..=128).contains(&text.len()) && text.bytes().all(unreserved)).then(|| Verifier(text.to_owned()))
    }

    /// Its bytes, to be hashed.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_hashes_and_nothing_else() {
        assert!(Challenge::parse("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM").is_some(), "RFC 7636 appendix B");
        for bad in
            ["", "x", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM=", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM"]
        {
            assert!(Challenge::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn verifiers_have_a_length_and_an_alphabet() {
        assert!(Verifier::parse(&"a".repeat(43)).is_some() && Verifier::parse(&"~".repeat(128)).is_some());
        for bad in ["a".repeat(42), "a".repeat(129), "a".repeat(42) + "+", "é".repeat(22)] {
            assert!(Verifier::parse(&bad).is_none(), "{bad}");
        }
    }
}
