//! The edge as its admin address sees it, and the gauges that somebody else holds the numbers for.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;

use crate::admin::{
    AddressStatus, BreakerStatus, CacheUsage, CallerLimit, Control, LastReload, LockoutStatus, Records, RouteLine,
    Status, UpstreamStatus,
};
use crate::cache::{Purge, ResponseCache};
use crate::clock::{Tick, rfc3339};
use crate::config::Admin as Access;
use crate::metrics::{BreakerState, CacheName, ConnectionRefusal, Metrics};
use crate::policy::lockout::{Standing, Subject};
use crate::policy::rate_limit::{LimitKey, Policy, Report};
use crate::policy::route::{Route, RouteAnswer};
use crate::server::{Counters, Handle};
use crate::snapshot::Edge;
use crate::telemetry::export::Refresh;
use crate::upstream::breaker::Position;

/// What the admin address needs of a running edge.
pub(super) struct EdgeControl {
    pub(super) edge: Arc<Edge>,
    pub(super) server: Handle,
    pub(super) cache: Arc<ArcSwap<ResponseCache>>,
    pub(super) listeners: Vec<String>,
    /// Where the admin address really is: a reload does not move it.
    pub(super) admin: SocketAddr,
    pub(super) started: Tick,
}

#[async_trait]
impl Control for EdgeControl {
    fn access(&self) -> Access {
        // Who may look without a token depends on where the socket is, not on where a config wants it after a restart.
        Access { address: self.admin, ..self.edge.snapshot().config.server.admin.clone() }
    }

    fn records(&self) -> Records {
        let (live, config) = (self.edge.live(), self.edge.snapshot().config.clone());
        Records {
            store: live.store.clone(),
            clock: live.clock.clone(),
            audit_retention: config.server.admin.audit_retention,
            revocations: live.revocations.clone(),
            keyring: live.tokens.keyring.clone(),
            apps: live.apps.clone(),
            named: (config.miniapps.clone(), config.miniapps_file.clone()),
            issuers: config.trusted(),
        }
    }

    fn not_ready(&self) -> Vec<String> {
        not_ready(&self.edge, &self.server)
    }

    fn status(&self) -> Status {
        let reloads = self.server.reloads.status();
        let last_reload = match reloads.last_error {
            Some(failed) => LastReload {
                at: rfc3339(failed.at),
                ok: false,
                errors: failed.error.lines().map(str::to_owned).collect(),
            },
            None => LastReload { at: rfc3339(reloads.since), ok: true, errors: Vec::new() },
        };
        Status {
            version: env!("CARGO_PKG_VERSION"),
            revision: self.edge.snapshot().revision,
            uptime_seconds: self.edge.live().clock.tick().since(self.started).as_secs(),
            draining: self.server.lifecycle.is_draining(),
            listeners: self.listeners.clone(),
            last_reload,
        }
    }

    fn upstreams(&self) -> Vec<UpstreamStatus> {
        let now = self.edge.live().clock.tick();
        let read = |backend: &Arc<crate::upstream::Backend>| {
            let reading = backend.read(now);
            let addresses = reading.addresses.iter();
            UpstreamStatus {
                name: reading.name.clone(),
                addresses: addresses
                    .map(|a| AddressStatus { address: a.socket.to_string(), healthy: a.healthy && !a.shunned })
                    .collect(),
            }
        };
        self.edge.snapshot().upstreams.iter().map(read).collect()
    }

    fn breakers(&self) -> Vec<BreakerStatus> {
        let now = self.edge.live().clock.tick();
        let mut all = Vec::new();
        for backend in self.edge.snapshot().upstreams.iter() {
            for (class, reading) in backend.read(now).breakers {
                all.push(BreakerStatus {
                    upstream: backend.name().to_owned(),
                    class: class.as_str(),
                    state: reading.position.as_str(),
                    failures: reading.failures_in_window,
                    retry_after_seconds: reading.next_trial.map(|wait| wait.as_millis().div_ceil(1000) as u64),
                });
            }
        }
        all
    }

    fn caches(&self) -> Vec<CacheUsage> {
        let config = self.edge.snapshot().config.cache.clone();
        usages(&self.edge, &self.cache.load())
            .into_iter()
            .map(|(name, entries, bytes)| CacheUsage {
                cache: crate::metrics::Label::name(name),
                entries,
                bytes,
                max_bytes: match name {
                    CacheName::Response => config.response.max_size as u64,
                    CacheName::Token => config.auth.max_size as u64,
                    CacheName::Limit => config.rate_limit.max_size as u64,
                    CacheName::Whoami | CacheName::Resolve => 0,
                },
            })
            .collect()
    }

    fn routes(&self) -> Vec<RouteLine> {
        let snapshot = self.edge.snapshot();
        let line = |route: &Arc<Route>, path: &Arc<str>| RouteLine {
            methods: route.methods.iter().map(|verb| verb.as_str()).collect(),
            path: path.to_string(),
            operation: route.operation.as_str(),
            auth: route.auth.as_str(),
            scopes: route.scopes.iter().flat_map(|set| set.iter()).map(|scope| scope.as_str()).collect(),
            limit: route.limits.join(" and "),
            answer: match &route.answer {
                RouteAnswer::Edge => "edge".to_owned(),
                RouteAnswer::WalletChecked => "wallet".to_owned(),
                RouteAnswer::Upstream(name) => name.clone(),
                RouteAnswer::NotImplemented => "not implemented".to_owned(),
            },
            cacheable: route.cacheable,
        };
        let routes = snapshot.policy.table.routes().iter();
        routes.flat_map(|route| route.paths.iter().map(move |path| line(route, path))).collect()
    }

