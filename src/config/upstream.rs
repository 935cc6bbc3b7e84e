//! One upstream: a file in the folder that `upstreams` names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::map::Map;
use super::net::split_host_port;
use super::pattern::Pattern;
use super::problem::did_you_mean;
use super::reader::Value;
use super::server::{key_pair, pem};
use super::types::{AdminApi, Breaker, Health, Paths, Timeouts, Upstream, UpstreamTls};
use crate::model::Operation;
use crate::model::ids::is_server_name;
use crate::model::rows::{Answer, ROWS};

/// The upstream that built-in wallet rows use.
pub(super) const WALLET: &str = "wallet";
/// The upstream that Matrix rows and checks use.
pub(super) const HOMESERVER: &str = "homeserver";

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The upstreams, and the names of all that were written, those with faults too: a row that names one of these is
/// not wrong.
#[derive(Default)]
pub(super) struct Upstreams {
    pub by_name: BTreeMap<String, Arc<Upstream>>,
    pub names: BTreeSet<String>,
    /// A file could not be read, or has no name: then no row can be told that its upstream does not exist.
    pub nameless: bool,
}

/// Reads every `*.yaml` of the folder. `None`: the folder cannot be listed.
pub(super) fn folder(value: &Value<'_>) -> Option<Upstreams> {
    let folder = value.path()?;
    value.load.files.borrow_mut().push(folder.clone());
    let mut paths = match value.load.opener.list(&folder) {
        Ok(paths) => paths,
        Err(error) => {
            return value.refuse(
                format!("{} cannot be listed: {error}", value.shown(&folder)),
                "a folder with a file per upstream",
            );
        }
    };
    // Hidden files are what editors leave behind.
    let hidden = |path: &std::path::Path| path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml") && !hidden(path));
    paths.sort();
    let mut upstreams = Upstreams::default();
    for path in paths {
        let Some(node) = value.load.parse_file(&path) else {
            upstreams.nameless = true;
            continue;
        };
        let root = Value::root(value.load, &path, &node);
        let upstream = root.map("a map with name, addresses, tls …", |m| {
            let name = m.required("name", "the name that rows use", |v| name(v, &upstreams.names));
            upstreams.nameless |= name.is_none();
            upstreams.names.extend(name.clone());
            upstream(m, name)
        });
        if let Some(upstream) = upstream.flatten() {
            upstreams.by_name.insert(upstream.name.clone(), Arc::new(upstream));
        }
    }
    Some(upstreams)
}

fn name(value: &Value<'_>, taken: &BTreeSet<String>) -> Option<String> {
    let name = value.parsed("a name of lower-case letters, digits, `-` and `_`", |text| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        (!text.is_empty() && text.bytes().all(plain)).then(|| text.to_owned())
    })?;
    if taken.contains(&name) {
        value.refuse(format!("another file has the name {name}"), "each name once")
    } else {
        Some(name)
    }
}

fn upstream(m: &mut Map<'_>, name: Option<String>) -> Option<Upstream> {
    let addresses = m.required("addresses", "a list of host:port", addresses);
    let tls = m.required("tls", "false, or a map with server_name", tls);
    let http2 = m.or("http2", false, |v| v.flag());
    let timeouts = m.section("timeouts", timeouts);
    let pool = m.or("pool", 256, |v| v.whole(0..=65_536));
    let retries = m.or("retries", 1, |v| v.whole(0..=1));
    let breaker = m.section("breaker", breaker);
    let health = m.get("health").filter(|v| v.word() != Some("false"));
    let health = health.and_then(|v| v.map("a map with path, or false", health_check).flatten());
    let is_wallet = name.as_deref() == Some(WALLET);
    let paths = m.or("paths", if is_wallet { Paths::Protocol } else { Paths::AsSent }, paths);
    let homeserver_only = |v: &Value<'_>| match &name {
        Some(name) if name != HOMESERVER => v.refuse("not for this upstream", "it with the upstream named homeserver"),
        _ => Some(()),
    };
    let forward_client_api = m.or("forward_client_api", false, |v| {
        let on = v.flag()?;
        if on { homeserver_only(v).map(|()| on) } else { Some(on) }
    });
    let admin_api = m.optional("admin_api", |v| {
        homeserver_only(v);
        let token = v.map("a map with token_file", |m| match m.secret("token", "token_file") {
            None if !m.has("token") && !m.has("token_file") => m.whole().refuse("no token", "token_file: <path>"),
            token => token,
        });
        token.flatten().map(|token| AdminApi { token })
    });
    Some(Upstream {
        name: name?,
        addresses: addresses?,
        tls: tls?,
        http2,
        timeouts,
        pool,
        retries,
        breaker,
        health,
        paths,
        forward_client_api,
        admin_api,
    })
}

fn addresses(value: &Value<'_>) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    value.some("a list of at least one host:port", |v| {
        let expected = "host:port, the host a name, an IPv4 or a bracketed IPv6 address";
        let address = v.parsed(expected, |text| split_host_port(text).map(|_| text.to_owned()))?;
        if seen.insert(address.clone()) { Some(address) } else { v.refuse("stands twice", "each address once") }
    })
}

