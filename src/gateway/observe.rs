//! What a request leaves behind: one `Outcome`, from which the log line, the counters and the span are written.

use pingora::Error;
use pingora::proxy::Session;

use super::{Gateway, Passage};
use crate::clock::Tick;
use crate::context::{Forwarding, Progress, RequestContext};
use crate::policy::authn::Caller;
use crate::telemetry::outcome::{Outcome, Stages};

impl Gateway {
    /// Runs once for every request that could be parsed, after the last byte of the answer.
    pub(super) fn observe(&self, session: &Session, error: Option<&Error>, passage: &mut Passage) {
        let live = self.edge.live();
        let now = live.clock.tick();
        let context = &mut passage.context;
        if let Progress::Forwarding(way) = &mut context.progress
            && let Some(ticket) = way.ticket.take()
        {
            // No answer and no error of the upstream's: the client left first.
            ticket.settle(crate::upstream::outcome::Outcome::Neutral);
        }
        if matches!(&passage.context.progress, Progress::Forwarding(way) if way.answered.is_none()) {
            // Nobody knows what the upstream has done.
            self.forget_after_write(session, passage);
        }
        let context = &passage.context;
        let forwarding = match &context.progress {
            Progress::Forwarding(way) => Some(way),
            Progress::Arrived | Progress::Answered => None,
        };
        let attempts = match forwarding {
            Some(way) if context.trace.own.sampled && way.tries > 0 => {
                way.earlier.iter().cloned().chain([way.attempt(now)]).collect()
            }
            _ => Vec::new(),
        };
        let head = session.req_header();
        let tls = session.digest().and_then(|digest| digest.ssl_digest.as_ref());
        let caller = &context.trail.caller;
        let trouble = error.map(ToString::to_string);
        let address = forwarding.map(|way| way.target.socket());
        let outcome = Outcome {
            time: context.unix,
            trace: context.trace,
            request_id: context.request_id,
            operation: context.trail.operation(),
            row: context.trail.route.as_ref().and_then(|(_, index)| context.snapshot.row(*index)),
            method: head.method.as_str(),
            path: context.trail.pattern.as_deref(),
            http: version(head.version),
            tls: tls.map(|digest| digest.version.as_ref()),
            status: session.response_written().map_or(0, |head| head.status.as_u16()),
            user: caller.user_hash(),
            app: match caller {
                Caller::Tep(token) => Some(token.claims.app.as_str()),
                Caller::Client(client) | Caller::Named(client) => Some(client.app.id.as_str()),
                Caller::Anonymous | Caller::Matrix(_) | Caller::Homeserver | Caller::ResourceServer(_) => None,
            },
            client: context.client,
            bytes_in: u64::try_from(session.body_bytes_read()).unwrap_or(u64::MAX),
            bytes_out: u64::try_from(session.body_bytes_sent()).unwrap_or(u64::MAX),
            stages: stages(context, forwarding, now),
            upstream: forwarding.map(|way| way.backend.name()),
            address: address.as_ref(),
            tries: forwarding.map_or(0, |way| way.tries),
            attempts: &attempts,
            cache: context.cache,
            limit: context
                .trail
                .limit
                .as_ref()
                .map(|report| context.snapshot.policy.limiter.policies().name(report.policy)),
            error: context.refused.as_ref().map(|refused| refused.code),
            inside: context.refused.as_ref().and_then(|refused| refused.inside.as_deref()).or(trouble.as_deref()),
        };
        self.telemetry.finish(&outcome);
    }
}

fn stages(context: &RequestContext, way: Option<&Forwarding>, now: Tick) -> Stages {
    let read = context.read.unwrap_or_default();
    Stages {
        total: now.since(context.started),
        admit: context.admitted.map(|tick| tick.since(context.started).saturating_sub(read)),
        body: context.read,
        connect: way.and_then(|way| Some(way.connected?.since(way.tried))),
        first_byte: way.and_then(|way| Some(way.answered?.since(way.connected?))),
    }
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_11 => "1.1",
        http::Version::HTTP_10 => "1.0",
        _ => "0.9",
    }
}
