//! A whole request to an upstream, and its answer back.
//!
//! Pingora forwards streams: two tasks with channels between them, each looking after one side. A request whose body is
//! at hand, as all of the protocol's are once they have been judged, needs none of that: it is written, its answer is
//! read and passed on. Doing so here is faster than the pass-through that Pingora is, and everything that is said about
//! the answer is said in the order in which it happens:
//!
//! ```text
//! next target → connection → head and body → the answer's head → judged → shaped → body, piece by piece
//!      ↑______________________________|  once more, if nothing can have happened twice
//! ```
//!
//! A failed upstream is a refusal like any other, so the client keeps its connection. Only trouble with the client's
//! own socket, or an answer that breaks off in its middle, ends that. What is streamed (raw rows, WebSockets) goes
//! through [`super::tunnel`].

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::heads::is_wallet_error;
use super::way::{broken, settle, way, way_of};
use super::{Gateway, Passage};
use crate::context::{Forwarding, Refused};
use crate::error::Refusal;
use crate::metrics::PoolResult;
use crate::response::{self, Shape};
use crate::upstream::connections::{Line, Wanted};
use crate::upstream::outcome::Ended;
use crate::upstream::{Target, backend, pools, wallet};

/// Most of a wallet's error answer that is looked at.
const ERROR_BODY_CAP: usize = 64 * 1024;

/// An upstream that has begun to answer.
struct Answering {
    line: Line,
    target: Target,
}

