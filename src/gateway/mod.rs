//! The phases of a request in execution order, each a few lines that call a room.
//!
//! ```text
//! request_filter: arrive → answer | relay to the upstream and back | (what streams: Pingora's hooks) → logging
//! ```
//!
//! Refusals are answered here and end with `Ok(true)`, so that the connection lives on; only trouble with the client's
//! socket, or with what streams, takes Pingora's error road (`fail_to_connect`, `error_while_proxy`, `fail_to_proxy`).
//!
//! | file | what it does |
//! |---|---|
//! | `arrival` | framing, address, trace, permit: what happens to every request |
//! | `cached` | answers from the response cache, and the way into it |
//! | `exchange` | reading a body whole |
//! | `way`, `heads` | where to, with which headers, and what an upstream's trouble means |
//! | `relay` | a whole request to an upstream, and its answer back |
//! | `tunnel`, `switch` | what streams: raw rows and WebSockets, forwarded by Pingora |
//! | `cors`, `client_addr`, `strict` | rules that need no more than a request's head |
//! | `observe` | the log line, the counters, the span |

mod arrival;
mod cached;
pub mod client_addr;
mod cors;
mod exchange;
mod heads;
mod observe;
mod relay;
pub mod strict;
mod switch;
mod tunnel;
mod way;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};

use crate::cache::{FillGuard, ResponseCache};
use crate::context::{Progress, Refused, RequestContext};
use crate::error::Refusal;
use crate::live::Reserved;
use crate::operations::pages;
use crate::response::{self, Shape};
use crate::snapshot::Edge;
use crate::telemetry::Telemetry;
use crate::upstream::connections::Dialer;
use switch::WayBack;

/// How often Pingora may try what streams.
pub const MOST_TRIES: usize = 2;

/// The edge as Pingora drives it.
pub struct Gateway {
    edge: Arc<Edge>,
    telemetry: Telemetry,
    cache: Arc<ArcSwap<ResponseCache>>,
    dialer: Dialer,
}

/// A request's context, and what only the gateway needs.
pub struct Passage {
    context: RequestContext,
    /// The way back for a session that was swapped.
    way_back: Option<WayBack>,
    /// The body's share of the budget, held until the request is over.
    reserved: Option<Reserved>,
    /// Counts the request as under way, in all and for its address.
    counted: Option<arrival::Counted>,
    /// What is left of the body that a stream's is replaced by.
    instead: Option<Bytes>,
    /// Takes the answer into the cache.
    fill: Option<FillGuard>,
    /// The origin that may read the answer.
    origin: Option<http::HeaderValue>,
}

impl Gateway {
    /// A gateway for `edge`.
    pub fn new(edge: Arc<Edge>, telemetry: Telemetry, cache: Arc<ArcSwap<ResponseCache>>) -> Self {
        Gateway { edge, telemetry, cache, dialer: Dialer::default() }
    }

    /// Writes a refusal in the shape of its path, and remembers it for the log.
    async fn refuse(&self, session: &mut Session, passage: &mut Passage, refusal: &Refusal) -> Result<()> {
        let context = &mut passage.context;
        context.refused = Some(Refused::of(refusal));
        let shape = Shape::of_path(session.req_header().uri.path());
        let mut answer = response::refusal(refusal, shape, context.request_id.as_str(), context.unix.as_secs());
        if pages::for_people(session.req_header()) {
            let server_name = &context.snapshot.config.server_name;
            answer = response::as_page(answer, refusal, server_name, context.request_id.as_str());
        }
        if refusal.closes() {
            session.set_keepalive(None);
        } else {
            arrival::drain_small_body(session).await;
        }
        response::send(session, answer, &passage.facts()).await?;
        passage.context.progress = Progress::Answered;
        Ok(())
    }
}

impl Passage {
    fn facts(&self) -> response::Facts<'_> {
        let context = &self.context;
        response::Facts {
            operation: context.operation(),
            trace_id: context.trace.id.header(),
            limit: context.trail.limit.as_ref(),
            cache: context.cache.map(|status| status.header()),
            origin: self.origin.as_ref(),
            keep_upstream_security: false,
        }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed, because Pingora hands it on by value, several times.
    type CTX = Box<Passage>;

    fn new_ctx(&self) -> Box<Passage> {
        let context = RequestContext::begin(self.edge.snapshot(), &self.edge.live().clock);
        let passage =
            Passage { context, way_back: None, reserved: None, counted: None, instead: None, fill: None, origin: None };
        Box::new(passage)
    }

    /// None: Pingora's default adds a compression module that every answer would pass through.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, passage: &mut Box<Passage>) -> Result<bool> {
        let refusal = match self.arrive(session, passage).await {
            Ok(arrival::Next::Relay(body)) => match self.relay(session, passage, &body).await? {
                Ok(()) => return Ok(true),
                Err(refusal) => refusal,
            },
            Ok(arrival::Next::Answer(answer)) => {
                Box::pin(response::send(session, answer, &passage.facts())).await?;
                passage.context.progress = Progress::Answered;
                return Ok(true);
            }
            Ok(arrival::Next::Stream) => return Ok(false),
            Err(refusal) => refusal,
        };
        // Boxed, as is every way off the common one: a future is moved whole, and this one's size is every request's.
        Box::pin(self.refuse(session, passage, &refusal)).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Session, passage: &mut Box<Passage>) -> Result<Box<HttpPeer>> {
        self.next_peer(&mut passage.context)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        passage: &mut Box<Passage>,
    ) -> Result<()> {
        self.connected(&mut passage.context, reused);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        passage: &mut Box<Passage>,
    ) -> Result<()> {
        self.shape_request(session, head, &passage.context)
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        head: &mut ResponseHeader,
        passage: &mut Box<Passage>,
    ) -> Result<()> {
        self.judge_answer(head, &mut passage.context)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        passage: &mut Box<Passage>,
    ) -> Result<()> {
        self.shape_stream(session, head, passage)
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        passage: &mut Box<Passage>,
    ) -> Result<Option<Duration>> {
        self.shape_stream_body(body, passage);
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        passage: &mut Box<Passage>,
        error: Box<Error>,
    ) -> Box<Error> {
        self.no_peer(&mut passage.context, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        passage: &mut Box<Passage>,
        _client_reused: bool,
    ) -> Box<Error> {
        self.broken_off(session, &mut passage.context, error)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, passage: &mut Box<Passage>) -> FailToProxy {
        self.give_up(session, error, passage).await
    }

    /// What Pingora's own lines say of a request: never its path or query, which may hold what no log may.
    fn request_summary(&self, session: &Session, passage: &Box<Passage>) -> String {
        let context = &passage.context;
        format!("{} {}, {}", session.req_header().method, context.trail.operation(), context.request_id.as_str())
    }

    /// A try that failed is counted, and the request's own line says how many there were.
    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _passage: &Box<Passage>,
        _error: &Error,
        _when: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    /// The gateway tells of every failure itself, in one line.
    fn suppress_error_log(&self, _session: &Session, _passage: &Box<Passage>, _error: &Error) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, passage: &mut Box<Passage>) {
        if let Some(way_back) = passage.way_back.take() {
            switch::give_back(session, &way_back).await;
        }
        self.observe(session, error, passage);
    }
}
