//! Spans to an OpenTelemetry collector (OTLP over HTTP, protobuf), when one is configured.
//!
//! A request's span, and one below it for each try at an upstream, are made from the [`Outcome`] when the request is
//! over: nothing is opened, carried or closed on its way, and
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

use super::outcome::{Attempt, Outcome};
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
        // All of a request's or none: a part would tell of something else than happened.
        let count = 1 + outcome.attempts.len();
        let Ok(places) = self.queue.try_reserve_many(count) else {
            return self.metrics.spans.inc_by(SpanResult::Dropped, count as u64);
        };
        let attempts = outcome.attempts.iter().enumerate().map(|(at, attempt)| call(outcome, at, attempt, &self.scope));
        for (place, span) in places.zip(std::iter::once(span(outcome, &self.scope)).chain(attempts)) {
            place.send(Item::Span(Box::new(span)));
        }
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
    // A server's span failed when the server did; a refused client is no failure of ours.
    let status = match outcome.error {
        Some(code) if outcome.status >= 500 => Status::error(code.as_str()),
        _ if outcome.status >= 500 || outcome.status == 0 => Status::error(""),
        _ => Status::Unset,
    };
    let start = UNIX_EPOCH + outcome.time;
    SpanData {
        span_context: context(outcome, outcome.trace.own.span),
        parent_span_id: outcome.trace.parent.map_or(SpanId::INVALID, |span| SpanId::from_bytes(span.to_be_bytes())),
        parent_span_is_remote: outcome.trace.parent.is_some(),
        span_kind: SpanKind::Server,
        name: outcome.operation_name().to_owned().into(),
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

/// The span of one try at an upstream, by the conventions for HTTP clients. `at`: how many came before it.
fn call(outcome: &Outcome<'_>, at: usize, attempt: &Attempt, scope: &InstrumentationScope) -> SpanData {
    let method = Verb::parse(outcome.method).map_or("_OTHER", Verb::as_str);
    let mut attributes = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("server.address", attempt.address.ip().to_string()),
        KeyValue::new("server.port", i64::from(attempt.address.port())),
    ];
    attributes.extend(outcome.upstream.map(|name| KeyValue::new("tmcp.upstream", name.to_owned())));
    attributes.extend(attempt.status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))));
    attributes.extend(attempt.trouble.map(|trouble| KeyValue::new("error.type", trouble)));
    attributes
        .extend((at > 0).then(|| KeyValue::new("http.request.resend_count", i64::try_from(at).unwrap_or(i64::MAX))));
    // A client's span failed when it was refused, too.
    let failed = attempt.trouble.is_some() || attempt.status.is_some_and(|status| status >= 400);
    let start = UNIX_EPOCH + outcome.time + attempt.began;
    SpanData {
        span_context: context(outcome, attempt.span),
        parent_span_id: SpanId::from_bytes(outcome.trace.own.span.to_be_bytes()),
        parent_span_is_remote: false,
        span_kind: SpanKind::Client,
        name: method.into(),
        start_time: start,
        end_time: start + attempt.took,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: if failed { Status::error(attempt.trouble.unwrap_or_default()) } else { Status::Unset },
        instrumentation_scope: scope.clone(),
    }
}

fn context(outcome: &Outcome<'_>, span: u64) -> SpanContext {
    let trace = TraceId::from_bytes(outcome.trace.own.trace.to_be_bytes());
    SpanContext::new(trace, SpanId::from_bytes(span.to_be_bytes()), TraceFlags::SAMPLED, false, TraceState::default())
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
