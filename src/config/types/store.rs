//! Where state is kept.

use std::path::PathBuf;
use std::time::Duration;

use super::ListenTls;
use crate::config::secret::Secret;

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
    /// A folder of this machine. Releases that kept the key ring as a file had it there.
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
    /// The folder of this machine that belongs to it.
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
