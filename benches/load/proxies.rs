//! The proxies that are compared, and how each is told to do its job.

use std::fs;
use std::path::{Path, PathBuf};

use super::process::{Process, find, free_port};
use super::tokens::{APP, PUBLIC_URL, Tokens};

/// A proxy to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `tmcp-edge run` with everything on.
    Edge,
    /// A Pingora pass-through with the system's allocator.
    BareDefault,
    /// A Pingora pass-through with the edge's allocator.
    BareMimalloc,
    /// HAProxy, passing through.
    Haproxy,
    /// nginx, passing through.
    Nginx,
    /// Envoy, passing through.
    Envoy,
    /// No proxy: the upstream itself.
    Direct,
}

impl Kind {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Edge => "edge, everything on",
            Kind::BareDefault => "bare Pingora, default allocator",
            Kind::BareMimalloc => "bare Pingora, mimalloc",
            Kind::Haproxy => "HAProxy, pass-through",
            Kind::Nginx => "nginx, pass-through",
            Kind::Envoy => "Envoy, pass-through",
            Kind::Direct => "no proxy",
        }
    }

    /// The name in the JSON report.
    pub const fn key(self) -> &'static str {
        match self {
            Kind::Edge => "edge",
            Kind::BareDefault => "bare_default",
            Kind::BareMimalloc => "bare_mimalloc",
            Kind::Haproxy => "haproxy",
            Kind::Nginx => "nginx",
            Kind::Envoy => "envoy",
            Kind::Direct => "direct",
        }
    }
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `tmcp-edge`.
    pub edge: PathBuf,
    /// The example `bare_default`.
    pub bare_default: PathBuf,
    /// The example `bare_mimalloc`.
    pub bare_mimalloc: PathBuf,
}

/// A proxy that runs.
pub struct Running {
    /// Its process; `None` for [`Kind::Direct`].
    pub process: Option<Process>,
    /// Where it listens.
    pub port: u16,
    /// Its admin port, of the edge.
    pub admin: u16,
    /// Its config and logs; deleted when dropped.
    pub folder: tempfile::TempDir,
}

/// Starts proxies in front of one upstream.
pub struct Starter<'a> {
    /// The programs.
    pub programs: &'a Programs,
    /// The edge's keys.
    pub tokens: &'a Tokens,
    /// The upstream's port.
    pub upstream: u16,
    /// The core to run on.
    pub core: Option<usize>,
    /// Memory for verified tokens, such as `256MB`; the edge's default when `None`.
    pub auth_cache: Option<&'a str>,
}

impl Starter<'_> {
    /// Starts `kind` and waits until it listens.
    pub async fn start(&self, kind: Kind) -> Result<Running, String> {
        let folder = tempfile::Builder::new().prefix("tmcp-load-").tempdir().map_err(|e| e.to_string())?;
        if kind == Kind::Direct {
            return Ok(Running { process: None, port: self.upstream, admin: 0, folder });
        }
        let at = folder.path();
        let (port, admin) = (free_port()?, free_port()?);
        let (program, arguments) = self.command(kind, at, port, admin)?;
        let mut process = Process::start(&program, &arguments, self.core, &at.join("output"))?;
        process.wait_for(port).await.map_err(|e| format!("{}: {e}", kind.name()))?;
        Ok(Running { process: Some(process), port, admin, folder })
    }

    /// Starts an edge as `setup` says; it may not be listening yet.
    pub fn edge(&self, setup: &EdgeSetup, folder: tempfile::TempDir) -> Result<Running, String> {
        let config = setup.write(folder.path(), self.tokens)?;
        let arguments = ["run".to_owned(), "--config".to_owned(), config.display().to_string()];
        let process = Process::start(&self.programs.edge, &arguments, self.core, &folder.path().join("output"))?;
        Ok(Running { process: Some(process), port: setup.port, admin: setup.admin, folder })
    }

    fn command(&self, kind: Kind, at: &Path, port: u16, admin: u16) -> Result<(PathBuf, Vec<String>), String> {
        let upstream = format!("127.0.0.1:{}", self.upstream);
        let listen = format!("127.0.0.1:{port}");
        let write = |name: &str, text: String| -> Result<String, String> {
            let file = at.join(name);
            fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
            Ok(file.display().to_string())
        };
        let installed = |name: &str| find(name).ok_or_else(|| format!("{name} is not installed"));
        Ok(match kind {
            Kind::Edge => {
                let auth_cache = self.auth_cache.map(str::to_owned);
                let setup = EdgeSetup { port, admin, upstream: self.upstream, auth_cache, ..EdgeSetup::default() };
                let config = setup.write(at, self.tokens)?;
                (self.programs.edge.clone(), vec!["run".into(), "--config".into(), config.display().to_string()])
            }
            Kind::BareDefault => (self.programs.bare_default.clone(), vec![listen, upstream]),
            Kind::BareMimalloc => (self.programs.bare_mimalloc.clone(), vec![listen, upstream]),
            Kind::Haproxy => {
                let file = write("haproxy.cfg", haproxy(&listen, &upstream))?;
                (installed("haproxy")?, vec!["-db".into(), "-f".into(), file])
            }
            Kind::Nginx => {
                let file = write("nginx.conf", nginx(at, &listen, &upstream))?;
                (installed("nginx")?, vec!["-p".into(), at.display().to_string(), "-c".into(), file])
            }
            Kind::Envoy => {
                let file = write("envoy.yaml", envoy(port, self.upstream))?;
                let arguments = ["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c", &file];
                (installed("envoy")?, arguments.map(str::to_owned).to_vec())
            }
            Kind::Direct => return Err("no proxy is no program".to_owned()),
        })
    }
}

