//! Tables of handles: one slot per label value, found by number.
//!
//! `prometheus` finds a child by hashing its label values under a lock; the tables do that once per child and keep
//! the handle, so that counting is an array access and an atomic addition.

use std::marker::PhantomData;
use std::sync::OnceLock;

use prometheus::{Error, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use prometheus::{Histogram, IntCounter, IntGauge};

use super::families::Family;
use super::labels::Label;

pub(super) fn options(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

pub(super) fn counter(registry: &Registry, family: &Family) -> Result<IntCounter, Error> {
    let counter = IntCounter::with_opts(options(family))?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

pub(super) fn gauge(registry: &Registry, family: &Family) -> Result<IntGauge, Error> {
    let gauge = IntGauge::with_opts(options(family))?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

pub(super) fn counter_vec(registry: &Registry, family: &Family) -> Result<IntCounterVec, Error> {
    let vec = IntCounterVec::new(options(family), family.labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

pub(super) fn gauge_vec(registry: &Registry, family: &Family) -> Result<IntGaugeVec, Error> {
    let vec = IntGaugeVec::new(options(family), family.labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

/// Counters with one label whose values are known by number only.
#[derive(Debug)]
pub struct CounterTable {
    slots: Box<[IntCounter]>,
}

impl CounterTable {
    pub(super) fn new(registry: &Registry, family: &Family, names: &[&str]) -> Result<Self, Error> {
        let vec = counter_vec(registry, family)?;
        let slots = names.iter().map(|name| vec.get_metric_with_label_values(&[name]));
        Ok(CounterTable { slots: slots.collect::<Result<_, _>>()? })
    }

    /// Counts several. A number outside the table counts nothing.
    pub fn inc_by(&self, index: usize, count: u64) {
        if let Some(slot) = self.slots.get(index) {
            slot.inc_by(count);
        }
    }

    /// Counts one. A number outside the table counts nothing.
    pub fn inc(&self, index: usize) {
        if let Some(slot) = self.slots.get(index) {
            slot.inc();
        }
    }

    /// The count so far.
    pub fn get(&self, index: usize) -> u64 {
        self.slots.get(index).map_or(0, IntCounter::get)
    }
}

/// Counters with one label. All series stand from the start.
#[derive(Debug)]
pub struct Counters<L> {
    table: CounterTable,
    labels: PhantomData<fn(L)>,
}

impl<L: Label> Counters<L> {
    pub(super) fn new(registry: &Registry, family: &Family) -> Result<Self, Error> {
        let names: Vec<&str> = L::ALL.iter().map(|label| label.name()).collect();
        Ok(Counters { table: CounterTable::new(registry, family, &names)?, labels: PhantomData })
    }

    /// Counts several.
    pub fn inc_by(&self, label: L, count: u64) {
        self.table.inc_by(label.index(), count);
    }

    /// Counts one.
    pub fn inc(&self, label: L) {
        self.table.inc(label.index());
    }

    /// The count so far.
    pub fn get(&self, label: L) -> u64 {
        self.table.get(label.index())
    }
}

/// Counters with two labels. A series appears when it is first counted: there are hundreds of combinations, most of
/// which a deployment never sees.
#[derive(Debug)]
pub struct Counters2<A, B> {
    vec: IntCounterVec,
    slots: Box<[OnceLock<IntCounter>]>,
    labels: PhantomData<fn(A, B)>,
}

impl<A: Label, B: Label> Counters2<A, B> {
    pub(super) fn new(registry: &Registry, family: &Family) -> Result<Self, Error> {
        let slots = (0..A::ALL.len() * B::ALL.len()).map(|_| OnceLock::new()).collect();
        Ok(Counters2 { vec: counter_vec(registry, family)?, slots, labels: PhantomData })
    }

    /// Counts one.
    pub fn inc(&self, a: A, b: B) {
        let Some(slot) = self.slots.get(a.index() * B::ALL.len() + b.index()) else { return };
        match slot.get() {
            Some(counter) => counter.inc(),
            None => {
                if let Ok(counter) = self.vec.get_metric_with_label_values(&[a.name(), b.name()]) {
                    slot.get_or_init(|| counter).inc();
                }
            }
        }
    }

    /// A counter of the same family under label values that are no variants.
    pub(super) fn named(&self, values: &[&str]) -> Option<IntCounter> {
        self.vec.get_metric_with_label_values(values).ok()
    }

    /// The count so far.
    pub fn get(&self, a: A, b: B) -> u64 {
        let slot = self.slots.get(a.index() * B::ALL.len() + b.index());
        slot.and_then(OnceLock::get).map_or(0, IntCounter::get)
    }
}

/// Gauges with one label. All series stand from the start.
#[derive(Debug)]
pub struct Gauges<L> {
    slots: Box<[IntGauge]>,
    labels: PhantomData<fn(L)>,
}

impl<L: Label> Gauges<L> {
    pub(super) fn new(registry: &Registry, family: &Family) -> Result<Self, Error> {
        let vec = gauge_vec(registry, family)?;
        let slots = L::ALL.iter().map(|label| vec.get_metric_with_label_values(&[label.name()]));
        Ok(Gauges { slots: slots.collect::<Result<_, _>>()?, labels: PhantomData })
    }

    /// Sets the value.
    pub fn set(&self, label: L, value: u64) {
        if let Some(slot) = self.slots.get(label.index()) {
            slot.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

/// Upper bounds of the buckets for durations, in seconds: from what the edge itself adds to what times out.
const BOUNDS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Histograms of durations with one label. A series appears when it is first observed.
#[derive(Debug)]
pub struct Histograms<L> {
    vec: HistogramVec,
    slots: Box<[OnceLock<Histogram>]>,
    labels: PhantomData<fn(L)>,
}

impl<L: Label> Histograms<L> {
    pub(super) fn new(registry: &Registry, family: &Family) -> Result<Self, Error> {
        let options = HistogramOpts::from(options(family)).buckets(BOUNDS.to_vec());
        let vec = HistogramVec::new(options, family.labels)?;
        registry.register(Box::new(vec.clone()))?;
        Ok(Histograms { vec, slots: L::ALL.iter().map(|_| OnceLock::new()).collect(), labels: PhantomData })
    }

    /// Takes note of a duration.
    pub fn observe(&self, label: L, took: std::time::Duration) {
        let Some(slot) = self.slots.get(label.index()) else { return };
        match slot.get() {
            Some(histogram) => histogram.observe(took.as_secs_f64()),
            None => {
                if let Ok(histogram) = self.vec.get_metric_with_label_values(&[label.name()]) {
                    slot.get_or_init(|| histogram).observe(took.as_secs_f64());
                }
            }
        }
    }

    /// A histogram of the same family under a label value that is no variant.
    pub(super) fn named(&self, values: &[&str]) -> Option<Histogram> {
        self.vec.get_metric_with_label_values(values).ok()
    }

    /// How many durations were taken note of.
    pub fn count(&self, label: L) -> u64 {
        self.slots.get(label.index()).and_then(OnceLock::get).map_or(0, Histogram::get_sample_count)
    }
}

/// Holds a gauge up by one while it lives, whatever way the holder ends.
#[derive(Debug)]
pub struct Held(IntGauge);

impl Held {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Held(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
