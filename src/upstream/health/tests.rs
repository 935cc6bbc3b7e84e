use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use axum::routing::get;
use http::StatusCode;

use super::*;
use crate::clock::Clock;
use crate::upstream::testing::{build, build_after, eventually, refusing, serve, upstream};

fn checked(addresses: &[&str]) -> config::Upstream {
    let health = config::Health {
        path: "/health".into(),
        every: Duration::from_millis(20),
        unhealthy_after: 2,
        healthy_after: 1,
    };
    config::Upstream { health: Some(health), ..upstream(addresses) }
}

struct Patient {
    well: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    address: String,
}

async fn patient() -> Patient {
    let (well, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (seen, count) = (well.clone(), asked.clone());
    let router = Router::new().route(
        "/health",
        get(move || async move {
            count.fetch_add(1, Ordering::Relaxed);
            if seen.load(Ordering::Relaxed) { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
        }),
    );
    Patient { well, asked, address: serve(router).await.to_string() }
}

#[tokio::test]
async fn an_address_falls_ill_and_recovers() {
    let patient = patient().await;
    let dead = refusing().to_string();
    let backend = build(checked(&[&patient.address, &dead]), &Clock::system()).unwrap();
    check_once(&backend).await;
    assert!(backend.addresses().iter().all(|target| target.healthy()), "one failure is none");
    check_once(&backend).await;
    let healthy = |backend: &Backend| backend.addresses().iter().map(|target| target.healthy()).collect::<Vec<_>>();
    assert_eq!(healthy(&backend), [true, false]);

    patient.well.store(false, Ordering::Relaxed);
    check_once(&backend).await;
    check_once(&backend).await;
    assert_eq!(healthy(&backend), [false, false]);
    patient.well.store(true, Ordering::Relaxed);
    check_once(&backend).await;
    assert_eq!(healthy(&backend), [true, false]);
}

#[tokio::test]
async fn checks_run_until_the_backend_is_gone() {
    let patient = patient().await;
    let upstreams = build_after(checked(&[&patient.address]), None, &Clock::system()).unwrap();
    upstreams.start(&tokio::runtime::Handle::current());
    // Once more is not twice as often.
    upstreams.start(&tokio::runtime::Handle::current());
    eventually(|| patient.asked.load(Ordering::Relaxed) >= 3).await;
    let weak = Arc::downgrade(upstreams.get("wallet").unwrap());
    drop(upstreams);
    eventually(|| weak.strong_count() == 0).await;
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = patient.asked.load(Ordering::Relaxed);
    // The server's own tasks stay; the check's ends.
    eventually(|| tasks.num_alive_tasks() <= 2).await;
    assert!(patient.asked.load(Ordering::Relaxed) <= before + 1);
}

#[tokio::test]
async fn a_check_that_hangs_has_failed() {
    let router = Router::new().route("/health", get(std::future::pending::<()>));
    let address = serve(router).await.to_string();
    let mut config = checked(&[&address]);
    config.timeouts.connect = Duration::from_millis(50);
    config.timeouts.read = Duration::from_millis(50);
    let backend = build(config, &Clock::system()).unwrap();
    check_once(&backend).await;
    check_once(&backend).await;
    assert!(!backend.addresses()[0].healthy());
}

#[tokio::test]
async fn names_are_asked_for_again() {
    let backend = build(upstream(&["localhost:4001"]), &Clock::system()).unwrap();
    backend.renamed("localhost:4001", vec!["127.0.0.9:4001".parse().unwrap()]);
    refresh_once(&backend).await;
    let sockets: Vec<_> = backend.addresses().iter().map(|target| target.socket()).collect();
    assert!(!sockets.contains(&"127.0.0.9:4001".parse().unwrap()) && !sockets.is_empty(), "{sockets:?}");
}
