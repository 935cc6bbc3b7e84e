//! Spans to an OpenTelemetry collector (OTLP over HTTP, protobuf), when one is configured.
//!
//! A span is made from the [`Outcome`] when the request is over: nothing is opened, carried or closed on its way, and
//! when spans are off a request pays for one comparison. The SDK's span processors are not used: the blocking one runs
//! the exporter on a thread of its own without a reactor, where the asynchronous HTTP client cannot work, and the
//! other is marked experimental. What is needed of them is short: a bounded queue, and a task that sends batches.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::outcome::Outcome;
use crate::metrics::{Metrics, SpanResult};
use crate::model::rows::Verb;

/// Spans that wait for being sent; more are dropped and counted.
const QUEUE: usize = 8192;
/// Most spans in one batch.
const BATCH: usize = 512;
/// A batch is sent this long after its first span, full or not.
const EVERY: Duration = Duration::from_secs(1);
/// For one batch to be taken by the collector.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where spans go. Cloning shares the queue.
#[derive(Clone, Debug)]
pub struct Spans {
    queue: mpsc::Sender<Item>,
    metrics: Arc<Metrics>,
    scope: InstrumentationScope,
}

#[derive(Debug)]
enum Item {
    Span(Box<SpanData>),
    /// Send what is there, then answer.
    Flush(oneshot::Sender<()>),
}

impl Spans {
    /// Starts sending to `collector` from `runtime`. A URL without a path gets the one that collectors expect,
    /// `/v1/traces`. The error says what is wrong with the URL or the client.
    pub fn start(collector: &Url, runtime: &Handle, metrics: Arc<Metrics>) -> Result<Spans, ExporterBuildError> {
        let mut endpoint = collector.clone();
        if endpoint.path() == "/" {
            endpoint.set_path("/v1/traces");
        }
        let failure = |error: reqwest::Error| ExporterBuildError::InternalFailure(error.to_string());
        let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client.map_err(failure)?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint.as_str())
            .with_timeout(TIMEOUT)
            .build()?;
        let about = [KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))];
        exporter.set_resource(&Resource::builder().with_service_name("tmcp-edge").with_attributes(about).build());
        let (queue, waiting) = mpsc::channel(QUEUE);
        runtime.spawn(send(exporter, waiting, metrics.clone()));
        let scope = InstrumentationScope::builder("tmcp-edge").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Spans { queue, metrics, scope })
    }

    /// Takes note of a finished request, when its trace is recorded. Never waits: a full queue drops the span.
    pub fn record(&self, outcome: &Outcome<'_>) {
        if !outcome.trace.own.sampled {
            return;
        }
        let Ok(place) = self.queue.try_reserve() else {
            return self.metrics.spans.inc(SpanResult::Dropped);
        };
        place.send(Item::Span(Box::new(span(outcome, &self.scope))));
    }

    /// Has what is queued sent, and waits at most `longest` for it. Whether the collector was tried with all of it.
    pub async fn flush(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        let (done, answer) = oneshot::channel();
        let asked = timeout_at(deadline, self.queue.send(Item::Flush(done))).await;
        matches!(asked, Ok(Ok(()))) && matches!(timeout_at(deadline, answer).await, Ok(Ok(())))
    }
}

/// Sends batches until every [`Spans`] is gone.
async fn send(exporter: SpanExporter, mut waiting: mpsc::Receiver<Item>, metrics: Arc<Metrics>) {
    let mut failing = false;
    while let Some(first) = waiting.recv().await {
        let mut batch = Vec::with_capacity(BATCH);
        let mut flushes = Vec::new();
        let mut next = Some(first);
        let deadline = Instant::now() + EVERY;
        while let Some(item) = next {
            match item {
                Item::Span(span) => batch.push(*span),
                Item::Flush(done) => flushes.push(done),
            }
            next = if batch.len() >= BATCH || !flushes.is_empty() {
                None
            } else {
                timeout_at(deadline, waiting.recv()).await.ok().flatten()
            };
        }
        let count = batch.len();
        if count > 0 {
            let result = exporter.export(batch).await;
            for _ in 0..count {
                metrics.spans.inc(if result.is_ok() { SpanResult::Exported } else { SpanResult::Failed });
            }
            match result {
                Ok(()) => failing = false,
                // Said once per trouble, not once a second.
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    log::warn!("spans cannot be sent to the collector: {error}");
                }
                Err(_) => {}
            }
        }
        for flush in flushes {
            // Whoever asked may have given up waiting.
            let _ = flush.send(());
        }
    }
}

