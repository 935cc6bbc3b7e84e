//! Counters, gauges and histograms to count with. Exposing them is `telemetry`'s and `admin`'s.
//!
//! One [`Metrics`] serves a process and is handed around by `Arc`. What is counted on every request has its handle
//! resolved beforehand: label values that are known when this is compiled are numbers into a table, and names that a
//! config brings get a handle when a snapshot is built. Finishing a request costs two atomic additions for the count and
//! the bytes, and one observation.

mod dynamic;
pub mod families;
mod labels;
mod tables;

use std::sync::Arc;
use std::time::Duration;

pub use dynamic::{BreakerState, PolicyMetrics, RowMetrics, UpstreamMetrics};
pub use labels::*;
use prometheus::proto::MetricFamily;
use prometheus::{Error, IntCounter, IntGauge, Registry};
pub use tables::{CounterTable, Counters, Counters2, Gauges, Held, Histograms};

use crate::model::{Operation, Scope};

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    dynamic: dynamic::Dynamic,
    requests: Counters2<Operation, StatusClass>,
    request_seconds: Histograms<Operation>,
    received: IntCounter,
    sent: IntCounter,
    in_flight: IntGauge,
    connections_open: IntGauge,
    connections_accepted: IntCounter,
    reloads: Counters<Reload>,
    reload_ok: IntGauge,
    reload_time: IntGauge,
    config_revision: IntGauge,
    /// Answers in the error format, by the number of their code.
    pub refusals: CounterTable,
    /// TEP tokens looked at.
    pub tokens: Counters<TokenResult>,
    /// Revocations put in force.
    pub revocations: Counters<RevocationKind>,
    /// 1 while the log of revocations has been seen lately.
    pub revocations_current: IntGauge,
    /// Mini-apps registered.
    pub miniapps: Gauges<AppSource>,
    /// From a revocation to its being in force.
    pub revocation_lag: Histograms<RevocationKind>,
    /// 1 while payments are called off.
    pub payments_off: IntGauge,
    /// Requests to ask a user.
    pub oauth_questions: Counters2<OauthFlow, OauthQuestion>,
    /// Answers of users.
    pub oauth_answers: Counters2<OauthFlow, OauthAnswer>,
    /// Requests for tokens.
    pub oauth_tokens: Counters2<GrantType, Issuance>,
    /// Codes and refresh tokens used again.
    pub oauth_reuse: Counters<Reused>,
    /// Introspections.
    pub oauth_introspections: Counters<Introspection>,
    /// Other credentials looked at.
    pub credentials: Counters2<Credential, CredentialResult>,
    /// Requests admitted by virtue of a scope.
    pub scopes: Counters<Scope>,
    /// Answers about shared limits, by what they came from.
    pub limit_answers: Counters<LimitAnswer>,
    /// Leases of tokens.
    pub limit_leases: IntCounter,
    /// Tokens that those leases held.
    pub limit_leased_tokens: IntCounter,
    /// Questions about limits that were not answered in time.
    pub limit_store_failures: IntCounter,
    /// 1 while limits are counted in Redis.
    pub limit_store_up: IntGauge,
    /// Instances that share the limits.
    pub limit_instances: IntGauge,
    /// Callers suspended, users' payments locked.
    pub lockouts: Counters<LockoutKind>,
    /// Request bodies refused.
    pub bodies_refused: Counters<BodyRefusal>,
    /// Request bodies that sanitising changed.
    pub bodies_sanitised: IntCounter,
    /// Bytes of the buffered-body budget in use.
    pub buffered: IntGauge,
    /// Time the wallet took.
    pub wallet: Histograms<Operation>,
    /// Time the homeserver took over the edge's own calls.
    pub homeserver: Histograms<HomeserverCall>,
    /// Checks that users are joined to a room.
    pub membership: Counters<Membership>,
    /// Look-ups in caches.
    pub cache: Counters2<CacheName, CacheResult>,
    /// Entries in caches.
    pub cache_entries: Gauges<CacheName>,
    /// Bytes in caches.
    pub cache_bytes: Gauges<CacheName>,
    /// Calls of the store.
    pub store_calls: Counters2<StoreVerb, StoreResult>,
    /// Time the store took.
    pub store: Histograms<StoreVerb>,
    /// Commits of the embedded store.
    pub store_commits: IntCounter,
    /// Batches and claims in those commits.
    pub store_changes: IntCounter,
    /// Expired values removed.
    pub store_swept: IntCounter,
    /// Size of the embedded store's file.
    pub store_bytes: IntGauge,
    /// Client connections refused.
    pub connections_refused: Counters<ConnectionRefusal>,
    /// 1 while the edge wants traffic.
    pub ready: IntGauge,
    /// Access-log lines accepted for writing.
    pub log_lines: IntCounter,
    /// Access-log lines lost.
    pub log_dropped: IntCounter,
    /// Exchanges with Redis.
    pub redis_round_trips: Counters<RedisUse>,
    /// Exchanges with Redis that failed.
    pub redis_faults: Counters<RedisFault>,
    /// Connections to Redis.
    pub redis_connections: Counters<Opened>,
    /// Durable writes that too few replicas acknowledged in time.
    pub redis_shortfalls: IntCounter,
    /// Trace spans.
    pub spans: Counters<SpanResult>,
}

