//! The name of a caller in logs.

use aws_lc_rs::hmac;

/// Who a request was by, for logs: tells users apart without naming them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserHash([u8; 16]);

impl UserHash {
    /// Sixteen hex digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Makes [`UserHash`]es with a secret salt: without it, hashing every user id one knows would name everybody.
#[derive(Clone)]
pub struct UserHasher(hmac::Key);

impl std::fmt::Debug for UserHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserHasher(…)")
    }
}

impl UserHasher {
    /// With a salt that stays the same over restarts and instances, so that logs can be joined.
    pub fn new(salt: &[u8]) -> UserHasher {
        UserHasher(hmac::Key::new(hmac::HMAC_SHA256, salt))
    }

    /// The hash of `user`.
    pub fn hash(&self, user: &str) -> UserHash {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let tag = hmac::sign(&self.0, user.as_bytes());
        let digits = tag.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let mut out = [0u8; 16];
        out.iter_mut().zip(digits).for_each(|(to, digit)| *to = HEX.get(usize::from(digit)).copied().unwrap_or(b'0'));
        UserHash(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_hashes_need_the_salt() {
        let hash = UserHasher::new(b"salt").hash("@alice:tween.example");
        assert_eq!(hash, UserHasher::new(b"salt").hash("@alice:tween.example"));
        assert_ne!(hash, UserHasher::new(b"pepper").hash("@alice:tween.example"));
        assert!(hash.as_str().len() == 16 && hash.as_str().bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
