//! `server`: listeners, the admin address, caps and time-outs.

use std::net::SocketAddr;
use std::time::Duration;

use super::map::Map;
use super::net::is_host_name;
use super::problem::Problem;
use super::reader::Value;
use super::secret::Secret;
use super::types::{Admin, AdminToken, IpNet, Listen, ListenTls, Server, ServerLimits};
use crate::model::Role;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const ADDRESS: &str = "an address and port such as 0.0.0.0:8443 or [::]:8443";

/// Reads `server`.
pub(super) fn read(m: &mut Map<'_>) -> Server {
    let listen = m.required("listen", "a list of at least one listener", listeners).unwrap_or_default();
    let (admin, admin_at) = m.section("admin", |m| {
        let at = m.whole().clone();
        (admin(m), at)
    });
    if let Some(clash) = listen.iter().find(|listen| overlap(listen.address, admin.address)) {
        admin_at.refuse::<()>(
            format!("{} is taken by the listener {}", admin.address, clash.address),
            "another address or port for the admin",
        );
    }
    let trusted_proxies = m.or("trusted_proxies", Vec::new(), |v| v.list("a list of address ranges", proxies));
    if trusted_proxies.is_empty() && !m.has("trusted_proxies") && listen.iter().any(|listen| listen.proxy_protocol) {
        m.whole().refuse::<()>(
            "a listener asks for the PROXY protocol, and nobody is believed to speak it",
            "trusted_proxies: the addresses of your own proxies",
        );
    }
    Server {
        listen,
        admin,
        threads: m.or("threads", 0, |v| v.whole(0..=1024)),
        trusted_proxies,
        limits: m.section("limits", limits),
        drain: m.or("drain", 30 * SECOND, |v| v.duration(Duration::ZERO..=HOUR)),
        upgrade_socket: m.optional("upgrade_socket", |v| v.path()),
        watch: m.or("watch", false, |v| v.flag()),
    }
}

fn listeners(value: &Value<'_>) -> Option<Vec<Listen>> {
    let mut all: Vec<Listen> = Vec::new();
    value.some("a list of at least one listener", |value| {
        let listen = value.map("a map with address, tls, proxy_protocol", |m| {
            let address = m.required("address", ADDRESS, address);
            let tls = m.get("tls").filter(|v| v.word() != Some("false"));
            let tls =
                tls.map(|v| v.map("a map with certificate and key, or false", |m| key_pair(m, "certificate", "key")));
            let proxy_protocol = m.or("proxy_protocol", false, |v| v.flag());
            let address = address?;
            Some(Listen { address, tls: tls.flatten().flatten(), proxy_protocol })
        })??;
        if let Some(other) = all.iter().find(|other| overlap(other.address, listen.address)) {
            return value.refuse(
                format!("{} is taken by the listener {}", listen.address, other.address),
                "each address and port once",
            );
        }
        all.push(listen);
        Some(())
    })?;
    Some(all)
}

/// Whether one of two addresses cannot be bound beside the other.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && (a.ip() == b.ip() || any)
}

fn address(value: &Value<'_>) -> Option<SocketAddr> {
    value.parsed(ADDRESS, |text| text.parse().ok())
}

/// Reads two keys that name a certificate chain and its private key. Both files have to be there and to be PEM; whether
/// they fit together is found out by the TLS library.
pub(super) fn key_pair(m: &mut Map<'_>, certificate: &'static str, key: &'static str) -> Option<ListenTls> {
    let certificate = m.required(certificate, "a PEM file with the certificate chain", |v| pem(v, "CERTIFICATE"));
    let key = m.required(key, "a PEM file with the private key", |v| pem(v, "PRIVATE KEY"));
    Some(ListenTls { certificate: certificate?, key: key? })
}

/// A PEM file with a block of a kind in it.
pub(super) fn pem(value: &Value<'_>, kind: &str) -> Option<std::path::PathBuf> {
    let (path, content) = value.file()?;
    let text = String::from_utf8_lossy(&content);
    let found =
        text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{kind}-----")));
    if found {
        Some(path)
    } else {
        value.refuse(format!("{} holds no PEM block {kind}", value.shown(&path)), format!("-----BEGIN {kind}-----"))
    }
}

