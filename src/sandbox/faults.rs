//! Telling a sandbox server to misbehave: `POST /_sandbox/faults` sets a fault on a path prefix, `GET` lists what is
//! set, `DELETE` takes everything back.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Requests whose path starts with this are met by the fault.
    pub path: String,
    /// Answer this status instead of the real answer.
    #[serde(default, with = "status", skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusCode>,
    /// The JSON to answer with `status`; by default one in a shape that is not the protocol's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Wait so long first.
    #[serde(default)]
    pub delay_ms: u64,
    /// Close the connection without an answer.
    #[serde(default)]
    pub drop: bool,
    /// How many requests are met; without it all of them until the fault is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

impl Fault {
    /// How long to wait before anything else.
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }
}

/// The faults of one server. Clones share them.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<Fault>>>);

impl Faults {
    /// Sets one more. Where several match, the one that was set first is met, until it is used up.
    pub fn set(&self, fault: Fault) {
        self.0.lock().push(fault);
    }

    /// Takes all of them back.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    /// The fault that a request on `path` meets, counted as met.
    pub fn meet(&self, path: &str) -> Option<Fault> {
        let mut faults = self.0.lock();
        let at = faults.iter().position(|fault| path.starts_with(&fault.path) && fault.times != Some(0))?;
        let fault = faults.get_mut(at)?;
        fault.times = fault.times.map(|left| left - 1);
        let met = fault.clone();
        faults.retain(|fault| fault.times != Some(0));
        Some(met)
    }
}

/// `GET`, `POST` and `DELETE /_sandbox/faults`.
pub fn routes(faults: &Faults) -> Router {
    async fn show(State(faults): State<Faults>) -> Json<Vec<Fault>> {
        Json(faults.0.lock().clone())
    }
    async fn add(State(faults): State<Faults>, body: Bytes) -> Response {
        match serde_json::from_slice::<Fault>(&body) {
            Ok(fault) => {
                faults.set(fault);
                StatusCode::NO_CONTENT.into_response()
            }
            Err(error) => {
                let expected = "expected {\"path\", \"status\"?, \"body\"?, \"delay_ms\"?, \"drop\"?, \"times\"?}";
                (StatusCode::BAD_REQUEST, format!("{error}; {expected}\n")).into_response()
            }
        }
    }
    async fn empty(State(faults): State<Faults>) -> StatusCode {
        faults.clear();
        StatusCode::NO_CONTENT
    }
    Router::new().route("/_sandbox/faults", get(show).post(add).delete(empty)).with_state(faults.clone())
}

mod status {
    use http::StatusCode;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(status: &Option<StatusCode>, serializer: S) -> Result<S::Ok, S::Error> {
        status.map(|status| status.as_u16()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<StatusCode>, D::Error> {
        let number = Option::<u16>::deserialize(deserializer)?;
        let status = |number| {
            StatusCode::from_u16(number)
                .ok()
                .filter(|status| (200..=599).contains(&status.as_u16()))
                .ok_or_else(|| D::Error::custom(format!("status: {number} is not from 200 to 599")))
        };
        number.map(status).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_fault_is_met_as_often_as_it_says_and_then_the_next_one() {
        let faults = Faults::default();
        faults.set(fault(r#"{"path": "/wallet", "status": 500, "times": 2}"#));
        faults.set(fault(r#"{"path": "/wallet/v1", "drop": true}"#));
        assert_eq!(faults.meet("/health"), None);
        let statuses: Vec<_> = (0..3).map(|_| faults.meet("/wallet/v1/balance").unwrap().status).collect();
        assert_eq!(statuses, [Some(StatusCode::INTERNAL_SERVER_ERROR), Some(StatusCode::INTERNAL_SERVER_ERROR), None]);
        faults.clear();
        assert_eq!(faults.meet("/wallet/v1/balance"), None);
    }

    #[test]
    fn a_fault_that_cannot_be_is_refused() {
        for bad in [r#"{"status": 500}"#, r#"{"path": "/", "status": 99}"#, r#"{"path": "/", "statsu": 500}"#] {
            assert!(serde_json::from_str::<Fault>(bad).is_err(), "{bad}");
        }
    }
}
