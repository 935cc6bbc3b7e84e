//! What has reached a sandbox server: `GET /_sandbox/requests` shows it, oldest first, `DELETE` empties it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use parking_lot::Mutex;
use serde::Serialize;

use super::signature::{self, Verdict};

/// How many requests are kept, and how many bytes of their bodies: whichever is reached first.
const REQUESTS: usize = 1000;
const BYTES: usize = 64 << 20;

/// One request as it arrived.
#[derive(Clone, Debug, Serialize)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// The path with its query, in the sender's own encoding.
    pub path: String,
    /// Headers by lower-case name; several values of one name are joined by `, `.
    pub headers: BTreeMap<String, String>,
    /// The body as text; bytes that are not UTF-8 are replaced.
    pub body: String,
    /// The body's bytes in base64, when they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// At the mini-app: whether the webhook signatures verify.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Verdict>,
}

/// The recording of one server. Clones share it.
#[derive(Clone, Default)]
pub struct Recorder {
    tape: Arc<Mutex<Tape>>,
    webhook_secret: Option<Arc<str>>,
}

#[derive(Default)]
struct Tape {
    requests: VecDeque<Arc<Recorded>>,
    bytes: usize,
}

impl Recorder {
    /// A recorder that also checks each request's webhook signatures.
    pub fn verifying(webhook_secret: &str) -> Recorder {
        Recorder { webhook_secret: Some(webhook_secret.into()), ..Recorder::default() }
    }

    /// Keeps a request and forgets the oldest ones where there is no room.
    pub fn record(&self, parts: &Parts, body: &Bytes) {
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in &parts.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers
                .entry(name.as_str().to_owned())
                .and_modify(|before| {
                    before.push_str(", ");
                    before.push_str(&value);
                })
                .or_insert_with(|| value.into_owned());
        }
        let recorded = Recorded {
            method: parts.method.to_string(),
            path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            headers,
            body: String::from_utf8_lossy(body).into_owned(),
            body_base64: std::str::from_utf8(body).is_err().then(|| STANDARD.encode(body)),
            webhook: self.webhook_secret.as_deref().map(|secret| signature::inspect(secret, &parts.headers, body)),
        };
        let mut tape = self.tape.lock();
        tape.bytes += recorded.body.len();
        tape.requests.push_back(Arc::new(recorded));
        while tape.requests.len() > REQUESTS || (tape.bytes > BYTES && tape.requests.len() > 1) {
            let Some(oldest) = tape.requests.pop_front() else { break };
            tape.bytes -= oldest.body.len();
        }
    }

    /// Everything that is kept, oldest first.
    pub fn all(&self) -> Vec<Arc<Recorded>> {
        self.tape.lock().requests.iter().cloned().collect()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.tape.lock() = Tape::default();
    }
}

/// `GET` and `DELETE /_sandbox/requests`.
pub fn routes(recorder: &Recorder) -> Router {
    async fn show(State(recorder): State<Recorder>) -> Json<Vec<Recorded>> {
        Json(recorder.all().iter().map(|recorded| Recorded::clone(recorded)).collect())
    }
    async fn empty(State(recorder): State<Recorder>) -> StatusCode {
        recorder.clear();
        StatusCode::NO_CONTENT
    }
    Router::new().route("/_sandbox/requests", get(show).delete(empty)).with_state(recorder.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> Parts {
        http::Request::builder().uri(path).body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let recorder = Recorder::default();
        for number in 0..=REQUESTS {
            recorder.record(&request(&format!("/{number}")), &Bytes::new());
        }
        let all = recorder.all();
        assert_eq!((all.len(), all[0].path.as_str()), (REQUESTS, "/1"));
    }

    #[test]
    fn large_bodies_push_others_out_but_the_last_one_stays() {
        let recorder = Recorder::default();
        let large = Bytes::from(vec![b'x'; BYTES]);
        recorder.record(&request("/first"), &large);
        recorder.record(&request("/second"), &large);
        let all = recorder.all();
        assert_eq!((all.len(), all[0].path.as_str()), (1, "/second"));
    }

    #[test]
    fn a_body_that_is_no_text_keeps_its_bytes() {
        let recorder = Recorder::default();
        recorder.record(&request("/"), &Bytes::from_static(b"\xff"));
        assert_eq!(recorder.all()[0].body_base64.as_deref(), Some("/w=="));
    }
}
