//! A Pingora session as the policy sees it: a head, and a body that is read on demand, bounded in size, time and memory.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::proxy::Session;

use crate::clock::Clock;
use crate::error::{Code, Refusal};
use crate::live::{ByteBudget, Reserved};
use crate::policy::Exchange;

/// A session, and what its body may take.
pub struct SessionExchange<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// Bytes that buffered bodies may take over all requests.
    pub budget: &'a ByteBudget,
    /// For the whole body.
    pub timeout: Duration,
    /// What has been taken from the budget; to be held as long as the body is.
    pub reserved: Option<Reserved>,
    /// Tells how long the body took.
    pub clock: &'a Clock,
    /// How long the body was read for.
    pub read: Option<Duration>,
}

impl Exchange for SessionExchange<'_> {
    fn head(&self) -> &http::request::Parts {
        self.session.req_header()
    }

    async fn read_body(&mut self, cap: usize) -> Result<Bytes, Refusal> {
        let declared = self.declared_length();
        if declared.is_some_and(|length| length > cap) {
            return Err(too_large(cap));
        }
        if self.session.as_mut().is_body_empty() {
            return Ok(Bytes::new());
        }
        let began = self.clock.tick();
        let mut reserved = self.budget.reserve(declared.unwrap_or(0)).ok_or_else(no_room)?;
        if self.session.req_header().headers.contains_key(EXPECT) {
            // Pingora gives the connection up when it writes anything before the whole body is there. This is the one
            // answer that is meant to come before.
            self.session.as_mut().set_close_on_response_before_downstream_finish(false);
            self.session.as_mut().write_continue_response().await.map_err(left)?;
            self.session.as_mut().set_close_on_response_before_downstream_finish(true);
        }
        let body = tokio::time::timeout(self.timeout, read_all(self.session, cap, declared, &mut reserved))
            .await
            .map_err(|_| too_slow(self.timeout))
            .flatten();
        self.read = Some(self.clock.tick().since(began));
        self.reserved = Some(reserved);
        body
    }
}

impl SessionExchange<'_> {
    /// The length that the client declared. Its form has been checked by `strict`.
    fn declared_length(&self) -> Option<usize> {
        self.session.req_header().headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

async fn read_all(
    session: &mut Session,
    cap: usize,
    declared: Option<usize>,
    reserved: &mut Reserved,
) -> Result<Bytes, Refusal> {
    let Some(first) = session.as_mut().read_request_body().await.map_err(left)? else { return Ok(Bytes::new()) };
    // Small bodies come in one piece, which then need not be copied.
    let mut whole = BytesMut::new();
    let mut single = Some(first);
    loop {
        let next = session.as_mut().read_request_body().await.map_err(left)?;
        let length = whole.len() + single.as_ref().map_or(0, Bytes::len) + next.as_ref().map_or(0, Bytes::len);
        if length > cap {
            return Err(too_large(cap));
        }
        if declared.is_none() && !reserved.grow_to(length) {
            return Err(no_room());
        }
        match (next, single.take()) {
            (None, Some(only)) => return Ok(only),
            (None, None) => return Ok(whole.freeze()),
            (Some(next), first) => {
                whole.reserve(declared.unwrap_or(length).saturating_sub(whole.len()));
                whole.extend_from_slice(first.as_deref().unwrap_or_default());
                whole.extend_from_slice(&next);
            }
        }
    }
}

fn too_large(cap: usize) -> Refusal {
    Refusal::new(Code::PayloadTooLarge, format!("The request body is larger than {cap} bytes."))
        .details(serde_json::json!({"max_bytes": cap}))
}

fn no_room() -> Refusal {
    Refusal::new(Code::ServiceUnavailable, "Too many request bodies are being read at once. Try again shortly.")
        .retry_after(1)
        .inside("the budget for buffered bodies is used up")
}

fn too_slow(timeout: Duration) -> Refusal {
    Refusal::new(Code::RequestTimeout, format!("The request body did not arrive within {} s.", timeout.as_secs()))
        .close()
}

fn left(error: Box<pingora::Error>) -> Refusal {
    Refusal::new(Code::RequestTimeout, "The request body could not be read to its end.")
        .inside(error.to_string())
        .close()
}
