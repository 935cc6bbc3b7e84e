//! What a token costs: the bare signature, the access token around it, and a whole refresh as the token endpoint does it.

use std::future::Future;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use bytes::Bytes;
use criterion::Criterion;
use http::HeaderValue;
use http::request::Parts;
use serde_json::Value;
use tmcp_edge::error::Refusal;
use tmcp_edge::model::oauth::{ClientId, Grant, Via};
use tmcp_edge::model::{MiniAppId, UserId};
use tmcp_edge::operations::{self, Call};
use tmcp_edge::policy::keyring::{TokenRequest, issuer_of};
use tmcp_edge::policy::{Exchange, Trail};
use tmcp_edge::store::oauth::{Credential, Grants, Kind};
use tmcp_edge::upstream::forward::Trace;

use super::setup::{APP, Setup, scopes};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The bar is that "an access token" costs at most 1.3 of "bare RS256 signature", which signs as many bytes with a key as
/// long. "A refresh" is everything: admitting the request, two looks into the store, two random credentials, the access
/// token, the sealed copy of the answer, and the commit, which waits for the disk where the system's temporary folder is
/// on one.
pub fn issuance(c: &mut Criterion) {
    let setup = Setup::new(0);
    let mut group = c.benchmark_group("issuance");

    let request = TokenRequest {
        grant_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
        ..TokenRequest::new(user(), app(), scopes(), 3600)
    };
    let issuer = issuer_of(&setup.config().public_url);
    let mint = || setup.keyring().mint(&issuer, &request, setup.now()).unwrap();
    let signed = mint().rsplit_once('.').map_or(0, |(message, _)| message.len() - "tep.".len());
    let (pair, random) = (KeyPair::generate(KeySize::Rsa2048).unwrap(), SystemRandom::new());
    let (message, mut signature) = (vec![b'x'; signed], vec![0; pair.public_modulus_len()]);
    group.bench_function("bare RS256 signature", |b| {
        b.iter(|| pair.sign(&RSA_PKCS1_SHA256, &random, black_box(&message), &mut signature).unwrap());
    });
    group.bench_function("an access token", |b| b.iter(|| black_box(mint())));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut token = begin(&setup, &runtime);
    group.bench_function("a refresh", |b| {
        b.iter(|| token = runtime.block_on(refresh(&setup, &token)));
    });
}

fn user() -> UserId {
    UserId::parse("@user0:tween.example").unwrap()
}

fn app() -> MiniAppId {
    MiniAppId::parse(APP).unwrap()
}

/// A grant's first refresh token.
fn begin(setup: &Setup, runtime: &tokio::runtime::Runtime) -> String {
    let now = setup.now() * 1000;
    let token = Credential::first(Kind::Refresh).unwrap();
    let grant = Grant::given(ClientId::of(app()), user(), scopes(), Via::Code, (now, 0));
    let grant = grant.begun(token.hash(), now);
    let grants = Grants::new(setup.services().store.clone());
    runtime.block_on(grants.create(token.grant(), &grant, Duration::from_secs(86_400))).unwrap();
    token.expose().to_owned()
}

/// Gives a refresh token for the next one.
async fn refresh(setup: &Setup, token: &str) -> String {
    let body = format!("grant_type=refresh_token&client_id={APP}&refresh_token={token}");
    let head = http::Request::post("/oauth2/token")
        .header("host", "tmcp.bench.example")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("content-length", body.len());
    let (head, ()) = head.body(()).unwrap().into_parts();
    let mut form = Form { head, body: body.into() };
    let mut trail = Trail::default();
    let permit = setup.policy().admit(&mut form, CLIENT, &mut trail).await.unwrap();
    let id = HeaderValue::from_static("1");
    let call = Call {
        caller: &trail.caller,
        method: &form.head.method,
        params: Default::default(),
        query: None,
        headers: &form.head.headers,
        address: setup.policy().guard.address(CLIENT),
        trace: Trace { request_id: id.clone(), trace_id: id.clone(), traceparent: id },
        arrived_at: setup.now() * 1000,
    };
    let answer = operations::answer(&permit, setup.services(), call).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    answer.get("refresh_token").and_then(Value::as_str).unwrap().to_owned()
}

struct Form {
    head: Parts,
    body: Bytes,
}

impl Exchange for Form {
    fn head(&self) -> &Parts {
        &self.head
    }

    fn read_body(&mut self, _cap: usize) -> impl Future<Output = Result<Bytes, Refusal>> + Send {
        std::future::ready(Ok(self.body.clone()))
    }
}
