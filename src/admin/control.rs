//! What the admin address asks of the edge, and the answers in the form in which they are shown.

use async_trait::async_trait;
use serde::Serialize;

use crate::cache::Purge;
use crate::config::Admin as Access;
use crate::policy::lockout::Subject;
use crate::policy::rate_limit::LimitKey;

use super::Records;

/// The edge as its admin address sees it.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Who may ask: the config's `server.admin`, as of the revision in force.
    fn access(&self) -> Access;

    /// What is remembered, as of the revision in force.
    fn records(&self) -> Records;

    /// What the edge waits for before it wants traffic, in words for a person; empty: it is ready. While it drains it
    /// is not ready.
    fn not_ready(&self) -> Vec<String>;

    /// How it stands.
    fn status(&self) -> Status;

    /// Its upstreams.
    fn upstreams(&self) -> Vec<UpstreamStatus>;

    /// Its circuit breakers.
    fn breakers(&self) -> Vec<BreakerStatus>;

    /// Its caches.
    fn caches(&self) -> Vec<CacheUsage>;

    /// Its route table, in the order in which `tmcp-edge routes` prints it.
    fn routes(&self) -> Vec<RouteLine>;

    /// Takes answers out of the response cache; the result is how many.
    fn purge(&self, what: &Purge) -> u64;

    /// How a caller stands with every limit policy that it has used something of. The error is for the log.
    async fn limits(&self, whose: LimitKey) -> Result<Vec<CallerLimit>, String>;

    /// Makes everything available to a caller again. The error is for the log.
    async fn reset_limits(&self, whose: LimitKey) -> Result<(), String>;

    /// How somebody stands with every lockout that is turned on. The error is for the log.
    async fn lockouts(&self, whose: &Subject) -> Result<Vec<LockoutStatus>, String>;

    /// Lets somebody in again. The error is for the log.
    async fn lift_lockouts(&self, whose: &Subject) -> Result<(), String>;

    /// Reloads the config. The result is the revision then in force, or every error of the config that was not taken.
    async fn reload(&self) -> Result<u64, Vec<String>>;
}

/// How an edge stands.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The program's version.
    pub version: &'static str,
    /// The config revision in force.
    pub revision: u64,
    /// Seconds since it started serving.
    pub uptime_seconds: u64,
    /// Whether it is draining.
    pub draining: bool,
    /// Where it listens.
    pub listeners: Vec<String>,
    /// What came of the last load or reload.
    pub last_reload: LastReload,
}

/// What came of a load or reload.
#[derive(Clone, Debug, Serialize)]
pub struct LastReload {
    /// When, RFC 3339.
    pub at: String,
    /// Whether it took effect.
    pub ok: bool,
    /// Every error, when it did not.
    pub errors: Vec<String>,
}

/// How an upstream stands.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<AddressStatus>,
}

/// How one address of an upstream stands.
#[derive(Clone, Debug, Serialize)]
pub struct AddressStatus {
    /// Host and port.
    pub address: String,
    /// What its health checks say; without checks it counts as healthy.
    pub healthy: bool,
}

/// How a circuit breaker stands.
#[derive(Clone, Debug, Serialize)]
pub struct BreakerStatus {
    /// The upstream.
    pub upstream: String,
    /// The class of operations.
    pub class: &'static str,
    /// `closed`, `open` or `probation`: one call at a time is tried.
    pub state: &'static str,
    /// Failures among the calls it looks back on.
    pub failures: u32,
    /// Seconds until the next call is tried, rounded up, unless it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

/// How full a cache is.
#[derive(Clone, Debug, Serialize)]
pub struct CacheUsage {
    /// Its name, as in the metrics.
    pub cache: &'static str,
    /// Entries.
    pub entries: u64,
    /// Bytes, about.
    pub bytes: u64,
    /// Bytes it may hold.
    pub max_bytes: u64,
}

/// How a caller stands with one limit policy.
#[derive(Clone, Debug, Serialize)]
pub struct CallerLimit {
    /// The policy.
    pub policy: String,
    /// The mini-app whose override it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_of: Option<String>,
    /// Calls that would succeed at once.
    pub remaining: u32,
    /// Calls that a caller who has been quiet may make at once.
    pub of: u64,
    /// Seconds until a call succeeds, rounded up; 0: it does now.
    pub retry_after_seconds: u64,
    /// Seconds until everything is available again, rounded up.
    pub full_after_seconds: u64,
}

/// How somebody stands with one lockout.
#[derive(Clone, Debug, Serialize)]
pub struct LockoutStatus {
    /// `account_suspension` or `payment_lock`.
    pub lockout: &'static str,
    /// Violations or failures that count now.
    pub strikes: u32,
    /// So many of them, and one is kept out.
    pub of: u32,
    /// Until when one is kept out, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// One route.
#[derive(Clone, Debug, Serialize)]
pub struct RouteLine {
    /// Its methods.
    pub methods: Vec<&'static str>,
    /// Its path pattern.
    pub path: String,
    /// Its operation.
    pub operation: &'static str,
    /// How a caller proves who it is.
    pub auth: &'static str,
    /// Scopes, any one of which suffices.
    pub scopes: Vec<&'static str>,
    /// Its limit policy.
    pub limit: String,
    /// Who answers: an upstream's name, `edge`, or `not implemented`.
    pub answer: String,
    /// Whether answers are cached.
    pub cacheable: bool,
}
