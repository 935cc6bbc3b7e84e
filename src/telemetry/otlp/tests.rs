use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;

use super::*;
use crate::error::Code;
use crate::model::Operation;
use crate::telemetry::{RequestId, Stages, TraceContext};

fn outcome(sampled: bool) -> Outcome<'static> {
    Outcome {
        time: Duration::from_secs(1_766_193_300),
        trace: TraceContext::new(sampled),
        request_id: RequestId::new(),
        operation: Operation::WalletBalance,
        row: None,
        method: "BREW",
        path: Some("/api/v1/wallet/balance"),
        http: "1.1",
        tls: None,
        status: 504,
        user: None,
        app: Some("ma_shop_001"),
        client: None,
        bytes_in: 0,
        bytes_out: 0,
        stages: Stages { total: Duration::from_millis(5), ..Stages::default() },
        upstream: Some("wallet"),
        address: None,
        tries: 1,
        attempts: &[],
        cache: None,
        limit: None,
        error: Some(Code::UpstreamTimeout),
        inside: Some("only for the log"),
    }
}

/// A collector that hands on what it is sent and answers with a status. Gives its address.
async fn collector(status: StatusCode) -> (Url, mpsc::UnboundedReceiver<Bytes>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let take = async move |State(sender): State<mpsc::UnboundedSender<Bytes>>, body: Bytes| {
        let _ = sender.send(body);
        status
    };
    let router = Router::new().route("/v1/traces", post(take)).with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, receiver)
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[test]
fn spans_are_sent_from_a_runtime_that_somebody_else_runs() {
    // As in the server: the runtime belongs to a background service, and requests are recorded on other threads.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (url, mut bodies) = runtime.block_on(collector(StatusCode::OK));
    let metrics = Arc::new(Metrics::new(Code::NAMES).unwrap());
    let spans = Spans::start(&url, runtime.handle(), metrics.clone()).unwrap();
    let recorded = outcome(true);
    spans.record(&recorded);
    spans.record(&outcome(false));
    assert!(runtime.block_on(spans.flush(Duration::from_secs(20))));
    let body = bodies.blocking_recv().unwrap();
    assert!(contains(&body, b"wallet_balance") && contains(&body, b"tmcp-edge") && contains(&body, b"_OTHER"));
    assert!(contains(&body, &recorded.trace.own.trace.to_be_bytes()));
    assert!(contains(&body, &recorded.trace.own.span.to_be_bytes()));
    assert!(!contains(&body, b"only for the log"));
    assert_eq!(metrics.spans.get(SpanResult::Exported), 1);
}

#[tokio::test]
async fn a_collector_that_refuses_is_counted_and_does_not_stop_anything() {
    let (url, mut bodies) = collector(StatusCode::BAD_REQUEST).await;
    let metrics = Arc::new(Metrics::new(Code::NAMES).unwrap());
    let spans = Spans::start(&url, &Handle::current(), metrics.clone()).unwrap();
    spans.record(&outcome(true));
    assert!(spans.flush(Duration::from_secs(20)).await);
    assert!(bodies.recv().await.is_some());
    assert_eq!(metrics.spans.get(SpanResult::Failed), 1);
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let (url, _bodies) = collector(StatusCode::OK).await;
    let metrics = Arc::new(Metrics::new(Code::NAMES).unwrap());
    // On this runtime of one thread the sender does not get a turn before the queue is full.
    let spans = Spans::start(&url, &Handle::current(), metrics.clone()).unwrap();
    for _ in 0..QUEUE + 3 {
        spans.record(&outcome(true));
    }
    assert_eq!(metrics.spans.get(SpanResult::Dropped), 3);
}

#[test]
fn the_parent_is_the_proxys_span() {
    let mut with_parent = outcome(true);
    with_parent.trace.parent = Some(7);
    let scope = InstrumentationScope::builder("test").build();
    let made = span(&with_parent, &scope);
    assert_eq!(made.parent_span_id, SpanId::from_bytes(7u64.to_be_bytes()));
    assert!(made.parent_span_is_remote);
    assert_eq!(made.status, Status::error("UPSTREAM_TIMEOUT"));
    assert_eq!(made.end_time.duration_since(made.start_time).unwrap(), Duration::from_millis(5));
}

#[tokio::test]
async fn each_try_has_a_span_below_the_requests() {
    let attempt = |span, status, trouble| Attempt {
        span,
        address: "10.0.1.7:443".parse().unwrap(),
        began: Duration::from_millis(span),
        took: Duration::from_millis(2),
        status,
        trouble,
    };
    let attempts = [attempt(1, None, Some("connect")), attempt(2, Some(200), None), attempt(3, Some(503), None)];
    let tried = Outcome { attempts: &attempts, ..outcome(true) };
    let scope = InstrumentationScope::builder("test").build();
    let calls: Vec<_> = attempts.iter().enumerate().map(|(at, attempt)| call(&tried, at, attempt, &scope)).collect();
    let server = span(&tried, &scope);
    for (made, attempt) in calls.iter().zip(&attempts) {
        assert_eq!(made.span_context.trace_id(), server.span_context.trace_id());
        assert_eq!(made.span_context.span_id(), SpanId::from_bytes(attempt.span.to_be_bytes()));
        assert_eq!((made.parent_span_id, &made.span_kind), (server.span_context.span_id(), &SpanKind::Client));
        assert_eq!(made.start_time.duration_since(server.start_time).unwrap(), attempt.began);
        assert_eq!(made.end_time.duration_since(made.start_time).unwrap(), attempt.took);
    }
    let statuses: Vec<_> = calls.iter().map(|made| made.status.clone()).collect();
    assert_eq!(statuses, [Status::error("connect"), Status::Unset, Status::error("")]);
    let resent = |made: &SpanData| made.attributes.iter().any(|pair| pair.key.as_str() == "http.request.resend_count");
    assert_eq!(calls.iter().map(resent).collect::<Vec<_>>(), [false, true, true]);

    let (url, mut bodies) = collector(StatusCode::OK).await;
    let metrics = Arc::new(Metrics::new(Code::NAMES).unwrap());
    let spans = Spans::start(&url, &Handle::current(), metrics.clone()).unwrap();
    spans.record(&tried);
    assert!(spans.flush(Duration::from_secs(20)).await);
    assert!(contains(&bodies.recv().await.unwrap(), &3u64.to_be_bytes()));
    assert_eq!(metrics.spans.get(SpanResult::Exported), 4);
}
