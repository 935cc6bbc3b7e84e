//! Handles for what a config names: upstreams and limit policies.
//!
//! A snapshot asks for its handles while it is built and keeps them; counting then needs no look-up. The counters of
//! a name that a later config leaves out stand still, its states (breaker, health) disappear with the last holder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use prometheus::{Error, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::families;
use super::labels::{Decision, Label, PoolResult, StatusClass, UpstreamFailure};
use super::tables::{Counters2, Histograms, counter_vec, gauge_vec};
use crate::model::Operation;
use crate::model::rows::Class;

/// What one limit policy decided.
#[derive(Debug)]
pub struct PolicyMetrics {
    decisions: Box<[IntCounter]>,
}

impl PolicyMetrics {
    /// Counts a decision.
    pub fn inc(&self, decision: Decision) {
        if let Some(counter) = self.decisions.get(decision.index()) {
            counter.inc();
        }
    }

    /// The count so far.
    pub fn get(&self, decision: Decision) -> u64 {
        self.decisions.get(decision.index()).map_or(0, IntCounter::get)
    }
}

/// The state of a circuit breaker, as its gauge shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// One call at a time is tried.
    Trial,
    /// Calls are refused.
    Open,
}

/// What is counted of a row that a config adds.
#[derive(Debug)]
pub struct RowMetrics {
    name: String,
    header: HeaderValue,
    requests: Box<[IntCounter]>,
    seconds: Histogram,
}

impl RowMetrics {
    /// What the row is called in metrics, logs and spans.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same as the value of `X-Protocol-Operation`.
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// The requests that ended with a class of status.
    pub fn requests(&self, status: StatusClass) -> u64 {
        self.requests.get(status.index()).map_or(0, IntCounter::get)
    }

    pub(super) fn finished(&self, status: StatusClass, took: Duration) {
        if let Some(counter) = self.requests.get(status.index()) {
            counter.inc();
        }
        self.seconds.observe(took.as_secs_f64());
    }
}

/// What happens to one upstream.
#[derive(Debug)]
pub struct UpstreamMetrics {
    /// Tries, first ones and repeated ones.
    pub tries: IntCounter,
    /// Tries after the first.
    pub retries: IntCounter,
    failures: Box<[IntCounter]>,
    connections: Box<[IntCounter]>,
    healthy: IntGauge,
    breakers: Box<[IntGauge]>,
}

impl UpstreamMetrics {
    /// Counts a try that failed.
    pub fn failed(&self, reason: UpstreamFailure) {
        if let Some(counter) = self.failures.get(reason.index()) {
            counter.inc();
        }
    }

    /// Counts a connection that is used.
    pub fn connection(&self, from: PoolResult) {
        if let Some(counter) = self.connections.get(from.index()) {
            counter.inc();
        }
    }

    /// Says how many addresses are healthy.
    pub fn set_healthy(&self, addresses: usize) {
        self.healthy.set(i64::try_from(addresses).unwrap_or(i64::MAX));
    }

    /// Says how a breaker stands.
    pub fn set_breaker(&self, class: Class, state: BreakerState) {
        if let Some(gauge) = self.breakers.get(class.index()) {
            gauge.set(state as i64);
        }
    }
}

/// Rows that have series of their own; any more are counted together as `custom`.
const MOST_ROWS: usize = 200;
/// The longest name of a row, bytes.
const LONGEST_NAME: usize = 48;

/// A label for people as a label value: lower case, `_` for whatever is no letter or digit, and never the name of an
/// operation of the protocol, whose counts it would falsify.
fn row_name(label: &str) -> Option<String> {
    let mut name = String::new();
    for letter in label.chars() {
        match letter {
            'a'..='z' | '0'..='9' => name.push(letter),
            'A'..='Z' => name.push(letter.to_ascii_lowercase()),
            _ if !name.is_empty() && !name.ends_with('_') => name.push('_'),
            _ => {}
        }
    }
    name.truncate(LONGEST_NAME);
    let name = name.trim_end_matches('_');
    match Operation::parse(name) {
        _ if name.is_empty() => None,
        Some(_) => Some(format!("custom_{name}")),
        None => Some(name.to_owned()),
    }
}

/// The registries of names.
#[derive(Debug)]
pub(super) struct Dynamic {
    limits: IntCounterVec,
    tries: IntCounterVec,
    retries: IntCounterVec,
    failures: IntCounterVec,
    connections: IntCounterVec,
    healthy: IntGaugeVec,
    breakers: IntGaugeVec,
    rows: Mutex<BTreeMap<String, Arc<RowMetrics>>>,
    policies: Mutex<BTreeMap<String, Arc<PolicyMetrics>>>,
    upstreams: Mutex<BTreeMap<String, Arc<UpstreamMetrics>>>,
}

