//! Edges as an operator runs them: a process, a folder and a port each, one public URL, one master key, one Redis.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::prelude::BASE64_STANDARD;
use futures::future::join_all;
use reqwest::redirect::Policy;
use rustix::process::Signal;
use serde_json::{Value, json};
use tmcp_edge::clock::Clock;
use tmcp_edge::model::UserId;
use tmcp_edge::sandbox::{Running, Sandbox, SandboxConfig};
use tmcp_edge::store::seal::sha256;
use url::{Url, form_urlencoded};

use super::relay::Relay;
use super::servers::{Cluster, Server, Watched};
use crate::life::process::{APP, Edge, Setup, upstream};

/// How many there are.
pub const EDGES: usize = 3;
/// Takes `wallet:balance`.
pub const BALANCE: &str = "/api/v1/wallet/balance";
/// Takes `user:read`, and is no wallet's.
pub const ORDERS: &str = "/partner/v1/orders";
const REDIRECT: &str = "https://shop.example/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const SECRET: &str = "a secret of a test's, that protects nothing";
const SCOPE: &str = "user:read wallet:balance wallet:pay";

/// `store` of a config, for one server.
pub fn single(port: u16) -> Value {
    patient(json!({"kind": "redis", "nodes": [format!("redis://127.0.0.1:{port}")]}))
}

/// The same for a primary under sentinels. Both replicas have to have what is durable: either may be chosen.
pub fn sentinel(watched: &Watched) -> Value {
    for server in &watched.servers {
        server.ask::<()>("CONFIG SET min-replicas-to-write 2");
    }
    let mut store = patient(json!({"kind": "redis", "mode": "sentinel", "nodes": watched.urls()}));
    store["sentinel_master"] = json!("tmcp");
    store["wait_replicas"] = json!(2);
    store
}

/// The same for a cluster.
pub fn cluster(cluster: &Cluster) -> Value {
    patient(json!({"kind": "redis", "mode": "cluster", "nodes": cluster.urls()}))
}

/// A busy machine takes longer for a limit than one that is there for the edge.
fn patient(mut store: Value) -> Value {
    store["timeouts"] = json!({"limits": "500ms"});
    store
}

/// Edges on one Redis, and what is behind them.
pub struct Fleet {
    pub edges: Vec<Member>,
    sandbox: Running,
}

/// One of them.
pub struct Member {
    pub setup: Setup,
    pub edge: Edge,
    /// What is between it and its Redis, when a test wants to meddle there.
    relay: Option<Relay>,
    client: reqwest::Client,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub status: u16,
    pub body: Value,
}

impl Told {
    /// A text in the answer of a request that went well.
    pub fn text(&self, name: &str) -> String {
        let text = self.body[name].as_str().filter(|_| self.status == 200);
        text.unwrap_or_else(|| panic!("no {name} in {self:?}")).to_owned()
    }
}

/// Users that a fleet's homeserver knows.
pub fn user(number: usize) -> UserId {
    UserId::parse(&format!("@user{number}:tween.example")).unwrap()
}

