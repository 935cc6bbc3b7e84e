//! What each check costs by itself: `cargo bench --bench micro`.
//!
//! The parts are taken from a policy that was built from a config as an edge builds it, so what is measured is what runs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up has to stop")]

mod issuance;
mod setup;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use http::Method;

use setup::{Request, Setup, transfer};
use tmcp_edge::config::types::Sanitization;
use tmcp_edge::model::rows::Body;
use tmcp_edge::policy::json::Document;
use tmcp_edge::policy::path::PathView;
use tmcp_edge::policy::rate_limit::{Claim, LimitKey};
use tmcp_edge::policy::validate::{BodyPlan, Length};
use tmcp_edge::policy::{Trail, sanitize, schema::Schemas};

const BALANCE: &str = "/api/v1/wallet/balance";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn route(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for (name, routes) in [("built-in rows", 0), ("5,000 rows more", 5000)] {
        let setup = Setup::new(routes);
        let table = &setup.policy().table;
        for path in [BALANCE, "/api/v1/wallet/p2p/t_0123456789/confirm"] {
            let method = if path == BALANCE { Method::GET } else { Method::POST };
            group.bench_function(format!("{name}: {path}"), |b| {
                b.iter(|| {
                    let view = PathView::parse(black_box(path)).unwrap();
                    black_box(table.find(&method, &view).unwrap().index)
                });
            });
        }
    }
}

fn token(c: &mut Criterion) {
    let setup = Setup::new(0);
    let verifier = setup.policy().authn.verifier();
    let now = setup.now();
    let mut group = c.benchmark_group("token");
    let known = setup.token(0);
    group.bench_function("seen before", |b| {
        b.iter(|| black_box(verifier.verify(black_box(&known), now).now_or_never().unwrap().unwrap()));
    });
    // Each token is presented once; the ring is large enough that a batch does not meet its own.
    let many: Vec<String> = (1..2000).map(|user| setup.token(user)).collect();
    let mut next = many.iter().cycle();
    group.bench_function("first seen (RS256)", |b| {
        b.iter_batched(
            || {
                let token = next.next().unwrap();
                setup.forget(token);
                token
            },
            |token| black_box(verifier.verify(token, now).now_or_never().unwrap().unwrap()),
            BatchSize::SmallInput,
        );
    });
}

fn limiter(c: &mut Criterion) {
    let setup = Setup::new(0);
    let limiter = &setup.policy().limiter;
    let policy = limiter.policies().id("default").unwrap();
    let now = setup.tick();
    let mut group = c.benchmark_group("limiter");
    for (name, callers) in [("one caller", 1), ("100,000 callers", 100_000u32)] {
        let mut at = 0u32;
        group.bench_function(name, |b| {
            b.iter(|| {
                at = (at + 7919) % callers;
                let key = LimitKey::ip(IpAddr::V4(Ipv4Addr::from_bits(at)));
                black_box(limiter.take(now, 0, &[Claim { policy, key, cost: 1 }]).now_or_never().unwrap())
            });
        });
    }
}

fn body(c: &mut Criterion) {
    let steps = Sanitization { remove_html: true, trim_strings: true, normalize_unicode: true };
    let schemas = Schemas::compile().unwrap();
    let schema = schemas.get(schemas.find("p2p_initiate").unwrap()).unwrap();
    let setup = Setup::new(0);
    let validator = &setup.policy().validator;
    let mut group = c.benchmark_group("body of 1 KB");
    for (name, body) in [("clean", transfer(false)), ("with a tag", transfer(true))] {
        let document = Document::read(&body).unwrap();
        group.bench_function(format!("structure, {name}"), |b| {
            b.iter(|| black_box(Document::read(black_box(&body)).unwrap()));
        });
        group.bench_function(format!("sanitise, {name}"), |b| {
            b.iter(|| black_box(sanitize::body(black_box(&document), &body, &["note"], steps)));
        });
        group.bench_function(format!("schema, {name}"), |b| {
            b.iter(|| black_box(schema.check(black_box(&document)).is_ok()));
        });
        let request = Request::transfer(&setup.token(0), &body);
        let head = &request.head;
        let length = Length::of(head.version, &head.headers).unwrap();
        let plan = validator.head(Body::Json("p2p_initiate"), &head.method, &head.headers, length).unwrap();
        let BodyPlan::Read(reading) = plan else { panic!("a transfer's body is read") };
        let body = Bytes::from(body.clone());
        group.bench_function(format!("all of it, {name}"), |b| {
            b.iter(|| black_box(validator.body(&reading, &["note"], body.clone()).unwrap()));
        });
    }
}

fn admit(c: &mut Criterion) {
    let setup = Setup::new(0);
    let policy = setup.policy();
    let mut group = c.benchmark_group("admit");
    let mut get = Request::get(BALANCE, &setup.token(0));
    group.bench_function("GET balance, token seen before", |b| {
        b.iter(|| {
            let mut trail = Trail::default();
            black_box(policy.admit(&mut get, CLIENT, &mut trail).now_or_never().unwrap().unwrap())
        });
    });
    let mut post = Request::transfer(&setup.token(0), &transfer(false));
    group.bench_function("POST transfer of 1 KB, token seen before", |b| {
        b.iter(|| {
            let mut trail = Trail::default();
            black_box(policy.admit(&mut post, CLIENT, &mut trail).now_or_never().unwrap().unwrap())
        });
    });
}

criterion_group!(benches, route, token, issuance::issuance, limiter, body, admit);
criterion_main!(benches);
