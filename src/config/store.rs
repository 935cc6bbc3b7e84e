//! `store`: where state is kept.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::map::Map;
use super::reader::Value;
use super::server::{key_pair, pem};
use super::types::{RedisMode, RedisNode, RedisStore, RedisTimeouts, RedisTls, Store};

const MILLI: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const NODE: &str = "the address of a server such as redis://10.0.0.5:6379 (rediss:// with TLS)";
const MASTER: &str = "the name that the sentinels know the primary by";
const NODES: &str = "a list of addresses such as redis://10.0.0.5:6379";

/// Reads `store`.
pub(super) fn read(m: &mut Map<'_>) -> Option<Store> {
    let kind = m.or("kind", Kind::Embedded, |v| v.choice(&[("embedded", Kind::Embedded), ("redis", Kind::Redis)]));
    let path = m.or("path", PathBuf::from("/var/lib/tmcp-edge"), |v| v.path());
    match kind {
        Kind::Embedded => Some(Store::Embedded { path }),
        Kind::Redis => redis(m, path).map(|store| Store::Redis(Box::new(store))),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Embedded,
    Redis,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Single,
    Sentinel,
    Cluster,
}

fn redis(m: &mut Map<'_>, path: PathBuf) -> Option<RedisStore> {
    let modes = [("single", Mode::Single), ("sentinel", Mode::Sentinel), ("cluster", Mode::Cluster)];
    let mode = m.or("mode", Mode::Single, |v| v.choice(&modes));
    let written = m.required("nodes", NODES, |v| nodes(v, mode));
    let encrypted = written.as_ref().is_some_and(|nodes| nodes.iter().any(|(_, encrypted)| *encrypted));
    let certificates = m.get("tls").filter(|v| v.word() != Some("false"));
    let tls = match certificates {
        Some(value) => Some(value.map("a map with ca, client_certificate, client_key, or false", tls)??),
        None => encrypted.then(RedisTls::default),
    };
    let (username, password) = credentials(m, "username", "password", "password_file");
    for key in ["sentinel_master", "sentinel_username", "sentinel_password", "sentinel_password_file"] {
        if let Some(value) = m.get(key).filter(|_| mode != Mode::Sentinel) {
            value.refuse::<()>("there are no sentinels to use it with", "it with mode: sentinel");
        }
    }
    let (sentinel_username, sentinel_password) =
        credentials(m, "sentinel_username", "sentinel_password", "sentinel_password_file");
    let mode = match mode {
        Mode::Single => Some(RedisMode::Single),
        Mode::Cluster => Some(RedisMode::Cluster),
        Mode::Sentinel => {
            let master = m.required("sentinel_master", MASTER, |v| v.text(MASTER));
            master.map(|master| RedisMode::Sentinel { master })
        }
    };
    Some(RedisStore {
        path,
        nodes: written?.into_iter().map(|(node, _)| node).collect(),
        username,
        password,
        sentinel_username,
        sentinel_password,
        tls,
        replica_reads: m.or("replica_reads", false, |v| v.flag()),
        timeouts: m.section("timeouts", timeouts),
        wait_replicas: m.optional("wait_replicas", |v| v.whole(0..=16)),
        require_durability: m.or("require_durability", true, |v| v.flag()),
        mode: mode?,
    })
}

/// The servers and, of each, whether its address asks for TLS.
fn nodes(value: &Value<'_>, mode: Mode) -> Option<Vec<(RedisNode, bool)>> {
    let nodes = value.some(NODES, node)?;
    if mode == Mode::Single && nodes.len() > 1 {
        return value.refuse(
            format!("{} servers, where the mode single has one", nodes.len()),
            "one address, or mode: sentinel or cluster",
        );
    }
    let encrypted = nodes.iter().filter(|(_, encrypted)| *encrypted).count();
    if encrypted != 0 && encrypted != nodes.len() {
        return value.refuse("some are redis:// and some rediss://", "the same for all");
    }
    Some(nodes)
}

fn node(value: &Value<'_>) -> Option<(RedisNode, bool)> {
    let text = value.text(NODE)?;
    let Ok(url) = Url::parse(&text) else { return value.wrong(NODE) };
    if !url.username().is_empty() || url.password().is_some() {
        return value.refuse("found a URL with a user or password", "username and password_file beside nodes");
    }
    let encrypted = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return value.wrong(NODE),
    };
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    match url.host_str().filter(|_| bare) {
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            Some((RedisNode { host, port: url.port().unwrap_or(6379) }, encrypted))
        }
        None => value.wrong(format!("{NODE}, without a path or query")),
    }
}

fn credentials(
    m: &mut Map<'_>,
    user: &'static str,
    password: &'static str,
    password_file: &'static str,
) -> (Option<String>, Option<super::Secret>) {
    let name = m.optional(user, |v| v.text("the name of an ACL user"));
    let secret = m.secret(password, password_file);
    if name.is_some() && secret.is_none() && !m.has(password) && !m.has(password_file) {
        m.whole().refuse::<()>(format!("{user} without a password"), format!("{password_file}: <path>"));
    }
    (name, secret)
}

fn tls(m: &mut Map<'_>) -> Option<RedisTls> {
    let ca = m.optional("ca", |v| pem(v, "CERTIFICATE"));
    let client = if m.has("client_certificate") || m.has("client_key") {
        Some(key_pair(m, "client_certificate", "client_key")?)
    } else {
        let _ = (m.get("client_certificate"), m.get("client_key"));
        None
    };
    Some(RedisTls { ca, client })
}

fn timeouts(m: &mut Map<'_>) -> RedisTimeouts {
    let time = |v: &Value<'_>| v.duration(10 * MILLI..=MINUTE);
    RedisTimeouts {
        connect: m.or("connect", Duration::from_secs(1), time),
        command: m.or("command", Duration::from_secs(1), time),
        total: m.or("total", Duration::from_secs(5), time),
        limits: m.or("limits", 5 * MILLI, |v| v.duration(MILLI..=Duration::from_secs(1))),
    }
}
