//! The peer guard: what an address may do before anything is known about who it is.
//!
//! It stands in front of all other work, so it has to be cheap and must not refuse the innocent. Three things are
//! looked at, each per address (IPv6: /64):
//! - **requests a second**, against floods. A count-min sketch of pingora-limits sees every request, in constant
//!   memory however many addresses there are. It only ever over-estimates, so an address below half of the limit
//!   there is surely below it; only the others are counted exactly, and only that count refuses;
//! - **failed authentications a minute**. A bucket that failures draw from, and that every request has to find with
//!   something in it. Failures come in after the check, several at once, so the bucket goes into debt;
//! - **requests under way**, counted exactly: a sketch's error would be a refusal of somebody who did nothing.
//!
//! All three answer **429** with `Retry-After`, not 503: it is this caller who sends too much (RFC 6585 section 4),
//! while 503 tells load balancers and monitors that the edge is in trouble, and makes clients' breakers open on
//! everything. 503 is left to the edge's own overload.
//!
//! [`Peers`] is what has been seen and outlives config revisions; [`PeerGuard`] is a revision's numbers over it. Changing
//! a number forgets only the bucket that it sizes.

mod flood;
mod in_flight;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::Tick;
use crate::config::{LimitAlgorithm, LimitPolicy, OnStoreFailure, ServerLimits};
use crate::error::{Code, Refusal};
use crate::policy::rate_limit::{Buckets, Charge, LimitKey, Policy, PolicyError, Stats, Wait, window_text};

use flood::Sketch;
pub use in_flight::InFlight;
use in_flight::UnderWay;

/// Memory for the guard's exact buckets: those of addresses that failed to authenticate or come near the flood limit.
const BUCKET_BYTES: usize = 8 << 20;
/// The most that failures can draw a bucket into debt: a caller can be shut out for this long and a minute.
const MOST_DEBT: Duration = Duration::from_mins(10);

/// What is known of addresses. Outlives config revisions.
pub struct Peers {
    buckets: Buckets,
    under_way: UnderWay,
    // Only there once a config asks for it: the sketch takes 1.5 MiB.
    sketch: OnceLock<Sketch>,
}

impl Peers {
    /// Nothing known of anybody.
    pub fn new() -> Self {
        Peers { buckets: Buckets::new(BUCKET_BYTES), under_way: UnderWay::new(), sketch: OnceLock::new() }
    }

    /// Forgets addresses that are no longer of interest; to be called every few seconds.
    pub fn sweep(&self, now: Tick) {
        self.buckets.sweep(now);
    }

    /// Requests under way of all addresses that have a cap.
    pub fn in_flight(&self) -> u64 {
        self.under_way.total()
    }

    /// What the memory for exact buckets is used for.
    pub fn stats(&self) -> Stats {
        self.buckets.stats()
    }
}

impl Default for Peers {
    fn default() -> Self {
        Self::new()
    }
}

/// Why an address is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Too many requests a second.
    Flood,
    /// Too many failed authentications a minute.
    FailedAuth,
    /// Too many requests under way.
    InFlight,
}

impl Reason {
    /// The name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Flood => "flood",
            Reason::FailedAuth => "failed_auth",
            Reason::InFlight => "in_flight",
        }
    }
}

/// The guard's no. Costs nothing until it is made a [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barred {
    /// What there was too much of.
    pub reason: Reason,
    /// How much would have been in order.
    pub limit: u32,
    /// Seconds after which the address is served again, if nothing else comes from it.
    pub retry_after: u64,
}

impl From<Barred> for Refusal {
    fn from(barred: Barred) -> Refusal {
        let (message, window) = match barred.reason {
            Reason::Flood => ("Too many requests from this address.", Some(Duration::from_secs(1))),
            Reason::FailedAuth => ("Too many failed authentications from this address.", Some(Duration::from_mins(1))),
            Reason::InFlight => ("Too many requests from this address are under way at once.", None),
        };
        let refusal = Refusal::new(Code::RateLimitExceeded, message)
            .inside(format!("peer guard: {}", barred.reason.as_str()))
            .retry_after(barred.retry_after)
            .field("limit", barred.limit);
        match window {
            Some(per) => refusal.field("window", window_text(per).into_owned()),
            None => refusal,
        }
    }
}

