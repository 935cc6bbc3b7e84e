//! The config's limits, compiled: dense ids for the hot path, and buckets found again after a reload.
//!
//! The override of one mini-app is compiled into a policy of its own, so that everything behind the look-up knows
//! policies only. It has buckets of its own, too: numbers of two sizes cannot share a bucket exactly.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::key::words;
use super::rule::Rule;
use crate::clock::Tick;
use crate::config::{LimitAlgorithm, LimitOverride, LimitPolicy, OnStoreFailure};
use crate::model::MiniAppId;
use crate::model::rows::limit;

/// A compiled policy's place in its [`Policies`]; means nothing in those of another revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyId(u16);

impl PolicyId {
    /// The built-in policy `none`: no limit.
    pub const NONE: PolicyId = PolicyId(u16::MAX);
}

/// Which buckets are a policy's: the same in every revision and instance as long as what it counts by stays the same.
/// `report_only` and `on_store_failure` do not count by anything, so switching them keeps the buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Family(pub u64);

/// Why limits do not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The policy that is at fault.
    pub policy: String,
    /// What is wrong and what was expected.
    pub reason: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit policy {:?}: {}", self.policy, self.reason)
    }
}

impl std::error::Error for PolicyError {}

/// One limit policy, compiled.
#[derive(Debug)]
pub struct Policy {
    /// The name in the config; that of the policy an override belongs to.
    pub name: String,
    /// The mini-app whose override this is.
    pub app: Option<MiniAppId>,
    /// Its buckets.
    pub family: Family,
    /// The arithmetic.
    pub rule: Rule,
    /// Tokens refilled in `per`.
    pub requests: u32,
    /// The period of `requests`.
    pub per: Duration,
    /// Tokens on top of `requests`.
    pub burst: u32,
    /// What holds when a store shared between instances does not answer; buckets in process are always there.
    pub on_store_failure: OnStoreFailure,
    /// Counts and logs, refuses nothing.
    pub report_only: bool,
    /// Whether instances that cannot count together divide it among themselves. An allowance they do, a mark they do not.
    divided: bool,
    overrides: HashMap<MiniAppId, PolicyId, foldhash::fast::RandomState>,
    unrefused: Unrefused,
}

impl Policy {
    /// A mark: a bucket of one token, which comes back `lasts` after it was taken. Whoever has taken it bears the mark
    /// until then. It is nobody's allowance: an instance that is alone keeps to it whole.
    ///
    /// # Errors
    /// When `lasts` is too short or too long for the arithmetic.
    pub fn mark(name: &str, lasts: Duration) -> Result<Self, PolicyError> {
        let (algorithm, on_store_failure) = (LimitAlgorithm::TokenBucket, OnStoreFailure::Local);
        let numbers =
            LimitPolicy { requests: 1, per: lasts, burst: 0, algorithm, on_store_failure, report_only: false };
        Ok(Policy { divided: false, ..Policy::new(name, None, &numbers)? })
    }

    /// Compiles one policy.
    ///
    /// # Errors
    /// Says which number makes no limit.
    pub fn new(name: &str, app: Option<&MiniAppId>, config: &LimitPolicy) -> Result<Self, PolicyError> {
        let LimitPolicy { requests, per, burst, algorithm, on_store_failure, report_only } = *config;
        let rule = Rule::new(requests, per, burst, algorithm)
            .map_err(|reason| PolicyError { policy: name.to_owned(), reason })?;
        let [family, _] = words(&[
            b"limit family",
            name.as_bytes(),
            app.map_or(&[], |app| app.as_str().as_bytes()),
            &requests.to_be_bytes(),
            &per.as_nanos().to_be_bytes(),
            &burst.to_be_bytes(),
            match algorithm {
                LimitAlgorithm::TokenBucket => b"token bucket",
                LimitAlgorithm::SlidingWindow => b"sliding window",
            },
        ]);
        Ok(Policy {
            name: name.to_owned(),
            app: app.cloned(),
            family: Family(family),
            rule,
            requests,
            per,
            burst,
            on_store_failure,
            report_only,
            divided: true,
            overrides: HashMap::default(),
            unrefused: Unrefused::default(),
        })
    }

    /// One instance's part of this policy, with buckets of its own: what holds while instances cannot count together. Where
    /// the policy is open then, it only counts.
    pub(super) fn share(&self, instances: u32) -> Policy {
        let instances = if self.divided { instances } else { 1 };
        Policy {
            name: self.name.clone(),
            app: None,
            family: Family(self.family.0 ^ u64::from(instances).rotate_right(32)),
            rule: self.rule.share(instances),
            report_only: self.report_only || self.on_store_failure == OnStoreFailure::Open,
            overrides: HashMap::default(),
            unrefused: Unrefused::default(),
            ..*self
        }
    }

