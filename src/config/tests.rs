//! The loader as a whole: what is taken, and the exact words for what is not.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::reader::Load;
use super::tree::{Kind, Node};
use super::*;
use crate::model::{Operation, Scope, ScopeSet};

const BASE: &str = "public_url: https://tmcp.example.com\nserver_name: tween.example\n";
const LISTEN: &str = "server: { listen: [{ address: 127.0.0.1:8080 }] }\n";
const WALLET: &str = "name: wallet\naddresses: ['127.0.0.1:8008']\ntls: false\n";
const PEM: &str = "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n";

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8081".into()),
        "LEVEL" => Some("debug".into()),
        "HOST" => Some("127.0.0.1".into()),
        "SECRET" => Some("0123456789abcdef0123456789abcdef".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn files() -> InMemory {
    InMemory::default()
        .with("c/u/wallet.yaml", WALLET)
        .with("c/tls.crt", PEM)
        .with("c/tls.key", PEM)
        .with("c/token", "0123456789abcdef0123456789abcdef\n")
}

fn with_files(text: &str, files: &InMemory) -> Result<Config, Problems> {
    parse_str(text, Path::new("c/edge.yaml"), files, &env)
}

/// Loads the shortest config with `more` behind it, from line 4 on.
fn with(more: &str) -> Result<Config, Problems> {
    with_files(&format!("{BASE}{LISTEN}{more}"), &files())
}

fn problems(more: &str) -> String {
    with(more).expect_err("this config should have been refused").to_string()
}

/// Loads a config with one upstream, whose file is `text`.
fn upstream(text: &str) -> Result<Config, Problems> {
    with_files(&format!("{BASE}{LISTEN}upstreams: u\n"), &files().with("c/u/wallet.yaml", text))
}

fn upstream_problems(more: &str) -> String {
    upstream(&format!("{WALLET}{more}")).expect_err("this upstream should have been refused").to_string()
}

fn miniapps(text: &str, more: &str) -> Result<Config, Problems> {
    let files = files().with("c/apps.yaml", text);
    with_files(&format!("{BASE}{LISTEN}miniapps: {{ file: apps.yaml }}\n{more}"), &files)
}

fn registration(text: &str) -> Result<Config, Problems> {
    let files = files().with("c/reg.yaml", text);
    with_files(&format!("{BASE}{LISTEN}upstreams: u\nappservice: {{ registration: reg.yaml }}\n"), &files)
}

#[test]
fn the_shortest_config_has_the_defaults() {
    let config = with("").unwrap();
    assert_eq!(config.issuer(), "https://tmcp.example.com");
    assert_eq!(config.server.admin.address.to_string(), "127.0.0.1:9090");
    assert_eq!(config.store, Store::Embedded { path: "/var/lib/tmcp-edge".into() });
    assert_eq!((config.rate_limits["default"].requests, config.rate_limits["default"].burst), (100, 20));
    assert_eq!(config.rate_limits["payment_operations"].on_store_failure, OnStoreFailure::Closed);
    assert_eq!(config.rate_limits["registration"].per, Duration::from_secs(86_400));
    assert_eq!(config.validation.max_request_size, 10 << 20);
    assert_eq!(config.cache.vary_by, ["authorization", "accept-language"]);
    assert!(config.server.listen[0].tls.is_none() && config.cors_origins.is_empty() && config.otlp.is_none());
}

// ── The brief's blocks, byte for byte ───────────────────────────────────────────────────────────────────────────────

#[test]
fn the_blocks_of_the_brief_stand_as_they_are() {
    let blocks = [
        include_str!("../../tests/fixtures/brief/rate_limits.yaml"),
        include_str!("../../tests/fixtures/brief/tmcp_endpoints.yaml"),
        include_str!("../../tests/fixtures/brief/cache.yaml"),
    ];
    let json = include_str!("../../tests/fixtures/brief/validation_rules.json");
    let files = files()
        .with("c/reg.yaml", include_str!("../../tests/fixtures/brief/registration.yaml"))
        .with("c/validation_rules.json", json);
    let more = "validation_rules: validation_rules.json\nappservice: { registration: reg.yaml }\nupstreams: u\n";
    let config = with_files(&format!("{BASE}{LISTEN}{more}{}", blocks.concat()), &files).unwrap();

    assert_eq!((config.rate_limits["oauth_endpoints"].requests, config.rate_limits["oauth_endpoints"].burst), (10, 5));
    let wallet = &config.endpoints[1];
    assert_eq!((wallet.path.as_str(), wallet.auth_required), ("/api/v1/wallet/*", true));
    assert_eq!(wallet.scopes, ScopeSet::of(&[Scope::WalletBalance, Scope::WalletPay]));
    assert_eq!(config.endpoints[0].label.as_deref(), Some("OAuth 2.0 flows (Section 4.2)"));
    assert!(!config.endpoints[0].auth_required && config.endpoints.len() == 4);
    assert_eq!(config.validation.max_header_size, 8192);
    assert_eq!(config.cache.response, CacheSize { ttl: Duration::from_secs(300), max_size: 100 << 20 });
    assert_eq!(config.cache.rate_limit, CacheSize { ttl: Duration::from_secs(3600), max_size: 200 << 20 });
    let appservice = config.appservice.as_ref().unwrap();
    assert_eq!((appservice.id.as_str(), appservice.sender_localpart.as_str()), ("tween-miniapps", "_tmcp"));
    assert!(appservice.hs_tokens.is_empty() && appservice.as_token.is_none() && appservice.users[1].exclusive);
    assert_eq!(
        config.require_for_run().unwrap_err().to_string(),
        "c/edge.yaml:1:1: keys: no master key: signing keys and secrets in the store could not be sealed, \
         expected keys: { master_key_file: <path> } (openssl rand -hex 32 makes one)\n\
         c/reg.yaml:3:11: as_token: not set: the placeholder \"<APPLICATION_SERVICE_TOKEN>\" still stands here, expected the token itself\n\
         c/reg.yaml:4:11: hs_token: not set: the placeholder \"<HOMESERVER_TOKEN>\" still stands here, expected the token itself"
    );
}

#[test]
fn each_block_of_the_brief_may_stand_in_a_file_of_its_own() {
    let files = files()
        .with("c/a.yaml", include_str!("../../tests/fixtures/brief/rate_limits.yaml"))
        .with("c/b.yaml", include_str!("../../tests/fixtures/brief/tmcp_endpoints.yaml"))
        .with("c/c.yaml", include_str!("../../tests/fixtures/brief/cache.yaml"));
    let more = "rate_limits: a.yaml\ntmcp_endpoints: b.yaml\ncache: c.yaml\n";
    let config = with_files(&format!("{BASE}{LISTEN}{more}"), &files).unwrap();
    assert_eq!((config.endpoints.len(), config.endpoints[0].place.as_str()), (4, "c/b.yaml:2"));
    let names: Vec<_> = config.files.iter().map(|file| file.to_str().unwrap()).collect();
    assert_eq!(names, ["c/edge.yaml", "c/a.yaml", "c/b.yaml", "c/c.yaml"]);
}

#[test]
fn a_whole_config_may_be_json() {
    let json = include_str!("../../tests/fixtures/brief/validation_rules.json");
    let head = "{\"public_url\": \"https://a.example\", \"server_name\": \"a.example\", \"server\": {\"listen\": [{\"address\": \"127.0.0.1:1\"}]},";
    let config = with_files(&json.replacen('{', head, 1), &files()).unwrap();
    assert!(config.validation.sanitization.remove_html);
}

// ── The sample and the explanation ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_sample_reads_well_on_a_fresh_clone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = load(&root.join("conf/edge.yaml"), &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.upstreams.keys().collect::<Vec<_>>(), ["homeserver", "miniapps", "wallet"]);
    assert_eq!(config.upstreams["wallet"].tls.as_ref().unwrap().server_name, "wallet.internal");
    let unmet = config.require_for_run().unwrap_err();
    assert_eq!(unmet.len(), 3, "{unmet}");
    for part in [
        "conf/edge.yaml",
        "conf/registration.yaml",
        "conf/miniapps.yaml",
        "conf/../upstreams",
        "conf/../upstreams/wallet.yaml",
    ] {
        assert!(config.files.contains(&root.join(part)), "{part} is not among {:?}", config.files);
    }
}

