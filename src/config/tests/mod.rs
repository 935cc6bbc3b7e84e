//! The loader as a whole: what is taken, and the exact words for what is not.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::model::miniapp::ClientType;
use crate::model::{Operation, Scope, ScopeSet};

mod brief;
mod explained;
mod files;
mod fuzz;
mod sections;
mod text;

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

#[test]
fn five_thousand_rows_are_read() {
    let mut more = String::from("upstreams: u\ntmcp_endpoints:\n");
    for n in 0..5_000 {
        more += &format!(
            "  - {{ path: '/partner/{n}/{{id}}/*', methods: [GET, POST], scopes: ['user:read'], upstream: wallet }}\n"
        );
    }
    assert_eq!(with(&more).unwrap().endpoints.len(), 5_000);
}