fn admin(m: &mut Map<'_>) -> Admin {
    let address = m.or("address", SocketAddr::from(([127, 0, 0, 1], 9090)), address);
    let tokens = m.optional("tokens_file", admin_tokens).unwrap_or_default();
    let host = |value: &Value<'_>| {
        value.parsed("a host name, in lower case and without a port", |text| {
            (is_host_name(text) && text.to_ascii_lowercase() == text).then(|| text.to_owned())
        })
    };
    let hosts = m.or("hosts", Vec::new(), |v| v.list("a list of host names", host));
    if !address.ip().is_loopback() && tokens.is_empty() && !m.has("tokens_file") {
        m.whole().unmet(
            format!("the admin address {address} can be reached from outside and asks for no token"),
            "tokens_file: <path>, or a loopback address",
        );
    }
    let audit_retention = m.or("audit_retention", 400 * DAY, |v| v.duration(DAY..=3660 * DAY));
    Admin { address, tokens, audit_retention, hosts }
}

/// What a line of the tokens file looks like.
const TOKEN_LINE: &str = "name:role:token, the role viewer, operator or admin (name:token is an admin's), the token of at least 16 \
                          printable ASCII characters without a colon";

/// One token a line; empty lines and lines that begin with `#` are left out. Every bad line is told of, by its place in
/// that file and never by what stands in it.
fn admin_tokens(value: &Value<'_>) -> Option<Vec<AdminToken>> {
    let path = value.path()?;
    let file = value.secret_file()?;
    let mut tokens: Vec<AdminToken> = Vec::new();
    let faults = value.load.faults();
    for (at, line) in file.expose().lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let read =
            admin_token(line, at + 1).and_then(|token| match tokens.iter().find(|other| other.token == token.token) {
                Some(other) => Err(format!("the same token as that of {}", other.name)),
                None => Ok(token),
            });
        match read {
            Ok(token) => tokens.push(token),
            Err(message) => value.load.problems.borrow_mut().push(Problem {
                file: path.clone(),
                line: at + 1,
                column: 1,
                key_path: String::new(),
                message,
                expected: TOKEN_LINE.to_owned(),
            }),
        }
    }
    if value.load.faults() > faults {
        return None;
    }
    if tokens.is_empty() { value.refuse("no token in that file", "one token a line") } else { Some(tokens) }
}

/// The token of a line. The error says what is wrong without showing what may be a token.
fn admin_token(line: &str, number: usize) -> Result<AdminToken, String> {
    let parts: Vec<&str> = line.split(':').map(str::trim).collect();
    let (name, role, token) = match *parts.as_slice() {
        [token] => (format!("line {number}"), Role::Admin, token),
        [role, _] if Role::parse(role).is_some() => {
            return Err(format!("{role} is a role, and no name stands before it"));
        }
        [name, token] => (name.to_owned(), Role::Admin, token),
        [name, role, token] => (name.to_owned(), Role::parse(role).ok_or("no role between the two colons")?, token),
        _ => return Err("more than two colons".to_owned()),
    };
    if name.is_empty() {
        return Err("no name before the colon".to_owned());
    }
    if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("no token at the end of the line".to_owned());
    }
    Ok(AdminToken { name, role, token: Secret::new(token) })
}

fn proxies(value: &Value<'_>) -> Option<IpNet> {
    let expected = "an address range such as 10.0.0.0/8 (no bits set behind the prefix), or one address";
    let net = value.parsed(expected, IpNet::parse)?;
    if net.prefix == 0 {
        return value.refuse(format!("{net} would believe every caller"), "the addresses of your own proxies");
    }
    Some(net)
}

fn limits(m: &mut Map<'_>) -> ServerLimits {
    const MANY: u64 = 10_000_000;
    let time = SECOND..=HOUR;
    ServerLimits {
        connections: m.or("connections", 20_000, |v| v.whole(1..=MANY)),
        per_ip: m.or("per_ip", 200, |v| v.whole(1..=MANY)),
        in_flight_per_ip: m.or("in_flight_per_ip", 100, |v| v.whole(1..=MANY)),
        buffered_bodies: m.or("buffered_bodies", 256 << 20, |v| v.size(1 << 16..=1 << 40)),
        header_timeout: m.or("header_timeout", 10 * SECOND, |v| v.duration(time.clone())),
        body_timeout: m.or("body_timeout", 60 * SECOND, |v| v.duration(time.clone())),
        keepalive: m.or("keepalive", 75 * SECOND, |v| v.duration(time.clone())),
        keepalive_requests: m.or("keepalive_requests", 10_000, |v| v.whole(1..=MANY)),
        max_connection_age: m.or("max_connection_age", HOUR, |v| v.duration(SECOND..=24 * HOUR)),
        failed_auth_per_minute: m.or("failed_auth_per_minute", 60, |v| v.whole(1..=MANY)),
        requests_per_second_per_ip: m.or("requests_per_second_per_ip", 1000, |v| v.whole(0..=MANY)),
    }
}
