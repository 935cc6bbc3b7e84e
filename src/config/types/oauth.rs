//! Tokens, who issues them, and the OAuth server.

use std::time::Duration;

use url::Url;

use crate::config::secret::Secret;
use crate::model::{MiniAppId, ScopeSet};

/// TEP tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Life of an access token, at most 24 h.
    pub access_ttl: Duration,
    /// Life of a refresh token.
    pub refresh_ttl: Duration,
    /// Issuers trusted besides our own key ring.
    pub issuers: Vec<Issuer>,
}

/// The OAuth server (protocol section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oauth {
    /// The chat app's consent screen, with `{session}` where the session goes; `None`: the edge's own page.
    pub consent_url: Option<String>,
    /// How people prove who they are on the edge's own pages.
    pub sign_in: SignIn,
    /// Life of an authorization code, at most a minute.
    pub code_ttl: Duration,
    /// How long a question waits for its answer, and how long somebody stays signed in on our pages.
    pub session_ttl: Duration,
    /// Life of a device code.
    pub device_ttl: Duration,
    /// Who is asked whose a Matrix access token is; `None`: the homeserver.
    pub matrix_auth_service: Option<MatrixAuthService>,
    /// Servers that may look at everybody's tokens by introspection.
    pub resource_servers: Vec<ResourceServer>,
}

/// How people prove who they are on the edge's own pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// They cannot: a chat app shows the question itself, with its Matrix access token.
    Off,
    /// With name and password, which are passed on to the homeserver.
    Homeserver,
}

/// A server that may look at everybody's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceServer {
    /// The name that it signs in with.
    pub id: String,
    /// SHA-256 of its secrets.
    pub secret_hashes: Vec<[u8; 32]>,
}

/// A Matrix Authentication Service that is asked whose access token it is (RFC 7662), in the homeserver's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixAuthService {
    /// Its introspection endpoint; https except on loopback in development.
    pub introspection_url: Url,
    /// Who we are to it.
    pub client_id: String,
    /// Our secret with it.
    pub client_secret: Secret,
    /// Clients of it whose tokens are taken: the chat clients that host mini-apps, and nobody else.
    pub host_clients: Vec<String>,
}

/// A trusted issuer and what it is confined to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The `iss` claim, compared as text.
    pub issuer: String,
    /// Where its keys are; https except on loopback in development.
    pub jwks_url: Url,
    /// Signature algorithms taken from it.
    pub algorithms: Vec<Algorithm>,
    /// Mini-apps it may speak for.
    pub apps: Vec<MiniAppId>,
    /// Scopes it may grant.
    pub scopes: ScopeSet,
    /// Servers whose users it may name.
    pub server_names: Vec<String>,
}

/// A signature algorithm of RFC 7518 that may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of RFC 7518 section 3.1")]
pub enum Algorithm {
    Rs256,
    Ps256,
    Es256,
}
