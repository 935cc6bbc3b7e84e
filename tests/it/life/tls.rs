//! TLS on either side.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use pingora::tls::pkey::PKey;
use pingora::tls::ssl::{Ssl, SslAcceptor, SslConnector, SslMethod, SslVerifyMode, SslVersion};
use pingora::tls::tokio_ssl::SslStream;
use pingora::tls::x509::X509;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::client::{Connection, get, post};
use super::process::{ALICE, Edge, Setup};
use super::upstream::{Upstream, on};
use super::{eventually, until};

const BALANCE: &str = "/api/v1/wallet/balance";

/// A certificate authority made for one test.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    fn pair(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes a certificate for `name` and its key to the folder, and returns a config's words for them.
    pub fn sign(&self, folder: &Path, name: &str) -> Value {
        let (certificate, key) = self.pair(name);
        let (crt, private) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        std::fs::write(&crt, certificate).unwrap();
        std::fs::write(&private, key).unwrap();
        json!({"certificate": crt, "key": private})
    }

    /// Writes the authority's own certificate.
    pub fn write(&self, folder: &Path) -> Value {
        let path = folder.join("ca.pem");
        std::fs::write(&path, &self.pem).unwrap();
        json!(path)
    }

    /// A server named `name` that wants a certificate of this authority's from its clients, and speaks HTTP/2 when asked.
    fn upstream(&self, name: &str) -> Upstream {
        let (certificate, key) = self.pair(name);
        let mut acceptor = SslAcceptor::mozilla_modern_v5(SslMethod::tls()).unwrap();
        acceptor.set_certificate(&X509::from_pem(certificate.as_bytes()).unwrap()).unwrap();
        acceptor.set_private_key(&PKey::private_key_from_pem(key.as_bytes()).unwrap()).unwrap();
        acceptor.cert_store_mut().add_cert(X509::from_pem(self.pem.as_bytes()).unwrap()).unwrap();
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        acceptor.set_alpn_select_callback(|_, offered| {
            pingora::tls::ssl::select_next_proto(b"\x02h2\x08http/1.1", offered)
                .ok_or(pingora::tls::ssl::AlpnError::NOACK)
        });
        let acceptor = Arc::new(acceptor.build());
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        Upstream::on(name, address, |runtime| {
            let (ready, done) = mpsc::channel(16);
            let tcp = on(runtime, socket);
            runtime.spawn(async move {
                while let Ok((stream, peer)) = tcp.accept().await {
                    let (acceptor, ready) = (acceptor.clone(), ready.clone());
                    tokio::spawn(async move {
                        let mut tls = SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
                        if Pin::new(&mut tls).accept().await.is_ok() {
                            let _ = ready.send((tls, peer)).await;
                        }
                    });
                }
            });
            Handshaken { done, address }
        })
    }
}

