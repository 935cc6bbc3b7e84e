//! One upstream at run time: addresses in turn, prebuilt peers, breakers.
//!
//! Addresses are taken in turn among those whose health checks succeed. When none does, all are tried: either the
//! upstream is down, then the breaker says so within a few calls, or the check is at fault, and refusing everything
//! because of a wrong health path would be an outage of our own making. (Envoy calls this panic routing; its threshold
//! of one half would send calls to the dead one of two addresses, so ours is: none healthy.)

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora::upstreams::peer::HttpPeer;
use pingora::{ErrorSource, ErrorType};

use super::address::Address;
use super::breaker::{Breaker, OpenFor, Reading, Ticket};
use super::health;
use super::outcome::Ended;
use super::templates::Templates;
use super::tls::TlsMaterial;
use crate::clock::{Clock, Tick};
use crate::config;
use crate::error::{Code, Refusal};
use crate::model::rows::Class;

/// The address that a request goes to. Cloning shares it.
pub type Target = Arc<Address>;

/// One upstream at run time.
#[derive(Debug)]
pub struct Backend {
    config: Arc<config::Upstream>,
    clock: Clock,
    tls: Option<TlsMaterial>,
    templates: Templates,
    breakers: Breakers,
    /// What each `host:port` of the config stands for. The lock serialises whoever changes the two lists below.
    resolved: Mutex<Vec<(String, Vec<SocketAddr>)>>,
    all: ArcSwap<Vec<Target>>,
    /// Those of `all` that are picked from: the healthy ones, or all when none is.
    serving: ArcSwap<Vec<Target>>,
    turn: AtomicU64,
    connect_failures: AtomicU64,
    started: AtomicBool,
}

#[derive(Clone, Debug)]
struct Breakers {
    read: Arc<Breaker>,
    resolve: Arc<Breaker>,
    payment: Arc<Breaker>,
    account: Arc<Breaker>,
    other: Arc<Breaker>,
}

impl Backend {
    /// Builds it, or takes `previous` over. See [`super::pools::Upstreams::build`].
    pub fn build(
        config: &Arc<config::Upstream>,
        previous: Option<&Arc<Backend>>,
        clock: &Clock,
    ) -> Result<Arc<Backend>, String> {
        let tls = config.tls.as_ref().map(TlsMaterial::load).transpose()?;
        let fingerprint = |tls: &Option<TlsMaterial>| tls.as_ref().map(|tls| tls.fingerprint);
        if let Some(previous) = previous
            && previous.config == *config
            && fingerprint(&previous.tls) == fingerprint(&tls)
        {
            return Ok(Arc::clone(previous));
        }
        let breakers = match previous {
            Some(previous)
                if previous.config.breaker == config.breaker && previous.config.addresses == config.addresses =>
            {
                previous.breakers.clone()
            }
            _ => Breakers::new(config.breaker, clock),
        };
        let backend = Backend {
            config: Arc::clone(config),
            clock: clock.clone(),
            tls,
            templates: Templates::compile(&config.paths)?,
            breakers,
            resolved: Mutex::new(Vec::new()),
            all: ArcSwap::default(),
            serving: ArcSwap::default(),
            turn: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
            started: AtomicBool::new(false),
        };
        let known = previous.map(|previous| previous.resolved.lock().clone()).unwrap_or_default();
        let resolved = config.addresses.iter().map(|label| (label.clone(), backend.look_up(label, &known))).collect();
        let inherited = previous.map(|previous| previous.all.load_full()).unwrap_or_default();
        backend.set_resolved(resolved, |fresh| {
            // What another check found must not stick to an address that this one may never look at.
            let same_check = previous.is_some_and(|previous| previous.config.health == config.health);
            if let Some(known) = inherited.iter().find(|known| known.socket() == fresh.socket() && same_check) {
                fresh.inherit(known);
            }
        })?;
        Ok(Arc::new(backend))
    }

    fn look_up(&self, label: &str, known: &[(String, Vec<SocketAddr>)]) -> Vec<SocketAddr> {
        if let Ok(socket) = label.parse() {
            return vec![socket];
        }
        match label.to_socket_addrs() {
            Ok(sockets) => sockets.collect(),
            Err(error) => {
                log::warn!("upstream {}: {label} cannot be resolved now: {error}", self.name());
                known.iter().find(|(name, _)| name == label).map(|(_, sockets)| sockets.clone()).unwrap_or_default()
            }
        }
    }

