//! A downstream session that serves an already read request body, and may hold a response back until it is whole.
//!
//! Pingora forwards bodies as they stream by: by the time a filter has seen the last byte, the upstream has had the
//! first. A body that must be judged whole before anybody sees it is therefore read first; then the session is
//! swapped for an [`Overlay`], which delegates everything to the real one but serves the judged bytes, any number
//! of times, so that a retry can replay them. The same overlay holds back an upstream's error answer until its body is
//! known, because the body decides the status that the client is told (protocol section 9).
//!
//! [`give_back`] must run when the request is over: only the real session can keep the connection alive.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as Custom;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::{Digest, l4::socket::SocketAddr};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

/// What `shutdown` is called with to hand the real session over instead of closing it. The trait has no call of ours.
const GIVE_BACK: &str = "tmcp-edge: give the session back";

/// Turns a held answer into what the client is told.
pub type Mapper = Box<dyn FnOnce(HeldAnswer) -> (Box<ResponseHeader>, Bytes) + Send + Sync>;

/// An upstream's answer that was held back.
pub struct HeldAnswer {
    /// Its header, as `response_filter` left it.
    pub header: Box<ResponseHeader>,
    /// Its body, up to the cap.
    pub body: Bytes,
    /// Whether the body was longer than the cap.
    pub truncated: bool,
}

struct Overlay {
    inner: Box<ServerSession>,
    request: RequestBody,
    hold: Option<Hold>,
    returned: Arc<Mutex<Option<Box<ServerSession>>>>,
}

enum RequestBody {
    /// Comes from the client as it always did.
    Streamed,
    /// Was read before; `served` once it has been handed out.
    Replayed { body: Bytes, served: bool },
    /// There is none, but once the protocol has been switched the client's bytes are passed on.
    Switching,
}

struct Hold {
    header: Option<Box<ResponseHeader>>,
    body: BytesMut,
    cap: usize,
    truncated: bool,
    mapper: Mapper,
}

/// The way back for a swapped session. Kept in the request's context.
#[derive(Clone, Default)]
pub struct WayBack(Arc<Mutex<Option<Box<ServerSession>>>>);

/// Makes `session` serve `body` as its request body. The caller has set `Content-Length` to fit, and has taken `Expect`
/// and `Transfer-Encoding` out.
pub fn serve_body(session: &mut Session, way_back: &WayBack, body: Bytes) {
    swap(session, way_back, RequestBody::Replayed { body, served: false }, None);
}

/// Keeps the request's end back until the protocol is switched. Pingora sends it on at once, and takes it for the end of the
/// new protocol when the upstream's 101 has been read before it: then the connection breaks as soon as it is made.
pub fn await_switch(session: &mut Session, way_back: &WayBack) {
    swap(session, way_back, RequestBody::Switching, None);
}

/// Holds the answer that is about to be written back until it is whole, at most `cap` bytes of body, then writes what
/// `mapper` makes of it.
pub fn hold_answer(session: &mut Session, way_back: &WayBack, cap: usize, mapper: Mapper) {
    let hold = Hold { header: None, body: BytesMut::new(), cap, truncated: false, mapper };
    // Over a replayed body this nests: streaming from the inner overlay serves what it has.
    swap(session, way_back, RequestBody::Streamed, Some(hold));
}

fn swap(session: &mut Session, way_back: &WayBack, request: RequestBody, hold: Option<Hold>) {
    let inner = mem::replace(&mut session.downstream_session, nobody());
    let overlay = Overlay { inner, request, hold, returned: way_back.0.clone() };
    *session.downstream_session = ServerSession::new_custom(Box::new(overlay));
}

/// A session that stands for none, while the real one is being moved.
fn nobody() -> Box<ServerSession> {
    Box::new(ServerSession::new_custom(Box::new(())))
}

/// Puts the real session back. Harmless when nothing was swapped.
pub async fn give_back(session: &mut Session, way_back: &WayBack) {
    if let Some(custom) = session.downstream_session.as_custom_mut() {
        custom.shutdown(0, GIVE_BACK).await;
    }
    if let Some(real) = way_back.0.lock().take() {
        session.downstream_session = real;
    }
}

