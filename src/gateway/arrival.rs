//! What happens to every request before it is answered or forwarded.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, UPGRADE};
use pingora::proxy::Session;

use super::cached::Cached;
use super::exchange::SessionExchange;
use super::{Gateway, Passage, client_addr, cors, strict, switch};
use crate::context::Progress;
use crate::error::{Code, Refusal};
use crate::metrics::Held;
use crate::model::rows::Body;
use crate::operations::{self, Call};
use crate::policy::guard::InFlight;
use crate::policy::rate_limit::LimitKey;
use crate::policy::route::RouteAnswer;
use crate::policy::{Permit, Trail};
use crate::response::Answer;
use crate::telemetry::trace::TraceContext;
use crate::upstream::forward;

/// Unread request bodies up to this length are read away, so that a refusal need not cost the connection.
const DRAIN_UP_TO: u64 = 256 * 1024;
/// For reading them away.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// Who has no address.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What becomes of a request that may proceed.
pub enum Next {
    /// The edge answers it.
    Answer(Answer),
    /// An upstream does; the body is at hand.
    Relay(Bytes),
    /// An upstream does, and what goes there and comes back streams by.
    Stream,
}

/// Counts a request as under way as long as it lives.
pub struct Counted {
    _in_flight: Held,
    _of_address: InFlight,
}

impl Gateway {
    /// From the head's first byte to a permit, and on to whoever answers.
    pub(super) async fn arrive(&self, session: &mut Session, passage: &mut Passage) -> Result<Next, Refusal> {
        let snapshot = passage.context.snapshot.clone();
        let config = &snapshot.config;

        let peer = peer_ip(session);
        let client = client_addr::derive(peer, &session.req_header().headers, &config.server.trusted_proxies);
        passage.context.client = Some(client.ip);
        passage.context.via_trusted_proxy = client.via_trusted_proxy;
        passage.context.trace =
            TraceContext::of(&session.req_header().headers, client.via_trusted_proxy, self.telemetry.samples());

        strict::check(&session.downstream_session, config.validation.max_header_size)?;
        forward::check_nominations(&session.req_header().headers)?;
        passage.counted = Some(Counted {
            _in_flight: self.edge.live().metrics.in_flight(),
            _of_address: snapshot.policy.guard.enter(LimitKey::ip(client.ip))?,
        });

        passage.origin = cors::allowed_origin(&session.req_header().headers, &config.cors_origins);
        if passage.origin.is_some()
            && let Some(answer) = cors::preflight(&session.req_header().method, &session.req_header().headers)
        {
            return Ok(Next::Answer(answer));
        }

        let mut exchange = SessionExchange {
            session,
            budget: &self.edge.live().bodies,
            timeout: config.server.limits.body_timeout,
            reserved: None,
            clock: &self.edge.live().clock,
            read: None,
        };
        let mut trail = Trail::default();
        let admitted = snapshot.policy.admit(&mut exchange, client.ip, &mut trail).await;
        passage.reserved = exchange.reserved.take();
        passage.context.read = exchange.read;
        passage.context.trail = trail;
        passage.context.admitted = Some(self.edge.live().clock.tick());
        self.proceed(session, passage, admitted?).await
    }

    async fn proceed(&self, session: &mut Session, passage: &mut Passage, mut permit: Permit) -> Result<Next, Refusal> {
        refuse_other_protocols(session, permit.route().upgrades);
        let snapshot = passage.context.snapshot.clone();
        match &permit.route().answer {
            RouteAnswer::NotImplemented => Err(Refusal::new(
                Code::NotImplemented,
                format!(
                    "{} is part of the protocol, but this version of the edge does not answer it yet.",
                    permit.route().operation
                ),
            )),
            RouteAnswer::Edge | RouteAnswer::WalletChecked => {
                let head = session.req_header();
                let params = passage.context.trail.params.iter();
                let call = Call {
                    caller: &passage.context.trail.caller,
                    method: &head.method,
                    params: params.map(|range| head.uri.path().get(range.clone()).unwrap_or_default()).collect(),
                    query: head.uri.query(),
                    headers: &head.headers,
                    address: snapshot.policy.guard.address(passage.context.client.unwrap_or(UNKNOWN)),
                    trace: passage.context.upstream_trace(),
                    arrived_at: u64::try_from(passage.context.unix.as_millis()).unwrap_or(u64::MAX),
                };
                let local = Box::pin(operations::answer(&permit, &snapshot.services, call)).await?;
                Ok(Next::Answer(Answer::local(local)))
            }
            RouteAnswer::Upstream(_) => {
                if permit.route().cacheable {
                    match Box::pin(self.ask_cache(session, passage)).await {
                        Cached::Hit(answer) => return Ok(Next::Answer(answer)),
                        Cached::Fill(fill) => passage.fill = fill,
                    }
                }
                self.prepare(session, &mut passage.context, &permit)?;
                if matches!(&passage.context.progress, Progress::Forwarding(way) if way.upgrade) {
                    let way_back = passage.way_back.get_or_insert_default();
                    switch::await_switch(session, way_back);
                    return Ok(Next::Stream);
                }
                Ok(match permit.route().body {
                    Body::Raw => Next::Stream,
                    _ => Next::Relay(permit.take_body().unwrap_or_default()),
                })
            }
        }
    }
}

/// The address at the other end of the socket, or the one that its PROXY header names.
fn peer_ip(session: &Session) -> IpAddr {
    let address = session.client_addr().and_then(|address| address.as_inet());
    address.map_or(UNKNOWN, |address| address.ip())
}

/// An `Upgrade` that the route does not take is ignored, as RFC 9110 section 7.8 lets a server do: `curl --http2` sends
/// one with every plain request.
fn refuse_other_protocols(session: &mut Session, upgrades: bool) {
    let websocket = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let stays = upgrades && session.req_header().headers.get(UPGRADE).is_none_or(websocket);
    if !stays {
        session.req_header_mut().remove_header(&UPGRADE);
    }
}

/// Reads a small unread body away, so that the connection can be used again after a refusal. A larger one, or one that
/// does not come in time, ends the connection instead; so does one that the client holds back until it is told to
/// continue, for which waiting would be in vain.
pub(super) async fn drain_small_body(session: &mut Session) {
    let headers = &session.req_header().headers;
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let held_back = headers.contains_key(EXPECT) && session.response_written().is_none();
    // An HTTP/2 stream is refused without harm to the others.
    if held_back || declared.is_some_and(|length| length > DRAIN_UP_TO) || session.is_http2() {
        return;
    }
    let draining = async {
        let mut read = 0;
        while let Ok(Some(chunk)) = session.as_mut().read_request_body().await {
            read += chunk.len() as u64;
            if read > DRAIN_UP_TO {
                break;
            }
        }
    };
    // What is left unread closes the connection: Pingora sees to it.
    let _ = tokio::time::timeout(DRAIN_WITHIN, draining).await;
}