    fn purge(&self, what: &Purge) -> u64 {
        self.cache.load().purge(what)
    }

    async fn limits(&self, whose: LimitKey) -> Result<Vec<CallerLimit>, String> {
        let (snapshot, clock) = (self.edge.snapshot(), &self.edge.live().clock);
        let used = snapshot.policy.limiter.look_at(clock.tick(), clock.unix_secs(), whose).await;
        let line = |(policy, report): (&Policy, Report)| CallerLimit {
            policy: policy.name.clone(),
            override_of: policy.app.as_ref().map(ToString::to_string),
            remaining: report.remaining + report.burst_remaining,
            of: u64::from(report.limit) + u64::from(report.burst),
            retry_after_seconds: report.retry_after.unwrap_or(report.reset_after),
            full_after_seconds: report.reset_after,
        };
        used.map(|used| used.into_iter().map(line).collect()).map_err(|error| error.to_string())
    }

    async fn reset_limits(&self, whose: LimitKey) -> Result<(), String> {
        self.edge.snapshot().policy.limiter.reset(whose).await.map_err(|error| error.to_string())
    }

    async fn lockouts(&self, whose: &Subject) -> Result<Vec<LockoutStatus>, String> {
        let (snapshot, clock) = (self.edge.snapshot(), &self.edge.live().clock);
        let Some(lockouts) = &snapshot.policy.lockouts else { return Ok(Vec::new()) };
        let (now, unix) = (clock.tick(), clock.unix_secs());
        let standings = lockouts.look_at(whose, now).await.map_err(|error| error.to_string())?;
        let line = |standing: Standing| LockoutStatus {
            lockout: crate::metrics::Label::name(standing.kind),
            strikes: standing.strikes,
            of: standing.of,
            until: standing.until(unix),
        };
        Ok(standings.into_iter().map(line).collect())
    }

    async fn lift_lockouts(&self, whose: &Subject) -> Result<(), String> {
        match &self.edge.snapshot().policy.lockouts {
            Some(lockouts) => lockouts.lift(whose).await.map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    async fn reload(&self) -> Result<u64, Vec<String>> {
        self.server.reloads.reload().await.map_err(|error| error.lines().map(str::to_owned).collect())
    }
}

/// What the edge waits for, or what in it will not work again before it is started anew.
fn not_ready(edge: &Edge, server: &Handle) -> Vec<String> {
    let phase = server.lifecycle.phase();
    let waits = (!server.lifecycle.is_ready()).then(|| format!("{phase:?}").to_lowercase());
    waits.into_iter().chain(server.loops.faults()).chain(edge.live().store.fault()).collect()
}

fn usages(edge: &Edge, cache: &ResponseCache) -> Vec<(CacheName, u64, u64)> {
    let live = edge.live();
    let (entries, bytes) = cache.usage();
    let tokens = &live.tokens.cache;
    let limit = live.buckets.stats();
    vec![
        (CacheName::Response, entries, bytes),
        (CacheName::Token, tokens.len() as u64, tokens.bytes() as u64),
        (CacheName::Limit, limit.live as u64, limit.bytes as u64),
    ]
}

/// Brings gauges and the listeners' own counts up to date before each exposition.
pub(super) fn refresh(edge: Arc<Edge>, server: Handle, cache: Arc<ArcSwap<ResponseCache>>) -> Refresh {
    let counted = Mutex::new(Door::default());
    Box::new(move |metrics: &Metrics| {
        let now = edge.live().clock.tick();
        let snapshot = edge.snapshot();
        metrics.ready.set(i64::from(not_ready(&edge, &server).is_empty()));
        metrics.payments_off.set(i64::from(edge.live().revocations.revocations().payments_off()));
        metrics.buffered.set(i64::try_from(edge.live().bodies.used()).unwrap_or(i64::MAX));
        for (name, entries, bytes) in usages(&edge, &cache.load()) {
            metrics.cache_entries.set(name, entries);
            metrics.cache_bytes.set(name, bytes);
        }
        for backend in snapshot.upstreams.iter() {
            let reading = backend.read(now);
            let upstream = metrics.upstream(backend.name());
            upstream.set_healthy(reading.addresses.iter().filter(|address| address.healthy).count());
            for (class, breaker) in reading.breakers {
                upstream.set_breaker(
                    class,
                    match breaker.position {
                        Position::Closed => BreakerState::Closed,
                        Position::Open => BreakerState::Open,
                        Position::Probation => BreakerState::Trial,
                    },
                );
            }
        }
        counted.lock().take_over(&server.counters, server.connections(), metrics);
    })
}

/// What the listeners had counted when last looked at: they count on their own, and the metrics take over the difference.
#[derive(Default)]
struct Door {
    accepted: u64,
    refused: [u64; 5],
}

impl Door {
    fn take_over(&mut self, counters: &Counters, open: usize, metrics: &Metrics) {
        let accepted = counters.accepted.get();
        metrics.connections(open, accepted.saturating_sub(self.accepted));
        self.accepted = accepted;
        let reasons = [
            (ConnectionRefusal::Total, counters.refused_total.get()),
            (ConnectionRefusal::PerIp, counters.refused_per_ip.get()),
            (ConnectionRefusal::ProxyHeader, counters.bad_proxy_header.get()),
            (ConnectionRefusal::Tls, counters.failed_handshakes.get()),
            (ConnectionRefusal::Slow, counters.header_timeouts.get()),
        ];
        for ((reason, count), seen) in reasons.into_iter().zip(&mut self.refused) {
            metrics.connections_refused.inc_by(reason, count.saturating_sub(*seen));
            *seen = count;
        }
    }
}
