//! User codes (RFC 8628 section 6.1): read from one screen and typed on another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Consonants that no font confuses and that spell no words: RFC 8628's own choice.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LENGTH: usize = 8;

/// A user code: eight letters, 20^8 of them, shown as `WDJB-MJHT`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserCode(String);

impl UserCode {
    /// Reads what a person typed: case, spaces and dashes do not count (RFC 8628 section 6.1).
    pub fn parse(typed: &str) -> Option<UserCode> {
        if typed.len() > 64 {
            return None;
        }
        let letters = typed.chars().filter(|c| !matches!(c, '-' | ' ' | '\u{2010}'..='\u{2015}' | '\u{a0}'));
        let code: String = letters.map(|c| c.to_ascii_uppercase()).collect();
        let fits = code.len() == LENGTH && code.bytes().all(|b| ALPHABET.contains(&b));
        fits.then_some(UserCode(code))
    }

    /// A code drawn from random bytes. Each letter is decided by eight of them, so that none is likelier than another by
    /// more than one in 2^59.
    pub fn draw(random: &[u8; 8 * LENGTH]) -> UserCode {
        let letters = random.as_chunks::<8>().0.iter().map(|bytes| {
            let at = usize::try_from(u64::from_be_bytes(*bytes) % ALPHABET.len() as u64).unwrap_or(0);
            ALPHABET.get(at).copied().map_or('B', char::from)
        });
        UserCode(letters.collect())
    }

    /// The eight letters without the dash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (front, back) = self.0.split_at_checked(LENGTH / 2).unwrap_or((&self.0, ""));
        write!(f, "{front}-{back}")
    }
}

impl fmt::Debug for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserCode(…)")
    }
}

impl From<UserCode> for String {
    fn from(code: UserCode) -> String {
        code.0
    }
}

impl TryFrom<String> for UserCode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<UserCode, &'static str> {
        UserCode::parse(&text).ok_or("not a user code")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn people_type_them_as_they_like() {
        let code = UserCode::parse("WDJB-MJHT").unwrap();
        for typed in ["wdjbmjht", " WDJB MJHT ", "wdjb\u{2013}mjht", "W-D-J-B-M-J-H-T"] {
            assert_eq!(UserCode::parse(typed).as_ref(), Some(&code), "{typed}");
        }
        for bad in ["", "WDJB-MJH", "WDJB-MJHTT", "WDJB-MJHA", "WDJB-MJH\u{130}", "WDJB_MJHT"] {
            assert_eq!(UserCode::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(random in prop::array::uniform32(any::<u8>())) {
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(&random);
            bytes[32..].copy_from_slice(&random);
            let code = UserCode::draw(&bytes);
            prop_assert_eq!(UserCode::parse(&code.to_string()), Some(code));
        }

        #[test]
        fn nothing_typed_is_too_much(typed in ".*") {
            if let Some(code) = UserCode::parse(&typed) {
                prop_assert_eq!(code.as_str().len(), LENGTH);
            }
        }
    }
}
