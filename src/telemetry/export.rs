//! The metrics as Prometheus reads them: text format 0.0.4.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Encoder as _, Gauge, Opts, TextEncoder};

use super::process::Process;
use crate::clock::{Clock, Tick};
use crate::metrics::Metrics;
use crate::metrics::families::{self, Family};

/// The content type of what [`Exporter::render`] makes.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Brings gauges up to date that somebody else holds the numbers for, such as the sizes of caches.
pub type Refresh = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Renders the metrics, with the process' own.
pub struct Exporter {
    metrics: Arc<Metrics>,
    refresh: Vec<Refresh>,
    clock: Clock,
    started: Tick,
    started_unix: f64,
}

impl Exporter {
    /// An exporter. The process counts as started now.
    pub fn new(metrics: Arc<Metrics>, clock: Clock) -> Self {
        let (started, started_unix) = (clock.tick(), clock.unix().as_secs_f64());
        Exporter { metrics, refresh: Vec::new(), clock, started, started_unix }
    }

    /// Adds what is to be brought up to date before each rendering.
    pub fn refresh_with(mut self, refresh: Refresh) -> Self {
        self.refresh.push(refresh);
        self
    }

    /// Everything as text. The error says what could not be put into the format.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        for refresh in &self.refresh {
            refresh(&self.metrics);
        }
        let mut families = self.metrics.gather();
        families.extend(self.process()?);
        let mut text = Vec::with_capacity(64 * 1024);
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }

    fn process(&self) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let process = Process::read();
        let uptime = self.clock.tick().since(self.started).as_secs_f64();
        let whole = |number: Option<u64>| number.map(|number| number as f64);
        let values: [(&Family, Option<f64>); 8] = [
            (&families::UPTIME, Some(uptime)),
            (&families::CPU, process.cpu_seconds),
            (&families::RSS, whole(process.resident_bytes)),
            (&families::VIRTUAL, whole(process.virtual_bytes)),
            (&families::FDS, whole(process.open_fds)),
            (&families::MAX_FDS, whole(process.max_fds)),
            (&families::THREADS, whole(process.threads)),
            (&families::STARTED, Some(self.started_unix)),
        ];
        let mut families = Vec::with_capacity(values.len());
        for (family, value) in values {
            if let Some(value) = value {
                families.extend(sample(family, value)?);
            }
        }
        Ok(families)
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("started_unix", &self.started_unix).finish_non_exhaustive()
    }
}

/// A family of one sample that is made for this rendering.
fn sample(family: &Family, value: f64) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let options = Opts::new(family.name, family.help);
    match family.kind {
        families::Kind::Counter => {
            let counter = Counter::with_opts(options)?;
            counter.inc_by(value);
            Ok(counter.collect())
        }
        families::Kind::Gauge | families::Kind::Histogram => {
            let gauge = Gauge::with_opts(options)?;
            gauge.set(value);
            Ok(gauge.collect())
        }
    }
}

#[cfg(test)]
mod tests;
