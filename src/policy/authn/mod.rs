//! Who is calling? A request's credential becomes a [`Caller`], or a refusal that says what was wrong with it.
//!
//! | a row asks for | what is taken | who decides |
//! |---|---|---|
//! | TEP | `Bearer tep.<JWT>` | [`verifier`]: keys, claims, mini-app, revocations; cached |
//! | Matrix | `Bearer <access token>` | the homeserver ([`super::whoami`]); cached |
//! | `hs_token` | `Bearer <hs_token>` | [`homeserver`]: constant-time comparison |
//! | client | `Basic <id:secret>` | [`clients`]: hash of the secret |
//!
//! Nothing is taken for something else: where a row takes two kinds, the credential's own form decides which one it is.

pub mod bearer;
pub mod cache;
pub mod claims;
pub mod clients;
pub mod fault;
pub mod feed;
pub mod generation;
pub mod homeserver;
pub mod identity;
pub mod jwt;
pub mod key;
pub mod registry;
pub mod revocations;
mod strict_json;
pub mod verified;
pub mod verifier;

#[cfg(test)]
mod attacks;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::HeaderMap;

pub use fault::Fault;
pub use feed::RevocationFeed;
pub use generation::Generation;
pub use homeserver::HomeserverTokens;
pub use identity::{UserHash, UserHasher};
pub use registry::{MiniApps, Registry, StoredApps};
pub use revocations::Revocations;
pub use verified::Verified;
pub use verifier::{Rules, Verifier, VerifierState};

use self::bearer::Credential;
use super::whoami::{MatrixTokens, MatrixUser};
use crate::config::{MiniApp, ResourceServer};
use crate::error::{Challenge, Code, Refusal};
use crate::metrics::{Credential as CredentialKind, CredentialResult, TokenResult};
use crate::model::oauth::ClientId;
use crate::model::rows::Auth;
use crate::model::token::looks_like_tep;
use crate::model::{MiniAppId, Operation, ScopeSet, UserId};
use crate::policy::rate_limit::LimitKey;
use crate::policy::validate::Form;
use crate::upstream::forward::Identity;

/// Who is calling, proven.
#[derive(Clone, Debug, Default)]
pub enum Caller {
    /// Nobody in particular: the row asks for nothing here, or for a proof that comes later.
    #[default]
    Anonymous,
    /// A mini-app on a user's behalf.
    Tep(Arc<Verified>),
    /// A user.
    Matrix(Arc<MatrixUser>),
    /// The homeserver.
    Homeserver,
    /// A mini-app's back end.
    Client(Arc<Client>),
    /// A mini-app that keeps no secret, by its name alone: anybody could say so.
    Named(Arc<Client>),
    /// A server that may look at everybody's tokens, by its own bucket.
    ResourceServer(LimitKey),
}

/// A mini-app as an OAuth client.
#[derive(Debug)]
pub struct Client {
    /// The name that it goes by.
    pub id: ClientId,
    /// The mini-app.
    pub app: Arc<MiniApp>,
    /// Who upstreams are told is calling.
    pub identity: Identity,
}

impl Client {
    /// Whether it has shown that it is who it says (RFC 6749 section 2.3).
    pub fn has_authenticated(&self) -> bool {
        self.id.backend
    }
}

const NOBODY: &Identity = &Identity { user_id: None, app_id: None, scopes: None, session_id: None, wallet_id: None };

impl Caller {
    /// The user on whose behalf the call is made.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Caller::Tep(token) => Some(&token.claims.user),
            Caller::Matrix(user) => Some(&user.user),
            Caller::Anonymous
            | Caller::Homeserver
            | Caller::Client(_)
            | Caller::Named(_)
            | Caller::ResourceServer(_) => None,
        }
    }

    /// The mini-app that makes the call.
    pub fn app(&self) -> Option<&MiniAppId> {
        match self {
            Caller::Tep(token) => Some(&token.claims.app),
            Caller::Client(client) | Caller::Named(client) => Some(&client.app.id),
            Caller::Anonymous | Caller::Homeserver | Caller::Matrix(_) | Caller::ResourceServer(_) => None,
        }
    }

    /// The scopes that the caller is held to; `None` for callers who prove their right by who they are.
    pub fn scopes(&self) -> Option<ScopeSet> {
        match self {
            Caller::Tep(token) => Some(token.claims.scopes),
            Caller::Anonymous
            | Caller::Homeserver
            | Caller::Matrix(_)
            | Caller::Client(_)
            | Caller::Named(_)
            | Caller::ResourceServer(_) => None,
        }
    }

    /// Who upstreams are told is calling.
    pub fn identity(&self) -> &Identity {
        match self {
            Caller::Tep(token) => &token.identity,
            Caller::Matrix(user) => &user.identity,
            Caller::Client(client) | Caller::Named(client) => &client.identity,
            Caller::Anonymous | Caller::Homeserver | Caller::ResourceServer(_) => NOBODY,
        }
    }

    /// The user in logs.
    pub fn user_hash(&self) -> Option<UserHash> {
        match self {
            Caller::Tep(token) => Some(token.user_hash),
            Caller::Matrix(user) => Some(user.user_hash),
            Caller::Anonymous
            | Caller::Homeserver
            | Caller::Client(_)
            | Caller::Named(_)
            | Caller::ResourceServer(_) => None,
        }
    }
}

/// Authenticates requests under one config revision.
#[derive(Debug)]
pub struct Authn {
    verifier: Verifier,
    matrix: Option<Arc<MatrixTokens>>,
    homeserver: HomeserverTokens,
    resource_servers: Vec<ResourceServer>,
}

