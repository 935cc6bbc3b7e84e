//! The admin address over its socket: a real store behind it, and an edge that does as the test says.

mod changes;
mod roles;

use std::net::SocketAddr;

use async_trait::async_trait;
use parking_lot::Mutex;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::*;
use crate::cache::Purge;
use crate::config::{Admin as Configured, AdminToken, Secret};
use crate::error::Code;
use crate::metrics::Decision;
use crate::model::{Issuers, MiniAppId, Role};
use crate::policy::apps::AppFeed;
use crate::policy::authn::{Generation, RevocationFeed, Revocations};
use crate::policy::keyring::Keyring;
use crate::policy::lockout::Subject;
use crate::policy::rate_limit::LimitKey;
use crate::store::apps::AppStore;
use crate::store::embedded::Embedded;
use crate::store::failing::Failing;
use crate::store::revocations::RevocationLog;

/// An edge that does as the test says and remembers what was asked of it.
struct Edge {
    access: Configured,
    records: Records,
    failing: Arc<Failing>,
    _folder: tempfile::TempDir,
    not_ready: Mutex<Vec<String>>,
    purged: Mutex<Vec<Purge>>,
    reload: Result<u64, Vec<String>>,
    /// Whoever holds it keeps reloads waiting.
    gate: tokio::sync::Mutex<()>,
}

#[async_trait]
impl Control for Edge {
    fn access(&self) -> Configured {
        self.access.clone()
    }

    fn records(&self) -> Records {
        self.records.clone()
    }

    fn not_ready(&self) -> Vec<String> {
        self.not_ready.lock().clone()
    }

    fn status(&self) -> Status {
        let errors = self.reload.clone().err().unwrap_or_default();
        let last_reload = LastReload { at: "2025-12-20T01:15:00.000Z".to_owned(), ok: errors.is_empty(), errors };
        let listeners = vec!["0.0.0.0:8443".to_owned()];
        Status { version: "0.0.0", revision: 7, uptime_seconds: 3_723, draining: false, listeners, last_reload }
    }

    fn upstreams(&self) -> Vec<UpstreamStatus> {
        let addresses = vec![AddressStatus { address: "10.0.1.7:443".to_owned(), healthy: false }];
        vec![UpstreamStatus { name: "wallet".to_owned(), addresses }]
    }

    fn breakers(&self) -> Vec<BreakerStatus> {
        let upstream = "wallet".to_owned();
        vec![BreakerStatus { upstream, class: "payment", state: "open", failures: 5, retry_after_seconds: Some(9) }]
    }

    fn caches(&self) -> Vec<CacheUsage> {
        vec![CacheUsage { cache: "response", entries: 3, bytes: 4096, max_bytes: 1024 * 1024 }]
    }

    fn routes(&self) -> Vec<RouteLine> {
        Vec::new()
    }

    fn purge(&self, what: &Purge) -> u64 {
        self.purged.lock().push(what.clone());
        3
    }

    async fn limits(&self, whose: LimitKey) -> Result<Vec<CallerLimit>, String> {
        if whose == LimitKey::ip([192, 0, 2, 1].into()) {
            return Err("the store does not answer".to_owned());
        }
        let (policy, override_of) = ("default".to_owned(), None);
        let (remaining, of, retry_after_seconds, full_after_seconds) = (0, 120, 1, 72);
        Ok(vec![CallerLimit { policy, override_of, remaining, of, retry_after_seconds, full_after_seconds }])
    }

    async fn reset_limits(&self, whose: LimitKey) -> Result<(), String> {
        self.limits(whose).await.map(drop)
    }

    async fn lockouts(&self, whose: &Subject) -> Result<Vec<LockoutStatus>, String> {
        if *whose == Subject::Client(MiniAppId::parse("ma_lost").unwrap()) {
            return Err("the store does not answer".to_owned());
        }
        let until = Some("2025-12-20T01:15:00Z".to_owned());
        Ok(vec![
            LockoutStatus { lockout: "account_suspension", strikes: 10, of: 10, until },
            LockoutStatus { lockout: "payment_lock", strikes: 2, of: 5, until: None },
        ])
    }

