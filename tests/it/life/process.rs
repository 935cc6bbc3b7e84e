//! A config in a folder of its own, and an edge process that serves it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tmcp_edge::clock::Clock;
use tmcp_edge::model::{MiniAppId, Scope, UserId};
use tmcp_edge::policy::keyring::{Keyring, TokenRequest, issuer_of};

use crate::edge::keyring;

/// The binary that cargo has built, or the one that the environment names.
pub fn binary() -> PathBuf {
    std::env::var_os("TMCP_EDGE_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_tmcp-edge").into()).into()
}

pub const APP: &str = "ma_shop_001";
pub const ALICE: &str = "@alice:tween.example";
pub const BOB: &str = "@bob:tween.example";
const PUBLIC_URL: &str = "https://tmcp.test";
/// A demo key that protects nothing: 32 bytes in hexadecimal.
const MASTER_KEY: &str = "64656d6f206b6579207468617420776f756c642070726f74656374206e6f6e65";

/// A config that can be changed before and after the edge runs. Files are JSON, which is YAML too.
pub struct Setup {
    folder: Arc<TempDir>,
    pub edge: Value,
    pub upstreams: BTreeMap<String, Value>,
    pub miniapps: Value,
    pub registration: Value,
}

/// A port below those that the kernel gives to outgoing connections, so that nobody takes it between two bindings.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let spread = u16::try_from(std::process::id() % 400).unwrap() * 50;
        let port = 10_000 + (spread + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

impl Setup {
    /// An edge in front of a wallet at `wallet`, with limits that are in nobody's way.
    pub fn new(wallet: SocketAddr) -> Setup {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        fs::write(folder.path().join("master.key"), MASTER_KEY).unwrap();
        let plenty = json!({"requests_per_minute": 1_000_000, "burst": 1_000_000});
        let edge = json!({
            "public_url": PUBLIC_URL,
            "server_name": "tween.example",
            "server": {
                "listen": [{"address": free_address().to_string()}],
                "admin": {"address": free_address().to_string()},
                "threads": 2,
                "limits": {
                    "connections": 2000,
                    "per_ip": 2000,
                    "in_flight_per_ip": 1000,
                    "requests_per_second_per_ip": 0,
                    "failed_auth_per_minute": 1_000_000,
                },
                "drain": "10s",
                "upgrade_socket": "upgrade.sock",
            },
            "store": {"kind": "embedded", "path": "store"},
            "keys": {"master_key_file": "master.key"},
            "miniapps": {"file": "miniapps.yaml"},
            "appservice": {"registration": "registration.yaml"},
            "rate_limits": {"default": plenty, "payment_operations": plenty},
            "upstreams": "upstreams",
            "log": {"level": "info", "access": "access.log"},
        });
        let miniapps = json!({"miniapps": [{
            "id": APP,
            "name": "Shop",
            "classification": "community",
            "scopes": ["user:read", "wallet:balance", "wallet:history", "wallet:pay"],
        }]});
        let registration = json!({
            "id": "tween-miniapps",
            "url": PUBLIC_URL,
            "as_token": "as-token-of-a-test",
            "hs_token": "hs-token-of-a-test",
            "sender_localpart": "_tmcp",
            "namespaces": {"users": [{"exclusive": true, "regex": "@_tmcp_.*"}], "aliases": []},
        });
        let upstreams = BTreeMap::from([("wallet".to_owned(), upstream("wallet", &[wallet]))]);
        Setup { folder, edge, upstreams, miniapps, registration }
    }

    /// Adds a row `/partner/v1/*` for GET and POST with a TEP token, answered by an upstream at `addresses`.
    pub fn with_partner(mut self, addresses: &[SocketAddr]) -> Setup {
        self.upstreams.insert("partner".to_owned(), upstream("partner", addresses));
        self.edge["tmcp_endpoints"] = json!([{
            "path": "/partner/v1/*",
            "methods": ["GET", "POST"],
            "operation": "Partner",
            "auth_required": true,
            "scopes": ["user:read"],
            "upstream": "partner",
        }]);
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self) -> PathBuf {
        self.folder().join("edge.yaml")
    }

    /// Where the first listener is.
    pub fn address(&self) -> SocketAddr {
        self.edge["server"]["listen"][0]["address"].as_str().unwrap().parse().unwrap()
    }

    pub fn admin(&self) -> SocketAddr {
        self.edge["server"]["admin"]["address"].as_str().unwrap().parse().unwrap()
    }

    /// Puts everything into its files, each in one step.
    pub fn write(&self) {
        let put = |path: PathBuf, value: &Value| {
            let half = path.with_extension("half");
            fs::write(&half, serde_json::to_string_pretty(value).unwrap()).unwrap();
            fs::rename(half, path).unwrap();
        };
        let upstreams = self.folder().join("upstreams");
        fs::create_dir_all(&upstreams).unwrap();
        for (name, value) in &self.upstreams {
            put(upstreams.join(format!("{name}.yaml")), value);
        }
        put(self.folder().join("miniapps.yaml"), &self.miniapps);
        put(self.folder().join("registration.yaml"), &self.registration);
        put(self.file(), &self.edge);
    }

    fn keyring(&self) -> Keyring {
        let keyring = keyring(&self.folder().join("store"), MASTER_KEY);
        keyring.ensure_signing_key(Clock::system().unix_secs()).unwrap();
        keyring
    }

    /// A token with every scope that the mini-app has.
    pub fn token(&self, user: &str) -> String {
        let scopes = [Scope::UserRead, Scope::WalletBalance, Scope::WalletHistory, Scope::WalletPay];
        let request = TokenRequest::new(
            UserId::parse(user).unwrap(),
            MiniAppId::parse(APP).unwrap(),
            scopes.into_iter().collect(),
            3600,
        );
        let issuer = issuer_of(&PUBLIC_URL.parse().unwrap());
        self.keyring().mint(&issuer, &request, Clock::system().unix_secs()).unwrap()
    }

    /// Writes the files and starts an edge that listens once this returns.
    pub async fn start(&self) -> Edge {
        self.write();
        let mut edge = self.spawn(&[]);
        super::until("the edge listens", || {
            assert!(edge.is_running(), "ended before it listened: {}", edge.log());
            TcpStream::connect(edge.address).is_ok()
        })
        .await;
        edge
    }

    /// Starts `run` with further arguments, and waits for nothing.
    pub fn spawn(&self, more: &[&str]) -> Edge {
        static NUMBER: AtomicU16 = AtomicU16::new(0);
        let log = self.folder().join(format!("process-{}.log", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let child = Command::new(binary())
            .arg("run")
            .arg("--config")
            .arg(self.file())
            .args(more)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Edge { child, log, address: self.address(), admin: self.admin(), _folder: self.folder.clone() }
    }

    /// Runs another command on the config to its end.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(binary()).args(arguments).arg("--config").arg(self.file()).output().unwrap()
    }
}

/// A plain upstream with short time-outs and no health check.
pub fn upstream(name: &str, addresses: &[SocketAddr]) -> Value {
    json!({
        "name": name,
        "addresses": addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "tls": false,
        "http2": false,
        "timeouts": {"connect": "2s", "read": "20s", "write": "10s", "idle": "50s"},
        "health": false,
    })
}

/// A running `tmcp-edge run`. Dropping it kills the process.
pub struct Edge {
    child: Child,
    log: PathBuf,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    _folder: Arc<TempDir>,
}

impl Edge {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What the process has written to standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where standard error goes.
    pub fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    /// The value of a metric, named with its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = reqwest::get(self.admin_url("/metrics")).await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("tmcp_edge_")?.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no metric {name}: {text}"))
    }

    /// How often a text stands in the log.
    pub fn logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Sends SIGHUP and waits until another config is in force.
    pub async fn reload(&self) {
        let before = self.logged("is in force");
        self.signal(Signal::HUP);
        super::until("the reload took effect", || {
            let log = self.log();
            assert!(!log.contains("reload failed"), "{log}");
            log.matches("is in force").count() > before
        })
        .await;
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the process's own end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        super::until("the process ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the edge at {}:\n{}", self.address, self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
