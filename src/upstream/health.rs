//! What keeps an upstream's addresses true: active health checks, DNS asked again, idle connections looked through.
//!
//! Each upstream has one task for each of them, started when its revision takes effect. A task holds its upstream only while
//! it works, so it ends by itself after the upstream was replaced and the last request let go of it.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use super::address::Address;
use super::backend::Backend;
use crate::config;

/// How often DNS is asked for names among the addresses. Resolvers do not tell the time to live, and most names of
/// services live for half a minute or more.
pub const REFRESH_EVERY: Duration = Duration::from_secs(30);
/// How often idle connections are looked through.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// How soon DNS is asked again for a name without any address.
const REFRESH_SOON: Duration = Duration::from_secs(2);

/// Checks every address of a backend, again and again, until nobody holds the backend.
pub async fn check(backend: Weak<Backend>) {
    let Some(every) = backend.upgrade().and_then(|backend| backend.config().health.as_ref().map(|check| check.every))
    else {
        return;
    };
    // An interval of zero would panic; the config refuses it, and this costs nothing.
    let mut ticks = interval(every.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(backend) = backend.upgrade() else { return };
        check_once(&backend).await;
    }
}

/// One round of checks, all addresses at once.
pub async fn check_once(backend: &Backend) {
    let Some(check) = &backend.config().health else { return };
    let addresses = backend.addresses();
    join_all(addresses.iter().map(|target| async {
        match probe(backend, target, check).await {
            Ok(()) => backend.observe(target, true, check, &""),
            Err(failure) => backend.observe(target, false, check, &failure),
        }
    }))
    .await;
}

/// Why a check failed.
#[derive(Debug)]
enum Failure {
    Status(http::StatusCode),
    Call(reqwest::Error),
    Client(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(status) => write!(f, "its health check answered {status}"),
            Failure::Call(error) => write!(f, "its health check failed: {}", super::client::chain(error)),
            Failure::Client(error) => f.write_str(error),
        }
    }
}

async fn probe(backend: &Backend, target: &std::sync::Arc<Address>, check: &config::Health) -> Result<(), Failure> {
    let client = backend.client(target).map_err(Failure::Client)?;
    let timeouts = &backend.config().timeouts;
    let answer = client
        .get(format!("{}{}", target.base(), check.path))
        // A check that takes longer than the time between two has failed.
        .timeout((timeouts.connect + timeouts.read).min(check.every.max(Duration::from_secs(1))))
        .send()
        .await
        .map_err(|error| Failure::Call(error.without_url()))?;
    if answer.status().is_success() { Ok(()) } else { Err(Failure::Status(answer.status())) }
}

/// Asks DNS for the names among a backend's addresses, again and again, until nobody holds the backend. A name that is
/// not answered for keeps its last addresses.
pub async fn refresh(backend: Weak<Backend>) {
    loop {
        let wait = match backend.upgrade() {
            None => return,
            Some(backend) if backend.names().is_empty() => return,
            Some(backend) if backend.addresses().is_empty() => REFRESH_SOON,
            Some(_) => REFRESH_EVERY,
        };
        tokio::time::sleep(wait).await;
        let Some(backend) = backend.upgrade() else { return };
        refresh_once(&backend).await;
    }
}

/// Closes idle connections that are too old or dead, again and again, until nobody holds the backend.
pub async fn tidy(backend: Weak<Backend>) {
    let mut ticks = interval(TIDY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(backend) = backend.upgrade() else { return };
        let now = backend.clock().tick();
        backend.addresses().iter().for_each(|target| target.idle().tidy(now));
    }
}

/// Asks DNS once for every name.
pub async fn refresh_once(backend: &Backend) {
    for label in backend.names() {
        match tokio::net::lookup_host(&label).await {
            Ok(sockets) => {
                let sockets: Vec<_> = sockets.collect();
                if !sockets.is_empty() {
                    backend.renamed(&label, sockets);
                }
            }
            Err(error) => log::warn!("upstream {}: {label} cannot be resolved now: {error}", backend.name()),
        }
    }
}

#[cfg(test)]
mod tests;