    /// Takes new addresses, keeping what is known of those that stay.
    fn set_resolved(&self, resolved: Vec<(String, Vec<SocketAddr>)>, welcome: impl Fn(&Address)) -> Result<(), String> {
        let mut held = self.resolved.lock();
        let current = self.all.load_full();
        let mut next: Vec<Target> = Vec::new();
        for (label, sockets) in &resolved {
            for socket in sockets {
                if next.iter().any(|target| target.socket() == *socket) {
                    continue;
                }
                next.push(match current.iter().find(|target| target.socket() == *socket) {
                    Some(target) => Arc::clone(target),
                    None => {
                        let fresh = Address::new(*socket, label, &self.config, self.tls.as_ref())?;
                        welcome(&fresh);
                        Arc::new(fresh)
                    }
                });
            }
        }
        self.all.store(Arc::new(next));
        *held = resolved;
        self.set_serving();
        Ok(())
    }

    /// Must be called with `resolved` locked, or while nobody else has the backend.
    fn set_serving(&self) {
        let all = self.all.load_full();
        let healthy: Vec<Target> = all.iter().filter(|target| target.healthy()).cloned().collect();
        self.serving.store(if healthy.is_empty() { all } else { Arc::new(healthy) });
    }

    /// Starts its background tasks unless they run already. See [`super::pools::Upstreams::start`].
    pub fn start(self: &Arc<Self>, runtime: &tokio::runtime::Handle) {
        if !self.started.swap(true, Ordering::Relaxed) {
            runtime.spawn(health::check(Arc::downgrade(self)));
            runtime.spawn(health::refresh(Arc::downgrade(self)));
            runtime.spawn(health::tidy(Arc::downgrade(self)));
        }
    }

    /// The upstream's name in the config.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its config.
    pub fn config(&self) -> &config::Upstream {
        &self.config
    }

    /// Its path templates.
    pub fn templates(&self) -> &Templates {
        &self.templates
    }

    /// The clock that its breakers go by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Asks the breaker of `class`. Refused: 503 with `Retry-After` and `circuit_state` (protocol section 5).
    pub fn admit(&self, class: Class, now: Tick) -> Result<Ticket, Refusal> {
        self.breaker(class).admit(now).map_err(|OpenFor(wait)| {
            Refusal::new(
                Code::ServiceUnavailable,
                "The service behind this address is failing and is given time to recover.",
            )
            .retry_after(whole_seconds(wait))
            .field("circuit_state", "OPEN")
            .inside(format!("the breaker of upstream {}, class {}, is open", self.name(), class.as_str()))
        })
    }

    /// The breaker of a class.
    pub fn breaker(&self, class: Class) -> &Arc<Breaker> {
        match class {
            Class::Read => &self.breakers.read,
            Class::Resolve => &self.breakers.resolve,
            Class::Payment => &self.breakers.payment,
            Class::Account => &self.breakers.account,
            Class::Other => &self.breakers.other,
        }
    }

    /// The next address in turn; not `avoid`, and none that could not be connected to a moment ago, as long as there is
    /// another. Refused (503) only when DNS has given us no address at all.
    pub fn pick(&self, now: Tick, avoid: Option<&Target>) -> Result<Target, Refusal> {
        let serving = self.serving.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = usize::try_from(turn % serving.len().max(1) as u64).unwrap_or(0);
        let in_turn = || serving.iter().skip(first).chain(serving.iter().take(first));
        let avoided = |target: &Target| avoid.is_some_and(|avoid| avoid.socket() == target.socket());
        in_turn()
            .find(|target| !target.shunned(now) && !avoided(target))
            .or_else(|| in_turn().find(|target| !avoided(target)))
            .or_else(|| in_turn().next())
            .cloned()
            .ok_or_else(|| {
                Refusal::new(Code::ServiceUnavailable, "The service behind this address cannot be found at the moment.")
                    .retry_after(whole_seconds(health::REFRESH_EVERY))
                    .inside(format!(
                        "upstream {} has no address: DNS knows none of {:?}",
                        self.name(),
                        self.config.addresses
                    ))
            })
    }

    /// The peer to connect to. `upgrade`: the request asks for a WebSocket, which needs HTTP/1.1 and no read time-out.
    pub fn peer(&self, target: &Target, upgrade: bool) -> Box<HttpPeer> {
        target.peer(upgrade)
    }

    /// Notes that `target` could not be connected to.
    pub fn connect_failed(&self, target: &Target, now: Tick) {
        self.connect_failures.fetch_add(1, Ordering::Relaxed);
        target.shun(now);
    }

