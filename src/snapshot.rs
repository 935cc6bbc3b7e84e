//! Everything derived from one config revision.
//!
//! A snapshot is built whole and checked whole before it takes effect by the swap of one pointer; what cannot be built
//! leaves the last good one in force. A request holds on to the snapshot that it began with, so it never sees half
//! of a change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::config::Config;
use crate::live::Live;
use crate::metrics::{RowMetrics, UpstreamMetrics};
use crate::model::Operation;
use crate::model::rows::{Answer, Class};
use crate::operations::Services;
use crate::policy::route::{Route, RouteAnswer};
use crate::policy::{Ingredients, Policy};
use crate::upstream::Backend;
use crate::upstream::homeserver::Homeserver;
use crate::upstream::identity::{Identities, UserRules};
use crate::upstream::pools::{self, Upstreams};
use crate::upstream::templates::Template;
use crate::upstream::wallet::Wallet;

/// Everything derived from one config revision.
pub struct Snapshot {
    /// Counts up with every config that took effect.
    pub revision: u64,
    /// The config.
    pub config: Arc<Config>,
    /// May a request proceed?
    pub policy: Policy,
    /// The upstreams.
    pub upstreams: Upstreams,
    /// What operations work with.
    pub services: Services,
    ways: Vec<Option<Way>>,
    rows: Vec<Option<Arc<RowMetrics>>>,
}

/// Where a route's requests go.
pub struct Way {
    /// The upstream.
    pub backend: Arc<Backend>,
    /// What the breaker counts them with.
    pub class: Class,
    /// The upstream's path for the operation.
    pub template: Template,
    /// What is counted of the upstream.
    pub metrics: Arc<UpstreamMetrics>,
    /// Another number when the route or the upstream is configured otherwise: cached answers end with it.
    pub fingerprint: u64,
}

/// A number for what a config says. It lives in this process only, so any hash will do.
fn fingerprint(what: &impl std::fmt::Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{what:?}").hash(&mut hasher);
    hasher.finish()
}

impl Snapshot {
    /// Builds everything. Reads certificates and asks DNS, so it must run where blocking is allowed. The error says
    /// what is wrong, a line each.
    pub fn build(config: Config, live: &Live, previous: Option<&Snapshot>) -> Result<Snapshot, String> {
        let config = Arc::new(config);
        let upstreams = Upstreams::build(&config.upstreams, previous.map(|p| &p.upstreams), &live.clock)
            .map_err(|error| error.to_string())?;
        let as_token = config.appservice.as_ref().and_then(|appservice| appservice.as_token.clone());
        let homeserver = || {
            upstreams
                .get(pools::HOMESERVER)
                .map(|hs| Homeserver::new(hs.clone(), as_token.clone(), live.metrics.clone()))
        };
        let policy = Policy::build(Ingredients {
            config: &config,
            clock: &live.clock,
            limits: &live.limits,
            peers: &live.peers,
            store: &live.store,
            tokens: &live.tokens,
            egress: &live.egress,
            homeserver: homeserver(),
            previous: previous.map(|previous| (&*previous.config, &previous.policy)),
        })?;
        let ways = policy.table.routes().iter().map(|route| match &route.answer {
            RouteAnswer::Upstream(name) => upstreams.get(name.as_str()).map(|backend| Way {
                backend: backend.clone(),
                class: route.class,
                template: backend.templates().get(route.operation).clone(),
                metrics: live.metrics.upstream(name),
                fingerprint: fingerprint(&(&**route, backend.config())),
            }),
            _ => None,
        });
        let ways = ways.collect();
        let named = |route: &Arc<Route>| match route.operation {
            Operation::Custom => live.metrics.row(route.label.as_deref()?),
            _ => None,
        };
        let rows = policy.table.routes().iter().map(named).collect();
        let rules = UserRules::new(&config.server_name, config.appservice.as_ref())?;
        let services = Services {
            clock: live.clock.clone(),
            metrics: live.metrics.clone(),
            store: live.store.clone(),
            config: config.clone(),
            verifier: policy.authn.verifier().clone(),
            keyring: live.tokens.keyring.clone(),
            revocations: live.revocations.clone(),
            wallet: upstreams.get(pools::WALLET).map(|wallet| Wallet::new(wallet.clone())),
            homeserver: homeserver(),
            identities: match &config.oauth.matrix_auth_service {
                Some(service) => Some(Identities::of_service(service.clone(), live.egress.clone(), rules)),
                None => homeserver().map(|homeserver| Identities::of_homeserver(homeserver, rules)),
            },
            resolved: live.resolved.clone(),
        };
        let revision = previous.map_or(1, |previous| previous.revision + 1);
        Ok(Snapshot { revision, config, policy, upstreams, services, ways, rows })
    }

    /// Where requests of the route with that number go.
    pub fn way(&self, route: usize) -> Option<&Way> {
        self.ways.get(route)?.as_ref()
    }

    /// What is counted of the route with that number under a name of its own: of one that the config added and labelled.
    pub fn row(&self, route: usize) -> Option<&RowMetrics> {
        self.rows.get(route)?.as_deref()
    }

    /// What an upstream is to us: the wallet and the homeserver are told more than one that a config adds.
    pub fn role(&self, upstream: &str) -> Answer {
        match upstream {
            pools::WALLET => Answer::Wallet,
            pools::HOMESERVER => Answer::Homeserver,
            _ => Answer::Edge,
        }
    }
}

/// The edge: the snapshot in force, and what outlives it.
pub struct Edge {
    live: Live,
    current: ArcSwap<Snapshot>,
    revisions: watch::Sender<u64>,
    draining: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Edge {
    /// An edge with its first snapshot. `draining` says whether the server wants its connections closed.
    pub fn new(live: Live, first: Snapshot, draining: impl Fn() -> bool + Send + Sync + 'static) -> Edge {
        let revisions = watch::Sender::new(first.revision);
        Edge { live, current: ArcSwap::from_pointee(first), revisions, draining: Box::new(draining) }
    }

    /// What outlives a revision.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Whether connections should end with the answer that is being written.
    pub fn is_draining(&self) -> bool {
        (self.draining)()
    }

    /// Returns once another revision than `revision` is in force.
    pub async fn changed(&self, revision: u64) {
        // The sender lives as long as this edge does.
        let _ = self.revisions.subscribe().wait_for(|current| *current != revision).await;
    }

    /// Builds a snapshot of `config` and puts it in force. On an error the last good one stays. `agreed` is asked once
    /// the snapshot is built, and may still say no: it takes over what lies outside of snapshots.
    pub fn replace(
        &self,
        config: Config,
        background: &Handle,
        agreed: impl FnOnce(&Config) -> Result<(), String>,
    ) -> Result<u64, String> {
        let next = Snapshot::build(config, &self.live, Some(&self.current.load()))?;
        agreed(&next.config)?;
        let revision = next.revision;
        next.upstreams.start(background);
        self.live.apply(&next.config);
        self.current.store(Arc::new(next));
        self.revisions.send_replace(revision);
        Ok(revision)
    }
}