impl Metrics {
    /// Fresh counters. `codes` are the error codes in the order of their numbers. It fails only when two families have
    /// one name, which is a mistake in this room.
    pub fn new(codes: &[&str]) -> Result<Metrics, Error> {
        let registry = Registry::new();
        let r = &registry;
        let build = tables::gauge_vec(r, &families::BUILD)?;
        build.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION")])?.set(1);
        Ok(Metrics {
            dynamic: dynamic::Dynamic::new(r)?,
            requests: Counters2::new(r, &families::REQUESTS)?,
            request_seconds: Histograms::new(r, &families::REQUEST_SECONDS)?,
            received: tables::counter(r, &families::RECEIVED)?,
            sent: tables::counter(r, &families::SENT)?,
            in_flight: tables::gauge(r, &families::IN_FLIGHT)?,
            connections_open: tables::gauge(r, &families::CONNECTIONS_OPEN)?,
            connections_accepted: tables::counter(r, &families::CONNECTIONS_ACCEPTED)?,
            reloads: Counters::new(r, &families::RELOADS)?,
            reload_ok: tables::gauge(r, &families::RELOAD_OK)?,
            reload_time: tables::gauge(r, &families::RELOAD_TIME)?,
            config_revision: tables::gauge(r, &families::CONFIG_REVISION)?,
            refusals: CounterTable::new(r, &families::REFUSALS, codes)?,
            tokens: Counters::new(r, &families::TOKENS)?,
            revocations: Counters::new(r, &families::REVOCATIONS)?,
            revocations_current: tables::gauge(r, &families::REVOCATIONS_CURRENT)?,
            miniapps: Gauges::new(r, &families::MINIAPPS)?,
            revocation_lag: Histograms::new(r, &families::REVOCATION_SECONDS)?,
            payments_off: tables::gauge(r, &families::PAYMENTS_OFF)?,
            oauth_questions: Counters2::new(r, &families::OAUTH_QUESTIONS)?,
            oauth_answers: Counters2::new(r, &families::OAUTH_ANSWERS)?,
            oauth_tokens: Counters2::new(r, &families::OAUTH_TOKENS)?,
            oauth_reuse: Counters::new(r, &families::OAUTH_REUSE)?,
            oauth_introspections: Counters::new(r, &families::OAUTH_INTROSPECTIONS)?,
            credentials: Counters2::new(r, &families::CREDENTIALS)?,
            scopes: Counters::new(r, &families::SCOPES)?,
            limit_answers: Counters::new(r, &families::LIMIT_ANSWERS)?,
            limit_leases: tables::counter(r, &families::LIMIT_LEASES)?,
            limit_leased_tokens: tables::counter(r, &families::LIMIT_LEASED_TOKENS)?,
            limit_store_failures: tables::counter(r, &families::LIMIT_STORE_FAILURES)?,
            limit_store_up: tables::gauge(r, &families::LIMIT_STORE_UP)?,
            limit_instances: tables::gauge(r, &families::LIMIT_INSTANCES)?,
            lockouts: Counters::new(r, &families::LOCKOUTS)?,
            bodies_refused: Counters::new(r, &families::BODIES_REFUSED)?,
            bodies_sanitised: tables::counter(r, &families::BODIES_SANITISED)?,
            buffered: tables::gauge(r, &families::BUFFERED)?,
            wallet: Histograms::new(r, &families::WALLET_SECONDS)?,
            homeserver: Histograms::new(r, &families::HOMESERVER_SECONDS)?,
            membership: Counters::new(r, &families::MEMBERSHIP)?,
            cache: Counters2::new(r, &families::CACHE_REQUESTS)?,
            cache_entries: Gauges::new(r, &families::CACHE_ENTRIES)?,
            cache_bytes: Gauges::new(r, &families::CACHE_BYTES)?,
            store_calls: Counters2::new(r, &families::STORE_CALLS)?,
            store: Histograms::new(r, &families::STORE_SECONDS)?,
            store_commits: tables::counter(r, &families::STORE_COMMITS)?,
            store_changes: tables::counter(r, &families::STORE_CHANGES)?,
            store_swept: tables::counter(r, &families::STORE_SWEPT)?,
            store_bytes: tables::gauge(r, &families::STORE_BYTES)?,
            connections_refused: Counters::new(r, &families::CONNECTIONS_REFUSED)?,
            ready: tables::gauge(r, &families::READY)?,
            log_lines: tables::counter(r, &families::LOG_LINES)?,
            log_dropped: tables::counter(r, &families::LOG_DROPPED)?,
            redis_round_trips: Counters::new(r, &families::REDIS_ROUND_TRIPS)?,
            redis_faults: Counters::new(r, &families::REDIS_FAULTS)?,
            redis_connections: Counters::new(r, &families::REDIS_CONNECTIONS)?,
            redis_shortfalls: tables::counter(r, &families::REDIS_SHORTFALLS)?,
            spans: Counters::new(r, &families::SPANS)?,
            registry,
        })
    }

