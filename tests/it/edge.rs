//! An edge under test: the real binary on free ports, over sandbox upstreams in this process.
//!
//! [`shared`] is one edge for every test that changes nothing about it; [`Setup`] starts one of a test's own. Requests
//! come from an address of their own each, by `X-Forwarded-For` from a trusted proxy, so that what one test does to
//! its limits is nothing to another; and they bear a mark by which a test finds them again at the wallet.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tmcp_edge::clock::{Clock, Tick};
use tmcp_edge::config::{self, Secret, Store};
use tmcp_edge::metrics::Metrics;
use tmcp_edge::model::{MiniAppId, Scope, ScopeSet, UserId};
use tmcp_edge::policy::authn::Generation;
use tmcp_edge::policy::keyring::{Keyring, TokenRequest};
use tmcp_edge::sandbox::recorder::Recorded;
use tmcp_edge::sandbox::{Running, Sandbox, SandboxConfig, Served, random};
use tmcp_edge::store::Backend;

use crate::wire::{Answer, Request, Wire};

pub const SERVER_NAME: &str = "tween.example";
pub const ROOM: &str = "!chat:tween.example";
/// The community mini-app, with every ordinary scope.
pub const APP: &str = "ma_shop_001";
/// Where its codes go.
pub const REDIRECT: &str = "https://shop.example/callback";
/// A public mini-app on the user's own device.
pub const PUBLIC_APP: &str = "ma_notes_001";
/// A hybrid one: a front without a secret, and a back end with the shop's.
pub const HYBRID_APP: &str = "ma_game_001";
/// The official one, with every scope there is.
pub const OFFICIAL_APP: &str = "ma_bank_001";
/// What opens the admin address.
pub const ADMIN_TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// What lets one look there, and no more.
pub const VIEWER_TOKEN: &str = "fedcba9876543210fedcba9876543210";
/// For the edge to come up, on a machine that is busy.
const START_WITHIN: Duration = Duration::from_secs(60);

/// How a test's own edge differs from the shared one.
#[derive(Default)]
pub struct Setup {
    main: String,
    limits: String,
    wallet: String,
    appservice: String,
    wallet_address: Option<SocketAddr>,
    upstreams: Vec<(String, String)>,
    admin_api: bool,
}

impl Setup {
    /// Top-level keys of the main file.
    pub fn main(mut self, yaml: &str) -> Setup {
        self.main += yaml;
        self.main.push('\n');
        self
    }

    /// Keys of `server.limits`, in flow style with a comma before each.
    pub fn limits(mut self, yaml: &str) -> Setup {
        self.limits += yaml;
        self
    }

    /// Keys of the wallet's file.
    pub fn wallet(mut self, yaml: &str) -> Setup {
        self.wallet += yaml;
        self.wallet.push('\n');
        self
    }

    /// Keys of `appservice`, in flow style with a comma before each.
    pub fn appservice(mut self, yaml: &str) -> Setup {
        self.appservice += yaml;
        self
    }

    /// A wallet other than the sandbox's.
    pub fn wallet_at(mut self, address: SocketAddr) -> Setup {
        self.wallet_address = Some(address);
        self
    }

    /// Another upstream, with its file but for the name; `{wallet}` stands for the sandbox wallet's address.
    pub fn upstream(mut self, name: &str, yaml: &str) -> Setup {
        self.upstreams.push((name.into(), yaml.into()));
        self
    }

    /// The homeserver's admin API may be asked.
    pub fn with_admin_api(mut self) -> Setup {
        self.admin_api = true;
        self
    }

    pub fn start(self) -> TestEdge {
        TestEdge::start(self)
    }
}

/// A running edge and everything it talks to.
pub struct TestEdge {
    pub address: SocketAddr,
    pub tls: SocketAddr,
    pub admin: SocketAddr,
    pub hs_token: String,
    pub client_secret: String,
    pub sandbox: Running,
    folder: tempfile::TempDir,
    issuer: String,
    keyring: Keyring,
    certificate: String,
    _process: Guarded,
    runtime: tokio::runtime::Runtime,
}

/// The edge that tests share.
pub fn shared() -> &'static TestEdge {
    static SHARED: OnceLock<TestEdge> = OnceLock::new();
    SHARED.get_or_init(|| Setup::default().start())
}

