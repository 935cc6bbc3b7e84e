//! What one request carries from its first byte to its log line.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;

use crate::clock::{Clock, Tick};
use crate::error::{Code, Refusal};
use crate::metrics::{Label, RowMetrics, UpstreamFailure, UpstreamMetrics};
use crate::model::rows::Class;
use crate::policy::Trail;
use crate::snapshot::Snapshot;
use crate::telemetry::outcome::{Attempt, CacheStatus};
use crate::telemetry::trace::{RequestId, TraceContext, TraceParent};
use crate::upstream::breaker::Ticket;
use crate::upstream::forward::Trace;
use crate::upstream::{Backend, Target};

/// What one request carries.
pub struct RequestContext {
    /// The config revision that this request is served under, from start to end.
    pub snapshot: Arc<Snapshot>,
    /// When it arrived, monotonic.
    pub started: Tick,
    /// When it arrived, since the Unix epoch.
    pub unix: Duration,
    /// Its id.
    pub request_id: RequestId,
    /// Its trace.
    pub trace: TraceContext,
    /// The client's address, once it has been derived.
    pub client: Option<IpAddr>,
    /// Whether the peer is a proxy that we trust.
    pub via_trusted_proxy: bool,
    /// What the policy found out.
    pub trail: Trail,
    /// How far it has got.
    pub progress: Progress,
    /// When it was admitted or refused.
    pub admitted: Option<Tick>,
    /// How long its body was read for, when it was read whole.
    pub read: Option<Duration>,
    /// What the response cache said.
    pub cache: Option<CacheStatus>,
    /// The refusal that was written, if one was.
    pub refused: Option<Refused>,
}

impl RequestContext {
    /// A request that has just arrived.
    pub fn begin(snapshot: Arc<Snapshot>, clock: &Clock) -> RequestContext {
        RequestContext {
            snapshot,
            started: clock.tick(),
            unix: clock.unix(),
            request_id: RequestId::new(),
            trace: TraceContext::new(false),
            client: None,
            via_trusted_proxy: false,
            trail: Trail::default(),
            progress: Progress::Arrived,
            admitted: None,
            read: None,
            cache: None,
            refused: None,
        }
    }

    /// What `X-Protocol-Operation` says (protocol section 10).
    pub fn operation(&self) -> HeaderValue {
        let row = self.trail.route.as_ref().and_then(|(_, index)| self.snapshot.row(*index));
        row.map_or_else(|| HeaderValue::from_static(self.trail.operation().as_str()), RowMetrics::header)
    }

    /// The request's ids, in the form that upstreams are told.
    pub fn upstream_trace(&self) -> Trace {
        let told = match &self.progress {
            Progress::Forwarding(way) => way.call,
            Progress::Arrived | Progress::Answered => self.trace.own,
        };
        Trace { request_id: self.request_id.header(), trace_id: self.trace.id.header(), traceparent: told.header() }
    }
}

/// How far a request has got.
#[derive(Default)]
#[expect(clippy::large_enum_variant, reason = "there is one a request, and nearly every request ends as the large one")]
pub enum Progress {
    /// Nothing is decided yet.
    #[default]
    Arrived,
    /// The edge has written the answer.
    Answered,
    /// It is on its way to an upstream.
    Forwarding(Forwarding),
}

/// A request on its way to an upstream.
pub struct Forwarding {
    /// The upstream.
    pub backend: Arc<Backend>,
    /// What is counted of it.
    pub metrics: Arc<UpstreamMetrics>,
    /// Its address in use; another one at a second try.
    pub target: Target,
    /// The breaker's leave. `None` once the outcome has been told to it.
    pub ticket: Option<Ticket>,
    /// What the breaker counts this with.
    pub class: Class,
    /// Path and query to send.
    pub path: PathAndQuery,
    /// Whether the client asks for another protocol (WebSocket).
    pub upgrade: bool,
    /// Whether sending it twice is the same as sending it once.
    pub repeatable: bool,
    /// Tries so far.
    pub tries: u32,
    /// When the latest try began.
    pub tried: Tick,
    /// When the request arrived.
    pub started: Tick,
    /// What the latest try's upstream is told of the trace.
    pub call: TraceParent,
    /// What the upstream answered to the latest try.
    pub status: Option<u16>,
    /// Why the latest try failed, if it did.
    pub trouble: Option<UpstreamFailure>,
    /// The tries before it, when the trace is recorded.
    pub earlier: Vec<Attempt>,
    /// When the latest try had its connection.
    pub connected: Option<Tick>,
    /// When the upstream's header was there.
    pub answered: Option<Tick>,
}

impl Forwarding {
    /// The latest try as it stands at `now`.
    pub fn attempt(&self, now: Tick) -> Attempt {
        Attempt {
            span: self.call.span,
            address: self.target.socket(),
            began: self.tried.since(self.started),
            took: now.since(self.tried),
            status: self.status,
            trouble: self.trouble.map(Label::name),
        }
    }
}

/// The refusal that was written.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Its code.
    pub code: Code,
    /// What only the log may say.
    pub inside: Option<String>,
}

impl Refused {
    /// What is to be remembered of a refusal.
    pub fn of(refusal: &Refusal) -> Refused {
        Refused { code: refusal.code(), inside: refusal.inside_message().map(str::to_owned) }
    }
}