const MAIN: &str = include_str!("explain/edge.yaml");
const UPSTREAM: &str = include_str!("explain/upstream.yaml");
const MINIAPPS: &str = include_str!("explain/miniapps.yaml");

/// A config as text, without what differs by its name alone.
fn shown(config: Config) -> String {
    format!("{:#?}", Config { files: Vec::new(), unmet: Problems::default(), ..config })
}

#[test]
fn the_explained_values_are_the_defaults() {
    assert_eq!(shown(with_files(MAIN, &files()).unwrap()), shown(with("").unwrap()));
    assert_eq!(upstream(UPSTREAM).unwrap().upstreams["wallet"], upstream(WALLET).unwrap().upstreams["wallet"]);
    let shortest = "miniapps: [{ id: ma_shop_001, name: Shop }]";
    assert_eq!(shown(miniapps(MINIAPPS, "").unwrap()), shown(miniapps(shortest, "").unwrap()));
    assert!(explain().contains("requests_per_minute: 100"));
}

/// The explanation with every key in force: `#key:` loses its `#`, and takes the place of the same key above it.
fn uncommented(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let Some(active) = trimmed.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(['#', ' ']))
        else {
            lines.push(line.to_owned());
            continue;
        };
        let key = active.split(':').next().unwrap();
        let depth = |line: &String| line.len() - line.trim_start().len();
        let same =
            lines.iter().rposition(|line| line.trim_start().starts_with(&format!("{key}:")) && depth(line) == indent);
        if let Some(same) = same
            && !active.starts_with('-')
            && !lines[same..]
                .iter()
                .any(|line| depth(line) < indent && !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        {
            lines.remove(same);
        }
        lines.push(format!("{}{active}", " ".repeat(indent)));
    }
    lines.join("\n")
}

fn key_paths(node: &Node, path: &str, all: &mut Vec<String>) {
    match &node.kind {
        Kind::Map(entries) => {
            for (key, node) in entries {
                let below = if path.is_empty() { key.text.clone() } else { format!("{path}.{}", key.text) };
                all.push(below.clone());
                key_paths(node, &below, all);
            }
        }
        Kind::List(items) => items.iter().for_each(|item| key_paths(item, &format!("{path}[]"), all)),
        Kind::Scalar { .. } => {}
    }
}

/// Key paths with indexes and the names of policies taken out.
fn plain(path: &str) -> String {
    let mut path: String = path.chars().filter(|c| !c.is_ascii_digit()).collect();
    if let Some(rest) = path.strip_prefix("rate_limits.") {
        path = format!("rate_limits.*{}", rest.find('.').map_or("", |at| &rest[at..]));
    }
    path
}

#[test]
fn every_key_is_explained_and_everything_explained_is_a_key() {
    let (main, homeserver) = (uncommented(MAIN), uncommented(UPSTREAM).replace("name: wallet", "name: homeserver"));
    let files = files()
        .with("c/upstreams/homeserver.yaml", homeserver.as_str())
        .with("c/upstreams/wallet.yaml", WALLET)
        .with("c/upstreams/ca.pem", PEM)
        .with("c/upstreams/edge.crt", PEM)
        .with("c/upstreams/edge.key", PEM)
        .with("c/upstreams/homeserver-admin-token", "secret")
        .with("c/registration.yaml", include_str!("../../tests/fixtures/brief/registration.yaml"))
        .with("c/old-hs-token", "old")
        .with("c/master.key", "5".repeat(64))
        .with("c/admin-tokens", "operator:0123456789abcdef")
        .with("c/miniapps.yaml", uncommented(MINIAPPS))
        .with("c/shop-webhook-secret", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    let load = Load::new(&env, &files);
    let node = load.parse(Path::new("c/edge.yaml"), &main);
    let node = node.unwrap_or_else(|| panic!("{:?}\n{main}", load.problems));
    let config = super::load::read(&load, Path::new("c/edge.yaml"), &node);
    let wrong = Problems::new(Path::new(""), load.problems.borrow().clone());
    assert!(wrong.is_empty() && config.is_some(), "with every key in force:\n{wrong}\n{main}");
    config.unwrap();

    let documents = [("c/edge.yaml", MAIN), ("c/upstreams/homeserver.yaml", UPSTREAM), ("c/miniapps.yaml", MINIAPPS)];
    for (file, text) in documents {
        let mut explained = Vec::new();
        key_paths(&tree::parse(&uncommented(text)).unwrap(), "", &mut explained);
        let explained: Vec<String> = explained.iter().map(|path| plain(path)).collect();
        for asked in load.asked.borrow().iter() {
            let Some(path) = asked.strip_prefix(&format!("{file}: ")) else { continue };
            let key = path.rsplit('.').next().unwrap();
            if key.starts_with("requests_per_") {
                continue; // one of three units, explained together
            }
            let told = explained.contains(&plain(path)) || text.contains(&format!("or {key}: ${{NAME}}"));
            assert!(told, "{path} is read from {file} and not explained");
        }
    }
}

// ── Faults, word for word ───────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_text() {
    assert_eq!(
        problems(
            "rate_limits:\n  default: { brust: 3, burst: \"x\" }\nvalidation_rules:\n  max_request_size: big\nlog: { level: loud }\n"
        ),
        "c/edge.yaml:5:14: rate_limits.default.brust: unknown key (did you mean burst?), expected one of: requests_per_minute, \
         requests_per_hour, requests_per_day, burst, algorithm, on_store_failure, report_only\n\
         c/edge.yaml:5:31: rate_limits.default.burst: found \"x\", expected a whole number from 0 to 10000000, without quotes\n\
         c/edge.yaml:7:21: validation_rules.max_request_size: found \"big\", expected a size such as 10MB, 8KB or plain bytes, from 1KB to 1GB\n\
         c/edge.yaml:8:15: log.level: found \"loud\", expected one of: off, error, warn, info, debug, trace"
    );
}

