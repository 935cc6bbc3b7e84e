//! Calls that the edge makes itself to an upstream: resolving users, asking who a token belongs to, who is in a room.
//!
//! They go the way that forwarded requests go: the breaker is asked, an address is picked, the outcome is settled.
//! Answers are read whole, up to a cap. A call whose connection could not be made was never sent, so it is made once
//! more at another address; anything else is left to the caller.

use std::error::Error as _;
use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header};

use super::backend::{Backend, Target};
use super::outcome::Ended;
use crate::error::{Code, Refusal};
use crate::model::rows::Class;

/// Largest answer that is read unless the caller says otherwise, bytes.
pub const ANSWER_CAP: usize = 1024 * 1024;

/// A call to make.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The breaker that it is counted by.
    pub class: Class,
    /// GET for all but batch calls.
    pub method: Method,
    /// Path and query at the upstream.
    pub path: &'a str,
    /// Headers; `Host` is set for you.
    pub headers: HeaderMap,
    /// The body, empty for none.
    pub body: Bytes,
    /// Largest answer, bytes.
    pub cap: usize,
}

impl<'a> Call<'a> {
    /// A GET without headers.
    pub fn get(class: Class, path: &'a str) -> Self {
        let (method, headers, body) = (Method::GET, HeaderMap::new(), Bytes::new());
        Call { class, method, path, headers, body, cap: ANSWER_CAP }
    }
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum CallError {
    /// The breaker is open, or there is no address: nothing was sent.
    Open(Refusal),
    /// The call failed. The text is for the log.
    Failed(Ended, String),
    /// The answer is larger than the cap; the upstream is taken for broken.
    TooLarge {
        /// The cap, bytes.
        cap: usize,
    },
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Open(refusal) => refusal.fmt(f),
            CallError::Failed(ended, inside) => write!(f, "{ended:?}: {inside}"),
            CallError::TooLarge { cap } => write!(f, "the answer is larger than {cap} bytes"),
        }
    }
}

impl std::error::Error for CallError {}

impl CallError {
    /// What the caller is told: 503 while the breaker is open, 504 for a time-out, else 502.
    pub fn refusal(self, upstream: &str) -> Refusal {
        match self {
            CallError::Open(refusal) => refusal,
            CallError::Failed(ended, inside) => ended.refusal(upstream, inside),
            CallError::TooLarge { .. } => Ended::Broken.refusal(upstream, self),
        }
    }
}

impl Backend {
    /// Makes a call and waits for the whole answer: at most the connect and the read time-out together. Dropping the
    /// future gives the call up, which says nothing about the upstream.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, CallError> {
        let ticket = self.admit(call.class, self.clock().tick()).map_err(CallError::Open)?;
        let first = self.pick(self.clock().tick(), None).map_err(CallError::Open)?;
        let mut result = self.call_at(&first, &call).await;
        if matches!(&result, Err(CallError::Failed(ended, _)) if ended.never_sent()) {
            let now = self.clock().tick();
            self.connect_failed(&first, now);
            let second = self.pick(now, Some(&first)).map_err(CallError::Open)?;
            if self.config().retries > 0 && second.socket() != first.socket() {
                result = self.call_at(&second, &call).await;
            }
        }
        ticket.settle(match &result {
            Ok(answer) => Ended::Status(answer.status).outcome(),
            Err(CallError::Open(_)) => Ended::Edge.outcome(),
            Err(CallError::Failed(ended, _)) => ended.outcome(),
            Err(CallError::TooLarge { .. }) => Ended::Broken.outcome(),
        });
        result
    }

    async fn call_at(&self, target: &Target, call: &Call<'_>) -> Result<Answer, CallError> {
        let client = self.client(target).map_err(|error| CallError::Failed(Ended::Edge, error))?;
        let timeouts = &self.config().timeouts;
        let mut request = client
            .request(call.method.clone(), format!("{}{}", target.base(), call.path))
            .headers(call.headers.clone())
            .timeout(timeouts.connect + timeouts.read);
        if !call.body.is_empty() {
            request = request.body(call.body.clone());
        }
        let mut response = request.send().await.map_err(failed)?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > call.cap) {
            return Err(CallError::TooLarge { cap: call.cap });
        }
        let mut body = BytesMut::with_capacity(declared.unwrap_or(0));
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > call.cap {
                return Err(CallError::TooLarge { cap: call.cap });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body: body.freeze() })
    }
}

fn failed(error: reqwest::Error) -> CallError {
    let ended = match (error.is_connect(), error.is_timeout()) {
        (true, true) => Ended::ConnectTimeout,
        (true, false) => Ended::Connect,
        (false, true) => Ended::Timeout,
        // Headers or a URL that cannot be sent.
        (false, false) if error.is_builder() => Ended::Edge,
        (false, false) => Ended::Broken,
    };
    CallError::Failed(ended, chain(&error.without_url()))
}

/// An error and what caused it, on one line: the outermost alone rarely says what happened.
pub fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

/// Refuses in the words of "the upstream failed", with what happened for the log.
pub fn nonsense(upstream: &str, what: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::UpstreamError, "The service behind this address gave an answer that makes no sense.")
        .inside(format!("upstream {upstream}: {what}"))
}

#[cfg(test)]
mod tests;
