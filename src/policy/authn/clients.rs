//! Confidential clients by HTTP Basic (RFC 7617, RFC 6749 section 2.3.1).

use std::borrow::Cow;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::registry::Registry;
use crate::config::MiniApp;
use crate::error::{Challenge, Code, Refusal};
use crate::store::seal::sha256;

/// Longest credential that is looked at, bytes of base64.
const MAX_CREDENTIAL: usize = 2048;

/// The mini-app whose confidential client this is: `credential` is what stands after `Basic`.
///
/// # Errors
/// 401 `INVALID_TOKEN` with a Basic challenge, the same whether the client is unknown, public or its secret wrong; 403
/// `ACCOUNT_SUSPENDED` for a suspended mini-app that has proven who it is.
pub fn authenticate(registry: &Registry, credential: &str) -> Result<Arc<MiniApp>, Refusal> {
    let (id, secret) = decode(credential).ok_or_else(|| unknown("malformed Basic credential"))?;
    let hash = sha256(secret.as_bytes());
    let app = registry.resolve(&id).and_then(|id| registry.get(&id).cloned());
    // Compared with something in any case, so that the time does not tell which clients exist.
    let nothing = [[0u8; 32]];
    let hashes = app.as_ref().map_or(nothing.as_slice(), |app| app.secret_hashes.as_slice());
    let matched = hashes.iter().fold(false, |matched, own| matched | verify_slices_are_equal(own, &hash).is_ok());
    let app = app.filter(|_| matched).ok_or_else(|| unknown("unknown client or wrong secret"))?;
    if app.suspended {
        return Err(Refusal::new(Code::AccountSuspended, "The mini-app is suspended."));
    }
    Ok(app)
}

/// The refusal of a request that needed a client and brought none.
pub fn missing() -> Refusal {
    Refusal::new(Code::InvalidToken, "This operation needs the mini-app's client id and secret by HTTP Basic.")
        .challenge(Challenge::Basic)
        .inside("no Basic credential")
}

fn unknown(inside: &'static str) -> Refusal {
    Refusal::new(Code::InvalidToken, "The client id or secret is not valid.").challenge(Challenge::Basic).inside(inside)
}

fn decode(credential: &str) -> Option<(String, String)> {
    if credential.len() > MAX_CREDENTIAL {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(credential).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((form_decoded(id)?, form_decoded(secret)?))
}

/// Undoes `application/x-www-form-urlencoded` of a single value. `None` for a broken escape or what is not UTF-8.
fn form_decoded(text: &str) -> Option<String> {
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    let mut bytes = Vec::with_capacity(spaced.len());
    let mut rest = spaced.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::MiniAppId;
    use crate::model::miniapp::ClientType;

    fn app(id: &str, secrets: &[&str], suspended: bool) -> (MiniAppId, Arc<MiniApp>) {
        let id = MiniAppId::parse(id).unwrap();
        let client_type = if secrets.is_empty() { ClientType::Public } else { ClientType::Hybrid };
        let secret_hashes = secrets.iter().map(|secret| sha256(secret.as_bytes())).collect();
        let app = MiniApp { client_type, secret_hashes, suspended, ..MiniApp::new(id.clone(), "Shop") };
        (id, Arc::new(app))
    }

    fn registry() -> Registry {
        Registry::new(
            [
                app("ma_shop", &["old demo", "new:demo%"], false),
                app("ma_public", &[], false),
                app("ma_gone", &["demo"], true),
            ]
            .into(),
        )
    }

    fn attempt(text: &str) -> Result<String, Code> {
        authenticate(&registry(), &STANDARD.encode(text)).map(|app| app.id.to_string()).map_err(|r| r.code())
    }

    #[test]
    fn id_and_secret_are_form_encoded() {
        assert_eq!(attempt("ma_shop:old+demo"), Ok("ma_shop".to_owned()));
        assert_eq!(attempt("ma_shop:old%20demo"), Ok("ma_shop".to_owned()));
        assert_eq!(attempt("ma_shop:new%3Ademo%25"), Ok("ma_shop".to_owned()));
        assert_eq!(attempt("ma_shop:new:demo%25"), Ok("ma_shop".to_owned()), "only the first colon divides");
        assert_eq!(attempt("ma_shop_backend:old+demo"), Ok("ma_shop".to_owned()));
    }

    #[test]
    fn everything_else_is_refused_alike() {
        for bad in [
            "",
            ":",
            "ma_shop",
            "ma_shop:",
            "ma_shop:wrong",
            "ma_public:",
            "ma_public:x",
            "ma_none:x",
            "x:y",
            "ma_shop:new:demo%",
            "ma_shop:%zz",
            "ma_shop:%ff",
            "ma_gone:wrong",
        ] {
            assert_eq!(attempt(bad), Err(Code::InvalidToken), "{bad}");
        }
        assert_eq!(attempt("ma_gone:demo"), Err(Code::AccountSuspended));
        for bad in ["", "====", "bWFfc2hvcDpvbGQrZGVtbw", "not base64", &"A".repeat(4096)] {
            assert_eq!(authenticate(&registry(), bad).unwrap_err().code(), Code::InvalidToken, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused(text in "\\PC{0,80}") {
            prop_assert!(authenticate(&registry(), &text).is_err());
            prop_assert!(authenticate(&registry(), &STANDARD.encode(&text)).is_err());
        }
    }
}
