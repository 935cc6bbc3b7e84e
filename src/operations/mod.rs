//! What the edge answers itself.
//!
//! Every operation takes a [`Permit`], so none can be called for a request that was not admitted. Operations do not know
//! each other, and see no socket: what they answer is a [`Local`].

pub mod jwks;
pub mod resolve;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::clock::Clock;
use crate::error::Refusal;
use crate::metrics::Metrics;
use crate::model::Operation;
use crate::policy::Permit;
use crate::policy::keyring::Keyring;
use crate::store::Backend;
use crate::upstream::homeserver::Homeserver;
use crate::upstream::identity::Identities;
use crate::upstream::wallet::Wallet;

/// What operations work with.
pub struct Services {
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is remembered.
    pub store: Arc<dyn Backend>,
    /// Our signing keys.
    pub keyring: Arc<Keyring>,
    /// The wallet, when the config names one.
    pub wallet: Option<Wallet>,
    /// The homeserver, when the config names one.
    pub homeserver: Option<Homeserver>,
    /// Whose Matrix access token is this, asked afresh; `None` when the config names nobody who would know.
    pub identities: Option<Identities>,
    /// Wallets that were resolved.
    pub resolved: Arc<resolve::Resolved>,
}

/// An answer of the edge's own.
#[derive(Clone, Debug)]
pub struct Local {
    /// The status.
    pub status: StatusCode,
    /// Headers besides those of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body, JSON.
    pub body: Bytes,
}

impl Local {
    /// 200 with a JSON body.
    pub fn ok(body: impl Into<Bytes>) -> Local {
        Local { status: StatusCode::OK, headers: Vec::new(), body: body.into() }
    }
}

/// Answers an operation that needs nothing but its permit.
pub fn answer(permit: &Permit, services: &Services) -> Result<Local, Refusal> {
    match permit.route().operation {
        Operation::OauthJwks => Ok(jwks::answer(permit, &services.keyring)),
        other => Err(Refusal::internal(format!("no code answers {other}"))),
    }
}
