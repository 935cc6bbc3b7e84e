//! Certificates and keys towards an upstream: read, checked and kept in the forms that the two clients need.
//!
//! Everything that can be wrong with them is found here, when a config revision is built, and not at the first
//! connection. The material's fingerprint decides whether a backend may be taken over at a reload, and keeps
//! connections that were verified under other certificates from being used again.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use pingora::protocols::tls::CaType;
use pingora::tls::pkey::PKey;
use pingora::tls::x509::X509;
use pingora::utils::tls::CertKey;

use crate::config::UpstreamTls;

/// TLS towards one upstream.
#[derive(Clone)]
pub struct TlsMaterial {
    /// The name that is sent as SNI and must stand in the certificate; never empty.
    pub server_name: String,
    /// Certificates to trust; `None`: the system's.
    pub ca: Option<Arc<CaType>>,
    /// Our certificate chain and key, for mutual TLS.
    pub client: Option<Arc<CertKey>>,
    /// SHA-256 over all of it.
    pub fingerprint: [u8; 32],
    /// The same for the edge's own calls.
    roots: Vec<reqwest::Certificate>,
    identity: Option<reqwest::Identity>,
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMaterial").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl TlsMaterial {
    /// Reads what the config names. The error says which file, and what was expected.
    pub fn load(tls: &UpstreamTls) -> Result<Self, String> {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut add = |part: &[u8]| {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        };

        let server_name = tls.server_name.clone();
        if server_name.is_empty() {
            return Err("tls.server_name is empty, which would switch verification off: expected a DNS name".into());
        }
        if server_name.parse::<IpAddr>().is_ok() {
            return Err(format!(
                "tls.server_name is the IP address {server_name}: expected the DNS name in the upstream's certificate"
            ));
        }
        add(server_name.as_bytes());

        let (mut ca, mut roots) = (None, Vec::new());
        if let Some(path) = &tls.ca {
            let pem = read(path, "tls.ca")?;
            add(&pem);
            let certificates = certificates(&pem, path, "tls.ca")?;
            roots = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| format!("tls.ca {}: {error}", path.display()))?;
            ca = Some(Arc::new(certificates.into_boxed_slice()));
        }

        let (mut client, mut identity) = (None, None);
        if let Some(pair) = &tls.client {
            let chain_pem = read(&pair.certificate, "tls.client_certificate")?;
            let key_pem = zeroize::Zeroizing::new(read(&pair.key, "tls.client_key")?);
            add(&chain_pem);
            add(&key_pem);
            let chain = certificates(&chain_pem, &pair.certificate, "tls.client_certificate")?;
            let wrong_key = |what: &dyn fmt::Display| format!("tls.client_key {}: {what}", pair.key.display());
            let key = PKey::private_key_from_pem(&key_pem)
                .map_err(|_| wrong_key(&"expected an unencrypted private key in PEM"))?;
            let matches =
                chain.first().and_then(|leaf| leaf.public_key().ok()).is_some_and(|public| key.public_eq(&public));
            if !matches {
                return Err(wrong_key(&format_args!(
                    "is not the key of the first certificate in {}",
                    pair.certificate.display()
                )));
            }
            // The other client takes PKCS #8 alone.
            let pkcs8 = zeroize::Zeroizing::new(key.private_key_to_pem_pkcs8().map_err(|error| wrong_key(&error))?);
            identity = Some(reqwest::Identity::from_pkcs8_pem(&chain_pem, &pkcs8).map_err(|error| wrong_key(&error))?);
            client = Some(Arc::new(CertKey::new(chain, key)));
        }

        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest.finish().as_ref());
        Ok(TlsMaterial { server_name, ca, client, fingerprint, roots, identity })
    }

    /// Gives a client of the edge's own the same trust and the same identity.
    pub fn apply(&self, mut builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        builder = builder.https_only(true).tls_version_min(reqwest::tls::Version::TLS_1_2);
        if self.ca.is_some() {
            builder = builder.tls_certs_only(self.roots.iter().cloned());
        }
        match &self.identity {
            Some(identity) => builder.identity(identity.clone()),
            None => builder,
        }
    }

    /// Connections verified under other material must not be used again: a key for the pool.
    pub fn group_key(&self) -> u64 {
        self.fingerprint.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

fn read(path: &Path, key: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{key} {}: cannot be read: {error}", path.display()))
}

fn certificates(pem: &[u8], path: &Path, key: &str) -> Result<Vec<X509>, String> {
    match X509::stack_from_pem(pem) {
        Ok(stack) if !stack.is_empty() => Ok(stack),
        _ => Err(format!("{key} {}: expected at least one certificate in PEM", path.display())),
    }
}

#[cfg(test)]
mod tests;
