//! The admin address: health, readiness, metrics, and what an operator asks of a running edge.
//!
//! It has a listener of its own, on the loopback interface unless the config says otherwise, and knows the edge through
//! [`Control`] alone. What it answers stands in one table, [`ENDPOINTS`]. A guard stands in front of all of it:
//!
//! - the `Host` has to be an address, a loopback name or one that the config lists, so that a page that has its own
//!   name resolve to 127.0.0.1 cannot read the admin API from an operator's browser;
//! - what changes something takes a bearer token, which such a page cannot add, of a role that is large enough, and
//!   leaves an audit line before it happens ([`crate::store::audit`]);
//! - what tells of users (grants, revocations, the audit) takes a token too;
//! - off loopback everything takes one except the two probes, which then say nothing but yes or no: load balancers
//!   and orchestrators cannot be given one.

mod answer;
mod api;
mod apps;
mod audit;
mod cache;
mod control;
mod endpoints;
mod grants;
mod guard;
mod limits;
mod listener;
mod lockouts;
mod page;
mod payments;
mod records;
mod revocations;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use futures::FutureExt;
use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::telemetry::export::Exporter;

use listener::{Bounded, Peer, Unheard};

pub use endpoints::{Access, ENDPOINTS, Endpoint};
pub use records::Records;

pub use control::{
    AddressStatus, BreakerStatus, CacheUsage, CallerLimit, Control, LastReload, LockoutStatus, RouteLine, Status,
    UpstreamStatus,
};

/// Largest request body, bytes.
const BODY: usize = 16 * 1024;

/// How long a connection may take to its first request once nothing more is accepted. Nobody waits that long unless
/// somebody has connected and says nothing.
const LAST_REQUESTS: Duration = Duration::from_secs(3);

/// What the admin address serves from. Cloning shares it.
#[derive(Clone)]
pub struct Admin {
    inner: Arc<Inner>,
}

struct Inner {
    control: Arc<dyn Control>,
    exporter: Exporter,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// The policy of the page, with the hash of its style sheet.
    page_policy: String,
}

impl Admin {
    /// The admin address of the edge behind `control`.
    pub fn new(control: Arc<dyn Control>, exporter: Exporter, metrics: Arc<Metrics>, clock: Clock) -> Self {
        let page_policy = page::policy();
        Admin { inner: Arc::new(Inner { control, exporter, metrics, clock, page_policy }) }
    }

    /// Serves on `listener` until `stop` is over, then lets requests under way end, those included that are still to
    /// come on a connection that has just been accepted.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let service = self.router().into_make_service_with_connect_info::<Peer>();
        let stop = stop.shared();
        let unheard = Unheard::new();
        let end = {
            let (stop, unheard) = (stop.clone(), unheard.clone());
            async move {
                stop.await;
                // Who has been accepted and is cut before its first request has asked nobody, neither us nor a successor.
                let _ = tokio::time::timeout(LAST_REQUESTS, unheard.none()).await;
            }
        };
        axum::serve(Bounded::new(listener, stop, unheard), service).with_graceful_shutdown(end).await
    }

    fn router(self) -> Router {
        let add = |router: Router<Admin>, endpoint: &'static Endpoint| {
            let role = from_fn_with_state((self.clone(), endpoint), guard::role);
            router.route(endpoint.path, (endpoint.route)().route_layer(role))
        };
        ENDPOINTS
            .iter()
            .fold(Router::new(), add)
            .fallback(api::not_found)
            .method_not_allowed_fallback(api::method_not_allowed)
            .layer(DefaultBodyLimit::max(BODY))
            .layer(from_fn_with_state(self.clone(), guard::guard))
            .with_state(self)
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admin")
    }
}

#[cfg(test)]
mod tests;