/// A config for an edge in front of the sandbox.
pub fn setup(sandbox: &Running, store: Value) -> Setup {
    let address = |served: &Option<tmcp_edge::sandbox::Served>| served.as_ref().unwrap().address();
    let mut setup = Setup::new(address(&sandbox.wallet)).with_partner(&[address(&sandbox.miniapp)]);
    setup.upstreams.insert("homeserver".to_owned(), upstream("homeserver", &[address(&sandbox.homeserver)]));
    let plenty = setup.edge["rate_limits"]["default"].clone();
    setup.edge["rate_limits"]["oauth_endpoints"] = plenty;
    setup.edge["store"] = store;
    let hash = sha256(SECRET.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    setup.miniapps["miniapps"][0]["client_secret_hashes"] = json!([hash]);
    setup.miniapps["miniapps"][0]["redirect_uris"] = json!([REDIRECT]);
    setup
}

/// Starts the sandbox: wallet, homeserver and mini-app, the second with some users.
pub async fn sandbox() -> Running {
    let clock = Clock::system();
    let mut config = SandboxConfig::demo(Arc::new(move || clock.unix())).unwrap();
    config.users = (0..8).map(user).collect();
    Sandbox::start(config).await.unwrap()
}

fn matrix_token(sandbox: &Running, user: &UserId) -> String {
    let tokens = sandbox.matrix_tokens();
    tokens.into_iter().find(|(known, _)| known == user).unwrap().1
}

/// Tokens for a user by a code, all of it at one edge.
pub async fn sign_in(sandbox: &Running, edge: &Member, user: &UserId) -> Told {
    let session = edge.authorize().await;
    let code = edge.consent(&session, &matrix_token(sandbox, user)).await;
    edge.redeem(&code).await
}

impl Fleet {
    /// On one server.
    pub async fn on(server: &Server) -> Fleet {
        Fleet::start(&single(server.port), |_| ()).await
    }

    /// With a `store`, and further changes to each config. All start at once, on a store that may hold nothing yet.
    pub async fn start(store: &Value, change: impl Fn(&mut Setup)) -> Fleet {
        let sandbox = sandbox().await;
        let mut setups: Vec<Setup> = (0..EDGES).map(|_| setup(&sandbox, store.clone())).collect();
        setups.iter_mut().for_each(change);
        Fleet::of(sandbox, setups.into_iter().map(|setup| (setup, None)).collect()).await
    }

    /// On one server, each edge behind a relay of its own.
    pub async fn relayed(server: &Server) -> Fleet {
        let sandbox = sandbox().await;
        let behind = |_| {
            let relay = Relay::before(server.port);
            (setup(&sandbox, single(relay.address.port())), Some(relay))
        };
        let setups = (0..EDGES).map(behind).collect();
        Fleet::of(sandbox, setups).await
    }

    async fn of(sandbox: Running, setups: Vec<(Setup, Option<Relay>)>) -> Fleet {
        let edges = setups.into_iter().map(async |(setup, relay)| Member::start(setup, relay).await);
        Fleet { edges: join_all(edges).await, sandbox }
    }

    /// The Matrix access token of a user.
    pub fn matrix_token(&self, user: &UserId) -> String {
        matrix_token(&self.sandbox, user)
    }

    /// The edge whose turn it is.
    pub fn edge(&self, turn: usize) -> &Member {
        &self.edges[turn % self.edges.len()]
    }

    /// Runs a command on the config of the first edge, and shows what it printed.
    pub fn command(&self, arguments: &[&str]) -> String {
        self.edges[0].command(arguments)
    }

    /// A code for a user who said yes: asked for at one edge, allowed at the next.
    pub async fn code(&self, user: &UserId) -> String {
        let session = self.edges[0].authorize().await;
        self.edges[1].consent(&session, &self.matrix_token(user)).await
    }

    /// Tokens for a user, by a code.
    pub async fn sign_in(&self, user: &UserId) -> Told {
        let code = self.code(user).await;
        self.edges[2].redeem(&code).await
    }
}

impl Member {
    /// Starts an edge.
    pub async fn start(setup: Setup, relay: Option<Relay>) -> Member {
        let edge = setup.start().await;
        let client = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        Member { setup, edge, relay, client }
    }

    /// Ends it; gives back what another one can be started from.
    pub async fn stop(self) -> Setup {
        let Member { setup, mut edge, .. } = self;
        edge.signal(Signal::TERM);
        assert!(edge.ended().await.success(), "{}", edge.log());
        setup
    }

    /// What is between it and its Redis.
    pub fn relay(&self) -> &Relay {
        self.relay.as_ref().unwrap()
    }

    /// Runs a command on its config, and shows what it printed.
    pub fn command(&self, arguments: &[&str]) -> String {
        let output = self.setup.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A token by command, with every scope of the tests.
    pub fn token(&self, user: &UserId) -> String {
        self.command(&["token", "--user", user.as_str(), "--app", APP, "--scope", SCOPE]).trim().to_owned()
    }

    async fn told(request: reqwest::RequestBuilder) -> Told {
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        Told { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    pub async fn get(&self, path: &str, token: &str) -> Told {
        Member::told(self.client.get(self.edge.url(path)).bearer_auth(token)).await
    }

    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Told {
        Member::told(self.client.post(self.edge.url(path)).bearer_auth(token).json(body)).await
    }

    /// A form of the shop's, which authenticates.
    pub async fn form(&self, path: &str, pairs: &[(&str, &str)]) -> Told {
        self.form_as((APP, SECRET), path, pairs).await
    }

    /// A form of a client's, which authenticates.
    pub async fn form_as(&self, (client, secret): (&str, &str), path: &str, pairs: &[(&str, &str)]) -> Told {
        let basic = BASE64_STANDARD.encode(format!("{client}:{secret}"));
        let request = self.client.post(self.edge.url(path)).header("authorization", format!("Basic {basic}"));
        Member::told(form(request, pairs)).await
    }

    /// Key ids that it publishes.
    pub async fn published(&self) -> Vec<String> {
        let keys = Member::told(self.client.get(self.edge.url("/oauth2/jwks.json"))).await.body;
        keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    /// The session of an authorization request.
    async fn authorize(&self) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(sha256(VERIFIER.as_bytes()));
        let asked = [
            ("response_type", "code"),
            ("client_id", APP),
            ("redirect_uri", REDIRECT),
            ("scope", SCOPE),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let answer = self.client.get(self.edge.url(&format!("/oauth2/authorize?{}", encoded(&asked)))).send().await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 303);
        parameter(answer.headers()["location"].to_str().unwrap(), "session")
    }

    /// The code that a user's yes brings.
    async fn consent(&self, session: &str, matrix_token: &str) -> String {
        let address = self.edge.url(&format!("/oauth2/consent?{}", encoded(&[("session", session)])));
        let answer =
            Member::told(form(self.client.post(address).bearer_auth(matrix_token), &[("decision", "approve")]));
        parameter(&answer.await.text("redirect_uri"), "code")
    }

    pub async fn redeem(&self, code: &str) -> Told {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        self.form("/oauth2/token", &pairs).await
    }

    pub async fn refresh(&self, token: &str) -> Told {
        self.form("/oauth2/token", &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn form(request: reqwest::RequestBuilder, pairs: &[(&str, &str)]) -> reqwest::RequestBuilder {
    request.header("content-type", "application/x-www-form-urlencoded").body(encoded(pairs))
}

fn parameter(address: &str, name: &str) -> String {
    let address = Url::parse(address).unwrap();
    let found = address.query_pairs().find(|(key, _)| key == name);
    found.unwrap_or_else(|| panic!("no {name} in {address}")).1.into_owned()
}
