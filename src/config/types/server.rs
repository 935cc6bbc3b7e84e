//! Listeners, the admin address, caps and time-outs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::secret::Secret;
use crate::model::Role;

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