/// One config revision's rules for addresses.
pub struct PeerGuard {
    peers: Arc<Peers>,
    flood: Option<Policy>,
    failed_auth: Option<Policy>,
    in_flight: u32,
}

impl PeerGuard {
    /// Applies a config's numbers; 0 switches a rule off, each by itself.
    ///
    /// # Errors
    /// When a number is too large to count with.
    pub fn new(limits: &ServerLimits, peers: Arc<Peers>) -> Result<Self, PolicyError> {
        let policy = |name, requests, per| match requests {
            0 => Ok(None),
            _ => {
                let algorithm = LimitAlgorithm::TokenBucket;
                let on_store_failure = OnStoreFailure::Local;
                let numbers = LimitPolicy { requests, per, burst: 0, algorithm, on_store_failure, report_only: false };
                Policy::new(name, None, &numbers).map(Some)
            }
        };
        let flood = policy("requests_per_second_per_ip", limits.requests_per_second_per_ip, Duration::from_secs(1))?;
        if flood.is_some() {
            peers.sketch.get_or_init(Sketch::new);
        }
        Ok(PeerGuard {
            flood,
            failed_auth: policy("failed_auth_per_minute", limits.failed_auth_per_minute, Duration::from_mins(1))?,
            in_flight: u32::try_from(limits.in_flight_per_ip).unwrap_or(u32::MAX),
            peers,
        })
    }

    /// Whether a request of this address may be looked at at all. `peer` is [`LimitKey::ip`] of the derived client
    /// address. Counts the request.
    ///
    /// # Errors
    /// [`Reason::FailedAuth`] or [`Reason::Flood`].
    pub fn check(&self, peer: LimitKey, now: Tick) -> Result<(), Barred> {
        if let Some(policy) = &self.failed_auth {
            bar(Reason::FailedAuth, policy, self.peers.buckets.peek(policy, peer, now).wait)?;
        }
        let (Some(policy), Some(sketch)) = (&self.flood, self.peers.sketch.get()) else { return Ok(()) };
        if !sketch.observe(peer, now).may_exceed(policy.requests / 2) {
            return Ok(());
        }
        let outcome = self.peers.buckets.decide(now, &[Charge { policy, key: peer, cost: 1 }]);
        outcome.standings.iter().try_for_each(|standing| bar(Reason::Flood, policy, standing.wait))
    }

    /// Notes that the address did not prove who it is: bad token, bad client secret, bad signature.
    pub fn failed_auth(&self, peer: LimitKey, now: Tick) {
        if let Some(policy) = &self.failed_auth {
            self.peers.buckets.owe(policy, peer, now, MOST_DEBT);
        }
    }

    /// The derived client address as what is found out about it later is noted under.
    pub fn address(&self, client: IpAddr) -> Address<'_> {
        Address { guard: self, client, peer: LimitKey::ip(client) }
    }

    /// Counts a request as under way until what it returns is dropped.
    ///
    /// # Errors
    /// [`Reason::InFlight`] when as many are under way as may be.
    pub fn enter(&self, peer: LimitKey) -> Result<InFlight, Barred> {
        // Nobody can say when another request ends; a second is the shortest that the header can.
        self.peers.under_way.enter(peer, self.in_flight).ok_or(Barred {
            reason: Reason::InFlight,
            limit: self.in_flight,
            retry_after: 1,
        })
    }
}

/// A client's address, for whoever finds out later than the guard that it guesses.
#[derive(Clone, Copy)]
pub struct Address<'a> {
    /// The address itself.
    pub client: IpAddr,
    guard: &'a PeerGuard,
    peer: LimitKey,
}

impl Address<'_> {
    /// Notes a password, token or code that was none.
    pub fn guessed(&self, now: Tick) {
        self.guard.failed_auth(self.peer, now);
    }
}

fn bar(reason: Reason, policy: &Policy, wait: Wait) -> Result<(), Barred> {
    let nanos = match wait {
        Wait::No => return Ok(()),
        Wait::Nanos(nanos) => nanos,
        Wait::Never => u64::MAX,
    };
    Err(Barred { reason, limit: policy.requests, retry_after: nanos.div_ceil(1_000_000_000).max(1) })
}
