//! `keys` and `tokens`: what seals, signs and is trusted (protocol section 2).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::endpoints::scopes;
use super::map::Map;
use super::miniapp::MiniApp;
use super::miniapps::known_app;
use super::reader::Value;
use super::secret::Secret;
use super::types::{Algorithm, Issuer, Tokens};
use crate::model::MiniAppId;
use crate::model::ids::is_server_name;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// The section `keys`.
pub(super) struct MasterKeys {
    pub(super) master_key: Option<Secret>,
    pub(super) previous_master_key: Option<Secret>,
}

/// Reads `keys`.
pub(super) fn master_keys(m: &mut Map<'_>) -> MasterKeys {
    let master_key = read_key(m, "master_key", "master_key_file", "the master key is not 32 bytes");
    if !m.has("master_key") && !m.has("master_key_file") {
        m.whole().unmet(
            "no master key: signing keys and secrets in the store could not be sealed",
            "keys: { master_key_file: <path> } (openssl rand -hex 32 makes one)",
        );
    }
    let previous_master_key =
        read_key(m, "previous_master_key", "previous_master_key_file", "the previous master key is not 32 bytes");
    MasterKeys { master_key, previous_master_key }
}

fn read_key(m: &mut Map<'_>, key: &'static str, file_key: &'static str, short: &'static str) -> Option<Secret> {
    let secret = m.secret(key, file_key)?;
    if is_32_bytes(secret.expose()) {
        return Some(secret);
    }
    m.whole().refuse(short, "64 hex digits, or base64 (openssl rand -hex 32)")
}

fn is_32_bytes(text: &str) -> bool {
    let hex = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    hex || STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// Reads `tokens`.
pub(super) fn read(
    m: &mut Map<'_>,
    public_url: Option<&Url>,
    miniapps: Option<&BTreeMap<MiniAppId, Arc<MiniApp>>>,
) -> Tokens {
    let access_ttl = m.or("access_ttl", 60 * MINUTE, |v| v.duration(MINUTE..=DAY));
    let refresh_ttl = m.or("refresh_ttl", 30 * DAY, |v| {
        let ttl = v.duration(MINUTE..=365 * DAY)?;
        if ttl < access_ttl {
            v.refuse("shorter than access_ttl", "a refresh token to outlive its access token")
        } else {
            Some(ttl)
        }
    });
    let own = public_url.map(|url| url.as_str().trim_end_matches('/').to_owned());
    let issuers = m.or("issuers", Vec::new(), |v| {
        let mut names: Vec<String> = own.into_iter().collect();
        v.list("a list of trusted issuers", |v| {
            let issuer = issuer(v, miniapps)?;
            if names.iter().any(|name| *name == issuer.issuer.trim_end_matches('/')) {
                return v.refuse(
                    format!("the issuer {} is trusted already", issuer.issuer),
                    "each issuer once, and not our own",
                );
            }
            names.push(issuer.issuer.trim_end_matches('/').to_owned());
            Some(issuer)
        })
    });
    Tokens { access_ttl, refresh_ttl, issuers }
}

fn issuer(value: &Value<'_>, miniapps: Option<&BTreeMap<MiniAppId, Arc<MiniApp>>>) -> Option<Issuer> {
    value.map("a map with issuer, jwks_url, algorithms, apps, scopes, server_names", |m| {
        let issuer = m.required("issuer", "the `iss` claim of its tokens, a URL", |v| {
            v.url("the `iss` claim of its tokens, an https URL")?;
            v.text("a URL")
        });
        let jwks_url = m.required("jwks_url", "the https URL of its keys", |v| v.url("the https URL of its keys"));
        let algorithms = m.or("algorithms", vec![Algorithm::Rs256], |v| {
            let read = |v: &Value<'_>| {
                v.choice(&[("RS256", Algorithm::Rs256), ("PS256", Algorithm::Ps256), ("ES256", Algorithm::Es256)])
            };
            v.some("a list of at least one signature algorithm", read)
        });
        // What it is confined to has no default: trust without bounds has to be impossible to write by omission.
        let apps = m.required("apps", "the mini-apps that it may speak for", |v| {
            v.some("a list of at least one mini-app id", |v| known_app(v, miniapps))
        });
        let scopes = m.required("scopes", "the scopes that it may grant", scopes);
        let server_names = m.required("server_names", "the servers whose users it may name", |v| {
            let read = |v: &Value<'_>| v.parsed("a server name", |text| is_server_name(text).then(|| text.to_owned()));
            v.some("a list of at least one server name", read)
        });
        Some(Issuer {
            issuer: issuer?,
            jwks_url: jwks_url?,
            algorithms,
            apps: apps?,
            scopes: scopes?,
            server_names: server_names?,
        })
    })?
}