#[test]
fn an_empty_file_lacks_what_is_required() {
    assert_eq!(
        with_files("", &files()).unwrap_err().to_string(),
        "c/edge.yaml:1:1: found nothing, expected a map with public_url, server_name, server …"
    );
    assert_eq!(
        with_files("log: {}\n", &files()).unwrap_err().to_string(),
        "c/edge.yaml:1:1: public_url: missing, expected the https URL that clients reach this edge at\n\
         c/edge.yaml:1:1: server.listen: missing, expected a list of at least one listener\n\
         c/edge.yaml:1:1: server_name: missing, expected the homeserver's name"
    );
}

#[test]
fn a_file_that_is_missing_or_no_text_is_named() {
    let absent = load(Path::new("/nonexistent/edge.yaml"), &env).unwrap_err().to_string();
    assert_eq!(absent, "/nonexistent/edge.yaml: cannot be read: No such file or directory (os error 2)");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.yaml");
    std::fs::write(&file, b"a: \xff").unwrap();
    let text = load(&file, &env).unwrap_err().to_string();
    assert!(text.ends_with("edge.yaml: not UTF-8 text: byte 4 is no part of a character"), "{text}");
}

#[test]
fn a_key_stands_once() {
    assert_eq!(
        problems("cors: {}\ncors: {}\n"),
        "c/edge.yaml:5:1: cors: stands twice (first in line 4), expected each key once"
    );
}

#[test]
fn wrong_types_are_told_with_what_was_found() {
    for (text, told) in [
        ("cors: []", "c/edge.yaml:4:7: cors: found a list, expected a map"),
        ("cors: { origins: 5 }", "c/edge.yaml:4:18: cors.origins: found 5, expected a list of origins"),
        ("tmcp_endpoints: {}", "c/edge.yaml:4:17: tmcp_endpoints: found a map, expected a list of rows"),
        ("tmcp_endpoints:", "c/edge.yaml:4:15: tmcp_endpoints: found nothing, expected a list of rows"),
        (
            "rate_limits: { default: 5 }",
            "c/edge.yaml:4:25: rate_limits.default: found 5, expected a map with requests_per_minute and burst",
        ),
        (
            "rate_limits: { default: { report_only: yes } }",
            "c/edge.yaml:4:40: rate_limits.default.report_only: found \"yes\", expected true or false",
        ),
        (
            "rate_limits: { default: { report_only: 'true' } }",
            "c/edge.yaml:4:40: rate_limits.default.report_only: found \"true\", expected true or false, without quotes",
        ),
        (
            "rate_limits: { default: { burst: 1.5 } }",
            "c/edge.yaml:4:34: rate_limits.default.burst: found 1.5, expected a whole number from 0 to 10000000",
        ),
        (
            "rate_limits: { default: { burst: -1 } }",
            "c/edge.yaml:4:34: rate_limits.default.burst: found -1, expected a whole number from 0 to 10000000",
        ),
        (
            "cache: { auth_cache: { ttl: 2w } }",
            "c/edge.yaml:4:29: cache.auth_cache.ttl: found \"2w\", expected a duration such as 10s, 5m or plain seconds, from 1s to 1d",
        ),
        (
            "log: { access: 12 }",
            "c/edge.yaml:4:16: log.access: found 12, expected a path, relative to this file or absolute (a number meant as text has to be quoted)",
        ),
        (
            "tokens: { access_ttl: 25h }",
            "c/edge.yaml:4:23: tokens.access_ttl: found \"25h\", expected a duration such as 10s, 5m or plain seconds, from 1m to 1d",
        ),
        (
            "tokens: { access_ttl: 2h, refresh_ttl: 1h }",
            "c/edge.yaml:4:40: tokens.refresh_ttl: shorter than access_ttl, expected a refresh token to outlive its access token",
        ),
        (
            "stoer: {}",
            "c/edge.yaml:4:1: stoer: unknown key (did you mean store?), expected one of: public_url, server_name, server, store, keys, upstreams, miniapps, tokens, rate_limits, rate_limit_overrides, tmcp_endpoints, validation_rules, cache, appservice, cors, log, telemetry",
        ),
    ] {
        assert_eq!(problems(text), told);
    }
}

#[test]
fn variables_are_filled_in_and_never_shown() {
    let text = BASE.to_owned() + "log: { level: \"${LEVEL}\" }\nserver:\n  listen: [{ address: '${HOST}:${PORT}' }]\n";
    let threads = with_files(&format!("{text}  threads: ${{PORT}}\n"), &files()).unwrap_err();
    assert_eq!(
        threads.to_string(),
        "c/edge.yaml:6:12: server.threads: found \"${PORT}\", expected a whole number from 0 to 1024"
    );
    let config = with_files(&format!("{text}  limits:\n    connections: ${{PORT}}\n"), &files()).unwrap();
    assert_eq!(config.server.limits.connections, 8081);
    assert_eq!(config.server.listen[0].address.to_string(), "127.0.0.1:8081");
    assert_eq!(config.log.level, log::LevelFilter::Debug);
    assert_eq!(
        problems("log: { access: \"${NOT_THERE}/x\" }"),
        "c/edge.yaml:4:16: log.access: environment variable NOT_THERE is not set, expected a value for it"
    );
    assert_eq!(
        problems("log: { access: \"${NO\" }"),
        "c/edge.yaml:4:16: log.access: `${` without a variable's name, expected ${NAME}, or $${ for these two characters"
    );
    assert_eq!(with("log: { access: 'a$${b}' }").unwrap().log.access, AccessLog::File("c/a${b}".into()));
}

