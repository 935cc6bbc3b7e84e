//! From an accepted socket to the gateway: caps, PROXY header, TLS, then one loop of requests.
//!
//! Pingora's proxy is driven directly rather than through its `Server`, whose accept loop knows no caps, whose upgrade
//! gives the sockets away without asking whether anybody takes them, and whose shutdown always sleeps out its whole
//! grace period.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::FutureExt;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, IO, Stream};
use pingora::proxy::{HttpProxy, ProxyHttp};
use pingora::server::ShutdownWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::conn::Conn;
use super::counters::Counters;
use super::guard::{Guard, Slot, Stage, covered};
use super::lifecycle::{Lifecycle, turned_true};
use super::listeners::BACKLOG;
use super::meter::Metered;
use super::proxy_protocol::{self, Client};
use super::tls::Certificate;
use crate::clock::{Clock, Tick};
use crate::config::{IpNet, ServerLimits};

/// After a refused `accept`, as when descriptors ran out all the same: time for something to be freed.
const BREATHE: Duration = Duration::from_millis(100);

/// What a listener asks of its connections.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) proxy_protocol: bool,
}

/// The settings that a reload may change.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) limits: ServerLimits,
    pub(super) trusted: Vec<IpNet>,
    pub(super) drain: Duration,
}

/// What all connections share.
pub(super) struct Front<G> {
    proxy: Arc<HttpProxy<G>>,
    rules: Arc<ArcSwap<Rules>>,
    guard: Arc<Guard>,
    counters: Arc<Counters>,
    clock: Clock,
    lifecycle: Lifecycle,
    draining: ShutdownWatch,
    /// Always true: shown to the proxy in place of `draining` when one connection is to end with its next answer.
    ending: ShutdownWatch,
}