impl Overlay {
    async fn hold_tasks(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut end = false;
        for task in tasks {
            match task {
                // An interim answer says nothing about the final one, and the client may do without it.
                HttpTask::Header(header, _) if header.status.is_informational() => {}
                HttpTask::Header(header, last) => {
                    if let Some(hold) = &mut self.hold {
                        hold.header = Some(header);
                    }
                    end |= last;
                }
                HttpTask::Body(chunk, last) | HttpTask::UpgradedBody(chunk, last) => {
                    if let (Some(hold), Some(chunk)) = (&mut self.hold, chunk) {
                        let room = hold.cap.saturating_sub(hold.body.len());
                        hold.truncated |= chunk.len() > room;
                        hold.body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
                    }
                    end |= last;
                }
                HttpTask::Trailer(_) | HttpTask::Done => end = true,
                HttpTask::Failed(error) => return Err(error),
            }
        }
        if end { self.release().await } else { Ok(false) }
    }

    async fn release(&mut self) -> Result<bool> {
        let Some(hold) = self.hold.take() else { return Ok(true) };
        let header = hold.header.ok_or_else(|| Error::new(ErrorType::InvalidHTTPHeader))?;
        let held = HeldAnswer { header, body: hold.body.freeze(), truncated: hold.truncated };
        let (header, body) = (hold.mapper)(held);
        self.inner.write_response_header(header).await?;
        let body = if self.inner.req_header().method == http::Method::HEAD { Bytes::new() } else { body };
        self.inner.write_response_body(body, true).await?;
        Ok(true)
    }
}

#[async_trait]
impl Custom for Overlay {
    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        match &mut self.request {
            RequestBody::Streamed | RequestBody::Switching => self.inner.read_request_body().await,
            RequestBody::Replayed { body, served } if !*served && !body.is_empty() => {
                *served = true;
                Ok(Some(body.clone()))
            }
            RequestBody::Replayed { .. } => Ok(None),
        }
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        match &mut self.request {
            RequestBody::Streamed | RequestBody::Switching => self.inner.drain_request_body().await,
            RequestBody::Replayed { served, .. } => {
                *served = true;
                Ok(())
            }
        }
    }

    async fn write_response_header(&mut self, header: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.inner.write_response_header(header).await
    }

    async fn write_response_header_ref(&mut self, header: &ResponseHeader, _end: bool) -> Result<()> {
        self.inner.write_response_header_ref(header).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.inner.write_response_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner.write_response_trailers(trailers).await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        if self.hold.is_some() { self.hold_tasks(tasks).await } else { self.inner.response_duplex_vec(tasks).await }
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner.get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response_written()
    }

    async fn shutdown(&mut self, code: u32, why: &str) {
        if why != GIVE_BACK {
            return self.inner.shutdown().await;
        }
        let mut real = mem::replace(&mut self.inner, nobody());
        if let Some(nested) = real.as_custom_mut() {
            nested.shutdown(code, why).await;
        } else {
            *self.returned.lock() = Some(real);
        }
    }

    fn is_body_done(&mut self) -> bool {
        match &self.request {
            RequestBody::Streamed => self.inner.is_body_done(),
            // An answer that is no switch ends the waiting for one.
            RequestBody::Switching if !self.inner.was_upgraded() => {
                self.inner.response_written().is_some_and(|head| !head.status.is_informational())
            }
            RequestBody::Switching => self.inner.is_body_done(),
            RequestBody::Replayed { body, served } => *served || body.is_empty(),
        }
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        match &self.request {
            RequestBody::Streamed => self.inner.is_body_empty(),
            RequestBody::Switching => false,
            RequestBody::Replayed { body, .. } => body.is_empty(),
        }
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if matches!(self.request, RequestBody::Streamed) {
            self.inner.read_body_or_idle(no_body_expected).await
        } else if matches!(self.request, RequestBody::Switching) {
            let idle = no_body_expected || !self.inner.was_upgraded();
            self.inner.read_body_or_idle(idle).await
        } else if no_body_expected || self.is_body_done() {
            self.inner.read_body_or_idle(true).await
        } else {
            self.read_body_bytes().await
        }
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.to_h1_raw()
    }

    fn enable_retry_buffering(&mut self) {
        if matches!(self.request, RequestBody::Streamed) {
            self.inner.enable_retry_buffering();
        }
    }

    fn retry_buffer_truncated(&self) -> bool {
        matches!(self.request, RequestBody::Streamed) && self.inner.retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        match &self.request {
            RequestBody::Streamed => self.inner.get_retry_buffer(),
            RequestBody::Switching => None,
            RequestBody::Replayed { body, served } => served.then(|| body.clone()),
        }
    }

    fn is_upgrade_req(&self) -> bool {
        !matches!(self.request, RequestBody::Replayed { .. }) && self.inner.is_upgrade_req()
    }

    fn was_upgraded(&self) -> bool {
        self.inner.was_upgraded()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
