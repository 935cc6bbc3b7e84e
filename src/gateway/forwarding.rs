//! To an upstream and back: where to, with which headers, and what its trouble means.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::Uri;
use http::{HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::body_swap::{self, HeldAnswer, WayBack};
use super::{Gateway, Passage, last_word};
use crate::context::{Forwarding, Progress, Refused, RequestContext};
use crate::error::{Code, Refusal};
use crate::metrics::{PoolResult, UpstreamFailure};
use crate::model::rows::{Auth, Class};
use crate::policy::Permit;
use crate::policy::authn::Caller;
use crate::response::{self, Shape};
use crate::upstream::forward::{self, Credential, Manner, Origin, Proof};
use crate::upstream::outcome::Ended;
use crate::upstream::{backend, pools, wallet};

/// Most of an upstream's error answer that is looked at.
const ERROR_BODY_CAP: usize = 64 * 1024;

impl Gateway {
    /// Asks the breaker, picks an address and renders the path: everything that can still be refused.
    pub(super) fn prepare(
        &self,
        session: &Session,
        context: &mut RequestContext,
        permit: &Permit,
    ) -> Result<(), Refusal> {
        let now = self.edge.live().clock.tick();
        let index = context.trail.route.as_ref().map_or(usize::MAX, |(_, index)| *index);
        let way = context.snapshot.way(index).ok_or_else(|| Refusal::internal("the route has no upstream"))?;
        let ticket =
            way.backend.admit(way.class, now).inspect_err(|_| way.metrics.failed(UpstreamFailure::BreakerOpen))?;
        let target = way.backend.pick(now, None)?;
        let head = session.req_header();
        let sent = head.uri.path_and_query().ok_or_else(|| Refusal::internal("the request has no path"))?;
        let raw = |range: &std::ops::Range<usize>| sent.path().get(range.clone()).unwrap_or_default();
        let params: smallvec::SmallVec<[&str; 2]> = context.trail.params.iter().map(raw).collect();
        let path = way.template.render(sent, &params).map_err(|error| Refusal::internal(error.to_string()))?;
        context.progress = Progress::Forwarding(Forwarding {
            backend: way.backend.clone(),
            metrics: way.metrics.clone(),
            target,
            ticket: Some(ticket),
            class: way.class,
            path,
            upgrade: permit.route().upgrades && session.is_upgrade_req(),
            repeatable: head.method.is_safe() && way.class != Class::Payment,
            tries: 0,
            tried: now,
            connected: None,
            answered: None,
            last_word: None,
        });
        Ok(())
    }

    pub(super) fn next_peer(&self, session: &Session, context: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let now = self.edge.live().clock.tick();
        let Progress::Forwarding(way) = &mut context.progress else {
            return Err(Error::explain(ErrorType::InternalError, "forwarding without a permit"));
        };
        if let Some(wire) = &way.last_word {
            return Ok(last_word::peer(wire.clone()));
        }
        if way.tries > 0 {
            match way.backend.pick(now, Some(&way.target)) {
                Ok(other) => way.target = other,
                Err(refusal) => {
                    settle(way, Ended::Connect);
                    return Ok(last_word::peer(have_the_last_word(session, context, &refusal)));
                }
            }
        }
        way.tries += 1;
        way.metrics.tries.inc();
        if way.tries > 1 {
            way.metrics.retries.inc();
        }
        way.tried = now;
        Ok(way.backend.peer(&way.target, way.upgrade))
    }

    pub(super) fn connected(&self, context: &mut RequestContext, reused: bool) {
        if let Progress::Forwarding(way) = &mut context.progress
            && way.last_word.is_none()
        {
            way.connected = Some(self.edge.live().clock.tick());
            way.metrics.connection(if reused { PoolResult::Reused } else { PoolResult::New });
        }
    }

    pub(super) fn shape_request(
        &self,
        session: &Session,
        head: &mut RequestHeader,
        context: &RequestContext,
    ) -> Result<()> {
        let (Progress::Forwarding(way), Some((route, _))) = (&context.progress, &context.trail.route) else {
            return Err(Error::explain(ErrorType::InternalError, "forwarding without a permit"));
        };
        if way.last_word.is_some() {
            return Ok(());
        }
        let passage = forward::Passage {
            manner: manner(route.auth),
            credential: Credential::rule(
                context.snapshot.role(way.backend.name()),
                route.auth,
                proof(&context.trail.caller),
            ),
            identity: context.trail.caller.identity(),
            trace: &context.upstream_trace(),
            origin: &Origin {
                client: context.client_header(),
                https: over_tls(session, context),
                host: asked_host(session.req_header()),
            },
            host: way.target.host(),
        };
        forward::request(head, &passage);
        head.set_uri(Uri::from(way.path.clone()));
        Ok(())
    }

    /// Tells the breaker, and notes the time. A switch of protocols that nobody asked for is no answer: what the client
    /// sends next would go to the upstream unlooked at.
    pub(super) fn judge_answer(&self, head: &ResponseHeader, context: &mut RequestContext) -> Result<()> {
        let now = self.edge.live().clock.tick();
        if let Progress::Forwarding(way) = &mut context.progress
            && way.last_word.is_none()
        {
            if head.status == StatusCode::SWITCHING_PROTOCOLS && !way.upgrade {
                return Err(Error::explain(ErrorType::InvalidHTTPHeader, "an unasked switch of protocols").into_up());
            }
            way.answered.get_or_insert(now);
            if !head.status.is_informational()
                && let Some(ticket) = way.ticket.take()
            {
                ticket.settle(Ended::Status(head.status).outcome());
                if head.status.is_server_error() {
                    way.metrics.failed(UpstreamFailure::Status);
                }
            }
        }
        Ok(())
    }

    pub(super) fn shape_answer(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        passage: &mut Passage,
    ) -> Result<()> {
        if head.status.is_informational() {
            return Ok(());
        }
        if matches!(&passage.context.progress, Progress::Forwarding(way) if way.last_word.is_some()) {
            passage.fill = None;
            return response::decorate(head, &passage.facts());
        }
        let Some((route, _)) = &passage.context.trail.route else { return Ok(()) };
        let manner = manner(route.auth);
        if let Some(fill) = &mut passage.fill
            && fill.head(head.status, &head.headers).is_err()
        {
            passage.fill = None;
        }
        forward::response(head, manner);
        if let Some(fill) = &mut passage.fill {
            fill.passed_on(&head.headers);
        }
        let mut facts = passage.facts();
        facts.keep_upstream_security = manner == Manner::Raw;
        response::decorate(head, &facts)?;
        let Progress::Forwarding(way) = &passage.context.progress else { return Ok(()) };
        // Nothing that clients ask of a wallet lies elsewhere, so a redirection is an error as well.
        let fine = head.status.is_success() || head.status == StatusCode::NOT_MODIFIED;
        if way.backend.name() == pools::WALLET && !fine {
            self.hold_wallet_error(session, passage);
        }
        Ok(())
    }

    /// A wallet's error answer is the protocol's if it has the protocol's shape, and otherwise none of the client's
    /// business (protocol section 9). Which it is, only its body tells.
    fn hold_wallet_error(&self, session: &mut Session, passage: &mut Passage) {
        let way_back = passage.way_back.get_or_insert_with(WayBack::default).clone();
        let told = passage.told.get_or_insert_with(Arc::default).clone();
        let request_id = passage.context.request_id;
        let unix = passage.context.unix.as_secs();
        let shape = Shape::of_path(session.req_header().uri.path());
        let head = session.req_header().method == http::Method::HEAD;
        let mapper = move |held: HeldAnswer| {
            let refusal = if head {
                wallet::error_of_head(pools::WALLET, held.header.status)
            } else {
                wallet::error_of_answer(pools::WALLET, held.header.status, &held.header.headers, &held.body)
            };
            let answer = response::refusal(&refusal, shape, request_id.as_str(), unix);
            // The answer is made while the session is Pingora's; the log learns of it when the request is over.
            let _ = told.set(Refused::of(&refusal));
            let (mut header, body) = response::replace(held.header, answer);
            if head {
                // How long the body would be, only a GET can tell.
                header.remove_header(&http::header::CONTENT_LENGTH);
            }
            (header, body)
        };
        body_swap::hold_answer(session, &way_back, ERROR_BODY_CAP, Box::new(mapper));
    }

    /// Nothing was sent, so another address may be tried, whatever the method.
    pub(super) fn not_connected(
        &self,
        session: &Session,
        context: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let now = self.edge.live().clock.tick();
        if let Progress::Forwarding(way) = &mut context.progress {
            way.backend.connect_failed(&way.target, now);
            way.metrics.failed(match backend::ended(&error) {
                Ended::ConnectTimeout => UpstreamFailure::ConnectTimeout,
                _ => UpstreamFailure::Connect,
            });
            let again = way.tries <= way.backend.config().retries;
            error.set_retry(again);
            if !again {
                error = self.speak_for(session, context, error);
            }
        }
        error
    }

    /// The connection broke after the request went out. Only what may happen twice is sent again, and only when it was
    /// the connection that failed: asking a slow upstream twice makes it slower.
    pub(super) fn broken_off(
        &self,
        session: &Session,
        context: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Progress::Forwarding(way) = &context.progress {
            let may = way.repeatable
                && way.answered.is_none()
                && way.tries <= way.backend.config().retries
                && backend::ended(&error) == Ended::Broken
                && !session.as_ref().retry_buffer_truncated();
            error.set_retry(may);
        }
        if error.retry() { error } else { self.speak_for(session, context, error) }
    }

    /// Answers in the upstream's place, where that is possible: nothing of its answer has been seen yet, and what the
    /// client has sent can be taken to its end, which makes the connection fit for the next request.
    fn speak_for(&self, session: &Session, context: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
        let Progress::Forwarding(way) = &mut context.progress else { return error };
        let ended = backend::ended(&error);
        let may = way.last_word.is_none() && way.answered.is_none() && !way.upgrade && ended != Ended::Client;
        if may && !session.as_ref().retry_buffer_truncated() && session.response_written().is_none_or(is_interim) {
            settle(way, ended);
            let refusal = ended.refusal(way.backend.name(), &error);
            have_the_last_word(session, context, &refusal);
            error.set_retry(true);
        }
        error
    }

    /// The end of the error road: the client is told, unless it has left or has had the answer's beginning.
    pub(super) async fn give_up(&self, session: &mut Session, error: &Error, passage: &mut Passage) -> FailToProxy {
        let mut upstream = String::new();
        let ended = if *error.esource() == ErrorSource::Downstream { Ended::Client } else { backend::ended(error) };
        if let Progress::Forwarding(way) = &mut passage.context.progress {
            upstream.push_str(way.backend.name());
            settle(way, ended);
        }
        let refusal = match (ended, error.etype()) {
            (Ended::Client, ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed) => None,
            (Ended::Client, _) => Some(Refusal::new(Code::ValidationFailed, "The request could not be read.").close()),
            (ended, _) => Some(ended.refusal(&upstream, error)),
        };
        let Some(refusal) = refusal.filter(|_| session.response_written().is_none_or(is_interim)) else {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        };
        // Pingora ends the connection after this, so the client is told. Only the real session listens to that.
        if let Some(way_back) = passage.way_back.take() {
            body_swap::give_back(session, &way_back).await;
        }
        let refusal = refusal.close();
        let status = refusal.status().as_u16();
        // Whether it arrives or not, there is nothing more to be done.
        let _ = self.refuse(session, passage, &refusal).await;
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }
}

/// Whether the client spoke TLS: to us, or to the trusted proxy that says so.
fn over_tls(session: &Session, context: &RequestContext) -> bool {
    let forwarded = || session.req_header().headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    session.digest().is_some_and(|digest| digest.ssl_digest.is_some()) || (context.via_trusted_proxy && forwarded())
}

/// The host that the client asked for: `Host`, or what HTTP/2 says in its place.
fn asked_host(head: &RequestHeader) -> Option<HeaderValue> {
    let authority = || HeaderValue::from_str(head.uri.authority()?.as_str()).ok();
    head.headers.get(http::header::HOST).cloned().or_else(authority)
}

fn is_interim(head: &ResponseHeader) -> bool {
    head.status.is_informational()
}

/// Tells the breaker and the counters how it ended.
fn settle(way: &mut Forwarding, ended: Ended) {
    if let Some(ticket) = way.ticket.take() {
        ticket.settle(ended.outcome());
    }
    match ended {
        Ended::Timeout => way.metrics.failed(UpstreamFailure::Timeout),
        Ended::Broken => way.metrics.failed(UpstreamFailure::Reset),
        _ => {}
    }
}

/// Makes a refusal what the next peer says, and returns that.
fn have_the_last_word(session: &Session, context: &mut RequestContext, refusal: &Refusal) -> Bytes {
    let shape = Shape::of_path(session.req_header().uri.path());
    let answer = response::refusal(refusal, shape, context.request_id.as_str(), context.unix.as_secs());
    let wire = last_word::spoken(&answer);
    context.refused = Some(Refused::of(refusal));
    if let Progress::Forwarding(way) = &mut context.progress {
        way.last_word = Some(wire.clone());
    }
    wire
}

fn manner(auth: Auth) -> Manner {
    if auth == Auth::Upstream { Manner::Raw } else { Manner::Guarded }
}

fn proof(caller: &Caller) -> Proof {
    match caller {
        Caller::Anonymous | Caller::Homeserver => Proof::None,
        Caller::Tep(_) => Proof::Tep,
        Caller::Matrix(_) => Proof::Matrix,
        Caller::Client(_) => Proof::ClientSecret,
    }
}

impl RequestContext {
    /// The client's address as `X-Forwarded-For` says it.
    fn client_header(&self) -> HeaderValue {
        let text = self.client.map(|ip| ip.to_string()).unwrap_or_default();
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("unknown"))
    }
}
