//! One address of an upstream: the peer that Pingora connects to, the client for our own calls, and its health.
//!
//! Both peers (plain and for upgrades) are built once; a request clones one, which copies a few words and shares the
//! certificates. Addresses outlive a DNS refresh and, when nothing about them changed, a reload.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::{ALPN, HttpPeer, HttpUpstreamRequestPolicy};

use super::connections::Idle;
use super::tls::TlsMaterial;
use crate::clock::Tick;
use crate::config;

/// How long an address that could not be connected to is passed over while others can be.
const SHUN: Duration = Duration::from_secs(5);
/// HTTP/2 streams on one connection.
const MAX_H2_STREAMS: usize = 100;
/// How often an HTTP/2 connection is asked whether it lives; a dead one would swallow requests until they time out.
const H2_PING: Duration = Duration::from_secs(10);

/// One address of an upstream.
#[derive(Debug)]
pub struct Address {
    socket: SocketAddr,
    host: HeaderValue,
    base: String,
    peer: HttpPeer,
    upgrade_peer: HttpPeer,
    idle: Idle,
    client: OnceLock<reqwest::Client>,
    healthy: AtomicBool,
    /// Checks in a row that said the opposite of `healthy`.
    contrary: AtomicU32,
    /// Not picked before this tick while another can be; 0: picked.
    shunned_until: AtomicU64,
}

impl Address {
    /// The address `socket`, which `label` (`host:port` of the config) named. It is taken for healthy until a check
    /// says otherwise.
    pub fn new(
        socket: SocketAddr,
        label: &str,
        config: &config::Upstream,
        tls: Option<&TlsMaterial>,
    ) -> Result<Self, String> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let authority = match tls {
            Some(tls) => format!("{}:{}", tls.server_name, socket.port()),
            None => label.to_owned(),
        };
        let base = format!("{scheme}://{authority}");
        let default_port = if tls.is_some() { ":443" } else { ":80" };
        let host = authority.strip_suffix(default_port).unwrap_or(&authority);
        let host = HeaderValue::from_str(host).map_err(|_| format!("{authority:?} cannot stand in a Host header"))?;
        Ok(Address {
            socket,
            host,
            base,
            peer: peer(socket, config, tls, false),
            upgrade_peer: peer(socket, config, tls, true),
            idle: Idle::new(config.pool, config.timeouts.idle),
            client: OnceLock::new(),
            healthy: AtomicBool::new(true),
            contrary: AtomicU32::new(0),
            shunned_until: AtomicU64::new(0),
        })
    }

    /// Where it is.
    pub fn socket(&self) -> SocketAddr {
        self.socket
    }

    /// The `Host` that it is sent: the name in its certificate, or without TLS the address as the config has it.
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Scheme and authority, to put a path behind.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether its health checks succeed (true when there are none).
    pub fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Takes over what another revision knew of the same address.
    pub fn inherit(&self, other: &Address) {
        self.healthy.store(other.healthy(), Ordering::Relaxed);
        self.contrary.store(other.contrary.load(Ordering::Relaxed), Ordering::Relaxed);
        self.shunned_until.store(other.shunned_until.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Notes the result of a check; true when health changed by it.
    pub fn observe(&self, well: bool, check: &config::Health) -> bool {
        if self.healthy() == well {
            self.contrary.store(0, Ordering::Relaxed);
            return false;
        }
        let needed = if well { check.healthy_after } else { check.unhealthy_after };
        let flips = self.contrary.fetch_add(1, Ordering::Relaxed) + 1 >= needed.max(1);
        if flips {
            self.healthy.store(well, Ordering::Relaxed);
            self.contrary.store(0, Ordering::Relaxed);
        }
        flips
    }

    /// Notes that it could not be connected to: for a few seconds it is picked only when nothing else can be.
    pub fn shun(&self, now: Tick) {
        self.shunned_until.store(now.plus(SHUN).0, Ordering::Relaxed);
    }

    /// Whether it is being passed over.
    pub fn shunned(&self, now: Tick) -> bool {
        now.0 < self.shunned_until.load(Ordering::Relaxed)
    }

    /// Whether TLS is spoken to it.
    pub fn is_tls(&self) -> bool {
        self.peer.is_tls()
    }

    /// The peer that whole requests go to.
    pub fn plain_peer(&self) -> &HttpPeer {
        &self.peer
    }

    /// Its connections that nobody uses at the moment.
    pub fn idle(&self) -> &Idle {
        &self.idle
    }

    /// A peer for one request that Pingora forwards; for upgrades HTTP/1.1 and without a read time-out, since an idle tunnel is no fault.
    pub fn peer(&self, upgrade: bool) -> Box<HttpPeer> {
        Box::new(if upgrade { self.upgrade_peer.clone() } else { self.peer.clone() })
    }

    /// The client for the edge's own calls to this address, made when first needed: loading the system's trust store
    /// takes longer than an upstream that is only forwarded to should cost.
    pub fn client(&self, config: &config::Upstream, tls: Option<&TlsMaterial>) -> Result<&reqwest::Client, String> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = client(self, config, tls)?;
        Ok(self.client.get_or_init(|| client))
    }
}

