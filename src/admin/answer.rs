//! Refusals on their way out, and what handlers have in common: bodies and pages.
//!
//! A handler says what is wrong; the guard, which knows the request's id, writes it in the protocol's form (section 9).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::Query;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Admin;
use crate::error::{Code, Refusal};
use crate::store::StoreError;
use crate::telemetry::RequestId;
use crate::telemetry::time::rfc3339;

/// A refusal as a response that the guard still has to write.
#[derive(Clone, Debug)]
pub(super) struct Refused(Arc<Refusal>);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused(Arc::new(refusal))
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        Refusal::from(error).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = self.0.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What handlers answer with.
pub(super) type Answer<T> = Result<T, Refused>;

/// A refusal of what the caller sent.
pub(super) fn invalid(message: impl Into<String>) -> Refused {
    Refusal::new(Code::ValidationFailed, message.into()).into()
}

/// A body as it is expected.
pub(super) fn body<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Answer<T> {
    let body = body
        .map_err(|_| Refusal::new(Code::PayloadTooLarge, "The body is larger than anything that is expected here."))?;
    serde_json::from_slice(&body).map_err(|error| invalid(format!("The body is not what is expected: {error}.")))
}

/// A query as it is expected.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Answer<T> {
    query.map(|Query(query)| query).map_err(|error| invalid(error.body_text()))
}

/// Entries on a page when the asker does not say.
const PAGE: usize = 50;
/// Most entries that a page is asked for.
const LARGEST_PAGE: usize = 200;

/// How many entries a page is to have.
pub(super) fn page_size(limit: Option<usize>) -> Answer<usize> {
    match limit.unwrap_or(PAGE) {
        limit @ 1..=LARGEST_PAGE => Ok(limit),
        _ => Err(invalid(format!("limit has to be 1 to {LARGEST_PAGE}."))),
    }
}

/// Writes a refusal that a handler left in its response.
pub(super) fn written(admin: &Admin, id: &RequestId, mut response: Response) -> Response {
    match response.extensions_mut().remove::<Refused>() {
        Some(Refused(refusal)) => write(admin, id, &refusal, response),
        None => response,
    }
}

/// `before` keeps its headers: the router has put `Allow` there.
fn write(admin: &Admin, id: &RequestId, refusal: &Refusal, before: Response) -> Response {
    if let Some(inside) = refusal.inside_message() {
        log::warn!("request {id} at the admin address: {inside}");
    }
    let mut error = json!({
        "code": refusal.code_text(),
        "message": refusal.message(),
        "request_id": id.as_str(),
        "timestamp": rfc3339(admin.inner.clock.unix()),
    });
    if let Some(fields) = error.as_object_mut() {
        if let Some(details) = refusal.details_value() {
            fields.insert("details".to_owned(), details.clone());
        }
        if let Some(seconds) = refusal.retry_after_seconds() {
            fields.insert("retry_after".to_owned(), seconds.into());
        }
    }
    let mut response = (refusal.status(), Json(json!({ "error": error }))).into_response();
    for (name, value) in before.headers() {
        response.headers_mut().entry(name).or_insert(value.clone());
    }
    if refusal.challenge_kind().is_some() {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = refusal.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
