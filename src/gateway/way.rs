//! A permitted request's way to an upstream, step by step: what whole requests and streams have in common.

use http::StatusCode;
use pingora::proxy::Session;
use pingora::{Error, Result};

use super::heads::unpermitted;
use super::{Gateway, Passage};
use crate::context::{Forwarding, Progress, RequestContext};
use crate::error::Refusal;
use crate::metrics::UpstreamFailure;
use crate::model::rows::Class;
use crate::policy::Permit;
use crate::upstream::outcome::Ended;
use crate::upstream::{Target, backend};

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
            started: context.started,
            call: context.trace.own,
            status: None,
            trouble: None,
            earlier: Vec::new(),
            connected: None,
            answered: None,
        });
        Ok(())
    }

    /// The address to try next: another one than the last time, if there is any.
    pub(super) fn next_target(&self, way: &mut Forwarding) -> Result<Target, Refusal> {
        // The first try was picked a moment ago.
        let now = if way.tries > 0 { self.edge.live().clock.tick() } else { way.tried };
        if way.tries > 0 {
            if way.call.sampled {
                way.earlier.push(way.attempt(now));
            }
            (way.status, way.trouble) = (None, None);
            way.target = way.backend.pick(now, Some(&way.target)).inspect_err(|_| settle(way, Ended::Connect))?;
        }
        way.tries += 1;
        way.metrics.tries.inc();
        if way.tries > 1 {
            way.metrics.retries.inc();
        }
        way.tried = now;
        way.call = way.call.of_call();
        Ok(way.target.clone())
    }

    /// Nothing was sent, so another address may be tried, whatever the method; says whether it is.
    pub(super) fn not_connected(&self, way: &mut Forwarding, error: &Error) -> bool {
        way.backend.connect_failed(&way.target, self.edge.live().clock.tick());
        let failure = match backend::ended(error) {
            Ended::ConnectTimeout => UpstreamFailure::ConnectTimeout,
            _ => UpstreamFailure::Connect,
        };
        way.metrics.failed(failure);
        way.trouble = Some(failure);
        self.may_try_again(way)
    }

    pub(super) fn may_try_again(&self, way: &Forwarding) -> bool {
        way.tries <= way.backend.config().retries
    }

    /// Tells the breaker, and notes the time.
    pub(super) fn answered(&self, way: &mut Forwarding, status: StatusCode) {
        let now = self.edge.live().clock.tick();
        way.answered.get_or_insert(now);
        way.status = Some(status.as_u16());
        if !status.is_informational()
            && let Some(ticket) = way.ticket.take()
        {
            ticket.settle(Ended::Status(status).outcome());
            if status.is_server_error() {
                way.metrics.failed(UpstreamFailure::Status);
            }
        }
    }
}

/// Tells the breaker and the counters how it ended.
pub(super) fn settle(way: &mut Forwarding, ended: Ended) {
    if let Some(ticket) = way.ticket.take() {
        ticket.settle(ended.outcome());
    }
    if let Some(failure) = broken(ended) {
        way.metrics.failed(failure);
        way.trouble = Some(failure);
    }
}

/// What it is called when an exchange broke off after it had begun.
pub(super) fn broken(ended: Ended) -> Option<UpstreamFailure> {
    match ended {
        Ended::Timeout => Some(UpstreamFailure::Timeout),
        Ended::Broken => Some(UpstreamFailure::Reset),
        _ => None,
    }
}

pub(super) fn way(passage: &mut Passage) -> Result<&mut Forwarding> {
    way_of(&mut passage.context.progress)
}

pub(super) fn way_of(progress: &mut Progress) -> Result<&mut Forwarding> {
    match progress {
        Progress::Forwarding(way) => Ok(way),
        Progress::Arrived | Progress::Answered => Err(unpermitted()),
    }
}