#[test]
fn secrets_come_from_files_or_variables() {
    let key = |text: &str| with(&format!("keys: {{ {text} }}"));
    assert!(key("master_key: '${SECRET}'").is_err_and(|e| e.to_string().contains("the master key is not 32 bytes")));
    let hex = files().with("c/master.key", format!("{}\r\n", "ab".repeat(32)));
    let config = with_files(&format!("{BASE}{LISTEN}keys: {{ master_key_file: master.key }}"), &hex).unwrap();
    assert_eq!(config.master_key.unwrap().expose(), "ab".repeat(32));
    let written = key("master_key: hunter2hunter2").unwrap_err().to_string();
    assert_eq!(
        written,
        "c/edge.yaml:4:21: keys.master_key: a secret is written out here, expected master_key_file: <path>, or ${NAME} to take it from the environment"
    );
    assert_eq!(
        key("master_key: '${EMPTY}'").unwrap_err().to_string(),
        "c/edge.yaml:4:21: keys.master_key: the environment variable is empty, expected master_key_file: <path>, or ${NAME} to take it from the environment"
    );
    assert_eq!(
        key("master_key: '${SECRET}', master_key_file: token").unwrap_err().to_string(),
        "c/edge.yaml:4:21: keys.master_key: stands beside master_key_file, expected one of the two"
    );
    assert_eq!(
        key("master_key_file: nowhere").unwrap_err().to_string(),
        "c/edge.yaml:4:26: keys.master_key_file: c/nowhere cannot be read: entity not found, expected a file that can be read"
    );
}

#[test]
fn the_redis_store_says_what_it_is() {
    assert_eq!(
        problems("store: { kind: redis, nodes: [redis://10.0.0.5:6379], mode: single }"),
        "c/edge.yaml:4:16: store.kind: the redis store is not built yet, expected embedded"
    );
}

#[test]
fn addresses_on_the_web_are_protected() {
    let with_url = |url: &str| with_files(&format!("public_url: {url}\nserver_name: a.example\n{LISTEN}"), &files());
    let expected = "expected the https URL that clients reach this edge at, such as https://tmcp.example.com";
    assert!(
        with_url("http://127.0.0.1:8080").is_ok()
            && with_url("http://localhost:1").is_ok()
            && with_url("http://[::1]").is_ok()
    );
    for (url, told) in [
        (
            "http://tmcp.example.com",
            format!("found \"http://tmcp.example.com\", unprotected, {expected} (http is for loopback addresses only)"),
        ),
        ("https://a:b@c.example", format!("found a URL with a user, password or fragment, {expected}")),
        ("https://a.example/x", format!("found \"https://a.example/x\", with a path or query, {expected}")),
        ("ftp://a.example", format!("found \"ftp://a.example\", {expected}")),
        ("tmcp.example.com", format!("found \"tmcp.example.com\", {expected}")),
    ] {
        assert_eq!(with_url(url).unwrap_err().to_string(), format!("c/edge.yaml:1:13: public_url: {told}"));
    }
    assert!(
        problems("telemetry: { otlp: http://collector:4318 }")
            .contains("telemetry.otlp: found \"http://collector:4318\", unprotected")
    );
}

// ── Server ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn server(text: &str) -> Result<Config, Problems> {
    with_files(&format!("{BASE}server: {{ {text} }}\n"), &files())
}

#[test]
fn listeners_need_addresses_of_their_own() {
    for (text, told) in [
        ("listen: []", "server.listen: an empty list, expected a list of at least one listener"),
        (
            "listen: [{ address: 'localhost:80' }]",
            "server.listen[0].address: found \"localhost:80\", expected an address and port such as 0.0.0.0:8443 or [::]:8443",
        ),
        (
            "listen: [{ address: '127.0.0.1:99999' }]",
            "server.listen[0].address: found \"127.0.0.1:99999\", expected an address and port such as 0.0.0.0:8443 or [::]:8443",
        ),
        (
            "listen: [{ address: '127.0.0.1:80' }, { address: '127.0.0.1:80' }]",
            "server.listen[1]: 127.0.0.1:80 is taken by the listener 127.0.0.1:80, expected each address and port once",
        ),
        (
            "listen: [{ address: '0.0.0.0:80' }, { address: '127.0.0.1:80' }]",
            "server.listen[1]: 127.0.0.1:80 is taken by the listener 0.0.0.0:80, expected each address and port once",
        ),
        (
            "listen: [{ address: '0.0.0.0:9090' }]",
            "server.admin: 127.0.0.1:9090 is taken by the listener 0.0.0.0:9090, expected another address or port for the admin",
        ),
        (
            "listen: [{ address: '127.0.0.1:80', tls: true }]",
            "server.listen[0].tls: found true, expected a map with certificate and key, or false",
        ),
        (
            "listen: [{ address: '127.0.0.1:80', tls: { certificate: tls.crt } }]",
            "server.listen[0].tls.key: missing, expected a PEM file with the private key",
        ),
        (
            "listen: [{ address: '127.0.0.1:80', tls: { certificate: token, key: tls.key } }]",
            "server.listen[0].tls.certificate: c/token holds no PEM block CERTIFICATE, expected -----BEGIN CERTIFICATE-----",
        ),
    ] {
        let text = server(text).unwrap_err().to_string();
        assert!(text.ends_with(told), "{text}\n is not\n{told}");
    }
    let two = server(
        "listen: [{ address: '127.0.0.1:0' }, { address: '127.0.0.1:0', tls: { certificate: tls.crt, key: tls.key } }]",
    )
    .unwrap();
    assert_eq!(two.server.listen[1].tls.as_ref().unwrap().key, Path::new("c/tls.key"));
    assert!(two.files.contains(&"c/tls.crt".into()) && two.files.contains(&"c/tls.key".into()));
}

#[test]
fn proxies_are_ranges_and_never_everybody() {
    let listen = "listen: [{ address: '127.0.0.1:80' }], trusted_proxies";
    assert!(server(&format!("{listen}: [10.0.0.0/8, '::1']")).is_ok());
    let told = server(&format!("{listen}: [10.0.0.5/8, 0.0.0.0/0]")).unwrap_err().to_string();
    assert_eq!(
        told,
        "c/edge.yaml:3:68: server.trusted_proxies[0]: found \"10.0.0.5/8\", expected an address range such as 10.0.0.0/8 (no bits set behind the prefix), or one address\n\
         c/edge.yaml:3:80: server.trusted_proxies[1]: 0.0.0.0/0 would believe every caller, expected the addresses of your own proxies"
    );
}

