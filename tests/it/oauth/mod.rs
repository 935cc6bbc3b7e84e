//! The OAuth server over HTTP: what clients do, and what attackers try (RFC 9700, RFC 6819).
//!
//! The user's answer is put into the edge's store, beside the edge, as the consent page does; the page has tests of its own.

mod attacks;
mod delegation;
mod devices;
mod flows;
mod guessing;
mod hybrid;
mod introspection;
mod operators;
mod wallets;
mod withdrawal;

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tmcp_edge::clock::Clock;
use tmcp_edge::model::oauth::UserCode;
use tmcp_edge::model::{ScopeSet, UserId};
use tmcp_edge::store::oauth::{Credential, Devices, Kind, Questions};
use tmcp_edge::store::revocations::RevocationLog;
use tmcp_edge::store::seal::sha256;
use url::form_urlencoded::Serializer;

use crate::edge::{APP, REDIRECT, Setup, TestEdge, hex};
use crate::wire::{Answer, Request};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const SCOPE: &str = "user:read wallet:balance";
const MINUTE: Duration = Duration::from_secs(60);

/// An edge whose limits are out of the way.
fn edge() -> &'static TestEdge {
    static SHARED: OnceLock<TestEdge> = OnceLock::new();
    let limits = "rate_limits: { oauth_endpoints: { requests_per_minute: 60000, burst: 1000 } }";
    let hash = hex(&sha256(introspection::SECRET.as_bytes()));
    let servers = format!("oauth: {{ resource_servers: [{{ id: wallet, secret_hashes: [{hash}] }}] }}");
    SHARED.get_or_init(|| Setup::default().main(limits).main(&servers).start())
}

fn form(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn post(path: &str, pairs: &[(&str, &str)]) -> Request {
    let request = Request::new("POST", path).header("content-type", "application/x-www-form-urlencoded");
    request.body(form(pairs))
}

/// A request of the shop's, which authenticates.
fn shop(edge: &TestEdge, path: &str, pairs: &[(&str, &str)]) -> Answer {
    edge.send(post(path, pairs).header("authorization", edge.basic()))
}

/// A request of a client's that keeps no secret.
fn named(edge: &TestEdge, client: &str, path: &str, pairs: &[(&str, &str)]) -> Answer {
    edge.send(post(path, &[pairs, &[("client_id", client)]].concat()))
}

/// Starts a device; the answer is its device code and its user code.
fn device(edge: &TestEdge, client: &str) -> (String, String) {
    let begun = named(edge, client, "/oauth2/device/authorization", &[("scope", "wallet:balance")]).json();
    (text(&begun, "device_code").to_owned(), text(&begun, "user_code").to_owned())
}

const DEVICE_GRANT: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:device_code");

fn authorize(edge: &TestEdge, changes: &[(&str, &str)]) -> Answer {
    let challenge = URL_SAFE_NO_PAD.encode(sha256(VERIFIER.as_bytes()));
    let usual = [
        ("response_type", "code"),
        ("client_id", APP),
        ("redirect_uri", REDIRECT),
        ("scope", SCOPE),
        ("state", "s&1"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let changed = |name: &str| changes.iter().any(|(other, _)| *other == name);
    let mut pairs: Vec<_> = usual.into_iter().filter(|(name, _)| !changed(name)).collect();
    pairs.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    edge.send(Request::get(&format!("/oauth2/authorize?{}", form(&pairs))))
}

/// Parameters of the address that an answer sends the browser to.
fn sent_back(answer: &Answer) -> Value {
    assert_eq!(answer.status, 303, "{}", answer.text());
    let address = url::Url::parse(answer.header("location").unwrap()).unwrap();
    address.query_pairs().map(|(name, value)| (name.into_owned(), Value::from(value.into_owned()))).collect()
}

/// A code for `user`, who said yes to everything.
fn code(edge: &TestEdge, user: &UserId, changes: &[(&str, &str)]) -> String {
    let asked = sent_back(&authorize(edge, changes));
    let session = Credential::parse(Kind::Consent, asked["session"].as_str().unwrap()).unwrap();
    let questions = Questions::new(edge.store());
    edge.block_on(async {
        let held = questions.get(&session).await.unwrap().unwrap();
        let held = questions.identify(&session, held, user.clone(), MINUTE).await.unwrap().unwrap();
        let (scopes, moment) = (held.value.scopes, (now(), known(edge).await));
        let code = Credential::another(Kind::Code, session.grant()).unwrap();
        assert!(questions.approve(&session, held, (scopes, &code), Default::default(), moment, MINUTE).await.unwrap());
        code.expose().to_owned()
    })
}

/// The last revocation, as the edge would know of it when it asks a user.
async fn known(edge: &TestEdge) -> u64 {
    RevocationLog::new(edge.store(), Clock::system()).number().await.unwrap()
}

fn now() -> u64 {
    u64::try_from(Clock::system().unix().as_millis()).unwrap()
}

fn redeem(edge: &TestEdge, code: &str) -> Answer {
    shop(edge, "/oauth2/token", &redemption(code))
}

fn redemption(code: &str) -> [(&str, &str); 4] {
    [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", REDIRECT), ("code_verifier", VERIFIER)]
}

fn refresh(edge: &TestEdge, token: &str) -> Answer {
    shop(edge, "/oauth2/token", &[("grant_type", "refresh_token"), ("refresh_token", token)])
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn error(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{}", answer.text());
    (answer.status, text(&answer.json(), "error").to_owned())
}

fn balance(edge: &TestEdge, token: &str) -> u16 {
    edge.send(Request::get("/api/v1/wallet/balance").bearer(token)).status
}

/// The user types a device's code, and says yes.
fn approve_device(edge: &TestEdge, user: &UserId, user_code: &str, scopes: ScopeSet) {
    let devices = Devices::new(edge.store());
    edge.block_on(async {
        let (id, held) = devices.by_user_code(&UserCode::parse(user_code).unwrap()).await.unwrap().unwrap();
        let approved = held.value.clone().approved(user.clone(), scopes, now(), known(edge).await).unwrap();
        assert!(devices.change(id, &held, &approved, now()).await.unwrap());
    });
}