/// The span of a request, named and described by OpenTelemetry's conventions for HTTP servers.
fn span(outcome: &Outcome<'_>, scope: &InstrumentationScope) -> SpanData {
    let own = outcome.trace.own;
    let start = UNIX_EPOCH + outcome.time;
    let flags = TraceFlags::SAMPLED;
    let context = |span: u64, remote| {
        let state = TraceState::default();
        SpanContext::new(
            TraceId::from_bytes(own.trace.to_be_bytes()),
            SpanId::from_bytes(span.to_be_bytes()),
            flags,
            remote,
            state,
        )
    };
    // A server's span failed when the server did; a refused client is no failure of ours.
    let status = match outcome.error {
        Some(code) if outcome.status >= 500 => Status::error(code.as_str()),
        _ if outcome.status >= 500 || outcome.status == 0 => Status::error(""),
        _ => Status::Unset,
    };
    SpanData {
        span_context: context(own.span, false),
        parent_span_id: outcome.trace.parent.map_or(SpanId::INVALID, |span| SpanId::from_bytes(span.to_be_bytes())),
        parent_span_is_remote: outcome.trace.parent.is_some(),
        span_kind: SpanKind::Server,
        name: outcome.operation.as_str().into(),
        start_time: start,
        end_time: start + outcome.stages.total,
        attributes: attributes(outcome),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status,
        instrumentation_scope: scope.clone(),
    }
}

fn attributes(outcome: &Outcome<'_>) -> Vec<KeyValue> {
    let micros = |took: Duration| i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let mut all = Vec::with_capacity(20);
    let mut put = |name: &'static str, value: Option<Value>| {
        if let Some(value) = value {
            all.push(KeyValue::new(name, value));
        }
    };
    let owned = |text: &str| Value::from(text.to_owned());
    // The conventions' word for a method that is not one of the known ones.
    put("http.request.method", Some(Verb::parse(outcome.method).map_or("_OTHER", Verb::as_str).into()));
    put("http.route", outcome.path.map(owned));
    put("http.response.status_code", (outcome.status != 0).then(|| i64::from(outcome.status).into()));
    put("http.request.body.size", Some(bytes(outcome.bytes_in).into()));
    put("http.response.body.size", Some(bytes(outcome.bytes_out).into()));
    put("network.protocol.version", Some(outcome.http.into()));
    put("tls.protocol.version", outcome.tls.map(owned));
    put("error.type", outcome.error.map(|code| code.as_str().into()));
    put("enduser.pseudo.id", outcome.user.map(|user| owned(user.as_str())));
    put("tmcp.app_id", outcome.app.map(owned));
    put("tmcp.request_id", Some(owned(outcome.request_id.as_str())));
    put("tmcp.trace_id", Some(owned(outcome.trace.id.as_str())));
    put("tmcp.upstream", outcome.upstream.map(owned));
    put("tmcp.upstream.address", outcome.address.map(|address| address.to_string().into()));
    put("tmcp.upstream.tries", outcome.upstream.map(|_| i64::from(outcome.tries).into()));
    put("tmcp.cache", outcome.cache.map(|cache| cache.as_str().into()));
    put("tmcp.limit", outcome.limit.map(owned));
    put("tmcp.admit_us", outcome.stages.admit.map(|took| micros(took).into()));
    put("tmcp.body_us", outcome.stages.body.map(|took| micros(took).into()));
    put("tmcp.connect_us", outcome.stages.connect.map(|took| micros(took).into()));
    put("tmcp.first_byte_us", outcome.stages.first_byte.map(|took| micros(took).into()));
    all
}

#[cfg(test)]
mod tests;