    /// The most that is ever granted at once.
    pub(super) fn capacity(&self) -> u32 {
        self.rule.capacity()
    }

    /// Counts a call that a report-only policy let through; says so in the log at most once a second.
    pub(super) fn let_through(&self, now: Tick) {
        if let Some(calls) = self.unrefused.count(now) {
            log::info!("limit policy {} only reports: it would have refused {calls} more call(s)", self.name);
        }
    }
}

/// Calls that were not refused although the limit was reached, since the last line about them.
#[derive(Debug, Default)]
struct Unrefused {
    calls: AtomicU64,
    next_line: AtomicU64,
}

impl Unrefused {
    fn count(&self, now: Tick) -> Option<u64> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let due = self.next_line.load(Ordering::Relaxed);
        let next = now.plus(Duration::from_secs(1)).0;
        let ours =
            now.0 >= due && self.next_line.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        ours.then(|| self.calls.swap(0, Ordering::Relaxed))
    }
}

/// All limit policies of one config revision.
#[derive(Debug)]
pub struct Policies {
    // Named policies first, then overrides: a `PolicyId` is an index.
    all: Vec<Policy>,
    by_name: HashMap<String, PolicyId>,
}

impl Policies {
    /// Compiles the config's limits.
    ///
    /// # Errors
    /// When numbers make no limit, an override names an unknown policy or is there twice, the built-in name `none` is
    /// given a limit, or there are more than 65,535.
    pub fn new(policies: &BTreeMap<String, LimitPolicy>, overrides: &[LimitOverride]) -> Result<Self, PolicyError> {
        let error = |policy: &str, reason: String| PolicyError { policy: policy.to_owned(), reason };
        if policies.contains_key(limit::NONE) {
            return Err(error(limit::NONE, "the name means that there is no limit, and cannot be given one".into()));
        }
        if policies.len() + overrides.len() >= usize::from(u16::MAX) {
            return Err(error("", format!("at most {} policies and overrides are possible", u16::MAX - 1)));
        }
        let mut compiled = Policies { all: Vec::new(), by_name: HashMap::new() };
        for (name, policy) in policies {
            let id = compiled.push(Policy::new(name, None, policy)?);
            compiled.by_name.insert(name.clone(), id);
        }
        for LimitOverride { app, policy: name, requests, burst } in overrides {
            let (Some(base), Some(id)) = (policies.get(name), compiled.id(name)) else {
                return Err(error(name, format!("the override of {app} names no policy that exists")));
            };
            let config = LimitPolicy { requests: *requests, burst: *burst, ..base.clone() };
            let special = compiled.push(Policy::new(name, Some(app), &config)?);
            let known =
                compiled.all.get_mut(usize::from(id.0)).and_then(|base| base.overrides.insert(app.clone(), special));
            if known.is_some() {
                return Err(error(name, format!("{app} has two overrides")));
            }
        }
        Ok(compiled)
    }

    fn push(&mut self, policy: Policy) -> PolicyId {
        self.all.push(policy);
        PolicyId(u16::try_from(self.all.len() - 1).unwrap_or(u16::MAX))
    }

    /// The policy of that name; `none` is [`PolicyId::NONE`].
    pub fn id(&self, name: &str) -> Option<PolicyId> {
        if name == limit::NONE { Some(PolicyId::NONE) } else { self.by_name.get(name).copied() }
    }

    /// The policy that holds for a mini-app: its override where it has one.
    pub fn for_app(&self, policy: PolicyId, app: Option<&MiniAppId>) -> PolicyId {
        match (self.get(policy), app) {
            (Some(base), Some(app)) if !base.overrides.is_empty() => base.overrides.get(app).copied().unwrap_or(policy),
            _ => policy,
        }
    }

    /// A compiled policy; `None`: there is no limit.
    pub fn get(&self, id: PolicyId) -> Option<&Policy> {
        self.all.get(usize::from(id.0))
    }

    /// Every policy and override.
    pub fn all(&self) -> impl Iterator<Item = (PolicyId, &Policy)> {
        (0..u16::MAX).map(PolicyId).zip(&self.all)
    }

    /// The name that stands in metrics and logs.
    pub fn name(&self, id: PolicyId) -> &str {
        self.get(id).map_or(limit::NONE, |policy| &policy.name)
    }
}
