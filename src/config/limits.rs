//! `rate_limits` and `rate_limit_overrides` (brief 4.2, protocol section 8).
//!
//! The built-in policies always exist. A config that names one changes what it writes and keeps the rest; any other
//! name makes a new policy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::map::Map;
use super::miniapp::MiniApp;
use super::problem::nearest;
use super::reader::Value;
use super::types::{LimitAlgorithm, LimitOverride, LimitPolicy, OnStoreFailure};
use crate::model::MiniAppId;
use crate::model::rows::limit;

/// Limit policies by name.
pub(super) type Policies = BTreeMap<String, LimitPolicy>;

const MINUTE: Duration = Duration::from_secs(60);
const UNITS: &[(&str, Duration)] = &[
    ("requests_per_minute", MINUTE),
    ("requests_per_hour", Duration::from_secs(3600)),
    ("requests_per_day", Duration::from_secs(86_400)),
];
const MOST: u64 = 10_000_000;

/// The policies that stand without any config.
pub(super) fn built_in() -> Policies {
    let policy = |requests, per, burst| LimitPolicy {
        requests,
        per,
        burst,
        algorithm: LimitAlgorithm::TokenBucket,
        on_store_failure: OnStoreFailure::Local,
        report_only: false,
    };
    let payment = LimitPolicy { on_store_failure: OnStoreFailure::Closed, ..policy(30, MINUTE, 10) };
    [
        (limit::DEFAULT, policy(100, MINUTE, 20)),
        (limit::OAUTH, policy(10, MINUTE, 5)),
        (limit::INTROSPECTION, policy(6000, MINUTE, 600)),
        (limit::PAYMENT, payment),
        (limit::RESOLUTION, policy(100, MINUTE, 20)),
        (limit::STORAGE, policy(100, MINUTE, 20)),
        (limit::REGISTRY, policy(60, MINUTE, 0)),
        (limit::REGISTRATION, policy(5, Duration::from_secs(86_400), 0)),
    ]
    .into_iter()
    .map(|(name, policy)| (name.to_owned(), policy))
    .collect()
}

/// Reads `rate_limits` over the built-in policies.
pub(super) fn policies(value: &Value<'_>) -> Policies {
    let mut policies = built_in();
    for (key, value) in value.named("a map of policies by name").unwrap_or_default() {
        let name = key.text.as_str();
        if name == limit::NONE {
            value.refuse::<()>("`none` is reserved for the homeserver's own traffic", "another name");
        } else if !is_name(name) {
            value.refuse::<()>("not a policy's name", "lower-case letters, digits and `_`");
        } else if let Some(policy) = policy(&value, policies.get(name)) {
            policies.insert(name.to_owned(), policy);
        } else if let Some(default) = policies.get(limit::DEFAULT).cloned() {
            // Its faults have been told. A row that names it is not wrong for that.
            policies.entry(name.to_owned()).or_insert(default);
        }
    }
    policies
}

/// A new policy that nothing uses and whose name is nearly a built-in one is a slip that would otherwise go unseen.
pub(super) fn unused(value: &Value<'_>, used: &BTreeSet<String>) {
    let built_in = built_in();
    let policies = if value.is_map() { value.named("a map") } else { None };
    for (key, value) in policies.unwrap_or_default() {
        if !built_in.contains_key(&key.text) && !used.contains(&key.text) {
            let near = nearest(&key.text, built_in.keys().map(String::as_str));
            if let Some(near) = near {
                value.refuse::<()>(format!("nothing uses this policy (did you mean {near}?)"), "a row that names it");
            }
        }
    }
}

fn policy(value: &Value<'_>, base: Option<&LimitPolicy>) -> Option<LimitPolicy> {
    value.map("a map with requests_per_minute and burst", |m| {
        let rate = rate(m, base.map(|base| (base.requests, base.per)));
        let burst = m.or("burst", base.map_or(0, |base| base.burst), |v| v.whole(0..=MOST));
        let algorithm = m.or("algorithm", base.map_or(LimitAlgorithm::TokenBucket, |base| base.algorithm), |v| {
            v.choice(&[
                ("token_bucket", LimitAlgorithm::TokenBucket),
                ("sliding_window", LimitAlgorithm::SlidingWindow),
            ])
        });
        let on_store_failure =
            m.or("on_store_failure", base.map_or(OnStoreFailure::Local, |b| b.on_store_failure), |v| {
                v.choice(&[
                    ("local", OnStoreFailure::Local),
                    ("closed", OnStoreFailure::Closed),
                    ("open", OnStoreFailure::Open),
                ])
            });
        let report_only = m.or("report_only", base.is_some_and(|base| base.report_only), |v| v.flag());
        let (requests, per) = rate?;
        Some(LimitPolicy { requests, per, burst, algorithm, on_store_failure, report_only })
    })?
}

fn rate(m: &mut Map<'_>, base: Option<(u32, Duration)>) -> Option<(u32, Duration)> {
    let written: Vec<_> = UNITS.iter().filter_map(|(key, per)| m.get(key).map(|value| (value, *per))).collect();
    match (written.as_slice(), base) {
        ([(value, per)], _) => value.whole(1..=MOST).map(|requests| (requests, *per)),
        ([], Some(base)) => Some(base),
        ([], None) => m.whole().refuse("no rate", "requests_per_minute, requests_per_hour or requests_per_day"),
        ([_, (second, _), ..], _) => second.refuse("a second rate", "one of the rates, not several"),
    }
}

/// Reads `rate_limit_overrides`.
pub(super) fn overrides(
    value: &Value<'_>,
    policies: &Policies,
    miniapps: Option<&BTreeMap<MiniAppId, std::sync::Arc<MiniApp>>>,
) -> Vec<LimitOverride> {
    let mut seen = BTreeSet::new();
    let read = |value: &Value<'_>| {
        value.map("a map with app, policy, requests_per_minute and burst", |m| {
            let app = m.required("app", "a mini-app's id", |v| super::miniapps::known_app(v, miniapps));
            let policy = m.required("policy", "the name of a limit policy", |v| {
                v.known("limit policy", policies.keys().map(String::as_str))
            });
            let base = policy.as_ref().and_then(|name| policies.get(name));
            let rate = rate(m, None);
            let burst = m.or("burst", base.map_or(0, |base| base.burst), |v| v.whole(0..=MOST));
            let (app, policy, (requests, per)) = (app?, policy?, rate?);
            if let Some(base) = base.filter(|base| base.per != per) {
                let unit = UNITS.iter().find(|(_, unit)| *unit == base.per).map_or("", |(name, _)| *name);
                return m.whole().refuse("counts in another unit than the policy", unit);
            }
            if !seen.insert((app.clone(), policy.clone())) {
                return m.whole().refuse(format!("{app} has an override of {policy} already"), "one for each pair");
            }
            Some(LimitOverride { app, policy, requests, burst })
        })?
    };
    value.list("a list of overrides", read).unwrap_or_default()
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
