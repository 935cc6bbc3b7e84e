//! The config as checked values: what every other room is given.
//!
//! `config` turns text into these and opens nothing but the files that the config names. A value that stands here is
//! known to make sense; whoever receives it does not check again. Meaning and defaults: `tmcp-edge check --explain`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::miniapp::MiniApp;
use super::secret::Secret;
use crate::model::rows::{Class, Verb};
use crate::model::{MiniAppId, Operation, Scope, ScopeSet};

/// One whole config: the main file, the upstream files and what they name.
#[derive(Clone, Debug)]
pub struct Config {
    /// Issuer of TEP tokens and base of every URL that we hand out; never taken from `Host`. Without a trailing slash.
    pub public_url: Url,
    /// The homeserver's name: whose users are ours.
    pub server_name: String,
    /// Listeners, caps and time-outs.
    pub server: Server,
    /// Where state is kept.
    pub store: Store,
    /// The key that seals keys and secrets in the store: 32 bytes, hex or base64 in the file. `None` when the config
    /// names none: `run` then refuses to start.
    pub master_key: Option<Secret>,
    /// The master key before that one, while what it has sealed is still about.
    pub previous_master_key: Option<Secret>,
    /// TEP tokens.
    pub tokens: Tokens,
    /// The OAuth server.
    pub oauth: Oauth,
    /// Limit policies by name, the built-in ones included.
    pub rate_limits: BTreeMap<String, LimitPolicy>,
    /// Limits of single mini-apps.
    pub rate_limit_overrides: Vec<LimitOverride>,
    /// Rows laid over the built-in table.
    pub endpoints: Vec<Endpoint>,
    /// What a request may look like.
    pub validation: Validation,
    /// The three caches.
    pub cache: Caches,
    /// The Application Service registration, when one is configured.
    pub appservice: Option<AppService>,
    /// Upstreams by name; `wallet` and `homeserver` are the ones that built-in rows use.
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    /// Mini-apps that the config names, by id.
    pub miniapps: BTreeMap<MiniAppId, Arc<MiniApp>>,
    /// Origins that browsers may call from; empty: CORS is off.
    pub cors_origins: Vec<String>,
    /// Networks that may be called on somebody's word although they are not global; without TLS, too.
    pub egress_allow: Vec<IpNet>,
    /// Logs.
    pub log: Log,
    /// OTLP collector (HTTP, protobuf) to send spans to.
    pub otlp: Option<Url>,
    /// Every file that was read, for watching, and the folder of upstreams.
    pub files: Vec<PathBuf>,
    /// What `check` lets pass and `run` does not, see [`Config::require_for_run`].
    pub unmet: super::Problems,
}

/// Listeners, caps and time-outs.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where to listen; at least one.
    pub listen: Vec<Listen>,
    /// The admin address.
    pub admin: Admin,
    /// Worker threads; 0: one per core.
    pub threads: usize,
    /// Peers whose `X-Forwarded-For`, PROXY header and trace ids are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Caps and time-outs.
    pub limits: ServerLimits,
    /// How long requests under way may take to finish after a stop.
    pub drain: Duration,
    /// Socket over which a new process takes the listeners over.
    pub upgrade_socket: Option<PathBuf>,
    /// Reload when a file changes.
    pub watch: bool,
}

/// An address range in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNet {
    /// The network's address.
    pub address: std::net::IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; port 0 picks a free one.
    pub address: SocketAddr,
    /// Certificate chain and private key (PEM files); `None`: plain.
    pub tls: Option<ListenTls>,
    /// Whether a PROXY protocol header (v1 or v2) has to precede each connection.
    pub proxy_protocol: bool,
}

/// Certificate chain and private key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenTls {
    /// The certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The admin address.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Address and port; loopback by default.
    pub address: SocketAddr,
    /// Bearer tokens, one a line in the file (`name:role:token`; an old `name:token` or `token` is an admin's).
    pub tokens: Vec<AdminToken>,
    /// How long audit lines are kept.
    pub audit_retention: Duration,
    /// `Host` values besides the address itself, `localhost` and loopback literals that are answered.
    pub hosts: Vec<String>,
}

