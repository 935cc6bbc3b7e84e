//! The whole of it: the main file, section by section, and the checks that need more than one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use url::Url;

use super::endpoints::{self, Known};
use super::map::Map;
use super::opener::{Disk, Opener};
use super::problem::{Problem, Problems};
use super::reader::{Load, Value};
use super::tokens::MasterKeys;
use super::tree::{NOTHING, Node};
use super::types::{AccessLog, Config, Log, Server, Validation};
use super::upstream::{Upstreams, WALLET};
use super::{appservice, egress, limits, lockouts, miniapps, oauth, server, store, tokens, upstream, validation};
use crate::model::Issuers;
use crate::model::ids::is_server_name;

/// Reads a config and every file that it names. `env` answers for `${NAME}`.
///
/// # Errors
/// Everything that is wrong with it, not the first thing only.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    let load = Load::new(env, &Disk);
    let node = load.parse_file(path);
    finish(load, path, node)
}

/// As [`load`], from text, with the files that it names taken from `opener`.
///
/// # Errors
/// As [`load`].
pub fn parse_str(
    text: &str,
    file: &Path,
    opener: &dyn Opener,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    let load = Load::new(env, opener);
    load.files.borrow_mut().push(file.to_owned());
    let node = load.parse(file, text);
    finish(load, file, node)
}

fn finish(load: Load<'_>, file: &Path, node: Option<Node>) -> Result<Config, Problems> {
    let config = node.and_then(|node| read(&load, file, &node));
    match (config, load.problems.into_inner()) {
        (Some(mut config), problems) if problems.is_empty() => {
            config.files = distinct(load.files.into_inner());
            config.unmet = Problems::new(file, load.unmet.into_inner());
            config.unlisted = load.unlisted.into_inner();
            Ok(config)
        }
        (_, mut problems) => {
            if problems.is_empty() {
                problems.push(whole(file, "no config came of it, for a reason that was not told; this is a defect"));
            }
            Err(Problems::new(file, problems))
        }
    }
}

fn whole(file: &Path, message: &str) -> Problem {
    let file = file.to_owned();
    Problem { file, line: 0, column: 0, key_path: String::new(), message: message.into(), expected: String::new() }
}

fn distinct(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    files.retain(|file| seen.insert(file.clone()));
    files
}

pub(super) fn read(load: &Load<'_>, file: &Path, node: &Node) -> Option<Config> {
    Value::root(load, file, node).map("a map with public_url, server_name, server …", whole_config)?
}

fn whole_config(m: &mut Map<'_>) -> Option<Config> {
    let public_url = m.required("public_url", "the https URL that clients reach this edge at", public_url);
    let server_name = m.required("server_name", "the homeserver's name", |v| {
        v.parsed("the homeserver's name, such as tween.example", |text| is_server_name(text).then(|| text.to_owned()))
    });
    let server = m.section("server", server::read);
    let store = m.section("store", store::read);
    let MasterKeys { master_key, previous_master_key } = m.section("keys", tokens::master_keys);

    let upstreams = match m.get("upstreams") {
        Some(value) => upstream::folder(&value),
        None => Some(Upstreams::default()),
    };
    let names = upstreams.as_ref().filter(|upstreams| !upstreams.nameless).map(|upstreams| &upstreams.names);
    if names.is_some_and(|names| !names.contains(WALLET)) {
        m.whole().unmet(
            "no upstream is named wallet, which the wallet and payment operations go to",
            "a file for it in `upstreams`",
        );
    }
    let faults = m.whole().load.faults();
    let miniapps = m.get("miniapps").and_then(|value| miniapps::file(&value));
    let (miniapps_file, miniapps) = miniapps.unzip();
    // Where that file has faults, whether a mini-app is known cannot be said.
    let sound = m.whole().load.faults() == faults;
    let known_apps = miniapps.as_ref().filter(|_| sound);
    let tokens = m.section("tokens", |m| tokens::read(m, public_url.as_ref(), known_apps));

    let oauth = m.section("oauth", oauth::read);

    let rate_limits = block(m, "rate_limits", limits::policies).unwrap_or_else(limits::built_in);
    let rate_limit_overrides =
        m.get("rate_limit_overrides").map(|v| limits::overrides(&v, &rate_limits, known_apps)).unwrap_or_default();
    let lockouts = m.section("lockouts", lockouts::read);
    let known = Known { policies: &rate_limits, upstreams: names };
    let endpoints = block(m, "tmcp_endpoints", |v| endpoints::read(v, &known)).unwrap_or_default();
    let sound = m.whole().load.faults() == faults;
    let used = endpoints.iter().filter_map(|endpoint| endpoint.rate_limit.clone());
    let used = used.chain(rate_limit_overrides.iter().map(|limit| limit.policy.clone())).collect();
    if sound {
        block(m, "rate_limits", |v| limits::unused(v, &used));
    }

    let rules = map_block(m, "validation_rules", validation::rules);
    bodies_fit(m, &server, &rules);
    let cache = map_block(m, "cache", validation::caches);
    let appservice = m.optional("appservice", appservice::read);
    let cors_origins = m.section("cors", validation::cors);
    let egress_allow = m.section("egress", egress::read);
    let log = m.section("log", log);
    let otlp = m.section("telemetry", |m| m.optional("otlp", |v| v.url("the URL of an OTLP collector, https")));
    Some(Config {
        public_url: public_url?,
        server_name: server_name?,
        server,
        store: store?,
        master_key,
        previous_master_key,
        tokens,
        oauth,
        rate_limits,
        rate_limit_overrides,
        lockouts,
        endpoints,
        validation: rules,
        cache,
        appservice,
        upstreams: upstreams?.by_name,
        miniapps: miniapps.unwrap_or_default(),
        miniapps_file,
        cors_origins,
        egress_allow,
        log,
        otlp,
        files: Vec::new(),
        unlisted: Vec::new(),
        unmet: Problems::default(),
    })
}