#[test]
fn an_open_admin_address_needs_tokens_to_run() {
    let open = |more: &str| {
        server(&format!("listen: [{{ address: '127.0.0.1:80' }}], admin: {{ address: '0.0.0.0:9090'{more} }}"))
    };
    let told = open("").unwrap().require_for_run().unwrap_err().to_string();
    assert!(told.contains("server.admin: the admin address 0.0.0.0:9090 can be reached from outside and asks for no token, expected tokens_file: <path>, or a loopback address"), "{told}");
    let config = open(", tokens_file: token, hosts: [admin.internal]").unwrap();
    assert_eq!(config.server.admin.tokens[0].name, "line 1");
    assert!(!config.require_for_run().unwrap_err().to_string().contains("admin"));
    let files = files().with("c/token", "# tokens\nops: 0123456789abcdef\nshort\n");
    let text =
        format!("{BASE}server: {{ listen: [{{ address: '127.0.0.1:80' }}], admin: {{ tokens_file: token }} }}\n");
    let told = with_files(&text, &files).unwrap_err().to_string();
    assert!(told.ends_with("server.admin.tokens_file: line 3 of that file is no token, expected name:token or token, the token of at least 16 printable ASCII characters"), "{told}");
}

#[test]
fn one_whole_body_has_to_fit() {
    let told =
        server("listen: [{ address: '127.0.0.1:80' }], limits: { buffered_bodies: 1MB }").unwrap_err().to_string();
    assert!(told.contains("server.limits.buffered_bodies is less than validation_rules.max_request_size"), "{told}");
}

// ── Limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_policy_keeps_what_it_does_not_say() {
    let config = with("rate_limits: { payment_operations: { burst: 1 }, partner: { requests_per_hour: 60 } }").unwrap();
    let payment = &config.rate_limits["payment_operations"];
    assert_eq!((payment.requests, payment.burst, payment.on_store_failure), (30, 1, OnStoreFailure::Closed));
    assert_eq!(
        (config.rate_limits["partner"].per, config.rate_limits["partner"].burst),
        (Duration::from_secs(3600), 0)
    );
}

#[test]
fn policies_that_make_no_sense() {
    for (text, told) in [
        (
            "rate_limits: { none: { requests_per_minute: 1 } }",
            "rate_limits.none: `none` is reserved for the homeserver's own traffic, expected another name",
        ),
        (
            "rate_limits: { My Limit: { requests_per_minute: 1 } }",
            "rate_limits.My Limit: not a policy's name, expected lower-case letters, digits and `_`",
        ),
        (
            "rate_limits: { partner: { burst: 1 } }",
            "rate_limits.partner: no rate, expected requests_per_minute, requests_per_hour or requests_per_day",
        ),
        (
            "rate_limits: { default: { requests_per_minute: 1, requests_per_day: 1 } }",
            "rate_limits.default.requests_per_day: a second rate, expected one of the rates, not several",
        ),
        (
            "rate_limits: { default: { requests_per_minute: 0 } }",
            "rate_limits.default.requests_per_minute: found 0, expected a whole number from 1 to 10000000",
        ),
        (
            "rate_limits: { paymant_operations: { requests_per_minute: 1 } }",
            "rate_limits.paymant_operations: nothing uses this policy (did you mean payment_operations?), expected a row that names it",
        ),
        (
            "rate_limits: { default: { algorithm: leaky_bucket } }",
            "rate_limits.default.algorithm: found \"leaky_bucket\", expected token_bucket or sliding_window",
        ),
        (
            "rate_limits: { default: { on_store_failure: close } }",
            "rate_limits.default.on_store_failure: found \"close\" (did you mean closed?), expected one of: local, closed, open",
        ),
        (
            "rate_limit_overrides: [{ app: ma_x, policy: defualt, requests_per_minute: 1 }]",
            "rate_limit_overrides[0].policy: there is no limit policy \"defualt\" (did you mean default?), expected one of: default, oauth_endpoints, payment_operations, registration, registry, storage, wallet_resolution",
        ),
        (
            "rate_limit_overrides: [{ app: shop, policy: default, requests_per_minute: 1 }]",
            "rate_limit_overrides[0].app: found \"shop\", expected a mini-app id such as ma_shop_001",
        ),
        (
            "rate_limit_overrides: [{ app: ma_x, policy: registration, requests_per_minute: 1 }]",
            "rate_limit_overrides[0]: counts in another unit than the policy, expected requests_per_day",
        ),
        (
            "rate_limit_overrides: [{ app: ma_x, policy: default, requests_per_minute: 1 }, { app: ma_x, policy: default, requests_per_minute: 2 }]",
            "rate_limit_overrides[1]: ma_x has an override of default already, expected one for each pair",
        ),
    ] {
        let text = problems(text);
        assert!(text.ends_with(told) && text.lines().count() == 1, "{text}\n is not\n{told}");
    }
}

// ── Rows ────────────────────────────────────────────────────────────────────────────────────────────────────────────

fn row_problems(row: &str) -> String {
    problems(&format!("upstreams: u\ntmcp_endpoints:\n{row}"))
}

