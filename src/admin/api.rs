//! The admin API: each handler asks [`Control`](super::Control) and writes JSON.

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::guard::{Asker, Trusted};
use super::{Admin, BreakerStatus, CacheUsage, RouteLine, UpstreamStatus};
use crate::cache::Purge;
use crate::error::Code;
use crate::model::Operation;
use crate::telemetry::RequestId;
use crate::telemetry::export;
use crate::telemetry::time::rfc3339;

/// An answer in the error format (protocol section 9).
pub(super) fn refuse(admin: &Admin, code: Code, message: &str) -> Response {
    refuse_with(admin, code, message, None)
}

fn refuse_with(admin: &Admin, code: Code, message: &str, details: Option<Value>) -> Response {
    let mut error = json!({
        "code": code.as_str(),
        "message": message,
        "request_id": RequestId::new().as_str(),
        "timestamp": rfc3339(admin.inner.clock.unix()),
    });
    if let (Some(details), Some(fields)) = (details, error.as_object_mut()) {
        fields.insert("details".to_owned(), details);
    }
    (code.status(), Json(json!({ "error": error }))).into_response()
}

/// `GET /healthz`: the process is alive and answers.
pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: the edge wants traffic. While it drains or waits it says 503, and why to those who may know.
pub(super) async fn ready(State(admin): State<Admin>, Extension(trusted): Extension<Trusted>) -> Response {
    let reasons = admin.inner.control.not_ready();
    if reasons.is_empty() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    let body = match trusted {
        Trusted(true) => json!({ "status": "not ready", "reasons": reasons }),
        Trusted(false) => json!({ "status": "not ready" }),
    };
    let headers = [(RETRY_AFTER, HeaderValue::from_static("1"))];
    (StatusCode::SERVICE_UNAVAILABLE, headers, Json(body)).into_response()
}

/// `GET /metrics`.
pub(super) async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.inner.exporter.render() {
        Ok(text) => ([(CONTENT_TYPE, HeaderValue::from_static(export::CONTENT_TYPE))], text).into_response(),
        Err(error) => {
            log::error!("the metrics cannot be rendered: {error}");
            refuse(&admin, Code::InternalError, "The metrics could not be rendered. The failure has been logged.")
        }
    }
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

/// `GET /api/v1/cache`.
pub(super) async fn caches(State(admin): State<Admin>) -> Json<Vec<CacheUsage>> {
    Json(admin.inner.control.caches())
}

/// `POST /api/v1/reload`: the new revision, or every error of the config that was not taken.
pub(super) async fn reload(State(admin): State<Admin>, Extension(asker): Extension<Asker>) -> Response {
    let result = admin.inner.control.reload().await;
    let (name, peer) = (&asker.name, asker.peer);
    match result {
        Ok(revision) => {
            log::info!(target: "tmcp_edge::audit", "action=reload by={name:?} from={peer} revision={revision}");
            Json(json!({ "revision": revision })).into_response()
        }
        Err(errors) => {
            log::warn!(target: "tmcp_edge::audit", "action=reload by={name:?} from={peer} errors={}", errors.len());
            let message = "The config was not taken; the last good one stays in force.";
            refuse_with(&admin, Code::ValidationFailed, message, Some(json!({ "errors": errors })))
        }
    }
}

/// What to purge, as it is asked for: exactly one of these.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PurgeRequest {
    all: Option<bool>,
    operation: Option<String>,
    user: Option<String>,
    app: Option<String>,
    path_prefix: Option<String>,
}

impl PurgeRequest {
    fn check(self) -> Result<Purge, String> {
        let operation = match self.operation.as_deref().map(|name| (name, Operation::parse(name))) {
            Some((name, None)) => return Err(format!("There is no operation {name:?}.")),
            Some((_, operation)) => operation.map(Purge::Operation),
            None => None,
        };
        let asked = [
            self.all.filter(|all| *all).map(|_| Purge::All),
            operation,
            self.user.map(Purge::User),
            self.app.map(Purge::App),
            self.path_prefix.map(Purge::PathPrefix),
        ];
        let mut asked = asked.into_iter().flatten();
        match (asked.next(), asked.next()) {
            (Some(one), None) => Ok(one),
            _ => Err("Say exactly one of all=true, operation, user, app and path_prefix.".to_owned()),
        }
    }
}

/// `DELETE /api/v1/cache?operation=…`.
pub(super) async fn purge_by_query(
    State(admin): State<Admin>,
    Extension(asker): Extension<Asker>,
    query: Result<Query<PurgeRequest>, QueryRejection>,
) -> Response {
    let request = query.map(|Query(request)| request).map_err(|error| error.body_text());
    purge(&admin, &asker, request)
}

/// `POST /api/v1/cache/purge` with `{"operation": "…"}`.
pub(super) async fn purge_by_body(
    State(admin): State<Admin>,
    Extension(asker): Extension<Asker>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Ok(body) = body else {
        return refuse(&admin, Code::PayloadTooLarge, "The body is larger than anything that is expected here.");
    };
    let request = serde_json::from_slice(&body).map_err(|error| format!("The body is not what is expected: {error}."));
    purge(&admin, &asker, request)
}

fn purge(admin: &Admin, asker: &Asker, request: Result<PurgeRequest, String>) -> Response {
    match request.and_then(PurgeRequest::check) {
        Ok(what) => {
            let count = admin.inner.control.purge(&what);
            let (name, peer) = (&asker.name, asker.peer);
            log::info!(target: "tmcp_edge::audit", "action=purge what={what:?} by={name:?} from={peer} purged={count}");
            Json(json!({ "purged": count })).into_response()
        }
        Err(message) => refuse(admin, Code::ValidationFailed, &message),
    }
}

/// Any other path.
pub(super) async fn not_found(State(admin): State<Admin>) -> Response {
    refuse(&admin, Code::NotFound, "There is no such path at the admin address.")
}

/// A known path with another method; `Allow` is added by the router.
pub(super) async fn method_not_allowed(State(admin): State<Admin>) -> Response {
    refuse(&admin, Code::MethodNotAllowed, "This path does not take this method.")
}
