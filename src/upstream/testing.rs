//! What the tests of this room share: upstream configs, local servers, certificates.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pingora::tls::ssl::{Ssl, SslAcceptor, SslFiletype, SslMethod, SslVerifyMode};
use pingora::tls::tokio_ssl::SslStream;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Backend, Upstreams};
use crate::clock::Clock;
use crate::config;

/// A plain upstream with short time-outs.
pub fn upstream(addresses: &[&str]) -> config::Upstream {
    config::Upstream {
        name: "wallet".into(),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        tls: None,
        http2: false,
        timeouts: config::Timeouts {
            connect: Duration::from_secs(2),
            read: Duration::from_secs(2),
            write: Duration::from_secs(2),
            idle: Duration::from_secs(50),
        },
        pool: 16,
        retries: 1,
        breaker: config::Breaker {
            window: 10,
            failures: 5,
            open: Duration::from_secs(60),
            trial_every: Duration::from_secs(10),
        },
        health: None,
        paths: config::Paths::Protocol,
        forward_client_api: false,
        admin_api: None,
    }
}

/// Builds one upstream by itself.
pub fn build(config: config::Upstream, clock: &Clock) -> Result<Arc<Backend>, String> {
    build_after(config, None, clock).map(|upstreams| Arc::clone(upstreams.get("wallet").unwrap()))
}

/// Builds one upstream after a former revision.
pub fn build_after(config: config::Upstream, previous: Option<&Upstreams>, clock: &Clock) -> Result<Upstreams, String> {
    let configs = [(config.name.clone(), Arc::new(config))].into();
    Upstreams::build(&configs, previous, clock).map_err(|error| error.to_string())
}

/// Serves a router on a free port until the test's runtime ends.
pub async fn serve(router: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// An address that refuses connections.
pub fn refusing() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Waits until `condition` holds; the test's own time-out ends it otherwise.
pub async fn eventually(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the condition came true");
}

/// A certificate authority made for one test, with a folder for what it signs.
pub struct Authority {
    pub folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pub ca: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { issuer: Issuer::new(params, key), folder, ca }
    }

    /// A certificate for `name`, and its key.
    pub fn sign(&self, name: &str) -> config::ListenTls {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let paths = config::ListenTls {
            certificate: self.folder.path().join(format!("{name}.crt")),
            key: self.folder.path().join(format!("{name}.key")),
        };
        std::fs::write(&paths.certificate, certificate.pem()).unwrap();
        std::fs::write(&paths.key, key.serialize_pem()).unwrap();
        paths
    }

    /// TLS towards a server of this authority's.
    pub fn towards(&self, server_name: &str, client: Option<config::ListenTls>) -> config::UpstreamTls {
        config::UpstreamTls { server_name: server_name.into(), ca: Some(self.ca.clone()), client }
    }

    /// Serves "ok" over TLS as `name`, asking for a client certificate of this authority's when `mutual`.
    pub async fn serve(&self, name: &str, mutual: bool) -> SocketAddr {
        let pair = self.sign(name);
        let mut acceptor = SslAcceptor::mozilla_modern_v5(SslMethod::tls()).unwrap();
        acceptor.set_certificate_chain_file(&pair.certificate).unwrap();
        acceptor.set_private_key_file(&pair.key, SslFiletype::PEM).unwrap();
        if mutual {
            acceptor.set_ca_file(&self.ca).unwrap();
            acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        let acceptor = acceptor.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let mut tls = SslStream::new(Ssl::new(acceptor.context()).unwrap(), tcp).unwrap();
                tokio::spawn(async move {
                    if std::pin::Pin::new(&mut tls).accept().await.is_ok() {
                        answer_ok(&mut tls).await;
                    }
                });
            }
        });
        address
    }
}

async fn answer_ok(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => return,
        }
    }
    // The client may have gone; then there is nobody to tell.
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
    let _ = stream.shutdown().await;
}