impl Gateway {
    /// Asks the upstream and passes its answer on. A refusal is still to be written; an error is of the client's
    /// connection, which ends.
    pub(super) async fn relay(
        &self,
        session: &mut Session,
        passage: &mut Passage,
        body: &Bytes,
    ) -> Result<Result<(), Refusal>> {
        match self.ask(session, passage, body).await? {
            Ok(answering) => self.tell(session, passage, answering).await,
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    async fn ask(
        &self,
        session: &mut Session,
        passage: &mut Passage,
        body: &Bytes,
    ) -> Result<Result<Answering, Refusal>> {
        let mut wanted = Wanted::Any;
        loop {
            let way = way(passage)?;
            let target = match self.next_target(way) {
                Ok(target) => target,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let (mut line, reused) = match self.dialer.open(&target, wanted, way.tried).await {
                Ok(opened) => opened,
                Err(error) if self.not_connected(way, &error) => continue,
                Err(error) => return Ok(Err(self.gave_up(way, &error))),
            };
            way.connected = Some(if reused { way.tried } else { self.edge.live().clock.tick() });
            way.metrics.connection(if reused { PoolResult::Reused } else { PoolResult::New });
            let shared = matches!(*line, HttpSession::H2(_));
            let head = self.whole_request(session, &passage.context, body, shared)?;
            match unless_gone(session, call(&mut line, head, body)).await? {
                Ok(status) => {
                    self.answered(way_of(&mut passage.context.progress)?, status);
                    // Before the client can ask again.
                    self.forget_after_write(session, passage);
                    return Ok(Ok(Answering { line, target }));
                }
                Err(error) => {
                    let way = way_of(&mut passage.context.progress)?;
                    way.trouble = broken(backend::ended(&error));
                    // Only what may happen twice is sent again, and only when it was the connection that failed: asking
                    // a slow upstream twice makes it slower.
                    let again = way.repeatable && backend::ended(&error) == Ended::Broken && self.may_try_again(way);
                    if !again {
                        return Ok(Err(self.gave_up(way, &error)));
                    }
                    if reused {
                        wanted = Wanted::Fresh;
                    }
                }
            }
        }
    }

    /// The answer's way back, from its head on.
    async fn tell(
        &self,
        session: &mut Session,
        passage: &mut Passage,
        answering: Answering,
    ) -> Result<Result<(), Refusal>> {
        let Answering { mut line, target } = answering;
        let head = line.response_header().ok_or_else(|| Error::new(ErrorType::InvalidHTTPHeader))?;
        let mut head = self.shape_answer(head, passage)?;
        if is_wallet_error(way(passage)?, head.status) {
            return Box::pin(self.tell_wallet_error(session, passage, Answering { line, target }, head)).await;
        }
        let mut done = line.response_done();
        let mut last = Bytes::new();
        if !done && unframed(&head, session) {
            head.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
        }
        let mut head = Some(Box::new(head));
        while !done {
            // A piece that has come already goes out together with the head.
            let piece = match tokio::task::unconstrained(line.read_response_body()).now_or_never() {
                Some(piece) => piece,
                None => {
                    begin(session, &mut head).await?;
                    line.read_response_body().await
                }
            };
            let Some(piece) = piece.map_err(Error::into_up)? else { break };
            done = line.response_done();
            if let Some(fill) = &mut passage.fill {
                fill.body(&piece);
            }
            if done {
                last = piece;
            } else {
                begin(session, &mut head).await?;
                session.as_mut().write_response_body(piece, false).await.map_err(Error::into_down)?;
            }
        }
        if let Some(fill) = passage.fill.take() {
            // What may not be kept is no failure: the client has its answer.
            let _ = fill.finish();
        }
        let answered = way(passage)?.answered.unwrap_or_default();
        self.dialer.keep(line, &target, answered).await;
        begin(session, &mut head).await?;
        session.as_mut().write_response_body(last, true).await.map_err(Error::into_down)?;
        Ok(Ok(()))
    }

    /// A wallet's error answer is the protocol's if it has the protocol's shape, and otherwise none of the client's
    /// business (protocol section 9). Which it is, only its body tells.
    async fn tell_wallet_error(
        &self,
        session: &mut Session,
        passage: &mut Passage,
        answering: Answering,
        head: ResponseHeader,
    ) -> Result<Result<(), Refusal>> {
        let Answering { mut line, target } = answering;
        let is_head = session.req_header().method == Method::HEAD;
        let mut body = BytesMut::new();
        while !line.response_done() && body.len() <= ERROR_BODY_CAP {
            match line.read_response_body().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break,
                Err(error) => return Ok(Err(self.gave_up(way(passage)?, &error.into_up()))),
            }
        }
        if line.response_done() {
            self.dialer.keep(line, &target, self.edge.live().clock.tick()).await;
        }
        body.truncate(ERROR_BODY_CAP);
        let refusal = if is_head {
            wallet::error_of_head(pools::WALLET, head.status)
        } else {
            wallet::error_of_answer(pools::WALLET, head.status, &head.headers, &body)
        };
        passage.context.snapshot.policy.refused_by_wallet(&passage.context.trail, refusal.code()).await;
        let shape = Shape::of_path(session.req_header().uri.path());
        let (request_id, unix) = (passage.context.request_id, passage.context.unix.as_secs());
        let answer = response::refusal(&refusal, shape, request_id.as_str(), unix);
        passage.context.refused = Some(Refused::of(&refusal));
        let (mut head, body) = response::replace(head, answer);
        if is_head {
            // How long the body would be, only a GET can tell.
            head.remove_header(&CONTENT_LENGTH);
        }
        begin(session, &mut Some(Box::new(head))).await?;
        let body = if is_head { Bytes::new() } else { body };
        session.as_mut().write_response_body(body, true).await.map_err(Error::into_down)?;
        Ok(Ok(()))
    }

    fn gave_up(&self, way: &mut Forwarding, error: &Error) -> Refusal {
        let ended = backend::ended(error);
        settle(way, ended);
        ended.refusal(way.backend.name(), error)
    }
}

/// Sends a request and reads the head of its answer, up to its status; interim answers are passed over.
async fn call(line: &mut HttpSession, head: Box<RequestHeader>, body: &Bytes) -> Result<StatusCode> {
    let called = async {
        match line {
            HttpSession::H2(stream) => stream.write_request_header(head, body.is_empty())?,
            _ => line.write_request_header(head).await?,
        }
        if !body.is_empty() {
            line.write_request_body(body.clone(), true).await?;
        }
        line.finish_request_body().await?;
        loop {
            line.read_response_header().await?;
            let status = line.response_header().map_or(StatusCode::SWITCHING_PROTOCOLS, |head| head.status);
            if status == StatusCode::SWITCHING_PROTOCOLS {
                // Nobody asked for it, and what comes next would be no answer.
                return Error::e_explain(ErrorType::InvalidHTTPHeader, "an unasked switch of protocols");
            }
            if !status.is_informational() {
                return Ok(status);
            }
        }
    };
    called.await.map_err(Error::into_up)
}

/// Runs `work` unless the client leaves: then nobody waits for its outcome.
async fn unless_gone<T>(session: &mut Session, work: impl Future<Output = Result<T>>) -> Result<Result<T>> {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => Ok(done),
        left = session.as_mut().read_body_or_idle(true) => match left {
            Err(error) => Err(error.into_down()),
            Ok(_) => Ok(work.await),
        },
    }
}

/// Writes the head, if that has not been done.
async fn begin(session: &mut Session, head: &mut Option<Box<ResponseHeader>>) -> Result<()> {
    match head.take() {
        Some(head) => session.as_mut().write_response_header(head).await.map_err(Error::into_down),
        None => Ok(()),
    }
}

/// Whether an answer has a body whose length nobody has told. HTTP/1.1 then needs chunks, or the connection would have to
/// end with it.
fn unframed(head: &ResponseHeader, session: &Session) -> bool {
    let bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || session.req_header().method == Method::HEAD;
    !bodiless && !head.headers.contains_key(CONTENT_LENGTH) && !head.headers.contains_key(TRANSFER_ENCODING)
}