    async fn lift_lockouts(&self, whose: &Subject) -> Result<(), String> {
        self.lockouts(whose).await.map(drop)
    }

    async fn reload(&self) -> Result<u64, Vec<String>> {
        let _open = self.gate.lock().await;
        self.reload.clone()
    }
}

const ISSUER: &str = "https://tmcp.example.com";
const OPERATOR: &str = "demo-of-an-operator";
const VIEWER: &str = "demo-of-a-viewer";

struct Running {
    edge: Arc<Edge>,
    metrics: Arc<Metrics>,
    address: SocketAddr,
    token: String,
    client: Client,
    _stop: oneshot::Sender<()>,
}

/// An admin address. `configured` is the one that the config names: what it is decides, not where the test listens.
async fn running(configured: &str, reload: Result<u64, Vec<String>>) -> Running {
    let token = format!("demo-{}", crate::telemetry::random::next());
    let holder = |name: &str, role, token: &str| AdminToken { name: name.to_owned(), role, token: Secret::new(token) };
    let tokens = vec![
        holder("old", Role::Admin, "demo-rotated"),
        holder("root", Role::Admin, &token),
        holder("duty", Role::Operator, OPERATOR),
        holder("watch", Role::Viewer, VIEWER),
    ];
    let hosts = vec!["edge-admin.internal".to_owned()];
    let audit_retention = Duration::from_secs(86_400);
    let access = Configured { address: configured.parse().unwrap(), tokens, audit_retention, hosts };
    let metrics = Arc::new(Metrics::new(Code::NAMES).unwrap());
    let clock = Clock::system();
    let folder = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(folder.path(), clock.clone(), metrics.clone()).unwrap();
    let failing = Arc::new(Failing::new(Arc::new(embedded)));
    let store: Arc<dyn crate::store::Backend> = failing.clone();
    let generation = Generation::default();
    let keyring = Keyring::open(store.clone(), &Secret::new("07".repeat(32)), generation.clone()).unwrap();
    keyring.ensure_signing_key(clock.unix_secs()).unwrap();
    let keyring = Arc::new(keyring);
    let apps = AppFeed::new(
        AppStore::new(store.clone()),
        Arc::default(),
        keyring.clone(),
        generation.clone(),
        clock.clone(),
        metrics.clone(),
    );
    let log = RevocationLog::new(store.clone(), clock.clone());
    let revocations = Arc::new(Revocations::new(generation));
    let feed = RevocationFeed::new(log, revocations, clock.clone(), metrics.clone());
    feed.look().await.unwrap();
    let records = Records {
        store,
        clock: clock.clone(),
        audit_retention,
        revocations: Arc::new(feed),
        keyring,
        apps: Arc::new(apps),
        named: Default::default(),
        issuers: Issuers { own: ISSUER.to_owned(), trusted: vec!["https://id.example".to_owned()] },
    };
    let edge = Edge {
        access,
        records,
        failing,
        _folder: folder,
        not_ready: Mutex::default(),
        purged: Mutex::default(),
        reload,
        gate: tokio::sync::Mutex::default(),
    };
    let edge = Arc::new(edge);
    let exporter = Exporter::new(metrics.clone(), clock.clone());
    let admin = Admin::new(edge.clone(), exporter, metrics.clone(), clock);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(admin.serve(listener, async move {
        let _ = stopped.await;
    }));
    let client = Client::builder().no_proxy().build().unwrap();
    Running { edge, metrics, address, token, client, _stop: stop }
}

async fn local() -> Running {
    running("127.0.0.1:9090", Ok(8)).await
}