/// A block that may stand in a file of its own: then its key names the file, and the file holds nothing but the block
/// under the same key.
fn block<T>(m: &mut Map<'_>, key: &'static str, read: impl FnOnce(&Value<'_>) -> T) -> Option<T> {
    let value = m.get(key)?;
    if !value.is_text() {
        return Some(read(&value));
    }
    let (path, node) = value.yaml()?;
    Value::root(value.load, &path, &node)
        .map(&format!("a map with the key {key}"), |m| m.required(key, "the block", |v| Some(read(v))))?
}

fn map_block<T>(m: &mut Map<'_>, key: &'static str, read: impl Fn(&mut Map<'_>) -> T) -> T {
    let read_value = |v: &Value<'_>| {
        if v.is_nothing() { None } else { v.map("a map, or the name of a file", &read) }
    };
    match block(m, key, read_value).flatten() {
        Some(done) => done,
        // Left out, left empty, or complained of: the defaults stand.
        None => Value { node: NOTHING, path: m.whole().below(key), ..m.whole().clone() }.map_or_nothing(&read),
    }
}

fn public_url(value: &Value<'_>) -> Option<Url> {
    let expected = "the https URL that clients reach this edge at, such as https://tmcp.example.com";
    let url = value.url(expected)?;
    if url.path() != "/" || url.query().is_some() {
        return value.refuse(format!("found {}, with a path or query", value.found()), expected);
    }
    Some(url)
}

fn bodies_fit(m: &Map<'_>, server: &Server, rules: &Validation) {
    if server.limits.buffered_bodies < rules.max_request_size {
        m.whole().refuse::<()>(
            "server.limits.buffered_bodies is less than validation_rules.max_request_size: one large body would never fit",
            "room for at least one body",
        );
    }
}

fn log(m: &mut Map<'_>) -> Log {
    use log::LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
    let levels = [("off", Off), ("error", Error), ("warn", Warn), ("info", Info), ("debug", Debug), ("trace", Trace)];
    let level = m.or("level", Info, |v| v.choice(&levels));
    let access = m.or("access", AccessLog::Stdout, |v| match v.word() {
        Some("off") => Some(AccessLog::Off),
        Some("stdout") => Some(AccessLog::Stdout),
        _ => v.path().map(AccessLog::File),
    });
    Log { level, access }
}

impl Config {
    /// What `run` asks for beyond a config that reads well: no placeholders, a master key, a wallet, tokens for an
    /// admin address that can be reached from outside.
    ///
    /// # Errors
    /// Everything that is missing.
    pub fn require_for_run(&self) -> Result<(), Problems> {
        if self.unmet.is_empty() { Ok(()) } else { Err(self.unmet.clone()) }
    }

    /// The issuer of our own tokens: [`Config::public_url`] as it stands in `iss`, without a trailing slash.
    pub fn issuer(&self) -> &str {
        self.public_url.as_str().trim_end_matches('/')
    }

    /// Whose tokens are taken.
    pub fn trusted(&self) -> Issuers {
        let trusted = self.tokens.issuers.iter().map(|issuer| issuer.issuer.clone()).collect();
        Issuers { own: self.issuer().to_owned(), trusted }
    }
}
