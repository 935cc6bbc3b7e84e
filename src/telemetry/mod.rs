//! What a request leaves behind: its trace ids, its access-log line, its span and its place in the metrics.
//!
//! All of them are made from one [`Outcome`] after the answer has been written, so they cannot contradict each other,
//! and what must not be written down (tokens, query strings, bodies) is kept out in one place: the outcome has no field
//! for it.

pub mod access_log;
mod escape;
pub mod export;
pub mod otlp;
pub mod outcome;
pub mod process;
pub mod random;
pub mod time;
pub mod trace;

use std::sync::{Arc, OnceLock};

pub use access_log::AccessLog;
pub use otlp::Spans;
pub use outcome::{CacheStatus, Outcome, Stages};
pub use trace::{RequestId, TraceContext, TraceId};

use crate::metrics::{CacheName, CacheResult, Metrics};

/// The upstream whose answers are timed by operation.
const WALLET: &str = "wallet";

/// Everything that takes note of finished requests. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The access log.
    pub log: AccessLog,
    /// The spans, when a collector is configured. Set once the runtime is there that sends them.
    pub spans: Arc<OnceLock<Spans>>,
}

impl Telemetry {
    /// Takes note of a finished request, everywhere. Called once a request; never waits.
    pub fn finish(&self, outcome: &Outcome<'_>) {
        let metrics = &self.metrics;
        let stages = &outcome.stages;
        let bytes = (outcome.bytes_in, outcome.bytes_out);
        metrics.request((outcome.operation, outcome.row), outcome.status, stages.total, bytes);
        if let Some(code) = outcome.error {
            metrics.refusals.inc(code.index());
        }
        if let (Some(WALLET), Some(first_byte)) = (outcome.upstream, stages.first_byte) {
            metrics.wallet.observe(outcome.operation, first_byte);
        }
        if let Some(cache) = outcome.cache {
            let result = match cache {
                CacheStatus::Hit => CacheResult::Hit,
                CacheStatus::Miss => CacheResult::Miss,
                CacheStatus::Bypass => CacheResult::Bypass,
            };
            metrics.cache.inc(CacheName::Response, result);
        }
        self.log.write(outcome);
        if let Some(spans) = self.spans.get() {
            spans.record(outcome);
        }
    }

    /// Whether a trace that starts here is recorded: for [`TraceContext::of`].
    pub fn samples(&self) -> bool {
        self.spans.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Code;
    use crate::metrics::StatusClass;
    use crate::model::Operation;

    #[test]
    fn one_outcome_is_counted_everywhere() {
        let metrics = Arc::new(Metrics::new(Code::NAMES).unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        let sink = access_log::tests::Channel(sender);
        let log = AccessLog::to_writer(Box::new(sink), metrics.clone()).unwrap();
        let telemetry = Telemetry { metrics: metrics.clone(), log, spans: Arc::default() };
        telemetry.finish(&Outcome {
            status: 504,
            upstream: Some("wallet"),
            stages: Stages { first_byte: Some(Duration::from_secs(10)), ..Stages::default() },
            cache: Some(CacheStatus::Miss),
            error: Some(Code::UpstreamTimeout),
            ..access_log::tests::outcome()
        });
        assert!(telemetry.log.shutdown(Duration::from_secs(20)));
        assert_eq!(metrics.requests(Operation::WalletBalance, StatusClass::ServerError), 1);
        assert_eq!(metrics.refusals.get(Code::UpstreamTimeout.index()), 1);
        assert_eq!(metrics.wallet.count(Operation::WalletBalance), 1);
        assert_eq!(metrics.cache.get(CacheName::Response, CacheResult::Miss), 1);
        assert!(String::from_utf8(lines.recv().unwrap()).unwrap().contains("\"error\":\"UPSTREAM_TIMEOUT\""));
    }
}