/// A process that ends with its owner, however the owner ends: it is told by its standard input closing.
pub struct Guarded(Child);

impl Guarded {
    pub fn spawn(program: &str, arguments: &[&str], log: &Path) -> Guarded {
        let log = fs::File::create(log).unwrap();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#""$@" & edge=$!; read -r _; kill -9 $edge; wait $edge"#, "sh", program])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0);
        Guarded(command.spawn().unwrap())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// An address that nothing listens on now, and that nobody gets who asks the system for any free port: those lie higher.
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let port = 30_000 + (std::process::id() * 53 + NEXT.fetch_add(1, Ordering::Relaxed)) % 2_700;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// How long something takes.
pub struct Stopwatch(Clock, Tick);

impl Stopwatch {
    pub fn start() -> Stopwatch {
        let clock = Clock::system();
        let now = clock.tick();
        Stopwatch(clock, now)
    }

    pub fn elapsed(&self) -> Duration {
        self.0.tick().since(self.1)
    }
}

/// Asks until the answer is yes, and says what was waited for when it stays no.
pub fn eventually(what: &str, within: Duration, mut check: impl FnMut() -> bool) {
    let started = Stopwatch::start();
    while !check() {
        assert!(started.elapsed() < within, "waited {within:?} in vain: {what}");
        std::thread::yield_now();
        // A poll, not a wait for something that has no sign: the condition above decides.
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, private).unwrap();
    path
}

/// A number that no other test in this process gets.
fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A client address that no other test comes from.
pub fn fresh_ip() -> String {
    let [_, a, b, c] = unique().to_be_bytes();
    format!("100.{}.{b}.{c}", 64 + (a & 63))
}

/// A user of our server that no other test knows. It has a wallet: every well-formed user does.
pub fn fresh_user() -> UserId {
    UserId::parse(&format!("@user{}:{SERVER_NAME}", unique())).unwrap()
}

pub fn user(localpart: &str) -> UserId {
    UserId::parse(&format!("@{localpart}:{SERVER_NAME}")).unwrap()
}

/// The ordinary scopes, all of them.
pub fn ordinary() -> ScopeSet {
    Scope::ALL.iter().copied().filter(|scope| !scope.official_only()).collect()
}

impl TestEdge {
    fn start(setup: Setup) -> TestEdge {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let clock = Clock::system();
        let config = {
            let clock = clock.clone();
            let mut config = SandboxConfig::demo(Arc::new(move || clock.unix())).unwrap();
            config.bot_is_admin = setup.admin_api;
            config
        };
        let (hs_token, as_token) = (config.hs_token.clone(), config.as_token.clone());
        let sandbox = runtime.block_on(Sandbox::start(config)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        let (address, tls, admin) = (free_port(), free_port(), free_port());
        let (client_secret, issuer) = (random::token("cs_").unwrap(), format!("http://{address}"));

        let mut master_key = [0; 32];
        aws_lc_rs::rand::fill(&mut master_key).unwrap();
        let master_key = BASE64_STANDARD.encode(master_key);
        write(place, "master.key", &master_key);
        write(place, "admin-tokens", &format!("test:{ADMIN_TOKEN}\nwatch:viewer:{VIEWER_TOKEN}\n"));
        write(place, "as-token", &as_token);
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        write(place, "edge.crt", &pair.cert.pem());
        write(place, "edge.key", &pair.signing_key.serialize_pem());
        write(
            place,
            "registration.yaml",
            &format!(
                "id: tmcp\nurl: http://{address}\nas_token: {as_token}\nhs_token: {hs_token}\nsender_localpart: _tmcp\nnamespaces:\n  \
                 users:\n    - {{ exclusive: true, regex: \"@_tmcp_.*\" }}\n    - {{ exclusive: true, regex: \"@ma_.*\" }}\n"
            ),
        );
        let hash = hex(digest::digest(&digest::SHA256, client_secret.as_bytes()).as_ref());
        let list = |scopes: ScopeSet| scopes.to_string().replace(' ', ", ");
        write(
            place,
            "miniapps.yaml",
            &format!(
                "miniapps:\n  - {{ id: {APP}, name: Shop, classification: community, scopes: [{}], client_secret_hashes: [\"{hash}\"], redirect_uris: [\"{REDIRECT}\", \"https://shop.example/back?from=tween\"] }}\n  \
                 - {{ id: {PUBLIC_APP}, name: Notes, type: public, scopes: [user:read, wallet:balance], redirect_uris: [\"http://127.0.0.1/cb\"] }}\n  \
                 - {{ id: {HYBRID_APP}, name: Game, type: hybrid, scopes: [user:read, wallet:balance], client_secret_hashes: [\"{hash}\"], redirect_uris: [\"{REDIRECT}\"] }}\n  \
                 - {{ id: {OFFICIAL_APP}, name: Bank, classification: official, scopes: [{}] }}\n",
                list(ordinary()),
                list(Scope::ALL.iter().copied().collect()),
            ),
        );
        let wallet = setup.wallet_address.unwrap_or_else(|| sandbox.wallet.as_ref().unwrap().address());
        write(
            place,
            "upstreams/wallet.yaml",
            &format!("name: wallet\naddresses: [\"{wallet}\"]\ntls: false\n{}", setup.wallet),
        );
        let admin_api = if setup.admin_api { "admin_api: { token_file: ../as-token }\n" } else { "" };
        write(
            place,
            "upstreams/homeserver.yaml",
            &format!(
                "name: homeserver\naddresses: [\"{}\"]\ntls: false\n{admin_api}",
                sandbox.homeserver.as_ref().unwrap().address(),
            ),
        );
        for (name, yaml) in &setup.upstreams {
            let yaml = yaml.replace("{wallet}", &sandbox.wallet.as_ref().unwrap().address().to_string());
            write(place, &format!("upstreams/{name}.yaml"), &format!("name: {name}\n{yaml}"));
        }
        let config = write(
            place,
            "edge.yaml",
            &format!(
                "public_url: {issuer}\nserver_name: {SERVER_NAME}\nserver:\n  listen:\n    - address: {address}\n    - address: {tls}\n      \
                 tls: {{ certificate: edge.crt, key: edge.key }}\n  admin: {{ address: \"{admin}\", tokens_file: admin-tokens }}\n  \
                 drain: 1s\n  threads: 2\n  trusted_proxies: [127.0.0.0/8]\n  limits: {{ connections: 500{} }}\n\
                 store: {{ kind: embedded, path: store }}\nkeys: {{ master_key_file: master.key }}\n\
                 appservice: {{ registration: registration.yaml{} }}\nupstreams: upstreams\nminiapps: {{ file: miniapps.yaml }}\n\
                 log: {{ level: debug, access: access.log }}\n{}",
                setup.limits, setup.appservice, setup.main
            ),
        );

        let keyring = keyring(&place.join("store"), master_key);
        keyring.ensure_signing_key(clock.unix_secs()).unwrap();

        let log = place.join("edge.log");
        let process =
            Guarded::spawn(env!("CARGO_BIN_EXE_tmcp-edge"), &["run", "--config", config.to_str().unwrap()], &log);
        let edge = TestEdge {
            address,
            tls,
            admin,
            hs_token,
            client_secret,
            sandbox,
            folder,
            issuer,
            keyring,
            certificate: pair.cert.pem(),
            _process: process,
            runtime,
        };
        let started = Stopwatch::start();
        while TcpStream::connect(address).is_err() {
            let log = edge.log();
            let gave_up = log.lines().any(|line| line.starts_with("tmcp-edge: "));
            assert!(!gave_up && started.elapsed() < START_WITHIN, "the edge does not come up: {log}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        edge
    }

    /// What the edge has said on its standard output and error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("edge.log")).unwrap()
    }

    /// The edge's store, opened beside it as commands do.
    pub fn store(&self) -> Arc<dyn Backend> {
        let place = config::Store::Embedded { path: self.folder.path().join("store") };
        let metrics = Arc::new(Metrics::new(&[]).unwrap());
        tmcp_edge::store::open(&place, &Clock::system(), &metrics).unwrap().store
    }

    /// Runs another command on the config to its end.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let config = self.folder.path().join("edge.yaml");
        Command::new(env!("CARGO_BIN_EXE_tmcp-edge")).args(arguments).arg("--config").arg(config).output().unwrap()
    }

    /// Asks the admin address, with a token of it.
    pub fn at_admin(&self, token: &str, request: Request) -> Answer {
        let request = request.header("host", self.admin.to_string()).bearer(token);
        let mut wire = Wire::to(self.admin);
        wire.write([request.head_bytes(), request.body_bytes()].concat()).unwrap();
        wire.answer().unwrap()
    }

    /// Waits for something that a test does itself.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The access log's lines, as JSON.
    pub fn access_log(&self) -> Vec<Value> {
        let file = fs::File::open(self.folder.path().join("access.log")).unwrap();
        BufReader::new(file).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    }

    /// The access log as it is in the file.
    pub fn access_log_text(&self) -> String {
        fs::read_to_string(self.folder.path().join("access.log")).unwrap()
    }

    pub fn wallet(&self) -> &Served {
        self.sandbox.wallet.as_ref().unwrap()
    }

    pub fn homeserver(&self) -> &Served {
        self.sandbox.homeserver.as_ref().unwrap()
    }

    /// The certificate that the TLS listener shows, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A token of `user` in `app`.
    pub fn token_of(&self, user: &UserId, app: &str, scopes: ScopeSet) -> String {
        let app = MiniAppId::parse(app).unwrap();
        let request = TokenRequest::new(user.clone(), app, scopes, 3600);
        self.keyring.mint(&self.issuer, &request, Clock::system().unix_secs()).unwrap()
    }

    /// A token of somebody new with these scopes, in an app that may have them.
    pub fn token(&self, scopes: &[Scope]) -> String {
        let app = if scopes.iter().any(|scope| scope.official_only()) { OFFICIAL_APP } else { APP };
        self.token_of(&fresh_user(), app, scopes.iter().copied().collect())
    }

    /// A token of somebody new with every ordinary scope.
    pub fn full_token(&self) -> String {
        self.token_of(&fresh_user(), APP, ordinary())
    }

    /// The Matrix access token of a demo user.
    pub fn matrix_token(&self, localpart: &str) -> String {
        let tokens = self.sandbox.matrix_tokens();
        tokens.into_iter().find(|(known, _)| *known == user(localpart)).unwrap().1
    }

    /// The `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `Basic` with the shop's client id and secret.
    pub fn basic(&self) -> String {
        self.basic_of(APP)
    }

    /// `Basic` with another client's id and that secret.
    pub fn basic_of(&self, client: &str) -> String {
        basic(client, &self.client_secret)
    }

    /// Gives a request an address of its own and a mark, unless it has them.
    pub fn dress(&self, mut request: Request) -> Request {
        if !request.has("x-forwarded-for") {
            request = request.header("x-forwarded-for", fresh_ip());
        }
        request
    }

    /// Sends a request on a connection of its own and reads the answer.
    pub fn send(&self, request: Request) -> Answer {
        self.send_on(&mut self.wire(), request)
    }

    /// Sends a request on a connection and reads the answer.
    pub fn send_on(&self, wire: &mut Wire, request: Request) -> Answer {
        let request = self.dress(request);
        wire.write(request.head_bytes()).unwrap();
        // A refusal may come, and the connection close, before the body is out; the answer tells.
        let _ = wire.write(request.body_bytes());
        let answer = wire.answer_to(request.method == "HEAD");
        answer
            .unwrap_or_else(|error| panic!("{} {}: no answer: {error}\n{}", request.method, request.target, self.log()))
    }

    pub fn wire(&self) -> Wire {
        Wire::to(self.address)
    }

    /// What has reached the wallet with that header and value.
    pub fn at_wallet(&self, header: &str, value: &str) -> Vec<Arc<Recorded>> {
        let all = self.wallet().desk.recorder.all();
        all.into_iter().filter(|seen| seen.headers.get(header).is_some_and(|found| found == value)).collect()
    }
}

/// `Basic` with that id and secret.
pub fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

/// A mark that no other request bears.
pub fn mark() -> String {
    format!("m{}", unique())
}

/// The key ring in the embedded store of that folder, beside an edge that may be running.
pub fn keyring(folder: &Path, master_key: impl Into<String>) -> Keyring {
    let metrics = Arc::new(Metrics::new(&[]).unwrap());
    let place = Store::Embedded { path: folder.to_owned() };
    let opened = tmcp_edge::store::open(&place, &Clock::system(), &metrics).unwrap();
    Keyring::open(opened.store, &Secret::new(master_key), Generation::default()).unwrap()
}