#[test]
fn rows_that_make_no_sense() {
    for (row, told) in [
        (
            "  - { path: partner, methods: [GET], upstream: wallet }",
            "tmcp_endpoints[0].path: the pattern \"partner\" does not begin with `/`, expected literals, {name} and a * at the end",
        ),
        (
            "  - { path: '/a/*/b', methods: [GET], upstream: wallet }",
            "tmcp_endpoints[0].path: the pattern \"/a/*/b\" has * before its end, expected literals, {name} and a * at the end",
        ),
        (
            "  - { path: /p, methods: [get], upstream: wallet }",
            "tmcp_endpoints[0].methods[0]: found \"get\", expected one of: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        ),
        (
            "  - { path: /p, methods: [], upstream: wallet }",
            "tmcp_endpoints[0].methods: an empty list, expected a list of at least one method (no `methods` at all means every one)",
        ),
        (
            "  - { path: /p, upstream: wallet }",
            "tmcp_endpoints[0]: a new row without methods, expected methods: [GET, …]; only a row over built-in rows may leave them out",
        ),
        (
            "  - { path: /p, methods: [GET], upstream: walet }",
            "tmcp_endpoints[0].upstream: there is no upstream \"walet\" (did you mean wallet?), expected wallet",
        ),
        (
            "  - { path: /p, methods: [GET], upstream: wallet, rate_limit: fast }",
            "tmcp_endpoints[0].rate_limit: there is no limit policy \"fast\", expected one of: default, oauth_endpoints, payment_operations, registration, registry, storage, wallet_resolution",
        ),
        (
            "  - { path: /p, methods: [GET], upstream: wallet, rate_limit: none }",
            "tmcp_endpoints[0].rate_limit: `none` is reserved for the homeserver's own traffic, expected the name of a limit policy",
        ),
        (
            "  - { path: /p, methods: [GET], upstream: wallet, auth_required: false, scopes: ['user:read'] }",
            "tmcp_endpoints[0].scopes: scopes without a token to hold them, expected auth_required: true, or no scopes",
        ),
        (
            "  - { path: /p, methods: [POST], upstream: wallet, cacheable: true }",
            "tmcp_endpoints[0].cacheable: only answers to GET and HEAD can be cached, expected GET among the methods, or false",
        ),
        (
            "  - { path: /p, methods: [GET] }",
            "tmcp_endpoints[0]: nothing answers /p: no built-in row lies under it and it names no upstream, expected upstream: <name>, or a path that covers built-in rows",
        ),
        (
            "  - { path: '/oauth2/*', methods: [DELETE] }",
            "tmcp_endpoints[0]: nothing answers /oauth2/*: no built-in row lies under it and it names no upstream, expected upstream: <name>, or a path that covers built-in rows",
        ),
        (
            "  - { path: '/wallet/v1/*', methods: [GET], upstream: wallet }",
            "tmcp_endpoints[0]: /wallet/v1/* would send the built-in operation wallet_balance to wallet, expected a path that no built-in row has, or no `upstream`",
        ),
        (
            "  - { path: '/api/v1/payments/*', rate_limit: default }",
            "tmcp_endpoints[0]: the limit default is wider than payment_operations, which payment_initiate has, expected a narrower limit: a row over built-in rows may only tighten them (change the policy itself under rate_limits)",
        ),
    ] {
        let text = row_problems(row);
        assert!(text.ends_with(told) && text.lines().count() == 1, "{text}\n is not\n{told}");
    }
    let unknown = row_problems("  - { path: '/api/v1/wallet/*', scopes: ['wallet:balence'] }");
    assert!(unknown.contains("tmcp_endpoints[0].scopes[0]: there is no scope \"wallet:balence\" (did you mean wallet:balance?), expected one of: user:read, "));
}

#[test]
fn the_same_row_twice() {
    let row = "methods: [GET, POST], upstream: wallet }\n";
    assert_eq!(
        row_problems(&format!(
            "  - {{ path: '/p/{{a}}/*', {row}  - {{ path: '/p/{{b}}/{{rest...}}', methods: [POST], upstream: wallet }}\n"
        )),
        "c/edge.yaml:7:5: tmcp_endpoints[1]: POST /p/{b}/{rest...} has a row already, in line 6, expected one row for each method and path"
    );
    let other = format!("upstreams: u\ntmcp_endpoints:\n  - {{ path: '/p/{{a}}', {row}  - {{ path: /p/a, {row}");
    assert_eq!(with(&other).unwrap().endpoints.len(), 2, "a literal is another row than a parameter");
    let all = "  - { path: '/oauth2/*' }\n  - { path: '/oauth2/*', methods: [POST] }\n";
    assert!(row_problems(all).contains("POST /oauth2/* has a row already, in line 6"));
}

#[test]
fn a_row_may_tighten_the_limit_of_built_in_rows() {
    let config = with("tmcp_endpoints: [{ path: '/api/v1/wallet/balance', rate_limit: payment_operations }]").unwrap();
    assert_eq!(config.endpoints[0].rate_limit.as_deref(), Some("payment_operations"));
}

// ── Tokens, mini-apps, registration ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn issuers_are_confined() {
    let issuer = |text: &str| with(&format!("tokens: {{ issuers: [{{ {text} }}] }}"));
    let rest = "apps: [ma_x], scopes: ['wallet:balance'], server_names: [tween.example]";
    let config = issuer(&format!("issuer: 'https://id.example', jwks_url: 'http://127.0.0.1:1/jwks', {rest}")).unwrap();
    assert_eq!(config.tokens.issuers[0].algorithms, [Algorithm::Rs256]);
    for (text, told) in [
        (format!("issuer: 'https://id.example', jwks_url: 'http://id.example/jwks', {rest}"), "tokens.issuers[0].jwks_url: found \"http://id.example/jwks\", unprotected, expected the https URL of its keys (http is for loopback addresses only)"),
        (format!("issuer: 'https://id.example', jwks_url: 'https://id.example/jwks', algorithms: [HS256], {rest}"), "tokens.issuers[0].algorithms[0]: found \"HS256\" (did you mean ES256?), expected one of: RS256, PS256, ES256"),
        (format!("issuer: 'https://id.example', jwks_url: 'https://id.example/jwks', algorithms: [], {rest}"), "tokens.issuers[0].algorithms: an empty list, expected a list of at least one signature algorithm"),
        (format!("issuer: 'https://tmcp.example.com/', jwks_url: 'https://id.example/jwks', {rest}"), "tokens.issuers[0]: the issuer https://tmcp.example.com/ is trusted already, expected each issuer once, and not our own"),
        ("issuer: 'https://id.example', jwks_url: 'https://id.example/jwks', scopes: ['wallet:balance'], server_names: [a]".into(), "tokens.issuers[0].apps: missing, expected the mini-apps that it may speak for"),
    ] {
        let text = issuer(&text).unwrap_err().to_string();
        assert!(text.ends_with(told) && text.lines().count() == 1, "{text}\n is not\n{told}");
    }
}

#[test]
fn mini_apps_that_make_no_sense() {
    let hash = "ab".repeat(32);
    for (text, told) in [
        (
            "miniapps: [{ id: shop, name: S }]".to_owned(),
            "miniapps[0].id: found \"shop\", expected a mini-app id such as ma_shop_001",
        ),
        (
            "miniapps: [{ id: ma_a, name: S }, { id: ma_a, name: T }]".into(),
            "miniapps[1]: ma_a stands twice, expected each mini-app once",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, scopes: ['wallet:admin'] }]".into(),
            "miniapps[0].scopes: wallet:admin is for official mini-apps only, expected classification: official",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, client_secret_hashes: [hunter2] }]".into(),
            "miniapps[0].client_secret_hashes[0]: not a hash, expected the SHA-256 of a client secret, 64 hex digits (printf %s SECRET | sha256sum), in quotes",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, webhook_url: 'http://shop.example' }]".into(),
            "miniapps[0].webhook_url: found \"http://shop.example\", unprotected, expected the https URL that its webhooks go to (http is for loopback addresses only)",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, webhook_secret: whsec_x }]".into(),
            "miniapps[0].webhook_secret: a secret is written out here, expected webhook_secret_file: <path>, or ${NAME} to take it from the environment",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, webhook_secret_file: token }]".into(),
            "miniapps[0]: the webhook secret is malformed, expected whsec_ and then base64 of 24 bytes or more",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, client_secret: x }]".into(),
            "miniapps[0].client_secret: unknown key, expected one of: id, name, classification, scopes, client_secret_hashes, webhook_url, webhook_secret, webhook_secret_file, suspended",
        ),
    ] {
        let text = miniapps(&text, "").unwrap_err().to_string();
        assert!(text.ends_with(told) && text.starts_with("c/apps.yaml:1:"), "{text}\n is not\n{told}");
    }
    let config = miniapps(&format!("miniapps: [{{ id: ma_a, name: S, classification: official, scopes: ['wallet:admin'], client_secret_hashes: ['{hash}'] }}]"), "").unwrap();
    let app = config.miniapps.values().next().unwrap();
    assert!(app.official && app.secret_hashes == [[0xab; 32]]);
}

