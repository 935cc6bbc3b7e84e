//! What the edge asks the wallet, and what it makes of a wallet's errors.
//!
//! A wallet error in the protocol's shape passes, with its status mapped by the table of [`crate::error`], or its own
//! 4xx where the table does not list the code. Anything else is `UPSTREAM_ERROR`: a stack trace, a proxy's HTML page
//! or a framework's JSON is for the log, and only as much of it as tells what happened.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value};

use super::backend::Backend;
use super::client::{Answer, Call, nonsense};
use super::outcome::Ended;
use super::templates::encode_segment;
use crate::error::{Challenge, Code, Refusal};
use crate::model::rows::Class;
use crate::model::{Operation, UserId};

/// Largest error body that is looked at, bytes: the gateway buffers no more of an answer with a status of 400 or above.
pub const ERROR_CAP: usize = 64 * 1024;
/// Longest message that is passed on, characters.
const MESSAGE_CAP: usize = 1000;
/// Fields beside `code` and `message` that the protocol knows and that go along.
const FIELDS: &[&str] = &["attempts_remaining", "limit", "window", "suspended_until", "locked_until"];

/// The wallet, as a service that answers questions.
#[derive(Clone, Debug)]
pub struct Wallet {
    backend: Arc<Backend>,
}

impl Wallet {
    /// The wallet behind `backend`.
    pub fn new(backend: Arc<Backend>) -> Self {
        Wallet { backend }
    }

    /// The upstream that is asked.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Resolves one user to a wallet (protocol section 4). `headers`: [`super::forward::caller_headers`]. The answer is
    /// the wallet's JSON object, byte for byte.
    pub async fn resolve(&self, user: &UserId, headers: HeaderMap) -> Result<Bytes, Refusal> {
        let segment = encode_segment(user.as_str());
        let path = self.path(Operation::WalletResolve, &[&segment])?;
        self.ask(Call { headers, ..Call::get(Class::Resolve, path.as_str()) }).await
    }

    /// Resolves several users at once (protocol section 4, at most 100). The answer is the wallet's JSON object.
    pub async fn resolve_batch(&self, users: &[UserId], mut headers: HeaderMap) -> Result<Bytes, Refusal> {
        let ids: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let body = Bytes::from(serde_json::json!({ "user_ids": ids }).to_string());
        let path = self.path(Operation::WalletResolveBatch, &[])?;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let call = Call { method: Method::POST, headers, body, ..Call::get(Class::Resolve, path.as_str()) };
        self.ask(call).await
    }

    fn path(&self, operation: Operation, parameters: &[&str]) -> Result<PathAndQuery, Refusal> {
        // What "as sent" means for a call that no client wrote: the protocol's own path.
        let own = match (operation, parameters) {
            (Operation::WalletResolve, [user]) => format!("/wallet/v1/resolve/{user}"),
            _ => "/wallet/v1/resolve/batch".to_owned(),
        };
        PathAndQuery::from_maybe_shared(Bytes::from(own))
            .map_err(|error| error.to_string())
            .and_then(|own| {
                self.backend.templates().get(operation).render(&own, parameters).map_err(|error| error.to_string())
            })
            .map_err(|error| Refusal::internal(format!("path of {operation}: {error}")))
    }

    async fn ask(&self, call: Call<'_>) -> Result<Bytes, Refusal> {
        let name = self.backend.name();
        let Answer { status, headers, body } = self.backend.call(call).await.map_err(|error| error.refusal(name))?;
        if !status.is_success() {
            return Err(error_of_answer(name, status, &headers, &body));
        }
        match serde_json::from_slice::<Map<String, Value>>(&body) {
            Ok(_) => Ok(body),
            Err(error) => Err(nonsense(name, format_args!("{status} without a JSON object: {error}"))),
        }
    }
}

