//! The `Authorization` header: exactly one, of one scheme, with one credential.
//!
//! Anything that two parsers could read differently (two headers, two tokens, stray white space) is refused rather than
//! interpreted, because an upstream behind us may pick the other reading.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::error::{Challenge, Code, Refusal};

/// What stands in the header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// Nothing was sent.
    None,
    /// `Bearer` and a token of RFC 6750's characters.
    Bearer(&'a str),
    /// `Basic` and its base64 (RFC 7617), not decoded yet.
    Basic(&'a str),
    /// A scheme that nobody here speaks.
    Other,
}

/// Reads the header. Scheme names are case-insensitive (RFC 9110 section 11.1).
///
/// # Errors
/// 401 `INVALID_TOKEN` when there is more than one header or the credential is malformed.
pub fn credential(headers: &HeaderMap) -> Result<Credential<'_>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(Credential::None) };
    if values.next().is_some() {
        return Err(malformed("more than one Authorization header"));
    }
    let text = value.to_str().map_err(|_| malformed("the Authorization header is not visible ASCII"))?;
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        return if is_token68(rest) { Ok(Credential::Bearer(rest)) } else { Err(malformed("not one bearer token")) };
    }
    if scheme.eq_ignore_ascii_case("basic") {
        return if is_token68(rest) { Ok(Credential::Basic(rest)) } else { Err(malformed("not one Basic credential")) };
    }
    Ok(Credential::Other)
}

/// The refusal of a request that needed a bearer token and brought none.
pub fn missing() -> Refusal {
    Refusal::new(Code::InvalidToken, "This operation needs an access token: Authorization: Bearer <token>.")
        .challenge(Challenge::Bearer)
        .inside("no bearer token")
}

fn malformed(what: &'static str) -> Refusal {
    Refusal::new(Code::InvalidToken, "The Authorization header is malformed: one scheme and one token are expected.")
        .challenge(Challenge::BearerInvalid)
        .inside(what)
}

/// `token68` of RFC 9110 section 11.2.
fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    // Every request's token passes here, nearly always a good one: looking at all of it without leaving early lets the
    // compiler look at many bytes at once.
    !body.is_empty() && body.bytes().fold(true, |good, byte| good & is_token68_byte(byte))
}

const fn is_token68_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&'static str]) -> Result<String, Option<Challenge>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        match credential(&headers) {
            Ok(Credential::None) => Ok("none".to_owned()),
            Ok(Credential::Bearer(token)) => Ok(format!("bearer {token}")),
            Ok(Credential::Basic(token)) => Ok(format!("basic {token}")),
            Ok(Credential::Other) => Ok("other".to_owned()),
            Err(refusal) => Err(refusal.challenge_kind()),
        }
    }

    #[test]
    fn one_header_one_scheme_one_token() {
        assert_eq!(read(&[]).unwrap(), "none");
        assert_eq!(read(&["Bearer a.b-c_d~e+f/g=="]).unwrap(), "bearer a.b-c_d~e+f/g==");
        assert_eq!(read(&["bEaReR   abc"]).unwrap(), "bearer abc");
        assert_eq!(read(&["Basic YTpi"]).unwrap(), "basic YTpi");
        assert_eq!(read(&["Digest abc"]).unwrap(), "other");
        for bad in [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer a, Bearer b",
            "Bearer a,b",
            "Bearer \"a\"",
            "Bearer a\tb",
            "Bearer =",
            "Bearer a=b",
            "Bearer é",
            "Basic a:b",
        ] {
            assert_eq!(read(&[bad]), Err(Some(Challenge::BearerInvalid)), "{bad}");
        }
        assert_eq!(read(&["Bearer abc", "Bearer abc"]), Err(Some(Challenge::BearerInvalid)));
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_is_one_plain_token(value in "[ -~]{0,40}") {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&value).unwrap())]);
            if let Ok(Credential::Bearer(token) | Credential::Basic(token)) = credential(&headers) {
                proptest::prop_assert!(!token.is_empty() && !token.contains([' ', ',', ';', '"']));
                proptest::prop_assert!(value.ends_with(token) || value.trim_end().ends_with(token));
            }
        }
    }
}
