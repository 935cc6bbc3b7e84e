//! What streams: raw rows, whose bodies are passed on unread, and WebSockets. Pingora forwards those, through its hooks.

use bytes::Bytes;
use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::proxy::{FailToProxy, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::heads::{is_wallet_error, unpermitted};
use super::way::{broken, settle};
use super::{Gateway, Passage, switch};
use crate::context::{Progress, Refused, RequestContext};
use crate::error::{Code, Refusal};
use crate::metrics::PoolResult;
use crate::response::{self, Shape};
use crate::upstream::outcome::Ended;
use crate::upstream::{backend, pools, wallet};

impl Gateway {
    pub(super) fn next_peer(&self, context: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let Progress::Forwarding(way) = &mut context.progress else { return Err(unpermitted()) };
        match self.next_target(way) {
            Ok(target) => Ok(way.backend.peer(&target, way.upgrade)),
            Err(refusal) => Err(Error::explain(ErrorType::ConnectError, refusal.message().to_owned()).into_up()),
        }
    }

    pub(super) fn connected(&self, context: &mut RequestContext, reused: bool) {
        if let Progress::Forwarding(way) = &mut context.progress {
            way.connected = Some(self.edge.live().clock.tick());
            way.metrics.connection(if reused { PoolResult::Reused } else { PoolResult::New });
        }
    }

    /// A switch of protocols that nobody asked for is no answer: what the client sends next would go to the upstream
    /// unlooked at.
    pub(super) fn judge_answer(&self, head: &ResponseHeader, context: &mut RequestContext) -> Result<()> {
        if let Progress::Forwarding(way) = &mut context.progress {
            if head.status == StatusCode::SWITCHING_PROTOCOLS && !way.upgrade {
                return Err(Error::explain(ErrorType::InvalidHTTPHeader, "an unasked switch of protocols").into_up());
            }
            self.answered(way, head.status);
        }
        Ok(())
    }

    /// Shapes a streamed answer's head. A wallet's error, the answer to a WebSocket that it does not want, is replaced: its
    /// body cannot be waited for here (protocol section 9).
    pub(super) fn shape_stream(
        &self,
        session: &Session,
        head: &mut ResponseHeader,
        passage: &mut Passage,
    ) -> Result<()> {
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        self.forget_after_write(session, passage);
        *head = self.shape_answer(head, passage)?;
        let Progress::Forwarding(way) = &passage.context.progress else { return Ok(()) };
        if is_wallet_error(way, head.status) && head.status != StatusCode::SWITCHING_PROTOCOLS {
            let refusal = wallet::error_of_head(pools::WALLET, head.status);
            let shape = Shape::of_path(session.req_header().uri.path());
            let (request_id, unix) = (passage.context.request_id, passage.context.unix.as_secs());
            let answer = response::refusal(&refusal, shape, request_id.as_str(), unix);
            passage.context.refused = Some(Refused::of(&refusal));
            let body;
            (*head, body) = response::replace(head.clone(), answer);
            passage.instead = Some(body);
        }
        Ok(())
    }

    /// Puts the body that replaces a streamed one in its place.
    pub(super) fn shape_stream_body(&self, piece: &mut Option<Bytes>, passage: &mut Passage) {
        if let Some(instead) = &mut passage.instead {
            *piece = Some(std::mem::take(instead));
        }
    }

    pub(super) fn no_peer(&self, context: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
        if let Progress::Forwarding(way) = &mut context.progress {
            error.set_retry(self.not_connected(way, &error));
        }
        error
    }

    /// The connection broke after the request went out. Only what may happen twice is sent again.
    pub(super) fn broken_off(
        &self,
        session: &Session,
        context: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Progress::Forwarding(way) = &mut context.progress {
            way.trouble = broken(backend::ended(&error));
            let may = way.repeatable
                && way.answered.is_none()
                && self.may_try_again(way)
                && backend::ended(&error) == Ended::Broken
                && !session.as_ref().retry_buffer_truncated();
            error.set_retry(may);
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
        let untold = session.response_written().is_none_or(|head| head.status.is_informational());
        let Some(refusal) = refusal.filter(|_| untold) else {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        };
        // Pingora ends the connection after this, so the client is told. Only the real session listens to that.
        if let Some(way_back) = passage.way_back.take() {
            switch::give_back(session, &way_back).await;
        }
        let refusal = refusal.close();
        let status = refusal.status().as_u16();
        // Whether it arrives or not, there is nothing more to be done.
        let _ = self.refuse(session, passage, &refusal).await;
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }
}