#[test]
fn mini_apps_that_are_named_have_to_be_known() {
    let apps = "miniapps: [{ id: ma_shop, name: S }]";
    let more = "rate_limit_overrides: [{ app: ma_shpo, policy: default, requests_per_minute: 1 }]";
    assert_eq!(
        miniapps(apps, more).unwrap_err().to_string(),
        "c/edge.yaml:5:31: rate_limit_overrides[0].app: there is no mini-app ma_shpo (did you mean ma_shop?), expected a mini-app of the file under `miniapps`"
    );
    let broken = miniapps("miniapps: [{ id: ma_shop }]", more).unwrap_err().to_string();
    assert_eq!(broken, "c/apps.yaml:1:12: miniapps[0].name: missing, expected a name for people");
}

#[test]
fn registrations() {
    let brief = include_str!("../../tests/fixtures/brief/registration.yaml");
    let real =
        brief.replace("<APPLICATION_SERVICE_TOKEN>", "as-token-demo").replace("<HOMESERVER_TOKEN>", "hs-token-demo");
    let config =
        registration(&format!("{real}de.sorunome.msc2409.push_ephemeral: true\nrate_limited: false\n")).unwrap();
    assert!(config.appservice.unwrap().hs_tokens[0].matches(b"hs-token-demo"));
    for (text, told) in [
        (
            real.replace("hs-token-demo", "as-token-demo"),
            "c/reg.yaml:1:1: as_token and hs_token are the same, expected two tokens: each side proves itself with its own",
        ),
        (
            real.replace("@ma_.*", "@ma_(.*"),
            "c/reg.yaml:11:14: namespaces.users[1].regex: the pattern \"@ma_(.*\" does not compile: Parsing error at position 7: Opening parenthesis without closing parenthesis, expected a regular expression",
        ),
        (
            real.replace("sender_localpart: _tmcp\n", ""),
            "c/reg.yaml:1:1: sender_localpart: missing, expected the localpart of the service's own user",
        ),
        (
            format!("{real}protocls: []\n"),
            "c/reg.yaml:15:1: protocls: unknown key (did you mean protocols?), expected one of: id, url, as_token, hs_token, sender_localpart, namespaces, rate_limited, receive_ephemeral, protocols",
        ),
        (
            real.replace("hs-token-demo", "\"two words\""),
            "c/reg.yaml:4:11: hs_token: found what no header can carry, expected a token of printable ASCII characters without spaces",
        ),
    ] {
        assert_eq!(registration(&text).unwrap_err().to_string(), told);
    }
}

#[test]
fn a_second_token_of_the_homeserver_while_it_is_changed() {
    let brief = include_str!("../../tests/fixtures/brief/registration.yaml");
    let files = files().with("c/reg.yaml", brief.replace("<HOMESERVER_TOKEN>", "new"));
    let more = "appservice: { registration: reg.yaml, previous_hs_token_file: token, query_token: true }\n";
    let appservice = with_files(&format!("{BASE}{LISTEN}{more}"), &files).unwrap().appservice.unwrap();
    assert_eq!(
        appservice.hs_tokens.iter().map(Secret::expose).collect::<Vec<_>>(),
        ["new", "0123456789abcdef0123456789abcdef"]
    );
    assert!(appservice.query_token);
}

// ── Upstreams ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn upstreams_that_make_no_sense() {
    for (more, told) in [
        (
            "breaker: { window: 5, failures: 6 }",
            "breaker.failures: 6 failures can never be among 5 calls, expected at most `window`",
        ),
        ("breaker: { failures: 0 }", "breaker.failures: found 0, expected a whole number from 1 to 1000"),
        ("health: { path: health }", "health.path: found \"health\", expected a path such as /health"),
        (
            "health: { path: /h, unhealthy_after: 0 }",
            "health.unhealthy_after: found 0, expected a whole number from 1 to 100",
        ),
        ("health: {}", "health.path: missing, expected a path such as /health"),
        ("retries: 3", "retries: found 3, expected a whole number from 0 to 1"),
        (
            "timeouts: { read: 0 }",
            "timeouts.read: found 0, expected a duration such as 10s, 5m or plain seconds, from 10ms to 1h",
        ),
        ("paths: tweet", "paths: found \"tweet\" (did you mean tween?), expected one of: protocol, tween, as_sent"),
        (
            "paths: { wallet_balence: /b }",
            "paths.wallet_balence: there is no operation of that name (did you mean wallet_balance?), expected an operation that the wallet answers",
        ),
        (
            "paths: { storage_get: /b }",
            "paths.storage_get: this operation is not forwarded to a wallet, expected an operation that the wallet answers",
        ),
        (
            "paths: { wallet_resolve: '/r/{user}' }",
            "paths.wallet_resolve: wallet_resolve has no parameter {user}, expected only {user_id}",
        ),
        (
            "paths: { wallet_balance: '/r//b' }",
            "paths.wallet_balance: the template \"/r//b\" has an empty segment, expected a path with {name} for parameters",
        ),
        (
            "forward_client_api: true",
            "forward_client_api: not for this upstream, expected it with the upstream named homeserver",
        ),
        (
            "admin_api: { token: hunter2 }",
            "admin_api.token: a secret is written out here, expected token_file: <path>, or ${NAME} to take it from the environment",
        ),
        (
            "pol: 5",
            "pol: unknown key (did you mean pool?), expected one of: name, addresses, tls, http2, timeouts, pool, retries, breaker, health, paths, forward_client_api, admin_api",
        ),
    ] {
        let text = upstream_problems(more);
        assert!(text.contains(told) && text.starts_with("c/u/wallet.yaml:4:"), "{text}\n is not\n{told}");
    }
    let expected = "expected host:port, the host a name, an IPv4 or a bracketed IPv6 address";
    for (addresses, told) in [
        ("[]", "addresses: an empty list, expected a list of at least one host:port".to_owned()),
        ("[wallet]", format!("addresses[0]: found \"wallet\", {expected}")),
        ("['wallet:0']", format!("addresses[0]: found \"wallet:0\", {expected}")),
        ("['https://w:1']", format!("addresses[0]: found \"https://w:1\", {expected}")),
        ("['w:1', 'w:1']", "addresses[1]: stands twice, expected each address once".into()),
    ] {
        let text = upstream(&format!("name: wallet\naddresses: {addresses}\ntls: false\n")).unwrap_err().to_string();
        assert!(text.ends_with(&told), "{text}\n is not\n{told}");
    }
}