impl Running {
    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.address))
    }

    fn delete(&self, path: &str) -> RequestBuilder {
        self.client.delete(format!("http://{}{path}", self.address))
    }
}

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
}

async fn code(request: RequestBuilder) -> (u16, String) {
    let (status, body) = answer(request).await;
    assert!(body["error"]["message"].is_string() && body["error"]["timestamp"].is_string(), "{body}");
    assert!(body["error"]["request_id"].as_str().unwrap().starts_with("req_"));
    (status.as_u16(), body["error"]["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_probes_say_how_it_stands() {
    let admin = local().await;
    assert_eq!(answer(admin.get("/healthz")).await, (StatusCode::OK, json!({"status": "ok"})));
    assert_eq!(answer(admin.get("/readyz")).await, (StatusCode::OK, json!({"status": "ready"})));
    admin.edge.not_ready.lock().push("draining".to_owned());
    let (status, body) = answer(admin.get("/readyz")).await;
    assert_eq!((status.as_u16(), &body["reasons"]), (503, &json!(["draining"])));
    assert_eq!(answer(admin.get("/healthz")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_is_shown() {
    let admin = local().await;
    admin.metrics.policy("default").inc(Decision::Refused);
    let (_, status) = answer(admin.get("/api/v1/status")).await;
    assert_eq!(
        (&status["revision"], &status["ready"], &status["last_reload"]["ok"]),
        (&json!(7), &json!(true), &json!(true))
    );
    let (_, breakers) = answer(admin.get("/api/v1/breakers")).await;
    assert_eq!(breakers[0]["state"], "open");
    let (_, upstreams) = answer(admin.get("/api/v1/upstreams")).await;
    assert_eq!(upstreams[0]["addresses"][0]["healthy"], false);
    assert_eq!(answer(admin.get("/api/v1/routes")).await, (StatusCode::OK, json!([])));
    assert_eq!(answer(admin.get("/api/v1/cache")).await.1[0]["entries"], 3);
    let metrics = admin.get("/metrics").send().await.unwrap();
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = metrics.text().await.unwrap();
    assert!(text.contains("tmcp_edge_limit_decisions_total{decision=\"refused\",policy=\"default\"} 1"), "{text}");
}

#[tokio::test]
async fn errors_are_in_the_protocols_form() {
    let admin = local().await;
    assert_eq!(code(admin.get("/nowhere")).await, (404, "NOT_FOUND".to_owned()));
    let wrong = admin.post("/metrics").bearer_auth(&admin.token).send().await.unwrap();
    assert_eq!(wrong.status().as_u16(), 405);
    assert_eq!(wrong.headers()["allow"], "GET,HEAD");
    let large = admin.post("/api/v1/cache/purge").bearer_auth(&admin.token).body(vec![b' '; BODY + 1]);
    assert_eq!(code(large).await, (413, "PAYLOAD_TOO_LARGE".to_owned()));
}

#[tokio::test]
async fn a_host_that_somebody_made_point_here_is_not_answered() {
    let admin = local().await;
    for foreign in
        ["evil.example", "evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example", "2130706433"]
    {
        let request = admin.get("/metrics").header("host", foreign);
        assert_eq!(code(request).await, (403, "FORBIDDEN".to_owned()), "{foreign}");
    }
    for ours in
        ["localhost", "LOCALHOST:9090", "127.0.0.1:1", "[::1]:9090", "10.2.3.4:9090", "edge-admin.internal:9090"]
    {
        let status = admin.get("/metrics").header("host", ours).send().await.unwrap().status();
        assert_eq!(status, StatusCode::OK, "{ours}");
    }
}

#[tokio::test]
async fn what_changes_something_takes_a_token() {
    let admin = local().await;
    let refused = (401, "INVALID_TOKEN".to_owned());
    assert_eq!(code(admin.post("/api/v1/reload")).await, refused);
    assert_eq!(code(admin.delete("/api/v1/cache?all=true")).await, refused);
    for wrong in ["", "demo", &format!("{}x", admin.token), &admin.token[1..]] {
        assert_eq!(code(admin.post("/api/v1/reload").bearer_auth(wrong)).await, refused, "{wrong:?}");
    }
    let basic = admin.post("/api/v1/reload").basic_auth("operator", Some(&admin.token));
    assert_eq!(code(basic).await, refused);
    assert!(admin.edge.purged.lock().is_empty());
    let reload = admin.post("/api/v1/reload").bearer_auth(&admin.token);
    assert_eq!(answer(reload).await, (StatusCode::OK, json!({"revision": 8})));
}

#[tokio::test]
async fn pages_of_others_change_nothing() {
    let admin = local().await;
    for (name, value) in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        let request = admin.post("/api/v1/reload").bearer_auth(&admin.token).header(name, value);
        assert_eq!(code(request).await, (403, "FORBIDDEN".to_owned()), "{name}: {value}");
    }
    let own =
        admin.post("/api/v1/reload").bearer_auth(&admin.token).header("origin", format!("http://{}", admin.address));
    assert_eq!(answer(own).await.0, StatusCode::OK);
}

#[tokio::test]
async fn off_loopback_everything_but_the_probes_takes_a_token() {
    let admin = running("0.0.0.0:9090", Ok(8)).await;
    for path in ["/", "/metrics", "/api/v1/status", "/api/v1/cache", "/nowhere"] {
        assert_eq!(code(admin.get(path)).await.0, 401, "{path}");
        assert_ne!(admin.get(path).bearer_auth(&admin.token).send().await.unwrap().status(), 401, "{path}");
    }
    admin.edge.not_ready.lock().push("waits for https://id.example.com".to_owned());
    let (status, body) = answer(admin.get("/readyz")).await;
    assert_eq!((status.as_u16(), &body), (503, &json!({"status": "not ready"})));
    let (_, body) = answer(admin.get("/readyz").bearer_auth(&admin.token)).await;
    assert_eq!(body["reasons"][0], "waits for https://id.example.com");
}

#[tokio::test]
async fn a_purge_says_exactly_what() {
    let admin = local().await;
    let query = |query: &str| answer(admin.delete(&format!("/api/v1/cache{query}")).bearer_auth(&admin.token));
    let body = |body: &'static str| answer(admin.post("/api/v1/cache/purge").bearer_auth(&admin.token).body(body));
    assert_eq!(query("?operation=wallet_balance").await, (StatusCode::OK, json!({"purged": 3})));
    assert_eq!(body(r#"{"user": "@alice:tween.example"}"#).await, (StatusCode::OK, json!({"purged": 3})));
    assert_eq!(query("?path_prefix=%2Fpartner%2F").await.0, StatusCode::OK);
    assert_eq!(body(r#"{"all": true}"#).await.0, StatusCode::OK);
    for wrong in ["", "?all=false", "?all=maybe", "?operation=nothing", "?user=a&app=b", "?users=a"] {
        assert_eq!(query(wrong).await.0, StatusCode::BAD_REQUEST, "{wrong:?}");
    }
    for wrong in ["", "{}", "[]", r#"{"all": true, "app": "x"}"#, r#"{"everything": true}"#] {
        assert_eq!(body(wrong).await.0, StatusCode::BAD_REQUEST, "{wrong:?}");
    }
    let expected = [
        Purge::Operation(crate::model::Operation::WalletBalance),
        Purge::User("@alice:tween.example".to_owned()),
        Purge::PathPrefix("/partner/".to_owned()),
        Purge::All,
    ];
    assert_eq!(*admin.edge.purged.lock(), expected);
}

#[tokio::test]
async fn a_reload_that_fails_says_why() {
    let errors = vec!["edge.yaml:3: rate_limits.default: expected a number".to_owned()];
    let admin = running("127.0.0.1:9090", Err(errors.clone())).await;
    let (status, body) = answer(admin.post("/api/v1/reload").bearer_auth(&admin.token)).await;
    assert_eq!((status.as_u16(), &body["error"]["details"]["errors"]), (400, &json!(errors)));
    let (_, status) = answer(admin.get("/api/v1/status")).await;
    assert_eq!((&status["last_reload"]["ok"], &status["last_reload"]["errors"]), (&json!(false), &json!(errors)));
}

#[tokio::test]
async fn the_page_shows_what_is_wrong_and_runs_nothing() {
    let admin = running("127.0.0.1:9090", Err(vec!["<script>alert(1)</script> & co".to_owned()])).await;
    admin.edge.not_ready.lock().push("the \"wallet\" does not answer".to_owned());
    let response = admin.get("/").send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    for name in ["strict-transport-security", "x-content-type-options", "x-frame-options", "referrer-policy"] {
        assert!(response.headers().contains_key(name), "{name}");
    }
    let page = response.text().await.unwrap();
    assert!(!page.contains("<script"), "{page}");
    assert!(page.contains("None is remembered"), "{page}");
    for part in ["&lt;script&gt;", "the &quot;wallet&quot;", "1 h 2 min", "10.0.1.7:443", "unhealthy", "in 9 s", "4096"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[tokio::test]
async fn limits_of_one_caller_are_shown_and_reset() {
    let admin = running("127.0.0.1:9090", Ok(7)).await;
    let shown = |query: &str| answer(admin.get(&format!("/api/v1/limits{query}")).bearer_auth(&admin.token));
    let reset = |body: &'static str| answer(admin.post("/api/v1/limits/reset").bearer_auth(&admin.token).body(body));
    let standing = json!([{
        "policy": "default", "remaining": 0, "of": 120, "retry_after_seconds": 1, "full_after_seconds": 72,
    }]);
    assert_eq!(shown("?user=@alice:tween.example&app=ma_shop_001").await, (StatusCode::OK, standing));
    assert_eq!(reset(r#"{"user": "@alice:tween.example"}"#).await, (StatusCode::OK, json!({"reset": true})));
    for bad in ["", "?user=alice", "?app=shop", "?address=1.2.3", "?user=@a:b.c&address=192.0.2.7", "?who=x"] {
        assert_eq!(shown(bad).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    for bad in ["", "{}", r#"{"user": 1}"#, r#"{"address": "192.0.2.7", "app": "ma_x"}"#] {
        assert_eq!(reset(bad).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(shown("?address=192.0.2.1").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reset(r#"{"address": "192.0.2.1"}"#).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn who_is_kept_out_is_shown_and_let_in() {
    let admin = running("127.0.0.1:9090", Ok(7)).await;
    let shown = |query: &str| answer(admin.get(&format!("/api/v1/lockouts{query}")).bearer_auth(&admin.token));
    let lift = |body: &'static str| answer(admin.post("/api/v1/lockouts/lift").bearer_auth(&admin.token).body(body));
    let standing = json!([
        { "lockout": "account_suspension", "strikes": 10, "of": 10, "until": "2025-12-20T01:15:00Z" },
        { "lockout": "payment_lock", "strikes": 2, "of": 5 },
    ]);
    assert_eq!(shown("?user=@alice:tween.example&app=ma_shop_001").await, (StatusCode::OK, standing));
    assert_eq!(lift(r#"{"user": "@alice:tween.example"}"#).await, (StatusCode::OK, json!({"lifted": true})));
    for bad in ["", "?user=alice", "?app=shop", "?address=192.0.2.7", "?who=x"] {
        assert_eq!(shown(bad).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    for bad in ["", "{}", r#"{"user": 1}"#, r#"{"address": "192.0.2.7"}"#] {
        assert_eq!(lift(bad).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(shown("?app=ma_lost").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(lift(r#"{"app": "ma_lost"}"#).await.0, StatusCode::SERVICE_UNAVAILABLE);
}
