//! TLS 1.3 with HTTP/2, and certificates that are exchanged under way.
//!
//! A listener's whole acceptor is rebuilt from its files and swapped in one step, so that a handshake sees the old
//! certificate with the old key or the new with the new. Files that do not make a right pair change nothing.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::protocols::tls::SslStream;
use pingora::protocols::tls::server::handshake;
use pingora::tls::pkey::PKey;
use pingora::tls::ssl::{AlpnError, SslAcceptor, SslMethod, SslMode, select_next_proto};
use pingora::tls::x509::X509;

use super::conn::Conn;
use super::counters::Counters;
use super::fingerprint::Fingerprint;
use crate::config::ListenTls;

const ALPN: &[u8] = b"\x02h2\x08http/1.1";
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The certificate of one listener, as it is now.
pub(super) struct Certificate {
    files: ArcSwap<ListenTls>,
    acceptor: ArcSwap<SslAcceptor>,
    /// The files' state just before they were first read.
    first: Fingerprint,
}

impl Certificate {
    /// Loads the certificate that a listener starts with.
    ///
    /// # Errors
    /// When a file cannot be read, holds no PEM of its kind, or the key is not the certificate's.
    pub(super) fn load(files: &ListenTls) -> Result<Self, String> {
        let first = look(files);
        let acceptor = ArcSwap::from_pointee(build(files)?);
        Ok(Certificate { files: ArcSwap::from_pointee(files.clone()), acceptor, first })
    }

    /// Takes other files from now on; the next look loads them.
    pub(super) fn set_files(&self, files: &ListenTls) {
        if **self.files.load() != *files {
            self.files.store(Arc::new(files.clone()));
        }
    }

    /// The server's side of a handshake.
    pub(super) async fn accept(&self, conn: Conn) -> pingora::Result<SslStream<Conn>> {
        let acceptor = self.acceptor.load_full();
        handshake(&acceptor, conn).await
    }

    fn reload(&self, counters: &Counters) {
        let files = self.files.load_full();
        match build(&files) {
            Ok(acceptor) => {
                self.acceptor.store(Arc::new(acceptor));
                counters.certificates_loaded.add();
                log::info!("certificate {} is in use", files.certificate.display());
            }
            Err(error) => {
                counters.certificates_refused.add();
                log::error!("the certificate in use stays: {error}");
            }
        }
    }

    /// Reloads whenever the files change, until dropped.
    pub(super) async fn follow(self: Arc<Self>, counters: Arc<Counters>) {
        let mut loaded = self.first.clone();
        let mut pace = tokio::time::interval(LOOK_EVERY);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let now = look(&self.files.load());
            if now != loaded {
                self.reload(&counters);
                loaded = now;
            }
        }
    }
}

fn look(files: &ListenTls) -> Fingerprint {
    Fingerprint::of([&files.certificate, &files.key])
}

fn build(files: &ListenTls) -> Result<SslAcceptor, String> {
    let chain = X509::stack_from_pem(&read(&files.certificate)?)
        .map_err(|error| format!("{}: expected PEM certificates: {error}", files.certificate.display()))?;
    let key = PKey::private_key_from_pem(&read(&files.key)?)
        .map_err(|_| format!("{}: expected a PEM private key without a passphrase", files.key.display()))?;
    let mut chain = chain.into_iter();
    let leaf = chain
        .next()
        .ok_or_else(|| format!("{}: expected PEM certificates, the server's own first", files.certificate.display()))?;
    if !leaf.public_key().is_ok_and(|public| public.public_eq(&key)) {
        return Err(format!(
            "{} is not the key of the first certificate in {}",
            files.key.display(),
            files.certificate.display()
        ));
    }
    acceptor(leaf, chain, &key).map_err(|error| format!("{}: {error}", files.certificate.display()))
}

fn acceptor(
    leaf: X509,
    chain: impl Iterator<Item = X509>,
    key: &PKey<pingora::tls::pkey::Private>,
) -> Result<SslAcceptor, pingora::tls::error::ErrorStack> {
    let mut builder = SslAcceptor::mozilla_modern_v5(SslMethod::tls_server())?;
    builder.set_certificate(&leaf)?;
    for certificate in chain {
        builder.add_extra_chain_cert(certificate)?;
    }
    builder.set_private_key(key)?;
    builder.check_private_key()?;
    // Idle connections give their record buffers back; a record is read with one system call instead of two.
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    builder.set_read_ahead(true);
    builder.set_alpn_select_callback(|_, offered| select_next_proto(ALPN, offered).ok_or(AlpnError::NOACK));
    Ok(builder.build())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
