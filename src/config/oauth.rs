//! `oauth`: how users are asked, how long answers live, who may look at tokens (protocol section 3).

use std::time::Duration;

use super::map::Map;
use super::miniapps;
use super::reader::Value;
use super::types::{MatrixAuthService, Oauth, ResourceServer, SignIn};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// What stands in a consent page's address for the session.
pub const SESSION: &str = "{session}";

/// Reads `oauth`.
pub(super) fn read(m: &mut Map<'_>) -> Oauth {
    let consent_url = m.optional("consent_url", consent_url);
    let sign_in =
        m.or("sign_in", SignIn::Off, |v| v.choice(&[("off", SignIn::Off), ("homeserver", SignIn::Homeserver)]));
    let code_ttl = m.or("code_ttl", MINUTE, |v| v.duration(SECOND..=MINUTE));
    let session_ttl = m.or("session_ttl", 10 * MINUTE, |v| v.duration(MINUTE..=60 * MINUTE));
    let device_ttl = m.or("device_ttl", 10 * MINUTE, |v| v.duration(MINUTE..=30 * MINUTE));
    let matrix_auth_service = m.optional("matrix_auth_service", matrix_auth_service);
    let resource_servers = m.or("resource_servers", Vec::new(), |v| {
        let mut ids: Vec<String> = Vec::new();
        v.list("a list of resource servers", |v| {
            let server = resource_server(v)?;
            if ids.contains(&server.id) {
                return v.refuse(format!("{} stands twice", server.id), "each resource server once");
            }
            ids.push(server.id.clone());
            Some(server)
        })
    });
    Oauth { consent_url, sign_in, code_ttl, session_ttl, device_ttl, matrix_auth_service, resource_servers }
}

/// A template: the session goes where `{session}` stands.
fn consent_url(value: &Value<'_>) -> Option<String> {
    let expected = "the https URL of the chat app's consent screen with {session} in it";
    let text = value.text(expected)?;
    value.url(expected)?;
    if text.matches(SESSION).count() == 1 { Some(text) } else { value.wrong(expected) }
}

fn matrix_auth_service(value: &Value<'_>) -> Option<MatrixAuthService> {
    value.map("a map with introspection_url, client_id, client_secret_file, host_clients", |m| {
        let introspection_url = m.required("introspection_url", "its introspection endpoint", |v| {
            v.url("the https URL of its introspection endpoint")
        });
        let client_id = m.required("client_id", "who we are to it", |v| v.text("who we are to it"));
        let secret = m.secret("client_secret", "client_secret_file");
        if secret.is_none() && !m.has("client_secret") && !m.has("client_secret_file") {
            m.whole().refuse::<()>("no client secret", "client_secret_file: <path>");
        }
        // No default: any client of that service could approve in its users' names.
        let host_clients = m.required("host_clients", "the clients whose tokens are taken", |v| {
            v.some("a list of at least one client id", |v| v.text("the client id of a chat app"))
        });
        Some(MatrixAuthService {
            introspection_url: introspection_url?,
            client_id: client_id?,
            client_secret: secret?,
            host_clients: host_clients?,
        })
    })?
}

fn resource_server(value: &Value<'_>) -> Option<ResourceServer> {
    value.map("a map with id and secret_hashes", |m| {
        let id = m.required("id", "the name that it signs in with", |v| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            v.parsed("a name of letters, digits and -._~, not a mini-app's", |text| {
                let good = !text.is_empty() && text.bytes().all(plain) && !text.starts_with("ma_");
                good.then(|| text.to_owned())
            })
        });
        let secret_hashes = m.required("secret_hashes", "SHA-256 hashes of its secrets", |v| {
            v.some("a list of at least one SHA-256 hash in hex", miniapps::hash)
        });
        Some(ResourceServer { id: id?, secret_hashes: secret_hashes? })
    })?
}
