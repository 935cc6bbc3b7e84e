//! `GET /.well-known/oauth-authorization-server`: where everything is (RFC 8414 section 3; protocol section 3).

use http::HeaderValue;
use http::header::CACHE_CONTROL;
use serde_json::json;

use crate::model::Scope;
use crate::operations::{Local, Services};
use crate::policy::Permit;

/// How long clients may keep the document.
const KEEP: HeaderValue = HeaderValue::from_static("public, max-age=3600");
/// How confidential clients authenticate.
const SECRETS: [&str; 2] = ["client_secret_basic", "client_secret_post"];
/// How any client does.
const CLIENTS: [&str; 3] = ["client_secret_basic", "client_secret_post", "none"];

/// The document. Every address in it is below the configured public URL, whatever `Host` says.
pub fn answer(_permit: &Permit, services: &Services) -> Local {
    let issuer = services.config.issuer();
    // Not those of official mini-apps: a client that asks for all it is offered would be refused, and a server need not
    // list every scope (RFC 8414 section 2).
    let ordinary = Scope::ALL.iter().filter(|scope| !scope.official_only());
    let scopes: Vec<&str> = ordinary.map(|scope| scope.as_str()).collect();
    let document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/oauth2/authorize"),
        "token_endpoint": format!("{issuer}/oauth2/token"),
        "jwks_uri": format!("{issuer}/oauth2/jwks.json"),
        "revocation_endpoint": format!("{issuer}/oauth2/revoke"),
        "introspection_endpoint": format!("{issuer}/oauth2/introspect"),
        "device_authorization_endpoint": format!("{issuer}/oauth2/device/authorization"),
        "scopes_supported": scopes,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": super::token::GRANT_TYPES,
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": CLIENTS,
        "revocation_endpoint_auth_methods_supported": CLIENTS,
        "introspection_endpoint_auth_methods_supported": SECRETS,
        "authorization_response_iss_parameter_supported": true,
    });
    Local { headers: vec![(CACHE_CONTROL, KEEP)], ..Local::ok(document.to_string()) }
}
