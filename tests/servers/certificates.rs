//! Certificates for servers of a test, and for those who call them.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// An authority that vouches for what is on loopback.
pub struct Certificates {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    /// An authority of its own.
    pub fn new() -> Certificates {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "redis test");
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Certificates { folder, issuer: Issuer::new(params, key) }
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for 127.0.0.1, and its key.
    pub fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &self.issuer);
        let at = |ending: &str| self.folder.path().join(format!("{name}.{ending}"));
        fs::write(at("crt"), certificate.unwrap().pem()).unwrap();
        fs::write(at("key"), key.serialize_pem()).unwrap();
        (at("crt"), at("key"))
    }

    /// What a server's config says to serve TLS besides, and to use it towards other servers.
    pub fn lines(&self) -> Vec<String> {
        let (certificate, key) = self.pair("server");
        vec![
            "tls-port {tls}".to_owned(),
            format!("tls-cert-file {}", certificate.display()),
            format!("tls-key-file {}", key.display()),
            format!("tls-ca-cert-file {}", self.ca().display()),
            "tls-replication yes".to_owned(),
        ]
    }
}