fn tls(value: &Value<'_>) -> Option<Option<UpstreamTls>> {
    if value.word() == Some("false") {
        return Some(None);
    }
    let tls = value.map("false, or a map with server_name", |m| {
        let expected = "the name in its certificate (an empty one would switch verification off)";
        let server_name = m.required("server_name", expected, |v| {
            v.parsed(expected, |text| (is_server_name(text) && !text.contains(':')).then(|| text.to_owned()))
        });
        let ca = m.optional("ca", |v| pem(v, "CERTIFICATE"));
        let client = if m.has("client_certificate") || m.has("client_key") {
            key_pair(m, "client_certificate", "client_key")
        } else {
            let _ = (m.get("client_certificate"), m.get("client_key"));
            None
        };
        Some(UpstreamTls { server_name: server_name?, ca, client })
    });
    tls.flatten().map(Some)
}

fn timeouts(m: &mut Map<'_>) -> Timeouts {
    let range = 10 * MILLI..=HOUR;
    Timeouts {
        connect: m.or("connect", 2 * SECOND, |v| v.duration(range.clone())),
        read: m.or("read", 10 * SECOND, |v| v.duration(range.clone())),
        write: m.or("write", 10 * SECOND, |v| v.duration(range.clone())),
        idle: m.or("idle", 50 * SECOND, |v| v.duration(range.clone())),
    }
}

fn breaker(m: &mut Map<'_>) -> Breaker {
    let window: u32 = m.or("window", 10, |v| v.whole(1..=1000));
    let failures: u32 = m.or("failures", 5.min(window), |v| {
        let failures: u32 = v.whole(1..=1000)?;
        if failures > window {
            return v.refuse(format!("{failures} failures can never be among {window} calls"), "at most `window`");
        }
        Some(failures)
    });
    Breaker {
        window,
        failures,
        open: m.or("open", 60 * SECOND, |v| v.duration(10 * MILLI..=HOUR)),
        trial_every: m.or("trial_every", 10 * SECOND, |v| v.duration(10 * MILLI..=HOUR)),
    }
}

fn health_check(m: &mut Map<'_>) -> Option<Health> {
    let path = m.required("path", "a path such as /health", |v| {
        v.parsed("a path such as /health", |text| {
            (text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')).then(|| text.to_owned())
        })
    });
    let every = m.or("every", 5 * SECOND, |v| v.duration(100 * MILLI..=HOUR));
    let unhealthy_after = m.or("unhealthy_after", 3, |v| v.whole(1..=100));
    let healthy_after = m.or("healthy_after", 1, |v| v.whole(1..=100));
    Some(Health { path: path?, every, unhealthy_after, healthy_after })
}

fn paths(value: &Value<'_>) -> Option<Paths> {
    if !value.is_map() {
        return value.choice(&[("protocol", 0), ("tween", 1), ("as_sent", 2)]).map(|choice| match choice {
            0 => Paths::Protocol,
            1 => Paths::Tween,
            _ => Paths::AsSent,
        });
    }
    let mut table = BTreeMap::new();
    for (key, value) in value.named("a table of operations")? {
        let forwarded = |operation: &Operation| {
            ROWS.iter()
                .any(|row| row.operation == *operation && matches!(row.answer, Answer::Wallet | Answer::WalletChecked))
        };
        let names = Operation::ALL.iter().filter(|operation| forwarded(operation)).map(|operation| operation.as_str());
        match Operation::parse(&key.text) {
            Some(operation) if forwarded(&operation) => {
                if let Some(template) = template(&value, operation) {
                    table.insert(operation, template);
                }
            }
            Some(_) => {
                value.refuse::<()>(
                    "this operation is not forwarded to a wallet",
                    "an operation that the wallet answers",
                );
            }
            None => {
                let hint = did_you_mean(&key.text, names);
                value.refuse::<()>(
                    format!("there is no operation of that name{hint}"),
                    "an operation that the wallet answers",
                );
            }
        }
    }
    Some(Paths::Table(table))
}

fn template(value: &Value<'_>, operation: Operation) -> Option<String> {
    let text = value.text("a path template such as /wallet/v1/balance")?;
    let pattern = match Pattern::parse(&text) {
        Ok(pattern) => pattern,
        Err(why) => {
            return value.refuse(format!("the template {} {why}", value.found()), "a path with {name} for parameters");
        }
    };
    let known: BTreeSet<String> = ROWS
        .iter()
        .filter(|row| row.operation == operation)
        .flat_map(|row| row.paths.iter().filter_map(|path| Pattern::parse(path).ok()))
        .flat_map(|pattern| pattern.parameters().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    match pattern.parameters().find(|name| !known.contains(*name)) {
        Some(unknown) => {
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let expected = if names.is_empty() {
                "a path without parameters".into()
            } else {
                format!("only {{{}}}", names.join("}, {"))
            };
            value.refuse(format!("{operation} has no parameter {{{unknown}}}"), expected)
        }
        None => Some(text),
    }
}