/// One admin token.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// Who holds it, for the audit line.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// The token.
    pub token: Secret,
}

/// Caps and time-outs of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Open connections in all.
    pub connections: usize,
    /// Open connections of one IP (IPv6: /64).
    pub per_ip: usize,
    /// Requests under way of one IP (IPv6: /64).
    pub in_flight_per_ip: usize,
    /// Bytes of request bodies held in memory at once.
    pub buffered_bodies: usize,
    /// From the first byte of a request to the end of its header.
    pub header_timeout: Duration,
    /// For the whole body.
    pub body_timeout: Duration,
    /// Idle time before a kept-alive connection is closed.
    pub keepalive: Duration,
    /// Requests on one connection before it is closed.
    pub keepalive_requests: u32,
    /// Age after which a connection is closed at the next request.
    pub max_connection_age: Duration,
    /// Failed authentications of one IP a minute before it is refused unheard.
    pub failed_auth_per_minute: u32,
    /// Requests of one IP a second before it is refused unheard; 0: no such guard.
    pub requests_per_second_per_ip: u32,
}

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In a folder of this machine.
    Embedded {
        /// The folder; made when missing.
        path: PathBuf,
    },
    /// On Redis, shared by several edges.
    Redis(Box<RedisStore>),
}

/// A Redis to keep state on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisStore {
    /// The folder with the key ring, which every edge has to have alike.
    pub path: PathBuf,
    /// Servers to begin with: the server, the sentinels, or any nodes of the cluster.
    pub nodes: Vec<RedisNode>,
    /// How the servers stand to each other.
    pub mode: RedisMode,
    /// The ACL user; `None`: the default user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The ACL user at the sentinels.
    pub sentinel_username: Option<String>,
    /// The password at the sentinels.
    pub sentinel_password: Option<Secret>,
    /// TLS towards servers and sentinels; `None`: plain.
    pub tls: Option<RedisTls>,
    /// Whether reads that may be stale go to replicas.
    pub replica_reads: bool,
    /// Time-outs.
    pub timeouts: RedisTimeouts,
    /// How many replicas have to hold what is asked to be durable. `None`: one where a fail-over is to be reckoned
    /// with (sentinel, cluster), else none.
    pub wait_replicas: Option<u32>,
    /// Whether a server that may forget what it has acknowledged is refused at start.
    pub require_durability: bool,
}

/// The address of a Redis server or a sentinel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisNode {
    /// A name or an IP address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// How Redis servers stand to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisMode {
    /// One address answers for everything.
    Single,
    /// Sentinels know which server is the primary now.
    Sentinel {
        /// The name that they know it by.
        master: String,
    },
    /// A Redis Cluster.
    Cluster,
}

/// TLS towards Redis. A server's name is its host; sentinels and clusters have to announce names that are in the
/// certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Certificates to trust (PEM); `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and key (PEM), for mutual TLS.
    pub client: Option<ListenTls>,
}

/// Time-outs towards Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisTimeouts {
    /// For TCP, TLS and authentication together.
    pub connect: Duration,
    /// For one answer.
    pub command: Duration,
    /// For an operation with everything that is tried for it: repetitions, redirections, a fail-over.
    pub total: Duration,
    /// For deciding a limit; later than that the policy's `on_store_failure` holds.
    pub limits: Duration,
}

impl Store {
    /// The folder of this machine that belongs to it: where the key ring is.
    pub fn folder(&self) -> &std::path::Path {
        match self {
            Store::Embedded { path } => path,
            Store::Redis(redis) => &redis.path,
        }
    }
}

impl RedisStore {
    /// How many replicas have to hold what is asked to be durable.
    pub fn replicas_to_wait_for(&self) -> u32 {
        let fails_over = self.mode != RedisMode::Single;
        self.wait_replicas.unwrap_or(u32::from(fails_over))
    }
}