#[test]
fn tls_towards_an_upstream_names_whom_to_expect() {
    let tls = |tls: &str| upstream(&format!("name: wallet\naddresses: ['w:1']\ntls: {tls}\n"));
    let why = "expected the name in its certificate (an empty one would switch verification off)";
    assert_eq!(
        tls("{ server_name: '' }").unwrap_err().to_string(),
        format!("c/u/wallet.yaml:3:21: tls.server_name: found \"\", {why}")
    );
    assert_eq!(tls("{}").unwrap_err().to_string(), format!("c/u/wallet.yaml:3:6: tls.server_name: missing, {why}"));
    assert_eq!(
        tls("true").unwrap_err().to_string(),
        "c/u/wallet.yaml:3:6: tls: found true, expected false, or a map with server_name"
    );
    assert_eq!(
        tls("{ server_name: w, client_key: ../tls.key }").unwrap_err().to_string(),
        "c/u/wallet.yaml:3:6: tls.client_certificate: missing, expected a PEM file with the certificate chain\n\
         c/u/wallet.yaml:3:36: tls.client_key: c/u/../tls.key cannot be read: entity not found, expected a file that can be read"
    );
    assert_eq!(tls("{ server_name: w }").unwrap().upstreams["wallet"].tls.as_ref().unwrap().server_name, "w");
}

#[test]
fn the_folder_of_upstreams() {
    assert_eq!(
        problems("upstreams: nowhere\n"),
        "c/edge.yaml:4:12: upstreams: c/nowhere cannot be listed: entity not found, expected a folder with a file per upstream"
    );
    let two = files().with("c/u/z.yaml", WALLET).with("c/u/.wallet.yaml.swp", "x").with("c/u/notes.txt", "x");
    assert_eq!(
        with_files(&format!("{BASE}{LISTEN}upstreams: u\n"), &two).unwrap_err().to_string(),
        "c/u/z.yaml:1:7: name: another file has the name wallet, expected each name once"
    );
    // A row that names an upstream whose file has faults is not at fault itself.
    let broken = files().with("c/u/wallet.yaml", format!("{WALLET}pool: x\n"));
    let more = "upstreams: u\ntmcp_endpoints: [{ path: /p, methods: [GET], upstream: wallet }]\n";
    let told = with_files(&format!("{BASE}{LISTEN}{more}"), &broken).unwrap_err();
    assert_eq!(told.to_string(), "c/u/wallet.yaml:4:7: pool: found \"x\", expected a whole number from 0 to 65536");
    let table = upstream(&format!("{WALLET}paths: {{ wallet_balance: /b }}\n")).unwrap();
    let Paths::Table(table) = &table.upstreams["wallet"].paths else { panic!("no table") };
    assert_eq!(table[&Operation::WalletBalance], "/b");
}

#[test]
fn origins_stand_as_browsers_send_them() {
    assert_eq!(
        with("cors: { origins: ['https://a.example', 'http://127.0.0.1:5173'] }").unwrap().cors_origins.len(),
        2
    );
    for bad in [
        "*",
        "a.example",
        "https://a.example/",
        "https://A.example",
        "https://a.example:443",
        "https://",
        "https://u@a.example",
        "null",
        "data:x",
    ] {
        let text = problems(&format!("cors: {{ origins: ['{bad}'] }}"));
        assert!(
            text.contains(&format!("cors.origins[0]: found \"{bad}\", expected an origin as browsers send it")),
            "{text}"
        );
    }
}

// ── Whatever comes ──────────────────────────────────────────────────────────────────────────────────────────────────

/// YAML that looks like a config, with wrong things in wrong places.
fn yaml() -> impl Strategy<Value = String> {
    let keys = prop::sample::select(vec![
        "public_url",
        "server",
        "listen",
        "address",
        "tls",
        "rate_limits",
        "default",
        "burst",
        "tmcp_endpoints",
        "path",
        "methods",
        "scopes",
        "upstreams",
        "miniapps",
        "file",
        "cache",
        "ttl",
        "keys",
        "master_key_file",
        "appservice",
        "registration",
        "tokens",
        "issuers",
    ]);
    let scalars = prop_oneof![
        Just("~".to_owned()),
        Just("true".into()),
        Just("-7".into()),
        Just("10s".into()),
        Just("'${SECRET}'".into()),
        Just("'${'".into()),
        Just("u".into()),
        Just("token".into()),
        Just("'/a/{b}/*'".into()),
        Just("&x 1".into()),
        "[ -~]{0,12}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
    ];
    scalars.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|entries| {
                let entries: Vec<_> = entries.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_structure_is_too_much(text in yaml()) {
        if let Err(problems) = with_files(&text, &files()) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|problem| !problem.to_string().contains("defect")), "{}", problems);
            prop_assert!(!problems.to_string().contains("0123456789abcdef"), "a secret was shown: {}", problems);
        }
    }

    #[test]
    fn no_text_is_too_much(text in "\\PC*") {
        let _ = with_files(&text, &files());
    }

    #[test]
    fn no_yaml_like_text_is_too_much(text in "([a-z&*!|>%@`\\-?:,\\[\\]{}#'\"\\\\ ~\n\t0-9]|: |- |\r\n|\u{feff}|\u{85}){0,200}") {
        let _ = with_files(&text, &files());
    }

    #[test]
    fn no_bytes_are_too_much(bytes: Vec<u8>) {
        let files = files().with("c/u/wallet.yaml", bytes.clone()).with("c/apps.yaml", bytes.clone()).with("c/reg.yaml", bytes);
        let more = "upstreams: u\nminiapps: { file: apps.yaml }\nappservice: { registration: reg.yaml }\nserver: { admin: { tokens_file: reg.yaml } }\n";
        let _ = with_files(&format!("{BASE}{more}"), &files);
    }

    #[test]
    fn every_cut_of_the_explanation_is_answered(at in 0..MAIN.len()) {
        let at = (at..).find(|at| MAIN.is_char_boundary(*at)).unwrap();
        let _ = with_files(&MAIN[..at], &files());
    }
}