impl Dynamic {
    pub(super) fn new(registry: &Registry) -> Result<Self, Error> {
        Ok(Dynamic {
            limits: counter_vec(registry, &families::LIMITS)?,
            tries: counter_vec(registry, &families::UPSTREAM_TRIES)?,
            retries: counter_vec(registry, &families::UPSTREAM_RETRIES)?,
            failures: counter_vec(registry, &families::UPSTREAM_FAILURES)?,
            connections: counter_vec(registry, &families::UPSTREAM_CONNECTIONS)?,
            healthy: gauge_vec(registry, &families::UPSTREAM_HEALTHY)?,
            breakers: gauge_vec(registry, &families::BREAKER)?,
            rows: Mutex::default(),
            policies: Mutex::default(),
            upstreams: Mutex::default(),
        })
    }

    pub(super) fn policy(&self, name: &str) -> Arc<PolicyMetrics> {
        let make = || {
            let decisions =
                Decision::ALL.iter().map(|decision| self.limits.with_label_values(&[name, decision.name()]));
            Arc::new(PolicyMetrics { decisions: decisions.collect() })
        };
        self.policies.lock().entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// The handle of a row that goes by `label` in the config. `None` when as many are known as may be: series stay
    /// until the process ends, and a config that is changed for years must not fill a collector.
    pub(super) fn row(
        &self,
        label: &str,
        requests: &Counters2<Operation, StatusClass>,
        seconds: &Histograms<Operation>,
    ) -> Option<Arc<RowMetrics>> {
        let name = row_name(label)?;
        let mut rows = self.rows.lock();
        if let Some(known) = rows.get(&name) {
            return Some(known.clone());
        }
        if rows.len() >= MOST_ROWS {
            return None;
        }
        let counter = |class: &StatusClass| requests.named(&[&name, class.name()]);
        let counters = StatusClass::ALL.iter().map(counter).collect::<Option<_>>()?;
        let header = HeaderValue::from_str(&name).ok()?;
        let row =
            Arc::new(RowMetrics { requests: counters, seconds: seconds.named(&[&name])?, name: name.clone(), header });
        rows.insert(name, row.clone());
        Some(row)
    }

    pub(super) fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        let by = |vec: &IntCounterVec, value: &str| vec.with_label_values(&[name, value]);
        let make = || {
            Arc::new(UpstreamMetrics {
                tries: self.tries.with_label_values(&[name]),
                retries: self.retries.with_label_values(&[name]),
                failures: UpstreamFailure::ALL.iter().map(|reason| by(&self.failures, reason.name())).collect(),
                connections: PoolResult::ALL.iter().map(|from| by(&self.connections, from.name())).collect(),
                healthy: self.healthy.with_label_values(&[name]),
                breakers: Class::ALL
                    .iter()
                    .map(|class| self.breakers.with_label_values(&[name, class.name()]))
                    .collect(),
            })
        };
        self.upstreams.lock().entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// Every policy with what it decided, by name.
    pub(super) fn policies(&self) -> Vec<(String, Arc<PolicyMetrics>)> {
        self.policies.lock().iter().map(|(name, policy)| (name.clone(), policy.clone())).collect()
    }

    /// Takes states out of the exposition that nobody keeps up to date any more.
    pub(super) fn forget_states_of_removed_upstreams(&self) {
        self.upstreams.lock().retain(|name, upstream| {
            let in_use = Arc::strong_count(upstream) > 1;
            if !in_use {
                // Removing a series that is not there is what was wanted anyway.
                let _ = self.healthy.remove_label_values(&[name]);
                for class in Class::ALL {
                    let _ = self.breakers.remove_label_values(&[name, class.name()]);
                }
            }
            in_use
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_for_people_become_label_values() {
        for (label, name) in [
            ("Partner orders", Some("partner_orders")),
            (" Größe: {x}! ", Some("gr_e_x")),
            ("a\"b\n", Some("a_b")),
            ("wallet balance", Some("custom_wallet_balance")),
            ("Custom", Some("custom_custom")),
            ("…", None),
            ("", None),
        ] {
            assert_eq!(row_name(label).as_deref(), name, "{label}");
        }
        assert_eq!(row_name(&"x".repeat(500)).unwrap().len(), LONGEST_NAME);
    }
}