impl std::fmt::Display for RedisNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

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

/// One limit policy (protocol section 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitPolicy {
    /// Refill rate, tokens a minute. Policies written per day or hour keep their exact rate in `per`.
    pub requests: u32,
    /// The time in which `requests` are refilled; a minute except where the policy says otherwise.
    pub per: Duration,
    /// Tokens on top of `requests` that a full bucket holds.
    pub burst: u32,
    /// How it counts.
    pub algorithm: LimitAlgorithm,
    /// What holds when a distributed store does not answer.
    pub on_store_failure: OnStoreFailure,
    /// Count and log, refuse nothing.
    pub report_only: bool,
}

/// How a policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitAlgorithm {
    /// A bucket of `requests + burst` tokens.
    TokenBucket,
    /// Two counters, the older weighted by how much of it the window still covers.
    SlidingWindow,
}

/// What a policy does when a distributed store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// Limit in process.
    Local,
    /// Refuse.
    Closed,
    /// Let through.
    Open,
}

/// The limit of one mini-app under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitOverride {
    /// Whose.
    pub app: MiniAppId,
    /// Which policy.
    pub policy: String,
    /// Instead of the policy's rate.
    pub requests: u32,
    /// Instead of the policy's burst.
    pub burst: u32,
}

/// A row of `tmcp_endpoints`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Path pattern: literals, `{name}` and a `*` at the end for the rest.
    pub path: String,
    /// Methods; empty: all, which only a row over built-in rows may say.
    pub methods: Vec<Verb>,
    /// A label for people.
    pub label: Option<String>,
    /// Whether a TEP token is needed. Over a built-in row this opens nothing.
    pub auth_required: bool,
    /// Any one of these suffices, on top of a built-in row's own; empty: none asked for.
    pub scopes: ScopeSet,
    /// The limit policy; `None` keeps the built-in row's, or `default`.
    pub rate_limit: Option<String>,
    /// Upstream that answers; `None` over built-in rows.
    pub upstream: Option<String>,
    /// Whether answers may be cached; `None` keeps the built-in row's (no).
    pub cacheable: Option<bool>,
    /// Where the row stands, for messages: `file:line`.
    pub place: String,
}

/// What a request may look like (brief 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// Largest body, bytes.
    pub max_request_size: usize,
    /// Largest header section, bytes.
    pub max_header_size: usize,
    /// Content types accepted, in lower case and without parameters.
    pub allowed_content_types: Vec<String>,
    /// What is done to text for people.
    pub sanitization: Sanitization,
}

/// What is done to text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sanitization {
    /// Take HTML tags and comments out.
    pub remove_html: bool,
    /// Take white space off both ends.
    pub trim_strings: bool,
    /// Unicode normalisation form C.
    pub normalize_unicode: bool,
}

/// The three caches of brief 7.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caches {
    /// Answers of upstreams.
    pub response: CacheSize,
    /// Request headers that a cached answer depends on besides the caller, in lower case.
    pub vary_by: Vec<String>,
    /// Verified tokens.
    pub auth: CacheSize,
    /// Limit buckets.
    pub rate_limit: CacheSize,
}

/// How long and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSize {
    /// Longest life of an entry.
    pub ttl: Duration,
    /// Bytes in all.
    pub max_size: usize,
}

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

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Most detailed level of the program's own log, on standard error.
    pub level: log::LevelFilter,
    /// Where access-log lines go.
    pub access: AccessLog,
}

/// Where access-log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// A file, reopened on SIGUSR1.
    File(PathBuf),
}

impl Upstream {
    /// The breaker classes that are counted apart.
    pub const CLASSES: &'static [Class] = Class::ALL;
}

/// Scopes by name, for messages that list what would have been right.
pub fn scope_names() -> String {
    Scope::ALL.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}
