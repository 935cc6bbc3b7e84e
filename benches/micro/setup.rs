//! A policy like a running edge's, and requests for it.

use std::fs;
use std::future::Future;

use bytes::Bytes;
use http::request::Parts;
use tmcp_edge::clock::{Clock, Tick};
use tmcp_edge::config;
use tmcp_edge::error::Refusal;
use tmcp_edge::live::Live;
use tmcp_edge::model::{MiniAppId, Scope, ScopeSet, UserId};
use tmcp_edge::operations::Services;
use tmcp_edge::policy::keyring::{Keyring, TokenRequest, issuer_of};
use tmcp_edge::policy::{Exchange, Policy};
use tmcp_edge::snapshot::Snapshot;

pub const APP: &str = "ma_bench_001";
const PATH: &str = "/api/v1/wallet/p2p/initiate";

/// Everything that a policy needs.
pub struct Setup {
    live: Live,
    snapshot: Snapshot,
    _folder: tempfile::TempDir,
}

impl Setup {
    /// With that many routes besides the built-in ones, and limits so wide that nothing is refused.
    pub fn new(routes: usize) -> Setup {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::create_dir(at.join("upstreams")).unwrap();
        fs::write(at.join("upstreams/wallet.yaml"), "name: wallet\naddresses: [\"127.0.0.1:9\"]\ntls: false\n")
            .unwrap();
        fs::write(at.join("master.key"), "5a".repeat(32)).unwrap();
        let scopes = "[\"wallet:balance\", \"wallet:pay\"]";
        let app = format!("miniapps:\n  - {{ id: {APP}, name: Bench, classification: verified, scopes: {scopes} }}\n");
        fs::write(at.join("miniapps.yaml"), app).unwrap();
        let mut text = "public_url: https://tmcp.bench.example\nserver_name: tween.example\nserver:\n  listen: [{ \
                        address: \"127.0.0.1:0\" }]\n  limits: { requests_per_second_per_ip: 10000000 }\nstore: { kind: \
                        embedded, path: store }\nkeys: { master_key_file: master.key }\nrate_limits:\n  default: { \
                        requests_per_minute: 10000000, burst: 10000000 }\n  payment_operations: { requests_per_minute: \
                        10000000, burst: 10000000 }\n  oauth_endpoints: { requests_per_minute: 10000000, burst: \
                        10000000 }\nupstreams: upstreams\nminiapps: { file: miniapps.yaml }\nlog: { \
                        access: off }\n"
            .to_owned();
        if routes > 0 {
            text.push_str("tmcp_endpoints:\n");
        }
        for route in 0..routes {
            text.push_str(&format!(
                "  - {{ path: \"/partner/v1/service{route}/items/{{item}}\", methods: [GET], auth_required: true, scopes: \
                 [\"wallet:balance\"], rate_limit: default, upstream: wallet }}\n"
            ));
        }
        let main = at.join("edge.yaml");
        fs::write(&main, text).unwrap();
        let config = config::load(&main, &|_| None).map_err(|problems| problems.to_string()).unwrap();
        let live = Live::open(&config, Clock::system()).unwrap();
        let snapshot = Snapshot::build(config, &live, None).unwrap();
        Setup { live, snapshot, _folder: folder }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.snapshot.policy
    }

    /// The config.
    pub fn config(&self) -> &config::Config {
        &self.snapshot.config
    }

    /// What operations work with.
    pub fn services(&self) -> &Services {
        &self.snapshot.services
    }

    /// The key ring.
    pub fn keyring(&self) -> &Keyring {
        &self.live.tokens.keyring
    }

    /// Seconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.live.clock.unix_secs()
    }

    /// The monotonic time.
    pub fn tick(&self) -> Tick {
        self.live.clock.tick()
    }

    /// A token of that user.
    pub fn token(&self, user: usize) -> String {
        let user = UserId::parse(&format!("@user{user}:tween.example")).unwrap();
        let request = TokenRequest::new(user, MiniAppId::parse(APP).unwrap(), scopes(), 24 * 3600);
        let issuer = issuer_of(&self.snapshot.config.public_url);
        self.live.tokens.keyring.mint(&issuer, &request, self.now()).unwrap()
    }

    /// Has a token checked anew when it comes next.
    pub fn forget(&self, token: &str) {
        self.live.tokens.cache.remove(token.strip_prefix("tep.").unwrap_or(token).as_bytes());
    }
}

/// What tokens are for.
pub fn scopes() -> ScopeSet {
    ScopeSet::of(&[Scope::WalletBalance, Scope::WalletPay])
}

/// A request that never touched a socket.
pub struct Request {
    /// Its head.
    pub head: Parts,
    body: Bytes,
}

impl Request {
    /// GET.
    pub fn get(path: &str, token: &str) -> Request {
        Request::of(http::Request::get(path), token, Bytes::new())
    }

    /// A transfer.
    pub fn transfer(token: &str, body: &[u8]) -> Request {
        let head = http::Request::post(PATH).header("content-type", "application/json");
        Request::of(head.header("content-length", body.len()), token, Bytes::copy_from_slice(body))
    }

    fn of(head: http::request::Builder, token: &str, body: Bytes) -> Request {
        let head = head.header("host", "tmcp.bench.example").header("user-agent", "bench").header("accept", "*/*");
        let (head, ()) = head.header("authorization", format!("Bearer {token}")).body(()).unwrap().into_parts();
        Request { head, body }
    }
}

impl Exchange for Request {
    fn head(&self) -> &Parts {
        &self.head
    }

    fn read_body(&mut self, _cap: usize) -> impl Future<Output = Result<Bytes, Refusal>> + Send {
        std::future::ready(Ok(self.body.clone()))
    }
}

/// A transfer's JSON, about 1 KB.
pub fn transfer(with_tag: bool) -> Vec<u8> {
    let sentence = "Dinner on Friday, your half of it; the taxi is on me. If 3 < 4, all is well, thank you again! ";
    let mut note = sentence.repeat(8).trim_end().to_owned();
    if with_tag {
        note.push_str("<b>See you</b>");
    }
    format!(
        "{{\"recipient\":\"@bob:tween.example\",\"amount\":5000.00,\"currency\":\"USD\",\"note\":\"{note}\",\
         \"room_id\":\"!chat:tween.example\",\"idempotency_key\":\"bench-0001\"}}"
    )
    .into_bytes()
}