/// Connections whose handshake is done.
struct Handshaken {
    done: mpsc::Receiver<(SslStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl axum::serve::Listener for Handshaken {
    type Io = SslStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.done.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A client that finds `edge.test` at `address` and trusts the authority.
pub fn h2_client(authority: &Authority, address: SocketAddr) -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .resolve("edge.test", address)
        .tls_certs_only([reqwest::Certificate::from_pem(authority.pem.as_bytes()).unwrap()])
        .build()
        .unwrap()
}

/// A handshake with nothing verified, as far as it gets.
async fn handshake(at: SocketAddr, least: SslVersion, most: SslVersion, alpn: &[u8]) -> Option<SslStream<TcpStream>> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_min_proto_version(Some(least)).unwrap();
    builder.set_max_proto_version(Some(most)).unwrap();
    builder.set_alpn_protos(alpn).unwrap();
    let ssl = builder.build().configure().unwrap().into_ssl("edge.test").unwrap();
    let mut stream = SslStream::new(ssl, TcpStream::connect(at).await.unwrap()).unwrap();
    Pin::new(&mut stream).connect().await.ok().map(|()| stream)
}

async fn names_of(at: SocketAddr) -> Vec<String> {
    let stream = handshake(at, SslVersion::TLS1_3, SslVersion::TLS1_3, b"\x02h2").await.unwrap();
    let certificate = stream.ssl().peer_certificate().unwrap();
    let names = certificate.subject_alt_names().unwrap();
    names.iter().filter_map(|name| name.dnsname().map(str::to_owned)).collect()
}

async fn tls_edge(authority: &Authority, wallet: SocketAddr) -> (Setup, Edge) {
    let mut setup = Setup::new(wallet);
    let pair = authority.sign(setup.folder(), "edge.test");
    setup.edge["server"]["listen"][0]["tls"] = pair;
    let edge = setup.start().await;
    (setup, edge)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tls_1_3_with_http2_and_http1() {
    let (wallet, authority) = (Upstream::start("wallet"), Authority::new());
    let (setup, edge) = tls_edge(&authority, wallet.address).await;
    for old in [SslVersion::TLS1_2, SslVersion::TLS1_1] {
        assert!(handshake(edge.address, SslVersion::TLS1, old, b"\x02h2").await.is_none(), "{old:?}");
    }
    for (alpn, chosen) in [
        (&b"\x02h2\x08http/1.1"[..], Some(&b"h2"[..])),
        (b"\x08http/1.1\x02h2", Some(b"h2")),
        (b"\x08http/1.1", Some(b"http/1.1")),
        (b"\x06spdy/9", None),
    ] {
        let stream = handshake(edge.address, SslVersion::TLS1_3, SslVersion::TLS1_3, alpn).await.unwrap();
        assert_eq!(stream.ssl().selected_alpn_protocol(), chosen);
    }
    let client = h2_client(&authority, edge.address);
    let url = format!("https://edge.test:{}{BALANCE}", edge.address.port());
    let answer = client.get(url).bearer_auth(setup.token(ALICE)).send().await.unwrap();
    assert_eq!((answer.status(), answer.version()), (http::StatusCode::OK, http::Version::HTTP_2));
    assert_eq!(wallet.seen()[0].headers["x-forwarded-proto"], "https");
    // Whoever speaks plain HTTP to a TLS port is let go.
    let mut plain = Connection::open(edge.address).await;
    plain.send(get(BALANCE, "none")).await.unwrap();
    assert!(!plain.rest().await.starts_with(b"HTTP/1.1 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_replaced_on_disk_is_served() {
    let (wallet, authority) = (Upstream::start("wallet"), Authority::new());
    let (mut setup, edge) = tls_edge(&authority, wallet.address).await;
    assert_eq!(names_of(edge.address).await, ["edge.test"]);
    let (certificate, key) = authority.pair("renewed.test");
    std::fs::write(setup.folder().join("edge.test.crt"), certificate).unwrap();
    until("the half-written pair was refused", || edge.logged("the certificate in use stays") >= 1).await;
    assert_eq!(names_of(edge.address).await, ["edge.test"]);
    std::fs::write(setup.folder().join("edge.test.key"), key).unwrap();
    eventually("the renewed one is served", || names_of(edge.address), |names| *names == ["renewed.test"]).await;
    // Other files, by a reload.
    setup.edge["server"]["listen"][0]["tls"] = authority.sign(setup.folder(), "moved.test");
    setup.write();
    edge.reload().await;
    eventually("the moved one is served", || names_of(edge.address), |names| *names == ["moved.test"]).await;
}

/// A partner behind TLS that wants to know who we are.
fn towards(setup: &mut Setup, authority: &Authority, partner: &Upstream, http2: bool) {
    let pair = authority.sign(setup.folder(), "edge.internal");
    let (certificate, key) = (pair["certificate"].clone(), pair["key"].clone());
    let ca = authority.write(setup.folder());
    let partner_config = setup.upstreams.get_mut("partner").unwrap();
    partner_config["addresses"] = json!([partner.address.to_string()]);
    partner_config["http2"] = json!(http2);
    partner_config["breaker"] = json!({"window": 100, "failures": 100});
    partner_config["tls"] = json!({
        "server_name": "partner.internal",
        "ca": ca,
        "client_certificate": certificate,
        "client_key": key,
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_verified_and_told_who_we_are() {
    let (wallet, authority) = (Upstream::start("wallet"), Authority::new());
    let partner = authority.upstream("partner.internal");
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    towards(&mut setup, &authority, &partner, false);
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let mut connection = Connection::open(edge.address).await;
    let answer = connection.ask(&get("/partner/v1/a", &token)).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = partner.seen();
    assert_eq!(seen[0].headers["host"], format!("partner.internal:{}", partner.address.port()));

    // Another name, no certificate of ours, another authority: 502, and nothing is sent. Connections that were made
    // under the old rules are not used for it.
    let good = setup.upstreams["partner"].clone();
    let theirs = Authority::new();
    let strange = setup.folder().join("strange");
    std::fs::create_dir(&strange).unwrap();
    let mut wrong = vec![good.clone(), good.clone(), good.clone()];
    wrong[0]["tls"]["server_name"] = json!("other.internal");
    wrong[1]["tls"]["ca"] = theirs.write(&strange);
    let unknown = theirs.sign(&strange, "edge.internal");
    wrong[2]["tls"]["client_certificate"] = unknown["certificate"].clone();
    wrong[2]["tls"]["client_key"] = unknown["key"].clone();
    for config in wrong {
        setup.upstreams.insert("partner".into(), config);
        setup.write();
        edge.reload().await;
        for request in [get("/partner/v1/b", &token), post("/partner/v1/b", &token, 2) + "{}"] {
            let answer = connection.ask(&request).await.unwrap();
            assert!(!answer.closes(), "{answer:?}");
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &json!("UPSTREAM_ERROR")), "{answer:?}");
            assert!(!answer.body.contains("internal") && !answer.body.contains("certificate"), "{answer:?}");
        }
    }
    assert_eq!(partner.seen().len(), 1);
    setup.upstreams.insert("partner".into(), good);
    setup.write();
    edge.reload().await;
    assert_eq!(connection.ask(&get("/partner/v1/c", &token)).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_to_upstreams_carries_many_streams_and_bodies() {
    let authority = Authority::new();
    // By prior knowledge to the wallet, by negotiation to the partner.
    let (wallet, partner) = (Upstream::start("wallet"), authority.upstream("partner.internal"));
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    setup.upstreams.get_mut("wallet").unwrap()["http2"] = json!(true);
    towards(&mut setup, &authority, &partner, true);
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let mut first = Connection::open(edge.address).await;
    assert_eq!(first.ask(&get("/partner/v1/a", &token)).await.unwrap().status, 200);
    let mut connections = Vec::new();
    for _ in 0..20 {
        let mut connection = Connection::open(edge.address).await;
        connection.send(get("/partner/v1/held", &token)).await.unwrap();
        connections.push(connection);
    }
    until("all of them are under way at once", || partner.waiting() == 20).await;
    // Requests that come in the same instant may each find no connection with room; fewer are opened than asked for.
    let opened = edge.metric(r#"upstream_connections_total{from="new",upstream="partner"}"#).await;
    assert!(opened < 20.0, "{opened} connections for 20 streams");
    partner.open_gate();
    for connection in &mut connections {
        assert_eq!(connection.answer().await.unwrap().status, 200);
    }
    assert!(partner.seen().iter().all(|seen| seen.version == http::Version::HTTP_2));

    let mut connection = Connection::open(edge.address).await;
    assert_eq!(connection.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
    for length in [2, 70_000, 3 << 20] {
        let body = format!("{}{{}}", " ".repeat(length - 2));
        let answer = connection.ask(&(post("/partner/v1/upload", &token, length) + &body)).await.unwrap();
        assert_eq!((answer.status, &answer.json()["body"]), (200, &json!(length)), "{answer:?}");
    }
    let transfer =
        json!({"recipient": "@bob:tween.example", "amount": 5, "currency": "USD", "idempotency_key": "once"});
    let transfer = transfer.to_string();
    let request = post("/api/v1/wallet/p2p/initiate", &token, transfer.len()) + &transfer;
    let answer = connection.ask(&request).await.unwrap();
    assert_eq!((answer.status, &answer.json()["body"]), (200, &json!(transfer.len())), "{answer:?}");
    let seen = wallet.seen();
    assert!(seen.iter().all(|seen| seen.version == http::Version::HTTP_2), "{seen:?}");
}
