use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::{get, post};
use http::header::HOST;

use super::*;
use crate::clock::Clock;
use crate::upstream::breaker::Position;
use crate::upstream::testing::{build, refusing, serve, upstream};

fn router(calls: Arc<AtomicU64>) -> Router {
    Router::new()
        .route(
            "/host",
            get(move |request: Request| async move {
                calls.fetch_add(1, Ordering::Relaxed);
                request.headers()[HOST].to_str().unwrap().to_owned()
            }),
        )
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/sick", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .route("/away", get(|| async { (StatusCode::FOUND, [("location", "/host")]) }))
        .route("/big", get(|| async { "x".repeat(5000) }))
        .route(
            "/endless",
            get(|| async {
                axum::body::Body::from_stream(futures::stream::repeat_with(|| {
                    Ok::<_, std::io::Error>(Bytes::from_static(b"xxxxxxxx"))
                }))
            }),
        )
        .route("/hang", get(std::future::pending::<()>))
}

#[tokio::test]
async fn an_answer_comes_whole() {
    let calls = Arc::new(AtomicU64::new(0));
    let address = serve(router(calls.clone())).await.to_string();
    let backend = build(upstream(&[&address]), &Clock::system()).unwrap();
    let answer = backend.call(Call::get(Class::Read, "/host")).await.unwrap();
    assert_eq!((answer.status, answer.body), (StatusCode::OK, Bytes::from(address)));
    let body = Bytes::from_static(b"{\"n\":5000.00}");
    let call = Call { method: Method::POST, body: body.clone(), ..Call::get(Class::Read, "/echo") };
    assert_eq!(backend.call(call).await.unwrap().body, body);
    // Redirects are an answer like any other; following one would leave the upstream.
    assert_eq!(backend.call(Call::get(Class::Read, "/away")).await.unwrap().status, StatusCode::FOUND);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_dead_address_is_answered_for_by_another() {
    let address = serve(router(Arc::default())).await.to_string();
    let dead = refusing().to_string();
    let backend = build(upstream(&[&dead, &address]), &Clock::system()).unwrap();
    for _ in 0..12 {
        assert_eq!(backend.call(Call::get(Class::Read, "/host")).await.unwrap().status, StatusCode::OK);
    }
    let reading = backend.read(backend.clock().tick());
    assert_eq!(reading.connect_failures, 1, "the dead one rests");
    assert_eq!(backend.breaker(Class::Read).read(backend.clock().tick()).failures, 0);

    let mut stubborn = upstream(&[&dead, &address]);
    stubborn.retries = 0;
    let backend = build(stubborn, &Clock::system()).unwrap();
    let error = backend.call(Call::get(Class::Read, "/host")).await.unwrap_err();
    assert!(matches!(error, CallError::Failed(Ended::Connect, _)), "{error}");
    assert_eq!(error.refusal("wallet").code(), Code::UpstreamError);
}

#[tokio::test]
async fn failures_open_the_breaker_and_nothing_more_is_sent() {
    let address = serve(router(Arc::default())).await.to_string();
    let (clock, hand) = Clock::manual(0);
    let backend = build(upstream(&[&address]), &clock).unwrap();
    for _ in 0..5 {
        let answer = backend.call(Call::get(Class::Resolve, "/sick")).await.unwrap();
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    let error = backend.call(Call::get(Class::Resolve, "/host")).await.unwrap_err();
    assert!(matches!(error, CallError::Open(_)));
    assert_eq!(error.refusal("wallet").retry_after_seconds(), Some(60));
    hand.advance(Duration::from_secs(60));
    assert_eq!(backend.call(Call::get(Class::Resolve, "/host")).await.unwrap().status, StatusCode::OK);
    assert_eq!(backend.breaker(Class::Resolve).read(clock.tick()).position, Position::Closed);
}

#[tokio::test]
async fn what_hangs_is_given_up_and_what_is_given_up_counts_for_nothing() {
    let address = serve(router(Arc::default())).await.to_string();
    let mut config = upstream(&[&address]);
    config.timeouts.read = Duration::from_millis(80);
    let backend = build(config, &Clock::system()).unwrap();
    let error = backend.call(Call::get(Class::Read, "/hang")).await.unwrap_err();
    assert!(matches!(error, CallError::Failed(Ended::Timeout, _)), "{error}");
    assert_eq!(error.refusal("wallet").code(), Code::UpstreamTimeout);
    let failures = || backend.breaker(Class::Read).read(backend.clock().tick()).failures;
    assert_eq!(failures(), 1);

    let call = backend.call(Call::get(Class::Read, "/hang"));
    assert!(tokio::time::timeout(Duration::from_millis(10), call).await.is_err());
    assert_eq!(failures(), 1, "the caller left; the upstream did nothing wrong");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let address = serve(router(Arc::default())).await.to_string();
    let backend = build(upstream(&[&address]), &Clock::system()).unwrap();
    for path in ["/big", "/endless"] {
        let error = backend.call(Call { cap: 4000, ..Call::get(Class::Read, path) }).await.unwrap_err();
        assert!(matches!(error, CallError::TooLarge { cap: 4000 }), "{path}: {error}");
    }
    assert_eq!(backend.call(Call { cap: 5000, ..Call::get(Class::Read, "/big") }).await.unwrap().body.len(), 5000);
}

#[tokio::test]
async fn http2_without_tls_is_spoken_by_prior_knowledge() {
    let router = Router::new().route("/v", get(|request: Request| async move { format!("{:?}", request.version()) }));
    let address = serve(router).await.to_string();
    let mut config = upstream(&[&address]);
    config.http2 = true;
    let backend = build(config, &Clock::system()).unwrap();
    assert_eq!(backend.call(Call::get(Class::Read, "/v")).await.unwrap().body, "HTTP/2.0");
}