/// What the caller is told of an answer that is no success: the wallet's own words where they are in the protocol's
/// shape, else `UPSTREAM_ERROR`. `body` is the whole body, or the first [`ERROR_CAP`] bytes of one that is longer
/// (which then is not in the shape).
pub fn error_of_answer(upstream: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
    match WalletError::parse(status, headers, body) {
        Some(error) => error.into_refusal(),
        None if status == StatusCode::GATEWAY_TIMEOUT => {
            Ended::Timeout.refusal(upstream, summary(status, headers, body))
        }
        None => Ended::Status(status).refusal(upstream, summary(status, headers, body)),
    }
}

/// The same for the answer to a `HEAD`, whose body never comes: what the wallet says of the request stands, what it
/// says of itself does not.
pub fn error_of_head(upstream: &str, status: StatusCode) -> Refusal {
    if status.is_client_error() {
        Refusal::foreign(Code::UpstreamError.as_str(), status, "The wallet refused.")
    } else {
        error_of_answer(upstream, status, &HeaderMap::new(), &[])
    }
}

/// A wallet's error in the protocol's shape (section 9).
#[derive(Clone, Debug, PartialEq)]
pub struct WalletError {
    /// Its code.
    pub code: String,
    /// The status that goes with it: the table's, or for a code not listed the wallet's own 4xx.
    pub status: StatusCode,
    /// Its message, bounded and without control characters.
    pub message: Option<String>,
    /// Its details.
    pub details: Option<Value>,
    /// Seconds after which to try again, from the body or else from `Retry-After`.
    pub retry_after: Option<u64>,
    /// Further fields that the protocol knows.
    pub fields: Vec<(&'static str, Value)>,
}

impl WalletError {
    /// Reads an error answer; `None` when it is not in the protocol's shape.
    pub fn parse(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<WalletError> {
        if !is_json(headers) || body.len() > ERROR_CAP {
            return None;
        }
        let mut outer: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let Some(Value::Object(mut error)) = outer.remove("error") else { return None };
        let Some(Value::String(code)) = error.remove("code") else { return None };
        let well_formed = (1..=64).contains(&code.len())
            && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        if !well_formed {
            return None;
        }
        let status = match Code::parse(&code) {
            Some(known) => known.status(),
            None if status.is_client_error() => status,
            None => return None,
        };
        let message = match error.remove("message") {
            Some(Value::String(message)) => {
                Some(message.chars().filter(|c| !c.is_control()).take(MESSAGE_CAP).collect())
            }
            _ => None,
        };
        let header = || headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok();
        let retry_after = error.get("retry_after").and_then(Value::as_u64).or_else(header);
        let fields = FIELDS
            .iter()
            .filter_map(|name| error.remove(*name).map(|value| (*name, value)))
            .filter(|(_, value)| !value.is_object() && !value.is_array())
            .collect();
        let details = error.remove("details").filter(|details| !details.is_null());
        Some(WalletError { code, status, message, details, retry_after, fields })
    }

    /// The same as a refusal.
    pub fn into_refusal(self) -> Refusal {
        let message =
            self.message.filter(|message| !message.is_empty()).unwrap_or_else(|| "The wallet refused.".into());
        let mut refusal = match Code::parse(&self.code) {
            Some(code) => Refusal::new(code, message),
            None => Refusal::foreign(self.code, self.status, message),
        };
        if let Some(details) = self.details {
            refusal = refusal.details(details);
        }
        if let Some(seconds) = self.retry_after {
            refusal = refusal.retry_after(seconds);
        }
        for (name, value) in self.fields {
            refusal = refusal.field(name, value);
        }
        // A 401 has to say how to authenticate (RFC 9110 section 11.6.1).
        match refusal.code() {
            Code::InvalidToken => refusal.challenge(Challenge::BearerInvalid),
            Code::InvalidScope => refusal.challenge(Challenge::BearerScope),
            _ if refusal.status() == StatusCode::UNAUTHORIZED => refusal.challenge(Challenge::Bearer),
            _ => refusal,
        }
    }
}

/// JSON by its content type, or without one.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// What the log is told of a body that nobody else sees: kind and size, not the content, which may hold anything.
fn summary(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("no content type");
    format!("{status}, {kind}, {} bytes, not an error in the protocol's shape", body.len())
}

#[cfg(test)]
mod tests;
