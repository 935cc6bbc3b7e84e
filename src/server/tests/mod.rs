//! The server with a tiny gateway, over real sockets on loopback. Orders come from a channel instead of signals.

mod tls;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::prelude::HttpPeer;
use pingora::proxy::{ProxyHttp, Session};
use tokio::sync::{mpsc, watch};

use super::control::{Order, Orders};
use super::run::serve_until;
use super::*;
use crate::clock::Clock;
use crate::config;

/// Answers every request with its client's address; `/held` only once the gate is open.
struct Echo {
    gate: watch::Receiver<bool>,
    arrived: Arc<AtomicUsize>,
}

#[async_trait]
impl ProxyHttp for Echo {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        pingora::Error::e_explain(pingora::ErrorType::InternalError, "no upstream")
    }

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> pingora::Result<bool> {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        if session.req_header().uri.path() == "/held" {
            let mut gate = self.gate.clone();
            let _open = gate.wait_for(|open| *open).await;
        }
        let client = session.client_addr().and_then(|addr| addr.as_inet()).map(|addr| addr.ip().to_string());
        let body = Bytes::from(client.unwrap_or_default());
        let mut header = ResponseHeader::build(200, Some(1))?;
        header.insert_header("content-length", body.len().to_string())?;
        session.write_response_header(Box::new(header), false).await?;
        session.write_response_body(Some(body), true).await?;
        Ok(true)
    }
}

impl Orders for mpsc::UnboundedReceiver<Order> {
    async fn next(&mut self) -> Order {
        match self.recv().await {
            Some(order) => order,
            None => Order::Stop,
        }
    }
}

/// A running server.
struct Edge {
    at: Vec<SocketAddr>,
    handle: Handle,
    orders: mpsc::UnboundedSender<Order>,
    gate: watch::Sender<bool>,
    arrived: Arc<AtomicUsize>,
    running: JoinHandle<Result<Ended, String>>,
    _admin: std::net::TcpListener,
}

fn config() -> config::Server {
    config::Server {
        listen: vec![config::Listen { address: loopback(), tls: None, proxy_protocol: false }],
        admin: config::Admin {
            address: loopback(),
            tokens: Vec::new(),
            audit_retention: Duration::from_secs(86_400),
            hosts: Vec::new(),
        },
        threads: 2,
        trusted_proxies: Vec::new(),
        limits: config::ServerLimits {
            connections: 1000,
            per_ip: 1000,
            in_flight_per_ip: 100,
            buffered_bodies: 1 << 20,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(5),
            keepalive: Duration::from_secs(60),
            keepalive_requests: 1000,
            max_connection_age: Duration::from_secs(600),
            failed_auth_per_minute: 10,
            requests_per_second_per_ip: 0,
        },
        drain: Duration::from_secs(4),
        upgrade_socket: None,
        watch: false,
    }
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

impl Edge {
    fn start(server: config::Server) -> Edge {
        Self::start_as(server, false)
    }

    fn start_as(server: config::Server, upgrade: bool) -> Edge {
        Self::start_with(server, upgrade, Arc::new(|_| Box::pin(async { Ok(Vec::new()) })))
    }

    fn start_with(server: config::Server, upgrade: bool, reload: ReloadHook) -> Edge {
        let (orders, receiver) = mpsc::unbounded_channel();
        let (gate, gate_seen) = watch::channel(false);
        let arrived = Arc::new(AtomicUsize::new(0));
        let (started, when_started) = std::sync::mpsc::channel();
        let gateway = Echo { gate: gate_seen, arrived: arrived.clone() };
        let spec = ServerSpec {
            server,
            max_header_size: 8192,
            tries: 2,
            upstream_pool: 16,
            files: ConfigFiles::look(Vec::new()),
            upgrade,
            data_folder: None,
            held: None,
            lifecycle: Lifecycle::new(),
            clock: Clock::system(),
        };
        let hooks = Hooks {
            started: Box::new(move |parts| started.send(parts).map_err(|error| error.to_string())),
            reload,
            reopen_logs: Box::new(|| {}),
            stopping: Box::new(|| Box::pin(async {})),
            leaving: Box::new(|| Box::pin(async {})),
        };
        let running = std::thread::spawn(move || serve_until(spec, gateway, hooks, || Ok(receiver)));
        let Ok(parts) = when_started.recv() else { panic!("{:?}", running.join().unwrap()) };
        let edge =
            Edge { at: parts.addresses, handle: parts.handle, orders, gate, arrived, running, _admin: parts.admin };
        until(|| edge.handle.lifecycle.phase() >= Phase::Serving);
        edge
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn stop(self) -> Ended {
        self.orders.send(Order::Drain).unwrap();
        self.running.join().unwrap().unwrap()
    }
}

/// Waits until something is so.
fn until(so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("still not so after 10 s");
}

/// Sends a request and reads the answer's header and body.
fn get(stream: &mut (impl Read + Write), path: &str) -> io::Result<(String, String)> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: edge\r\n\r\n").as_bytes())?;
    answer(stream)
}

fn answer(stream: &mut impl Read) -> io::Result<(String, String)> {
    let mut header = Vec::new();
    let mut byte = [0];
    while !header.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        header.push(byte[0]);
    }
    let header = String::from_utf8(header).unwrap().to_ascii_lowercase();
    let length = header.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((header, String::from_utf8(body).unwrap()))
}