impl<G> Front<G>
where
    G: ProxyHttp + Send + Sync + 'static,
    G::CTX: Send + Sync,
{
    pub(super) fn new(
        proxy: HttpProxy<G>,
        rules: Arc<ArcSwap<Rules>>,
        guard: Arc<Guard>,
        counters: Arc<Counters>,
        clock: Clock,
        lifecycle: Lifecycle,
    ) -> Arc<Self> {
        let draining = lifecycle.draining();
        let (_, ending) = watch::channel(true);
        Arc::new(Front { proxy: Arc::new(proxy), rules, guard, counters, clock, lifecycle, draining, ending })
    }

    /// Accepts until the lifecycle says that nothing more is to be accepted.
    pub(super) async fn listen(self: Arc<Self>, listener: TcpListener, endpoint: Endpoint) {
        let mut closing = std::pin::pin!(turned_true(self.lifecycle.closing()));
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut closing => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.accepted(stream, peer, &endpoint),
                Err(error) => {
                    log::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(BREATHE).await;
                }
            }
        }
        // For the kernel these are connected already; closing the socket on them would cut them off.
        for _ in 0..BACKLOG {
            match listener.accept().now_or_never() {
                Some(Ok((stream, peer))) => self.accepted(stream, peer, &endpoint),
                Some(Err(_)) | None => return,
            }
        }
    }

    fn accepted(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, endpoint: &Endpoint) {
        self.counters.accepted.add();
        match self.guard.enter() {
            Some(slot) => drop(tokio::spawn(self.clone().connection(stream, peer, slot, endpoint.clone()))),
            None => self.counters.refused_total.add(),
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, mut slot: Slot, endpoint: Endpoint) {
        let rules = self.rules.load_full();
        let opened = self.clock.tick();
        let greeting = self.greet(stream, peer, &mut slot, &endpoint, &rules);
        // One time for all that precedes the first request, so that no part of it can be dragged out.
        let stream = match tokio::time::timeout(rules.limits.header_timeout, greeting).await {
            Ok(Some(stream)) => stream,
            Ok(None) => return,
            Err(_) => {
                let late = if endpoint.certificate.is_some() {
                    &self.counters.failed_handshakes
                } else {
                    &self.counters.bad_proxy_header
                };
                late.add();
                return;
            }
        };
        drop(rules);
        match stream.selected_alpn_proto() {
            Some(ALPN::H2) => self.http2(stream, &slot).await,
            _ => self.http1(stream, &slot, opened).await,
        }
    }

    /// PROXY header, cap of the client's address, TLS. `None` when the connection is not to be.
    async fn greet(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        slot: &mut Slot,
        endpoint: &Endpoint,
        rules: &Rules,
    ) -> Option<Stream> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let peer_is_trusted = covered(&rules.trusted, peer.ip());
        let (client, read_ahead) = if endpoint.proxy_protocol {
            self.client_behind(&mut stream, peer, peer_is_trusted).await?
        } else {
            (peer, Bytes::new())
        };
        // A trusted proxy's own connections carry the requests of many.
        let exempt = peer_is_trusted && client == peer;
        if !exempt && !slot.claim(client.ip()) {
            self.counters.refused_per_ip.add();
            return None;
        }
        let conn = Conn::new(stream, client, read_ahead);
        match &endpoint.certificate {
            None => Some(self.metered(conn, slot, rules)),
            Some(certificate) => match certificate.accept(conn).await {
                Ok(tls) => Some(self.metered(tls, slot, rules)),
                Err(error) => {
                    self.counters.failed_handshakes.add();
                    log::debug!("TLS handshake with {}: {error}", client.ip());
                    None
                }
            },
        }
    }

    async fn client_behind(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
        peer_is_trusted: bool,
    ) -> Option<(SocketAddr, Bytes)> {
        let refuse = |why: &dyn std::fmt::Display| {
            self.counters.bad_proxy_header.add();
            log::debug!("connection from {}: {why}", peer.ip());
            None
        };
        if !peer_is_trusted {
            return refuse(&"a PROXY header is asked for, and this peer is not in server.trusted_proxies");
        }
        match proxy_protocol::read(stream).await {
            Ok((Client::At(client), read_ahead)) => Some((client, read_ahead)),
            Ok((Client::Proxy, read_ahead)) => Some((peer, read_ahead)),
            Err(error) => refuse(&error),
        }
    }

    fn metered<S: IO + 'static>(&self, io: S, slot: &Slot, rules: &Rules) -> Stream {
        Box::new(Metered::new(io, rules.limits.header_timeout, slot.live.clone(), self.counters.clone()))
    }

    /// Requests on one HTTP/1 connection, one after the other.
    async fn http1(&self, stream: Stream, slot: &Slot, opened: Tick) {
        let rules = self.rules.load();
        let limits = &rules.limits;
        let (keepalive, body_timeout) = (limits.keepalive.as_secs().max(1), limits.body_timeout);
        let old = opened.plus(spread(limits.max_connection_age, slot.id));
        let mut session = ServerSession::new_http1(stream);
        session.set_keepalive(Some(keepalive));
        // A request that may still follow is not counted as one, and 0 stands for no limit.
        session.set_keepalive_reuses_remaining(limits.keepalive_requests.checked_sub(1));
        drop(rules);
        loop {
            session.set_total_drain_timeout(Some(body_timeout));
            session.set_write_timeout(Some(body_timeout));
            slot.live.enter(Stage::Idle);
            let last = self.guard.is_crowded() || self.clock.tick() >= old;
            let shutdown = if last { &self.ending } else { &self.draining };
            let Some(reused) = self.proxy.process_new_http(session, shutdown).await else { return };
            let (stream, settings) = reused.consume();
            session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            // The proxy puts `for ever` in its place when it takes a client's wish to keep the connection.
            session.set_keepalive(Some(keepalive));
        }
    }

    /// All requests on one HTTP/2 connection. It is told to end (GOAWAY) when it is old or the process drains; requests
    /// under way then have the time to drain.
    async fn http2(&self, stream: Stream, slot: &Slot) {
        let (age, drain) = {
            let rules = self.rules.load();
            (spread(rules.limits.max_connection_age, slot.id), rules.drain)
        };
        let (end, ended) = watch::channel(false);
        let mut serving = std::pin::pin!(self.proxy.process_new(stream, &ended));
        tokio::select! {
            _ = &mut serving => return,
            () = turned_true(self.draining.clone()) => {}
            () = tokio::time::sleep(age) => {}
        }
        end.send_replace(true);
        if tokio::time::timeout(drain, serving).await.is_err() {
            self.counters.cut_for_age.add();
        }
    }
}

/// Up to a tenth less than `age`, different for each connection: clients that came together do not all come back
/// together.
fn spread(age: Duration, id: u64) -> Duration {
    let sixteenths = u32::try_from(id % 16).unwrap_or(0);
    age - age / 160 * sixteenths
}
