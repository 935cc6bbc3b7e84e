//! TLS and HTTP/2.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora::tls::ssl::{Ssl, SslConnector, SslMethod, SslVerifyMode, SslVersion};

use super::super::control::Order;
use super::*;
use crate::config;

/// Writes a self-signed certificate for `name` and its key.
fn certificate(dir: &Path, name: &str) -> config::ListenTls {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let files = config::ListenTls { certificate: dir.join("tls.crt"), key: dir.join("tls.key") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    files
}

fn connector(most: SslVersion, alpn: &[u8]) -> Ssl {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_max_proto_version(Some(most)).unwrap();
    builder.set_alpn_protos(alpn).unwrap();
    builder.build().configure().unwrap().verify_hostname(false).into_ssl("edge.test").unwrap()
}

type TlsClient = pingora::tls::tokio_ssl::SslStream<tokio::net::TcpStream>;

async fn tls(at: SocketAddr, most: SslVersion, alpn: &[u8]) -> Result<TlsClient, pingora::tls::ssl::Error> {
    let stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let mut client = TlsClient::new(connector(most, alpn), stream).unwrap();
    std::pin::Pin::new(&mut client).connect().await?;
    Ok(client)
}

fn certificate_of(client: &TlsClient) -> Vec<u8> {
    client.ssl().peer_certificate().unwrap().to_der().unwrap()
}

fn tls_edge(dir: &Path) -> (Edge, PathBuf) {
    let files = certificate(dir, "one.test");
    let mut server = config();
    let at = files.key.clone();
    server.listen[0].tls = Some(files);
    (Edge::start(server), at)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_1_3_with_both_protocols_and_certificates_change_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let (edge, key) = tls_edge(dir.path());
    let at = edge.at[0];
    assert_eq!(edge.handle.loops.names(), ["following certificates", "reading the config again"]);
    assert!(tls(at, SslVersion::TLS1_2, b"\x02h2").await.is_err());
    until(|| edge.handle.counters.failed_handshakes.get() == 1);
    for (alpn, chosen) in [(&b"\x08http/1.1\x02h2"[..], &b"h2"[..]), (b"\x08http/1.1", b"http/1.1")] {
        let client = tls(at, SslVersion::TLS1_3, alpn).await.unwrap();
        assert_eq!(client.ssl().selected_alpn_protocol(), Some(chosen));
    }
    let first = certificate_of(&tls(at, SslVersion::TLS1_3, b"\x02h2").await.unwrap());
    // Half of a new pair, or rubbish, changes nothing.
    std::fs::write(&key, "rubbish").unwrap();
    until(|| edge.handle.counters.certificates_refused.get() == 1);
    assert_eq!(certificate_of(&tls(at, SslVersion::TLS1_3, b"\x02h2").await.unwrap()), first);
    certificate(dir.path(), "two.test");
    until(|| edge.handle.counters.certificates_loaded.get() == 1);
    assert_ne!(certificate_of(&tls(at, SslVersion::TLS1_3, b"\x02h2").await.unwrap()), first);
    assert_eq!(tokio::task::spawn_blocking(|| edge.stop()).await.unwrap(), Ended::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_streams_finish_after_goaway() {
    let dir = tempfile::tempdir().unwrap();
    let (edge, _) = tls_edge(dir.path());
    let client = tls(edge.at[0], SslVersion::TLS1_3, b"\x02h2").await.unwrap();
    let (mut requests, connection) = h2::client::handshake(client).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = |path: &str| http::Request::get(format!("https://edge.test{path}")).body(()).unwrap();
    let (answer, _) = requests.send_request(request("/"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    let (held, _) = requests.send_request(request("/held"), true).unwrap();
    until(|| edge.arrived.load(Ordering::SeqCst) == 2);
    edge.orders.send(Order::Drain).unwrap();
    let refused = async {
        loop {
            match requests.clone().ready().await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    };
    assert!(refused.await.is_go_away());
    edge.gate.send(true).unwrap();
    let mut body = held.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "127.0.0.1");
    driving.await.unwrap().unwrap();
    assert_eq!(tokio::task::spawn_blocking(|| edge.running.join()).await.unwrap().unwrap(), Ok(Ended::Drained));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_that_never_begins_or_drips_a_header_is_cut() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().unwrap();
    let mut server = config();
    server.listen[0].tls = Some(certificate(dir.path(), "one.test"));
    server.limits.header_timeout = Duration::from_millis(300);
    let edge = Edge::start(server);
    let mut silent = tls(edge.at[0], SslVersion::TLS1_3, b"\x02h2").await.unwrap();
    let mut dripping = tls(edge.at[0], SslVersion::TLS1_3, b"\x02h2").await.unwrap();
    dripping.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x40\x01").await.unwrap();
    let mut sink = Vec::new();
    let _cut = silent.read_to_end(&mut sink).await;
    let _cut = dripping.read_to_end(&mut sink).await;
    until(|| edge.handle.counters.header_timeouts.get() == 2);
    assert_eq!(tokio::task::spawn_blocking(|| edge.stop()).await.unwrap(), Ended::Drained);
}