/// Whether the other side has ended the connection: waits until it has, or says something, or takes too long.
fn ended(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(got) => got == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

fn trusted() -> Vec<config::IpNet> {
    vec![config::IpNet { address: "127.0.0.0".parse().unwrap(), prefix: 8 }]
}

#[test]
fn serves_and_drains_with_nothing_open() {
    let edge = Edge::start(config());
    assert_ne!(edge.at[0].port(), 0);
    assert!(edge.handle.lifecycle.is_ready());
    let mut client = edge.connect();
    for _ in 0..3 {
        assert_eq!(get(&mut client, "/").unwrap().1, "127.0.0.1");
    }
    assert_eq!(edge.handle.connections(), 1);
    drop(client);
    let handle = edge.handle.clone();
    assert_eq!(edge.stop(), Ended::Drained);
    assert!(!handle.lifecycle.is_ready());
}

#[test]
fn draining_answers_what_is_under_way_and_what_still_comes() {
    let edge = Edge::start(config());
    let mut held = edge.connect();
    held.write_all(b"GET /held HTTP/1.1\r\nHost: edge\r\n\r\n").unwrap();
    let mut idle = edge.connect();
    get(&mut idle, "/").unwrap();
    let mut silent = edge.connect();
    get(&mut silent, "/").unwrap();
    let at = edge.at[0];
    until(|| edge.arrived.load(Ordering::SeqCst) == 3);
    edge.orders.send(Order::Drain).unwrap();
    until(|| edge.handle.lifecycle.phase() == Phase::Closing);
    until(|| TcpStream::connect(at).is_err());
    // A request on a connection that was idle is answered, and it is the last.
    let (header, _) = get(&mut idle, "/").unwrap();
    assert!(header.contains("connection: close"), "{header}");
    assert!(ended(&mut idle));
    // One that stays silent is ended while the held request is still under way.
    assert!(ended(&mut silent));
    until(|| edge.handle.connections() == 1);
    edge.gate.send(true).unwrap();
    assert_eq!(answer(&mut held).unwrap().1, "127.0.0.1");
    assert_eq!(edge.running.join().unwrap(), Ok(Ended::Drained));
}

#[test]
fn what_outlives_the_drain_is_cut_and_a_second_order_does_not_wait() {
    let mut server = config();
    server.drain = Duration::from_secs(1);
    for second in [None, Some(Order::Drain)] {
        let edge = Edge::start(server.clone());
        let mut held = edge.connect();
        held.write_all(b"GET /held HTTP/1.1\r\nHost: edge\r\n\r\n").unwrap();
        until(|| edge.arrived.load(Ordering::SeqCst) == 1);
        edge.orders.send(Order::Drain).unwrap();
        let expected = if let Some(second) = second {
            edge.orders.send(second).unwrap();
            Ended::Fast
        } else {
            Ended::Cut { open: 1 }
        };
        assert_eq!(edge.running.join().unwrap(), Ok(expected));
        assert!(ended(&mut held));
    }
}

#[test]
fn a_dripped_header_is_cut_and_an_idle_connection_only_after_its_time() {
    let mut server = config();
    server.limits.header_timeout = Duration::from_millis(400);
    server.limits.keepalive = Duration::from_secs(3);
    let edge = Edge::start(server);
    let mut idle = edge.connect();
    get(&mut idle, "/").unwrap();
    let mut dripping = edge.connect();
    let mut sent = 0;
    for byte in b"GET / HTTP/1.1\r\nHost: a-name-that-takes-its-time\r\n".iter().cycle() {
        std::thread::sleep(Duration::from_millis(40));
        if dripping.write_all(&[*byte]).is_err() {
            break;
        }
        sent += 1;
        assert!(sent < 40, "still served");
    }
    assert_eq!(edge.handle.counters.header_timeouts.get(), 1);
    get(&mut idle, "/").unwrap();
    assert!(ended(&mut idle));
    assert_eq!(edge.stop(), Ended::Drained);
}

#[test]
fn caps_close_the_connections_that_are_too_many() {
    let mut server = config();
    server.limits.per_ip = 2;
    let edge = Edge::start(server.clone());
    let mut open = [edge.connect(), edge.connect()];
    for client in &mut open {
        get(client, "/").unwrap();
    }
    assert!(ended(&mut edge.connect()));
    assert_eq!(edge.handle.counters.refused_per_ip.get(), 1);
    drop(open);
    until(|| edge.handle.connections() == 0);
    get(&mut edge.connect(), "/").unwrap();
    // Limits change while it runs; a trusted proxy is not one client.
    server.trusted_proxies = trusted();
    assert_eq!(edge.handle.apply(&server), Ok(Vec::new()));
    let mut many: Vec<_> = (0..5).map(|_| edge.connect()).collect();
    for client in &mut many {
        get(client, "/").unwrap();
    }
    until(|| edge.handle.connections() == 5);
    server.limits.connections = 5;
    server.threads = 7;
    assert_eq!(edge.handle.apply(&server), Ok(vec!["server.threads"]));
    assert!(ended(&mut edge.connect()));
    assert_eq!(edge.handle.counters.refused_total.get(), 1);
    // Crowded: whoever is there is asked to make room.
    assert!(get(&mut many[0], "/").unwrap().0.contains("200"));
    let (header, _) = get(&mut many[0], "/").unwrap();
    assert!(header.contains("connection: close"), "{header}");
    drop(many);
    assert_eq!(edge.stop(), Ended::Drained);
}

#[test]
fn a_connection_ends_after_its_requests_or_its_age() {
    let mut server = config();
    server.limits.keepalive_requests = 3;
    let edge = Edge::start(server.clone());
    let mut client = edge.connect();
    for last in [false, false, true] {
        let (header, _) = get(&mut client, "/").unwrap();
        assert_eq!(header.contains("connection: close"), last, "{header}");
    }
    assert!(ended(&mut client));
    server.limits.keepalive_requests = 0;
    server.limits.max_connection_age = Duration::ZERO;
    edge.handle.apply(&server).unwrap();
    let (header, _) = get(&mut edge.connect(), "/").unwrap();
    assert!(header.contains("connection: close"), "{header}");
    assert_eq!(edge.stop(), Ended::Drained);
}

#[test]
fn proxy_headers_name_the_client_when_the_peer_is_trusted() {
    let mut server = config();
    server.listen[0].proxy_protocol = true;
    server.trusted_proxies = trusted();
    server.limits.per_ip = 1;
    let edge = Edge::start(server.clone());
    let mut first = edge.connect();
    first.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 443\r\n").unwrap();
    assert_eq!(get(&mut first, "/").unwrap().1, "192.0.2.7");
    assert_eq!(get(&mut first, "/").unwrap().1, "192.0.2.7");
    // The cap counts the client, not the proxy.
    let mut same = edge.connect();
    same.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4001 443\r\n").unwrap();
    assert!(ended(&mut same));
    let mut second = edge.connect();
    second.write_all(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\xc0\0\x02\x01\0\x50\x01\xbb").unwrap();
    assert_eq!(get(&mut second, "/").unwrap().1, "203.0.113.9");
    let mut check = edge.connect();
    check.write_all(b"PROXY UNKNOWN\r\n").unwrap();
    assert_eq!(get(&mut check, "/").unwrap().1, "127.0.0.1");
    let mut plain = edge.connect();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n").unwrap();
    assert!(ended(&mut plain));
    assert_eq!(edge.handle.counters.bad_proxy_header.get(), 1);
    server.trusted_proxies.clear();
    edge.handle.apply(&server).unwrap();
    let mut stranger = edge.connect();
    stranger.write_all(b"PROXY TCP4 192.0.2.9 192.0.2.1 4000 443\r\n").unwrap();
    assert!(ended(&mut stranger));
    assert_eq!(edge.handle.counters.bad_proxy_header.get(), 2);
    drop((first, second, check));
    assert_eq!(edge.stop(), Ended::Drained);
}

#[test]
fn an_upgrade_without_a_successor_is_refused_and_one_with_it_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = config();
    server.upgrade_socket = Some(dir.path().join("upgrade.sock"));
    let old = Edge::start(server.clone());
    let at = old.at[0];
    old.orders.send(Order::HandOver).unwrap();
    until(|| old.handle.counters.upgrades_refused.get() == 1);
    get(&mut old.connect(), "/").unwrap();
    assert!(old.handle.lifecycle.is_ready());

    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            std::thread::spawn(move || {
                let mut client: Option<TcpStream> = None;
                while !stop.load(Ordering::SeqCst) {
                    let mut stream = client.take().unwrap_or_else(|| TcpStream::connect(at).unwrap());
                    let (header, _) = get(&mut stream, "/").unwrap();
                    answered.fetch_add(1, Ordering::SeqCst);
                    client = (!header.contains("connection: close")).then_some(stream);
                }
            })
        })
        .collect();
    let go_on = |more: usize| {
        let from = answered.load(Ordering::SeqCst);
        until(|| answered.load(Ordering::SeqCst) > from + more);
    };
    go_on(200);
    let new = std::thread::spawn(move || Edge::start_as(server, true));
    until(|| {
        // It may be gone already, and then it has drained.
        let _gone = old.orders.send(Order::HandOver);
        old.handle.lifecycle.is_draining()
    });
    let new = new.join().unwrap();
    assert_eq!(new.at[0], at);
    assert_eq!(old.running.join().unwrap(), Ok(Ended::Drained));
    go_on(200);
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    assert!(new.arrived.load(Ordering::SeqCst) > 0);
    assert_eq!(new.stop(), Ended::Drained);
}

#[tokio::test]
async fn a_reload_that_panics_is_told_of_and_leaves_the_rest_running() {
    let edge = Edge::start_with(config(), false, Arc::new(|_| panic!("torn page")));
    assert_eq!(edge.handle.loops.faults(), Vec::<String>::new());
    let told = edge.handle.reloads.reload().await.unwrap_err();
    assert!(told.contains("has to be started anew"), "{told}");
    until(|| edge.handle.loops.faults() == ["reading the config again has stopped"]);
    assert!(get(&mut edge.connect(), "/").unwrap().0.starts_with("http/1.1 200"));
    edge.stop();
}
