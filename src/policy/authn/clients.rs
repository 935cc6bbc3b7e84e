//! OAuth clients (RFC 6749 section 2.3): by HTTP Basic (RFC 7617), in the form, or by name where there is no secret.

use std::borrow::Cow;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};

use super::bearer::{self, Credential};
use super::registry::Registry;
use super::{Caller, Client};
use crate::config::{MiniApp, ResourceServer};
use crate::error::{Challenge, Code, OauthError, Refusal};
use crate::model::oauth::ClientId;
use crate::policy::rate_limit::LimitKey;
use crate::policy::validate::Form;
use crate::store::seal::sha256;
use crate::upstream::forward::Identity;

/// Longest credential that is looked at, bytes of base64.
pub const MAX_CREDENTIAL: usize = 2048;

/// The mini-app whose confidential client this is: `credential` is what stands after `Basic`.
///
/// # Errors
/// 401 `INVALID_TOKEN` with a Basic challenge, the same whether the client is unknown, public or its secret wrong; 403
/// `ACCOUNT_SUSPENDED` for a suspended mini-app that has proven who it is.
pub fn authenticate(registry: &Registry, credential: &str) -> Result<Client, Refusal> {
    let (id, secret) = decode(credential).ok_or_else(|| unknown("malformed Basic credential"))?;
    let client = proven(registry, &id, &secret)?;
    if client.app.suspended {
        return Err(Refusal::new(Code::AccountSuspended, "The mini-app is suspended."));
    }
    Ok(client)
}

/// The OAuth client of a request: by HTTP Basic, by `client_id` and `client_secret` in the form, or, for clients that keep
/// no secret, by `client_id` alone (RFC 6749 section 2.3). `resource_servers` may come as well.
///
/// # Errors
/// 401 as [`authenticate`]; 400 `invalid_request` when the client is not named, or in two ways, and `unauthorized_client`
/// for a mini-app that is suspended (RFC 6749 section 5.2).
pub fn of_request(
    registry: &Registry,
    resource_servers: &[ResourceServer],
    headers: &HeaderMap,
    form: &Form,
) -> Result<Caller, Refusal> {
    let (named, in_form) = (form.get("client_id"), form.get("client_secret"));
    // Whatever is wrong with it, a client has failed to authenticate: `invalid_client` (RFC 6749 section 5.2).
    let credential = bearer::credential(headers).map_err(|_| unknown("malformed Authorization header"))?;
    let (id, secret) = match (credential, in_form) {
        (Credential::Basic(_), Some(_)) => {
            return Err(invalid("A client authenticates in one way: by HTTP Basic or in the form."));
        }
        (Credential::Basic(credential), None) => {
            let (id, secret) = decode(credential).ok_or_else(|| unknown("malformed Basic credential"))?;
            if named.is_some_and(|named| named != id) {
                return Err(invalid("client_id is another than the one that authenticates."));
            }
            if secret.is_empty() {
                // So do some libraries say that a client has none.
                return Ok(Caller::Named(Arc::new(in_force(public(registry, &id)?)?)));
            }
            (id, secret)
        }
        (Credential::None, secret) => {
            let named = named.ok_or_else(|| invalid("client_id is missing."))?.to_owned();
            match secret {
                Some(secret) => (named, secret.to_owned()),
                None => {
                    let client = in_force(public(registry, &named)?)?;
                    return Ok(Caller::Named(Arc::new(client)));
                }
            }
        }
        (Credential::Bearer(_) | Credential::Other, _) => return Err(unknown("another scheme than Basic")),
    };
    if let Some(server) = resource_servers.iter().find(|server| server.id == id) {
        let known = holds(&server.secret_hashes, &secret);
        return if known {
            Ok(Caller::ResourceServer(LimitKey::resource_server(&id)))
        } else {
            Err(unknown("a resource server's secret is wrong"))
        };
    }
    Ok(Caller::Client(Arc::new(in_force(proven(registry, &id, &secret)?)?)))
}

/// A client that the OAuth endpoints serve.
fn in_force(client: Client) -> Result<Client, Refusal> {
    if client.app.suspended {
        return Err(Refusal::oauth(OauthError::UnauthorizedClient, "The mini-app is suspended."));
    }
    Ok(client)
}

fn proven(registry: &Registry, id: &str, secret: &str) -> Result<Client, Refusal> {
    let app = registry.resolve(id).and_then(|id| registry.get(&id));
    // Compared with something in any case, so that the time does not tell which clients exist.
    let matched = holds(app.as_ref().map_or(&[[0u8; 32]], |app| app.secret_hashes.as_slice()), secret);
    let app = app.filter(|_| matched).ok_or_else(|| unknown("unknown client or wrong secret"))?;
    // Whichever name it goes by, and whatever it becomes: what it is given now is worth nothing without a secret.
    client(ClientId { app: app.id.clone(), backend: true }, app)
}

/// A client that shows no secret, and need not.
fn public(registry: &Registry, id: &str) -> Result<Client, Refusal> {
    let app = registry.resolve(id).and_then(|id| registry.get(&id));
    // The back end of a hybrid mini-app keeps a secret, its front does not.
    let keeps_none = |app: &MiniApp| app.client_type.has_public_part() && app.id.as_str() == id;
    let app = app.filter(|app| keeps_none(app)).ok_or_else(|| unknown("unknown client, or one that has a secret"))?;
    client(ClientId::of(app.id.clone()), app)
}

fn client(id: ClientId, app: Arc<MiniApp>) -> Result<Client, Refusal> {
    let app_id = HeaderValue::from_str(app.id.as_str()).map_err(|error| Refusal::internal(error.to_string()))?;
    let identity = Identity { app_id: Some(app_id), ..Identity::default() };
    Ok(Client { id, app, identity })
}

fn holds(hashes: &[[u8; 32]], secret: &str) -> bool {
    let hash = sha256(secret.as_bytes());
    hashes.iter().fold(false, |matched, own| matched | verify_slices_are_equal(own, &hash).is_ok())
}

fn invalid(message: &'static str) -> Refusal {
    Refusal::oauth(OauthError::InvalidRequest, message)
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
        let apps = [
            app("ma_shop", &["old demo", "new:demo%"], false),
            app("ma_public", &[], false),
            app("ma_gone", &["demo"], true),
        ];
        Registry::new(apps.into(), Arc::default())
    }

    fn attempt(text: &str) -> Result<String, Code> {
        authenticate(&registry(), &STANDARD.encode(text)).map(|client| client.app.id.to_string()).map_err(|r| r.code())
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

        #[test]
        fn any_secret_gets_through_encoded(secret in "\\PC{0,60}") {
            let (id, app) = app("ma_shop", &[&secret], false);
            let registry = Registry::new([(id, app)].into(), Arc::default());
            let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            let credential = STANDARD.encode(format!("ma_shop:{encoded}"));
            prop_assert!(authenticate(&registry, &credential).is_ok());
            let other = STANDARD.encode(format!("ma_shop:{encoded}x"));
            prop_assert!(authenticate(&registry, &other).is_err());
        }
    }
}
