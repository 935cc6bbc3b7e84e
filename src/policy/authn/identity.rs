//! What is worked out once for a caller and used on each of its requests: header values, table keys, the name in logs.

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::HeaderValue;

use crate::model::token::TepClaims;

/// The identity headers for upstreams (protocol section 10), ready to be cloned: all share one buffer.
#[derive(Clone, Debug)]
pub struct IdentityHeaders {
    /// `X-TMCP-User-Id`.
    pub user: HeaderValue,
    /// `X-TMCP-App-Id`.
    pub app: HeaderValue,
    /// `X-TMCP-Scopes`: the scopes in force, separated by spaces.
    pub scopes: HeaderValue,
    /// `X-TMCP-Session-Id`, if the token has a session.
    pub session: Option<HeaderValue>,
    /// `X-TMCP-Wallet-Id`, if the token names a wallet.
    pub wallet: Option<HeaderValue>,
}

impl IdentityHeaders {
    /// The headers of a token; `None` when a claim cannot stand in a header, which claims that were read cannot be.
    pub fn of(claims: &TepClaims) -> Option<IdentityHeaders> {
        let scopes = claims.scopes.to_string();
        let session = claims.session_id.as_deref().unwrap_or_default();
        let wallet = claims.wallet_id.as_deref().unwrap_or_default();
        let parts = [claims.user.as_str(), claims.app.as_str(), &scopes, session, wallet];
        let mut rest = Bytes::from(parts.concat());
        let [user, app, scopes, session, wallet] =
            parts.map(|part| HeaderValue::from_maybe_shared(rest.split_to(part.len())).ok());
        Some(IdentityHeaders {
            user: user?,
            app: app?,
            scopes: scopes?,
            session: session.filter(|_| claims.session_id.is_some()),
            wallet: wallet.filter(|_| claims.wallet_id.is_some()),
        })
    }
}

/// A key for tables of callers: 128 bits of SHA-256 over the kind and the parts, each with its length, so that no
/// joining of other parts gives the same bytes.
pub fn table_key(kind: &str, parts: &[&str]) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in std::iter::once(&kind).chain(parts) {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    first(context.finish().as_ref())
}

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

fn first(bytes: &[u8]) -> [u8; 16] {
    let mut out = [0u8; 16];
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_keys_do_not_collide_by_joining() {
        assert_eq!(table_key("user", &["a", "b"]), table_key("user", &["a", "b"]));
        assert_ne!(table_key("user", &["ab", ""]), table_key("user", &["a", "b"]));
        assert_ne!(table_key("user", &["a"]), table_key("usera", &[]));
        assert_ne!(table_key("user", &["a"]), table_key("app", &["a"]));
    }

    #[test]
    fn user_hashes_need_the_salt() {
        let hash = UserHasher::new(b"salt").hash("@alice:tween.example");
        assert_eq!(hash, UserHasher::new(b"salt").hash("@alice:tween.example"));
        assert_ne!(hash, UserHasher::new(b"pepper").hash("@alice:tween.example"));
        assert!(hash.as_str().len() == 16 && hash.as_str().bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
