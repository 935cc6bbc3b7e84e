//! The config as checked values: what every other room is given.
//!
//! `config` turns text into these and opens nothing but the files that the config names. A value that stands here is
//! known to make sense; whoever receives it does not check again. Meaning and defaults: `tmcp-edge check --explain`.

mod oauth;
mod policy;
mod server;
mod store;
mod upstream;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::miniapp::MiniApp;
use super::problem::Problem;
use super::secret::Secret;
use crate::model::{MiniAppId, Scope};

pub use oauth::*;
pub use policy::*;
pub use server::*;
pub use store::*;
pub use upstream::*;

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
    /// Who is kept out for having gone too far.
    pub lockouts: Lockouts,
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
    /// The file that they stand in, to tell people where to look.
    pub miniapps_file: Option<PathBuf>,
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
    /// Mini-apps that the config mentions and does not list: they have to be in the store.
    pub unlisted: Vec<Unlisted>,
    /// What `check` lets pass and `run` does not, see [`Config::require_for_run`].
    pub unmet: crate::config::Problems,
}

/// A mini-app that the config mentions and does not list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// Which one.
    pub id: MiniAppId,
    /// Where it is mentioned.
    pub place: Problem,
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

/// Scopes by name, for messages that list what would have been right.
pub fn scope_names() -> String {
    Scope::ALL.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}