impl Authn {
    /// `matrix` is `None` when the config names no homeserver.
    pub fn new(verifier: Verifier, matrix: Option<Arc<MatrixTokens>>, homeserver: HomeserverTokens) -> Authn {
        Authn { verifier, matrix, homeserver, resource_servers: Vec::new() }
    }

    /// With servers that may look at everybody's tokens.
    #[must_use]
    pub fn with_resource_servers(self, resource_servers: Vec<ResourceServer>) -> Authn {
        Authn { resource_servers, ..self }
    }

    /// Which OAuth client is calling `operation`, by header or form (RFC 6749 section 2.3).
    ///
    /// # Errors
    /// 401 `invalid_client`; 400 when it says so in two ways, or not at all.
    pub fn client_of(&self, headers: &HeaderMap, form: &Form, operation: Operation) -> Result<Caller, Refusal> {
        let resource_servers = match operation {
            Operation::OauthIntrospect => self.resource_servers.as_slice(),
            _ => &[],
        };
        let checked = clients::of_request(self.verifier.registry(), resource_servers, headers, form);
        self.counted(CredentialKind::Client, checked)
    }

    /// The verifier of TEP tokens.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// What is known of Matrix access tokens, to be handed on to the next revision.
    pub fn matrix_tokens(&self) -> Option<&Arc<MatrixTokens>> {
        self.matrix.as_ref()
    }

    /// Who is calling, if the request proves it the way that the row asks for. `query` is the raw query string, `now`
    /// seconds since the Unix epoch.
    ///
    /// # Errors
    /// 401 with the challenge that fits, 403 for those who are known and not served, 503 when whoever would know does not
    /// answer.
    pub async fn authenticate(
        &self,
        auth: Auth,
        headers: &HeaderMap,
        query: Option<&str>,
        now: u64,
    ) -> Result<Caller, Refusal> {
        match auth {
            // The body's proof is checked when the body has been read; an upstream's own credential is its business.
            Auth::Public | Auth::OauthClient | Auth::InBody | Auth::Upstream => Ok(Caller::Anonymous),
            Auth::Homeserver => {
                let checked = self.homeserver.check(headers, query).map(|()| Caller::Homeserver);
                self.counted(CredentialKind::Homeserver, checked)
            }
            Auth::Tep => match bearer_of(headers) {
                Ok(token) => self.tep(token, now).await,
                Err(refusal) => {
                    self.verifier.metrics().tokens.inc(TokenResult::Missing);
                    Err(refusal)
                }
            },
            Auth::Matrix | Auth::Developer => self.matrix(bearer_of(headers)?, now).await,
            Auth::MatrixOrTep => match bearer_of(headers)? {
                token if looks_like_tep(token) => self.tep(token, now).await,
                token => self.matrix(token, now).await,
            },
            Auth::MatrixOrOfficialTep => match bearer_of(headers)? {
                token if looks_like_tep(token) => official(self.tep(token, now).await?),
                token => self.matrix(token, now).await,
            },
            Auth::Client => match bearer::credential(headers)? {
                Credential::Basic(credential) => self.client(credential),
                _ => Err(clients::missing()),
            },
            Auth::TepOrClient => match bearer::credential(headers)? {
                Credential::Basic(credential) => self.client(credential),
                Credential::Bearer(token) => self.tep(token, now).await,
                Credential::None | Credential::Other => Err(bearer::missing()),
            },
        }
    }

    async fn tep(&self, token: &str, now: u64) -> Result<Caller, Refusal> {
        self.verifier.verify(token, now).await.map(Caller::Tep)
    }

    async fn matrix(&self, token: &str, now: u64) -> Result<Caller, Refusal> {
        let Some(matrix) = &self.matrix else {
            return Err(Refusal::new(Code::ServiceUnavailable, "Matrix access tokens cannot be checked here.")
                .retry_after(60)
                .inside("no homeserver upstream is configured"));
        };
        // Not for the homeserver to see: whoever reads its logs could use it.
        if looks_like_tep(token) {
            let refusal =
                Refusal::new(Code::InvalidToken, "This operation takes a Matrix access token, not a TEP token.")
                    .challenge(Challenge::BearerInvalid);
            return self.counted(CredentialKind::Matrix, Err(refusal));
        }
        // Boxed: asking the homeserver is rare and its future large, and every request carries this one's size.
        let checked = Box::pin(matrix.check(token, now)).await.map(Caller::Matrix);
        self.counted(CredentialKind::Matrix, checked)
    }

    fn counted(&self, kind: CredentialKind, checked: Result<Caller, Refusal>) -> Result<Caller, Refusal> {
        let result = match &checked {
            Ok(_) => CredentialResult::Valid,
            Err(refusal) if refusal.code() == Code::ServiceUnavailable => CredentialResult::Unavailable,
            Err(_) => CredentialResult::Refused,
        };
        self.verifier.metrics().credentials.inc(kind, result);
        checked
    }

    fn client(&self, credential: &str) -> Result<Caller, Refusal> {
        let checked = clients::authenticate(self.verifier.registry(), credential);
        let result = if checked.is_ok() { CredentialResult::Valid } else { CredentialResult::Refused };
        self.verifier.metrics().credentials.inc(CredentialKind::Client, result);
        checked.map(|client| Caller::Client(Arc::new(client)))
    }
}

fn bearer_of(headers: &HeaderMap) -> Result<&str, Refusal> {
    match bearer::credential(headers)? {
        Credential::Bearer(token) => Ok(token),
        Credential::None | Credential::Basic(_) | Credential::Other => Err(bearer::missing()),
    }
}

fn official(caller: Caller) -> Result<Caller, Refusal> {
    match &caller {
        Caller::Tep(token) if token.official => Ok(caller),
        _ => Err(Refusal::new(Code::Forbidden, "Only official mini-apps may do this on a user's behalf.")),
    }
}
