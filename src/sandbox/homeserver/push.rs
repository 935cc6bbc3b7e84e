//! The other direction: what the homeserver sends to the edge, its application service.
//!
//! Nothing is pushed unless told: `POST /_sandbox/push` with `{"events": […]}` sends one transaction and answers what
//! the edge answered, so that a test sees both sides of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::time::Millis;
use super::{Homeserver, MatrixError, matrix_error};

/// The application service as the homeserver knows it. Clones share it.
#[derive(Clone)]
pub struct Edge {
    url: Arc<Mutex<Option<String>>>,
    hs_token: Arc<str>,
    next_txn: Arc<AtomicU64>,
    client: reqwest::Client,
}

impl Edge {
    /// An edge whose address is not known yet.
    pub fn new(hs_token: String) -> Edge {
        let (url, next_txn) = (Arc::default(), Arc::new(AtomicU64::new(1)));
        Edge { url, hs_token: hs_token.into(), next_txn, client: reqwest::Client::new() }
    }

    /// Says where the edge is: its base URL, without a slash at the end.
    pub fn at(&self, url: &str) {
        *self.url.lock() = Some(url.trim_end_matches('/').to_owned());
    }

    fn url(&self, path: &str) -> Result<String, MatrixError> {
        let unknown = || matrix_error(StatusCode::BAD_GATEWAY, "M_URL_NOT_SET", "Nobody has said where the edge is");
        self.url.lock().as_ref().map(|url| format!("{url}{path}")).ok_or_else(unknown)
    }

    async fn call(
        &self,
        request: reqwest::RequestBuilder,
        body: &Value,
    ) -> Result<(StatusCode, String), reqwest::Error> {
        let answer = request.bearer_auth(&self.hs_token).json(body).send().await?;
        Ok((answer.status(), answer.text().await?))
    }
}

/// POST /_sandbox/push `{"events": […], "ephemeral"?, "txn_id"?}`
pub async fn push(State(homeserver): State<Homeserver>, body: Bytes) -> Result<Json<Value>, MatrixError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Push {
        events: Vec<Value>,
        ephemeral: Option<Vec<Value>>,
        /// A repetition is sent under the id of the first try.
        txn_id: Option<String>,
    }
    let push: Push = serde_json::from_slice(&body)
        .map_err(|error| matrix_error(StatusCode::BAD_REQUEST, "M_BAD_JSON", &error.to_string()))?;
    let edge = homeserver.edge();
    let base = edge.url("/_matrix/app/v1/transactions/")?;
    let txn_id = push.txn_id.unwrap_or_else(|| edge.next_txn.fetch_add(1, Ordering::Relaxed).to_string());
    let mut transaction = json!({"events": push.events});
    if let (Some(fields), Some(ephemeral)) = (transaction.as_object_mut(), push.ephemeral) {
        fields.insert("ephemeral".to_owned(), ephemeral.into());
    }
    match edge.call(edge.client.put(format!("{base}{txn_id}")), &transaction).await {
        Ok((status, body)) => Ok(Json(json!({"txn_id": txn_id, "status": status.as_u16(), "body": body}))),
        Err(error) => Err(matrix_error(StatusCode::BAD_GATEWAY, "M_CONNECTION_FAILED", &error.to_string())),
    }
}

/// POST /_matrix/client/v1/appservice/{id}/ping: the homeserver calls back with its `hs_token` and says how long it took.
pub async fn ping(
    State(homeserver): State<Homeserver>,
    Path(_id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, MatrixError> {
    if !homeserver.caller(&headers, query.as_deref())?.is_service {
        return Err(matrix_error(StatusCode::FORBIDDEN, "M_FORBIDDEN", "Not an application service"));
    }
    let given: Value = serde_json::from_slice(&body).unwrap_or_default();
    let asked = json!({"transaction_id": given.get("transaction_id")});
    let edge = homeserver.edge();
    let request = edge.client.post(edge.url("/_matrix/app/v1/ping")?);
    let started = Millis::of((homeserver.now)());
    match edge.call(request, &asked).await {
        Ok((status, _)) if status.is_success() => {
            let took = Millis::of((homeserver.now)()).0.saturating_sub(started.0);
            Ok(Json(json!({ "duration_ms": took })))
        }
        Ok((status, body)) => {
            let error = json!({"errcode": "M_BAD_STATUS", "error": "The edge refused", "status": status.as_u16(), "body": body});
            Err(MatrixError::new(StatusCode::BAD_GATEWAY, error))
        }
        Err(error) => Err(matrix_error(StatusCode::BAD_GATEWAY, "M_CONNECTION_FAILED", &error.to_string())),
    }
}
