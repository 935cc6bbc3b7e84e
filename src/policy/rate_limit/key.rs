//! Whose bucket it is.
//!
//! A key is 16 bytes, so that a verified token can carry it and the hot path only copies it. Names go through SHA-256
//! with their length in front of each part: no pair of ids can be spelled so that it meets another pair, and nobody
//! can compute a name that collides with somebody else's bucket. Addresses fit as they are. The first byte says which
//! kind it is, so that kinds never meet either.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::digest;

use crate::model::{MiniAppId, UserId};

/// Whose bucket it is: a mini-app and user, a user, a client or an address (protocol section 8).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LimitKey {
    // Two words rather than bytes: they hash in two steps instead of sixteen.
    high: u64,
    low: u64,
}

const V4: u8 = 1;
const V6: u8 = 2;
const APP_USER: u8 = 3;
const USER: u8 = 4;
const APP: u8 = 5;
const RESOURCE_SERVER: u8 = 6;

impl LimitKey {
    /// A user of a mini-app: the key of every call with a TEP token, except under policies that follow the user.
    pub fn app_user(app: &MiniAppId, user: &UserId) -> Self {
        Self::named(APP_USER, &[app.as_str().as_bytes(), user.as_str().as_bytes()])
    }

    /// A user, whatever mini-app it calls from: wallet and second-factor policies.
    pub fn user(user: &UserId) -> Self {
        Self::named(USER, &[user.as_str().as_bytes()])
    }

    /// A client that has authenticated as itself, on `/oauth2/*`.
    pub fn app(app: &MiniAppId) -> Self {
        Self::named(APP, &[app.as_str().as_bytes()])
    }

    /// A server that looks at tokens, by the name that the config gives it.
    pub fn resource_server(id: &str) -> Self {
        Self::named(RESOURCE_SERVER, &[id.as_bytes()])
    }

    /// An address. IPv6 counts by /64, which is what one subscriber is given; v4-mapped addresses are IPv4.
    pub fn ip(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => LimitKey { high: tagged(V4, 0), low: u64::from(v4.to_bits()) },
            IpAddr::V6(v6) => LimitKey { high: tagged(V6, 0), low: (v6.to_bits() >> 64) as u64 },
        }
    }

    /// As text: the same at every instance.
    pub(super) fn hex(self) -> String {
        format!("{:016x}{:016x}", self.high, self.low)
    }

    fn named(tag: u8, parts: &[&[u8]]) -> Self {
        let [high, low] = words(parts);
        LimitKey { high: tagged(tag, high), low }
    }
}

impl fmt::Debug for LimitKey {
    /// The kind only: keys of addresses are addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (self.high >> 56) as u8 {
            V4 => "IPv4 address",
            V6 => "IPv6 network",
            APP_USER => "mini-app and user",
            USER => "user",
            RESOURCE_SERVER => "resource server",
            _ => "mini-app",
        };
        write!(f, "LimitKey({kind})")
    }
}

fn tagged(tag: u8, word: u64) -> u64 {
    (word & (u64::MAX >> 8)) | u64::from(tag) << 56
}

/// The first 16 bytes of SHA-256 over the parts, each with its length in front.
pub(super) fn words(parts: &[&[u8]]) -> [u64; 2] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    let mut words = [0; 2];
    for (word, bytes) in words.iter_mut().zip(digest.as_ref().as_chunks::<8>().0) {
        *word = u64::from_be_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn kinds_and_parts_never_meet() {
        let (a, b) = (MiniAppId::parse("ma_a").unwrap(), MiniAppId::parse("ma_b").unwrap());
        let (alice, bob) = (UserId::parse("@a:x.example").unwrap(), UserId::parse("@b:x.example").unwrap());
        let keys = [
            LimitKey::app_user(&a, &alice),
            LimitKey::app_user(&a, &bob),
            LimitKey::app_user(&b, &alice),
            LimitKey::user(&alice),
            LimitKey::user(&bob),
            LimitKey::app(&a),
            LimitKey::app(&b),
            LimitKey::resource_server("ma_a"),
            LimitKey::ip("0.0.0.1".parse().unwrap()),
            LimitKey::ip("0:0:0:1::".parse().unwrap()),
        ];
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        assert_eq!(LimitKey::app_user(&a, &alice), keys[0]);
        assert_ne!(words(&[b"ab", b"c"]), words(&[b"a", b"bc"]));
        assert_eq!(size_of::<LimitKey>(), 16);
    }

    #[test]
    fn addresses_count_by_subscriber() {
        let ip = |text: &str| LimitKey::ip(text.parse().unwrap());
        assert_eq!(ip("2001:db8:1:2::1"), ip("2001:db8:1:2:ffff::9"));
        assert_ne!(ip("2001:db8:1:2::1"), ip("2001:db8:1:3::1"));
        assert_eq!(ip("::ffff:192.0.2.7"), ip("192.0.2.7"));
        assert_ne!(ip("192.0.2.7"), ip("192.0.2.8"));
        assert_eq!(format!("{:?}", ip("192.0.2.7")), "LimitKey(IPv4 address)");
    }
}