    /// Counts a finished request, under the name of its row when the config added that. `status` 0: no answer was
    /// written. Bytes are those of bodies.
    pub fn request(
        &self,
        (operation, row): (Operation, Option<&RowMetrics>),
        status: u16,
        took: Duration,
        (received, sent): (u64, u64),
    ) {
        match row {
            Some(row) => row.finished(StatusClass::of(status), took),
            None => {
                self.requests.inc(operation, StatusClass::of(status));
                self.request_seconds.observe(operation, took);
            }
        }
        if received > 0 {
            self.received.inc_by(received);
        }
        if sent > 0 {
            self.sent.inc_by(sent);
        }
    }

    /// What is counted of a row that a config adds under this label; `None`: it is counted as `custom`, with others.
    pub fn row(&self, label: &str) -> Option<Arc<RowMetrics>> {
        self.dynamic.row(label, &self.requests, &self.request_seconds)
    }

    /// Requests of an operation that ended with a class of status.
    pub fn requests(&self, operation: Operation, status: StatusClass) -> u64 {
        self.requests.get(operation, status)
    }

    /// Counts a request as under way while the result lives.
    pub fn in_flight(&self) -> Held {
        Held::new(&self.in_flight)
    }

    /// Counts an accepted connection, and holds it as open while the result lives.
    pub fn connection(&self) -> Held {
        self.connections_accepted.inc();
        Held::new(&self.connections_open)
    }

    /// Takes over what the listeners counted themselves: connections open now, and those accepted since the last time.
    pub fn connections(&self, open: usize, accepted: u64) {
        self.connections_open.set(i64::try_from(open).unwrap_or(i64::MAX));
        self.connections_accepted.inc_by(accepted);
    }

    /// Takes note of a reload, or of the first load: the revision in force after it, and when it was tried (Unix time).
    pub fn reloaded(&self, result: Reload, revision: u64, unix: u64) {
        self.reloads.inc(result);
        self.reload_ok.set(i64::from(result == Reload::Ok));
        self.reload_time.set(i64::try_from(unix).unwrap_or(i64::MAX));
        self.config_revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
    }

    /// The counters of a limit policy; made when the name is new.
    pub fn policy(&self, name: &str) -> Arc<PolicyMetrics> {
        self.dynamic.policy(name)
    }

    /// Every limit policy that was asked for, by name.
    pub fn policies(&self) -> Vec<(String, Arc<PolicyMetrics>)> {
        self.dynamic.policies()
    }

    /// The counters and states of an upstream; made when the name is new.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        self.dynamic.upstream(name)
    }

    /// Everything as it stands, for exposition.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.dynamic.forget_states_of_removed_upstreams();
        self.registry.gather()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_request_is_counted() {
        let metrics = Metrics::new(&["A"]).unwrap();
        metrics.request((Operation::WalletBalance, None), 200, Duration::from_millis(3), (0, 12));
        metrics.request((Operation::WalletBalance, None), 0, Duration::from_millis(3), (0, 0));
        assert_eq!(metrics.requests(Operation::WalletBalance, StatusClass::Success), 1);
        assert_eq!(metrics.requests(Operation::WalletBalance, StatusClass::None), 1);
        assert_eq!(metrics.request_seconds.count(Operation::WalletBalance), 2);
        assert_eq!(metrics.sent.get(), 12);
    }

    #[test]
    fn a_held_gauge_falls_when_its_holder_goes() {
        let metrics = Metrics::new(&[]).unwrap();
        let held = metrics.connection();
        assert_eq!((metrics.connections_open.get(), metrics.connections_accepted.get()), (1, 1));
        drop(held);
        assert_eq!((metrics.connections_open.get(), metrics.connections_accepted.get()), (0, 1));
    }

    #[test]
    fn one_name_is_one_handle() {
        let metrics = Metrics::new(&[]).unwrap();
        metrics.policy("default").inc(Decision::Refused);
        metrics.policy("default").inc(Decision::Refused);
        assert_eq!(metrics.policy("default").get(Decision::Refused), 2);
    }

    #[test]
    fn states_of_an_upstream_leave_with_its_last_holder_and_its_counts_stay() {
        let metrics = Metrics::new(&[]).unwrap();
        let series = |name: &str| {
            let families = metrics.gather();
            families.iter().find(|family| family.name() == name).map_or(0, |family| family.get_metric().len())
        };
        let wallet = metrics.upstream("wallet");
        wallet.set_breaker(crate::model::rows::Class::Payment, BreakerState::Open);
        wallet.tries.inc();
        assert_eq!(series("tmcp_edge_breaker_state"), 5);
        drop(wallet);
        assert_eq!(series("tmcp_edge_breaker_state"), 0);
        assert_eq!(series("tmcp_edge_upstream_tries_total"), 1);
        assert_eq!(metrics.upstream("wallet").tries.get(), 1);
    }
}