/// What the edge under test is told.
#[derive(Clone, Debug, Default)]
pub struct EdgeSetup {
    /// Where it listens.
    pub port: u16,
    /// Its admin port.
    pub admin: u16,
    /// The wallet's port.
    pub upstream: u16,
    /// A port for TLS and HTTP/2, with `tls.crt` and `tls.key` of the folder; 0: none.
    pub tls: u16,
    /// Whether it can be upgraded, over `upgrade.sock` of the folder. Draining then takes up to 45 s.
    pub upgradable: bool,
    /// Routes laid over the built-in ones.
    pub routes: usize,
    /// Memory for verified tokens; `None`: the default.
    pub auth_cache: Option<String>,
    /// The port of the Redis that it keeps its state on; `None`: in its folder.
    pub redis: Option<u16>,
    /// Whether its limits are the brief's rather than so wide that nothing is refused; it waits for Redis then, as it
    /// would not otherwise.
    pub brief_limits: bool,
    /// Whether there is [`PLAIN`].
    pub plain_row: bool,
}

/// A row that asks for a token, but for no scope.
pub const PLAIN: &str = "/partner/v1/plain";

impl EdgeSetup {
    /// Writes the config into `folder`, with everything on. The main file's path is returned.
    pub fn write(&self, folder: &Path, tokens: &Tokens) -> Result<PathBuf, String> {
        let told = |what: &Path, error: std::io::Error| format!("{}: {error}", what.display());
        for sub in ["upstreams", "store"] {
            let sub = folder.join(sub);
            fs::create_dir_all(&sub).map_err(|e| told(&sub, e))?;
        }
        for (from, to) in [("master.key", "master.key"), ("store.redb", "store/store.redb")] {
            let to = folder.join(to);
            if !to.exists() {
                fs::copy(tokens.folder.join(from), &to).map_err(|e| told(&to, e))?;
            }
        }
        let main = folder.join("edge.yaml");
        let files =
            [("edge.yaml", self.main_file()), ("upstreams/wallet.yaml", self.wallet()), ("miniapps.yaml", miniapps())];
        for (name, text) in files {
            // Replaced in one step: a running edge may be reading it.
            let (file, new) = (folder.join(name), folder.join(format!("{name}.new")));
            fs::write(&new, text).and_then(|()| fs::rename(&new, &file)).map_err(|e| told(&file, e))?;
        }
        Ok(main)
    }

