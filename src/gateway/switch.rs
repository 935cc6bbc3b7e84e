//! A downstream session that waits for a switch of protocols (WebSocket).
//!
//! Pingora sends the end of a request without a body on at once, and takes it for the end of the new protocol when the
//! upstream's 101 has been read before it: then the connection breaks as soon as it is made. So the session is swapped
//! for an [`Overlay`], which delegates everything to the real one but keeps the request's end back until the protocol
//! is switched.
//!
//! [`give_back`] must run when the request is over: only the real session can keep the connection alive.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as Custom;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::{Digest, l4::socket::SocketAddr};
use pingora::proxy::Session;

/// What `shutdown` is called with to hand the real session over instead of closing it. The trait has no call of ours.
const GIVE_BACK: &str = "tmcp-edge: give the session back";

struct Overlay {
    inner: Box<ServerSession>,
    returned: Arc<Mutex<Option<Box<ServerSession>>>>,
}

/// The way back for a swapped session. Kept in the request's context.
#[derive(Clone, Default)]
pub struct WayBack(Arc<Mutex<Option<Box<ServerSession>>>>);

/// Keeps the request's end back until the protocol is switched.
pub fn await_switch(session: &mut Session, way_back: &WayBack) {
    let inner = mem::replace(&mut session.downstream_session, nobody());
    let overlay = Overlay { inner, returned: way_back.0.clone() };
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

#[async_trait]
impl Custom for Overlay {
    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.inner.read_request_body().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner.drain_request_body().await
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
        self.inner.response_duplex_vec(tasks).await
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

    async fn shutdown(&mut self, _code: u32, why: &str) {
        if why != GIVE_BACK {
            return self.inner.shutdown().await;
        }
        *self.returned.lock() = Some(mem::replace(&mut self.inner, nobody()));
    }

    fn is_body_done(&mut self) -> bool {
        // An answer that is no switch ends the waiting for one.
        if self.inner.was_upgraded() {
            self.inner.is_body_done()
        } else {
            self.inner.response_written().is_some_and(|head| !head.status.is_informational())
        }
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        false
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        let idle = no_body_expected || !self.inner.was_upgraded();
        self.inner.read_body_or_idle(idle).await
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

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    fn is_upgrade_req(&self) -> bool {
        self.inner.is_upgrade_req()
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