fn peer(socket: SocketAddr, config: &config::Upstream, tls: Option<&TlsMaterial>, upgrade: bool) -> HttpPeer {
    let server_name = tls.map(|tls| tls.server_name.clone()).unwrap_or_default();
    let mut peer = HttpPeer::new(socket, tls.is_some(), server_name);
    peer.client_cert_key = tls.and_then(|tls| tls.client.clone());
    peer.group_key = tls.map_or(0, TlsMaterial::group_key);

    let options = &mut peer.options;
    options.ca = tls.and_then(|tls| tls.ca.clone());
    options.connection_timeout = Some(config.timeouts.connect);
    options.total_connection_timeout = Some(config.timeouts.connect);
    options.read_timeout = (!upgrade).then_some(config.timeouts.read);
    options.write_timeout = Some(config.timeouts.write);
    options.idle_timeout = Some(config.timeouts.idle);
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::from_secs(90),
    });
    options.max_h2_streams = MAX_H2_STREAMS;
    options.alpn = match (config.http2 && !upgrade, tls.is_some()) {
        (false, _) => ALPN::H1,
        (true, true) => ALPN::H2H1,
        // Without TLS there is nothing to negotiate with: HTTP/2 by prior knowledge.
        (true, false) => ALPN::H2,
    };
    options.h2_ping_interval = (config.http2 && !upgrade).then_some(H2_PING);
    options.http_upstream_request_policy =
        if upgrade { HttpUpstreamRequestPolicy::standard() } else { HttpUpstreamRequestPolicy::deny_upgrades() };
    peer
}

fn client(address: &Address, config: &config::Upstream, tls: Option<&TlsMaterial>) -> Result<reqwest::Client, String> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: no client can be made: {what}", address.base);
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(config.timeouts.connect)
        .read_timeout(config.timeouts.read)
        .pool_idle_timeout(config.timeouts.idle)
        .pool_max_idle_per_host(config.pool)
        .tcp_keepalive(Duration::from_secs(60));
    match (config.http2, tls.is_some()) {
        (true, false) => builder = builder.http2_prior_knowledge(),
        (true, true) => {}
        (false, _) => builder = builder.http1_only(),
    }
    if let Some(tls) = tls {
        builder = tls.apply(builder);
    }
    // The URL names the server, so that it is verified and addressed by its name; this says where it is.
    let url = url::Url::parse(&address.base).map_err(|error| wrong(&error))?;
    if let Some(host) = url.host_str().filter(|host| host.parse::<IpAddr>().is_err() && !host.starts_with('[')) {
        builder = builder.resolve(host, address.socket);
    }
    builder.build().map_err(|error| wrong(&error))
}
