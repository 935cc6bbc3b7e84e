//! Identifiers of the protocol, parsed once.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not the identifier that it was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What was expected, in words for a person.
    pub expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for Malformed {}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl TryFrom<String> for $name {
            type Error = Malformed;
            fn try_from(text: String) -> Result<Self, Malformed> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }

        impl $name {
            /// Parses and checks the text form.
            pub fn parse(text: &str) -> Result<Self, Malformed> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok($name(text.into())) } else { Err(Malformed { expected: $expected }) }
            }

            /// The text form, as it was parsed.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Malformed;
            fn from_str(text: &str) -> Result<Self, Malformed> {
                Self::parse(text)
            }
        }
    };
}

identifier!(
    /// A Matrix user id, `@localpart:server` (Matrix appendix 4.2.1; at most 255 bytes). Historical localparts
    /// (any printable ASCII without `:`) are accepted: homeservers still hold such users.
    UserId,
    "a Matrix user id such as @alice:tween.example",
    |text| {
        text.len() <= 255
            && text.strip_prefix('@').and_then(|rest| rest.split_once(':')).is_some_and(|(local, server)| {
                !local.is_empty() && local.bytes().all(|b| (0x21..=0x7e).contains(&b)) && is_server_name(server)
            })
    }
);

impl UserId {
    /// The part between `@` and the first `:`.
    pub fn localpart(&self) -> &str {
        self.split().0
    }

    /// The homeserver's name.
    pub fn server(&self) -> &str {
        self.split().1
    }

    fn split(&self) -> (&str, &str) {
        self.as_str().strip_prefix('@').and_then(|rest| rest.split_once(':')).unwrap_or_default()
    }
}

identifier!(
    /// A mini-app's id, `ma_` and then letters, digits, `_` or `-` (at most 64 bytes).
    MiniAppId,
    "a mini-app id such as ma_shop_001",
    |text| {
        text.len() <= 64
            && text.strip_prefix("ma_").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            })
    }
);

identifier!(
    /// A Matrix room id: `!opaque`, with `:server` in rooms before version 12 (at most 255 bytes).
    RoomId,
    "a Matrix room id such as !chat:tween.example",
    |text| {
        text.len() > 1 && text.len() <= 255 && text.starts_with('!') && text.bytes().all(|b| (0x21..=0x7e).contains(&b))
    }
);

/// Whether `text` is a Matrix server name: a DNS name, IPv4 or bracketed IPv6 literal, with an optional port.
pub fn is_server_name(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(at) if !text.ends_with(']') => (text.get(..at), text.get(at + 1..)),
        _ => (Some(text), None),
    };
    let host_ok = host.is_some_and(|host| match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-'),
    });
    let port_ok = port.is_none_or(|port| port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit()));
    host_ok && port_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids() {
        let alice = UserId::parse("@alice:tween.example").unwrap();
        assert_eq!((alice.localpart(), alice.server()), ("alice", "tween.example"));
        assert!(UserId::parse("@a/b=c:host:8448").is_ok());
        assert!(UserId::parse("@a:[::1]:8448").is_ok());
        for bad in ["", "@", "@:x", "alice:x", "@alice", "@alice:", "@al ice:x", "@al\nice:x", "@a:b/c", "@é:x"] {
            assert!(UserId::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn mini_app_ids() {
        assert!(MiniAppId::parse("ma_shop_001").is_ok());
        for bad in ["ma_", "shop", "ma_a b", "ma_a/b", "MA_x", "ma_é"] {
            assert!(MiniAppId::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn room_ids_with_and_without_a_server() {
        assert!(RoomId::parse("!chat:tween.example").is_ok());
        assert!(RoomId::parse("!te06f_uoGBHhB0BPHp-anuFBpuCXRwGv9Ays_-eJ7G4").is_ok());
        assert!(RoomId::parse("#chat:tween.example").is_err());
        assert!(RoomId::parse("!").is_err());
    }
}
