//! The admin API: how the edge stands, and reading its config again.

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::answer::{Answer, Refused};
use super::guard::Asker;
use super::{Admin, BreakerStatus, RouteLine, UpstreamStatus};
use crate::error::{Code, Refusal};
use crate::model::audit::{AuditAction, AuditTarget};
use crate::telemetry::export;

/// `GET /healthz`: the process is alive and answers.
pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: the edge wants traffic. While it drains or waits it says 503, and why to those who may know.
pub(super) async fn ready(State(admin): State<Admin>, Extension(asker): Extension<Asker>) -> Response {
    let reasons = admin.inner.control.not_ready();
    if reasons.is_empty() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    let body = match asker.may_look() {
        true => json!({ "status": "not ready", "reasons": reasons }),
        false => json!({ "status": "not ready" }),
    };
    let headers = [(RETRY_AFTER, HeaderValue::from_static("1"))];
    (StatusCode::SERVICE_UNAVAILABLE, headers, Json(body)).into_response()
}

/// `GET /metrics`.
pub(super) async fn metrics(State(admin): State<Admin>) -> Answer<Response> {
    let text = admin.inner.exporter.render().map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static(export::CONTENT_TYPE))], text).into_response())
}

/// The status with readiness beside it.
#[derive(Serialize)]
pub(super) struct FullStatus {
    ready: bool,
    not_ready: Vec<String>,
    #[serde(flatten)]
    status: super::Status,
}

/// `GET /api/v1/status`.
pub(super) async fn status(State(admin): State<Admin>) -> Json<FullStatus> {
    let not_ready = admin.inner.control.not_ready();
    Json(FullStatus { ready: not_ready.is_empty(), not_ready, status: admin.inner.control.status() })
}

/// `GET /api/v1/routes`.
pub(super) async fn routes(State(admin): State<Admin>) -> Json<Vec<RouteLine>> {
    Json(admin.inner.control.routes())
}

/// `GET /api/v1/upstreams`.
pub(super) async fn upstreams(State(admin): State<Admin>) -> Json<Vec<UpstreamStatus>> {
    Json(admin.inner.control.upstreams())
}

/// `GET /api/v1/breakers`.
pub(super) async fn breakers(State(admin): State<Admin>) -> Json<Vec<BreakerStatus>> {
    Json(admin.inner.control.breakers())
}

/// `POST /api/v1/reload`: the new revision, or every error of the config that was not taken.
pub(super) async fn reload(State(admin): State<Admin>, Extension(asker): Extension<Asker>) -> Answer<Json<Value>> {
    let done = async {
        admin.inner.control.reload().await.map_err(|errors| {
            let message = "The config was not taken; the last good one stays in force.";
            Refusal::new(Code::ValidationFailed, message).details(json!({ "errors": errors }))
        })
    };
    let revision = admin.change(&asker, AuditAction::Reload, AuditTarget::none(), done).await?;
    Ok(Json(json!({ "revision": revision })))
}

/// Any other path.
pub(super) async fn not_found() -> Refused {
    Refusal::new(Code::NotFound, "There is no such path at the admin address.").into()
}

/// A known path with another method; `Allow` is added by the router.
pub(super) async fn method_not_allowed() -> Refused {
    Refusal::new(Code::MethodNotAllowed, "This path does not take this method.").into()
}
