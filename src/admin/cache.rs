//! `GET` and `DELETE /api/v1/cache`, and `POST /api/v1/cache/purge`: how full the caches are, and taking answers out of the
//! response cache.

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, body, invalid, query};
use super::guard::Asker;
use super::{Admin, CacheUsage};
use crate::cache::Purge;
use crate::model::Operation;
use crate::model::audit::{AuditAction, AuditTarget};

/// `GET /api/v1/cache`.
pub(super) async fn caches(State(admin): State<Admin>) -> Json<Vec<CacheUsage>> {
    Json(admin.inner.control.caches())
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
    asked: Result<Query<PurgeRequest>, QueryRejection>,
) -> Answer<Json<Value>> {
    purge(&admin, &asker, query(asked)?).await
}

/// `POST /api/v1/cache/purge` with `{"operation": "…"}`.
pub(super) async fn purge_by_body(
    State(admin): State<Admin>,
    Extension(asker): Extension<Asker>,
    asked: Result<Bytes, BytesRejection>,
) -> Answer<Json<Value>> {
    purge(&admin, &asker, body(asked)?).await
}

async fn purge(admin: &Admin, asker: &Asker, request: PurgeRequest) -> Answer<Json<Value>> {
    let what = request.check().map_err(invalid)?;
    let target = match &what {
        Purge::All => AuditTarget::of("all", true),
        Purge::Operation(operation) => AuditTarget::of("operation", operation),
        Purge::User(user) => AuditTarget::of("user", user),
        Purge::App(app) => AuditTarget::of("app", app),
        Purge::PathPrefix(prefix) => AuditTarget::of("path_prefix", prefix),
    };
    let done = async { Ok(admin.inner.control.purge(&what)) };
    let purged = admin.change(asker, AuditAction::CachePurge, target, done).await?;
    Ok(Json(json!({ "purged": purged })))
}