    fn main_file(&self) -> String {
        let EdgeSetup { port, admin, .. } = self;
        let more_listeners = match self.tls {
            0 => String::new(),
            port => {
                format!("    - {{ address: \"127.0.0.1:{port}\", tls: {{ certificate: tls.crt, key: tls.key }} }}\n")
            }
        };
        let store = match self.redis {
            // What the brief's limits are looked at for is how exact they are together, which an edge alone is not.
            Some(port) if self.brief_limits => {
                format!("{{ kind: redis, nodes: [\"redis://127.0.0.1:{port}\"], timeouts: {{ limits: 1s }} }}")
            }
            Some(port) => format!("{{ kind: redis, nodes: [\"redis://127.0.0.1:{port}\"] }}"),
            None => "{ kind: embedded, path: store }".to_owned(),
        };
        let default = if self.brief_limits {
            "{ requests_per_minute: 100, burst: 20 }"
        } else {
            "{ requests_per_minute: 10000000, burst: 10000000 }"
        };
        let more_server = if self.upgradable { "  upgrade_socket: upgrade.sock\n  drain: 45s\n" } else { "" };
        let mut text = format!(
            "public_url: {PUBLIC_URL}
server_name: tween.example
server:
  listen:
    - address: 127.0.0.1:{port}
{more_listeners}  admin: {{ address: 127.0.0.1:{admin} }}
  threads: 1
  limits:
    connections: 50000
    per_ip: 50000
    in_flight_per_ip: 50000
    keepalive_requests: 10000000
    requests_per_second_per_ip: 10000000
{more_server}store: {store}
keys: {{ master_key_file: master.key }}
rate_limits:
  default: {default}
  payment_operations: {{ requests_per_minute: 10000000, burst: 10000000 }}
upstreams: upstreams
miniapps: {{ file: miniapps.yaml }}
log: {{ level: warn, access: access.log }}
"
        );
        if let Some(size) = &self.auth_cache {
            text.push_str(&format!("cache: {{ auth_cache: {{ max_size: {size} }} }}\n"));
        }
        if self.routes > 0 || self.plain_row {
            text.push_str("tmcp_endpoints:\n");
        }
        if self.plain_row {
            text.push_str(&format!(
                "  - {{ path: {PLAIN}, methods: [GET], operation: Plain, auth_required: true, rate_limit: default, \
                 upstream: wallet }}\n"
            ));
        }
        for route in 0..self.routes {
            text.push_str(&format!(
                "  - {{ path: \"/partner/v1/service{route}/items/{{item}}\", methods: [GET], operation: \"Partner \
                 {route}\", auth_required: true, scopes: [\"wallet:balance\"], rate_limit: default, upstream: wallet \
                 }}\n"
            ));
        }
        text
    }

    fn wallet(&self) -> String {
        format!(
            "name: wallet
addresses: [\"127.0.0.1:{}\"]
tls: false
timeouts: {{ connect: 2s, read: 10s, write: 10s, idle: 50s }}
pool: 256
health: {{ path: /health, every: 5s, unhealthy_after: 3, healthy_after: 1 }}
",
            self.upstream
        )
    }
}

fn miniapps() -> String {
    format!(
        "miniapps:
  - id: {APP}
    name: Load
    classification: verified
    scopes: [\"wallet:balance\", \"wallet:history\", \"wallet:pay\"]
"
    )
}

fn haproxy(listen: &str, upstream: &str) -> String {
    format!(
        "global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 30s
  http-reuse always
frontend in
  bind {listen}
  default_backend out
backend out
  server wallet {upstream} pool-max-conn 256
"
    )
}

fn nginx(folder: &Path, listen: &str, upstream: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  upstream wallet {{ server {upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen {listen};
    location / {{ proxy_pass http://wallet; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
  }}
}}
"
    )
}

fn envoy(port: u16, upstream: u16) -> String {
    let address = |port| format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}");
    let (listen, upstream) = (address(port), address(upstream));
    format!(
        "static_resources:
  listeners:
    - address: {listen}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: in
                route_config:
                  virtual_hosts:
                    - {{ name: all, domains: [\"*\"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: wallet }} }}] }}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
    - name: wallet
      type: STATIC
      connect_timeout: 2s
      load_assignment:
        cluster_name: wallet
        endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {upstream} }} }}] }}]
"
    )
}
