//! What stands behind the edge: upstreams and the homeserver that it is an Application Service of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::ListenTls;
use crate::config::secret::Secret;
use crate::model::Operation;

/// The Application Service registration (brief 5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppService {
    /// `id`.
    pub id: String,
    /// `url`: where the homeserver finds us.
    pub url: String,
    /// What we show the homeserver; `None`: a placeholder stood there.
    pub as_token: Option<Secret>,
    /// What the homeserver shows us; two while rotating, none when a placeholder stood there.
    pub hs_tokens: Vec<Secret>,
    /// Localpart of the service's own user.
    pub sender_localpart: String,
    /// Namespaces of users: pattern and whether it is exclusive.
    pub users: Vec<Namespace>,
    /// Namespaces of aliases.
    pub aliases: Vec<Namespace>,
    /// Whether `?access_token=` is taken for the `hs_token` (off: query strings end up in logs).
    pub query_token: bool,
    /// The registration's text without its tokens, for `tmcp-edge registration`.
    pub file: PathBuf,
}

/// One namespace of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Whether nobody else may use it.
    pub exclusive: bool,
    /// The regular expression.
    pub regex: String,
}

/// One upstream: a file in `upstreams/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name that rows use.
    pub name: String,
    /// `host:port`, tried in turn.
    pub addresses: Vec<String>,
    /// TLS towards it; `None`: plain.
    pub tls: Option<UpstreamTls>,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// Time-outs.
    pub timeouts: Timeouts,
    /// Idle connections kept.
    pub pool: usize,
    /// Tries after the first, of what cannot have happened twice.
    pub retries: u32,
    /// The circuit breaker.
    pub breaker: Breaker,
    /// Active health check; `None`: off.
    pub health: Option<Health>,
    /// Path templates.
    pub paths: Paths,
    /// Whether `/_matrix/client/*` and `/_matrix/media/*` go to it (homeserver only).
    pub forward_client_api: bool,
    /// Whether its admin API may be asked who is in a room (homeserver only).
    pub admin_api: Option<AdminApi>,
}

/// The homeserver's admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminApi {
    /// A server administrator's access token.
    pub token: Secret,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name to verify and to send as SNI; never empty, an empty one would switch verification off.
    pub server_name: String,
    /// Certificates to trust (PEM); `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and key (PEM), for mutual TLS.
    pub client: Option<ListenTls>,
}

/// Time-outs towards an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS together.
    pub connect: Duration,
    /// Between reads; the first one is the wait for the answer.
    pub read: Duration,
    /// Between writes.
    pub write: Duration,
    /// Before an idle connection is dropped; keep below the upstream's own.
    pub idle: Duration,
}

/// Numbers of a circuit breaker (protocol section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Calls looked back on.
    pub window: u32,
    /// Failures among them that open it.
    pub failures: u32,
    /// How long it stays open.
    pub open: Duration,
    /// Then one call is let through this often.
    pub trial_every: Duration,
}

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Path that has to answer 2xx.
    pub path: String,
    /// How often.
    pub every: Duration,
    /// Failures in a row that take an address out.
    pub unhealthy_after: u32,
    /// Successes in a row that bring it back.
    pub healthy_after: u32,
}

/// Path templates of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paths {
    /// As the protocol writes them: `/wallet/v1/…`.
    Protocol,
    /// The wallet service's own: `/api/v1/tmcp/…`.
    Tween,
    /// Unchanged, as the client wrote them.
    AsSent,
    /// A table; operations that it leaves out keep [`Paths::Protocol`]'s.
    Table(BTreeMap<Operation, String>),
}