    /// The client for the edge's own calls to `target`.
    pub fn client<'a>(&self, target: &'a Target) -> Result<&'a reqwest::Client, String> {
        target.client(&self.config, self.tls.as_ref())
    }

    /// Its addresses as they are now.
    pub fn addresses(&self) -> Arc<Vec<Target>> {
        self.all.load_full()
    }

    /// Notes the result of a health check of `target`.
    pub fn observe(&self, target: &Target, well: bool, check: &config::Health, why: &dyn fmt::Display) {
        if target.observe(well, check) {
            let _held = self.resolved.lock();
            self.set_serving();
            let (name, socket) = (self.name(), target.socket());
            match well {
                true => log::info!("upstream {name}: {socket} is healthy again"),
                false => log::warn!("upstream {name}: {socket} is unhealthy: {why}"),
            }
        }
    }

    /// Names among its addresses, which DNS has to be asked for.
    pub fn names(&self) -> Vec<String> {
        self.config.addresses.iter().filter(|label| label.parse::<SocketAddr>().is_err()).cloned().collect()
    }

    /// Takes DNS' new answer for one of [`Backend::names`].
    pub fn renamed(&self, label: &str, mut sockets: Vec<SocketAddr>) {
        sockets.sort_unstable();
        let mut resolved = self.resolved.lock().clone();
        let Some((_, held)) = resolved.iter_mut().find(|(name, _)| name == label) else { return };
        let mut known = held.clone();
        known.sort_unstable();
        if known == sockets {
            return;
        }
        log::info!("upstream {}: {label} is now {sockets:?}", self.name());
        *held = sockets;
        if let Err(error) = self.set_resolved(resolved, |_| ()) {
            log::error!("upstream {}: {label}: the new addresses are not used: {error}", self.name());
        }
    }

    /// A look at it, for metrics and the admin address.
    pub fn read(&self, now: Tick) -> BackendReading {
        let addresses: Vec<AddressReading> = self
            .all
            .load()
            .iter()
            .map(|target| AddressReading {
                socket: target.socket(),
                healthy: target.healthy(),
                shunned: target.shunned(now),
            })
            .collect();
        BackendReading {
            name: self.name().to_owned(),
            none_healthy: !addresses.iter().any(|address| address.healthy),
            addresses,
            breakers: Class::ALL.iter().map(|class| (*class, self.breaker(*class).read(now))).collect(),
            tries: self.turn.load(Ordering::Relaxed),
            connect_failures: self.connect_failures.load(Ordering::Relaxed),
        }
    }
}

impl Breakers {
    fn new(numbers: config::Breaker, clock: &Clock) -> Self {
        let breaker = || Breaker::new(numbers, clock.clone());
        Breakers { read: breaker(), resolve: breaker(), payment: breaker(), account: breaker(), other: breaker() }
    }
}

/// A look at an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendReading {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<AddressReading>,
    /// No address is healthy, so all are tried.
    pub none_healthy: bool,
    /// Its breakers by class.
    pub breakers: Vec<(Class, Reading)>,
    /// Addresses picked, which is requests and their repetitions.
    pub tries: u64,
    /// Connections that could not be made.
    pub connect_failures: u64,
}

/// A look at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressReading {
    /// Where it is.
    pub socket: SocketAddr,
    /// Whether its health checks succeed.
    pub healthy: bool,
    /// Whether it is passed over for having refused a connection a moment ago.
    pub shunned: bool,
}

/// How a call that Pingora made ended, from the error that it gave.
pub fn ended(error: &pingora::Error) -> Ended {
    match error.esource() {
        ErrorSource::Downstream => Ended::Client,
        ErrorSource::Internal | ErrorSource::Unset => Ended::Edge,
        ErrorSource::Upstream => match error.etype() {
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Ended::ConnectTimeout,
            ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::ConnectProxyFailure
            | ErrorType::TLSWantX509Lookup
            | ErrorType::TLSHandshakeFailure
            | ErrorType::InvalidCert
            | ErrorType::HandshakeError => Ended::Connect,
            // No port or descriptor left: ours.
            ErrorType::BindError | ErrorType::SocketError | ErrorType::InternalError => Ended::Edge,
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => Ended::Timeout,
            _ => Ended::Broken,
        },
    }
}

/// `wait` in whole seconds for `Retry-After`: rounded up, so that whoever obeys it is not early; at least 1.
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero())
}

#[cfg(test)]
mod tests;
