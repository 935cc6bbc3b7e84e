//! `GET /api/v1/grants`, and `GET` and `DELETE /api/v1/grants/{id}`: what users have permitted, and ending it.

use axum::Extension;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Admin;
use super::answer::{Answer, Refused, invalid, page_size, query};
use super::guard::Asker;
use super::records::Records;
use crate::clock::rfc3339;
use crate::error::{Code, Refusal};
use crate::model::audit::{AuditAction, AuditTarget};
use crate::model::oauth::{Grant, GrantId};
use crate::model::{MiniAppId, Revoked, Scope, UserId};

/// A grant as it is shown. Times are RFC 3339.
#[derive(Debug, Serialize)]
pub(super) struct GrantLine {
    id: String,
    user: UserId,
    app: MiniAppId,
    client: String,
    scopes: Vec<&'static str>,
    kind: &'static str,
    since: String,
    last_refreshed: Option<String>,
    ends_at: Option<String>,
    /// Taken back with its user or mini-app: its record goes when its time is over, and yields nothing any more.
    withdrawn: bool,
}

impl GrantLine {
    fn of(records: &Records, id: GrantId, grant: Grant) -> GrantLine {
        let time = |millis: u64| rfc3339(millis / 1000);
        let left = records.revocations.revocations().left_of(id, &grant);
        let withdrawn = left.is_none();
        let grant = left.unwrap_or(grant);
        GrantLine {
            id: id.to_string(),
            withdrawn,
            client: records.client_name(&grant.client),
            user: grant.user,
            app: grant.client.app,
            scopes: grant.scopes.iter().map(Scope::as_str).collect(),
            kind: grant.via.as_str(),
            since: time(grant.granted_at),
            last_refreshed: grant.family.map(|family| time(family.rotated_at)),
            ends_at: grant.ends_at.map(time),
        }
    }
}

/// Whose, to what, and which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    user: Option<String>,
    app: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/v1/grants?user=…&app=…&cursor=…&limit=…`. Without `user` a page shows what a part of the store holds: it may be
/// empty, or longer than `limit`, and there is more as long as it has a `next_cursor`.
pub(super) async fn list(
    State(admin): State<Admin>,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer<Json<Value>> {
    let Which { user, app, cursor, limit } = query(which)?;
    let limit = page_size(limit)?;
    let user = user.map(|text| UserId::parse(&text).map_err(|_| invalid(format!("{text:?} is no Matrix user id."))));
    let app = app.map(|text| MiniAppId::parse(&text).map_err(|_| invalid(format!("{text:?} is no mini-app's id."))));
    let records = admin.inner.control.records();
    let (user, app) = (user.transpose()?, app.transpose()?);
    let page = records.grants().page(user.as_ref(), app.as_ref(), cursor.as_deref(), limit).await?;
    let grants: Vec<GrantLine> =
        page.grants.into_iter().map(|(id, held)| GrantLine::of(&records, id, held.value)).collect();
    Ok(Json(json!({ "grants": grants, "next_cursor": page.next })))
}

/// `GET /api/v1/grants/{id}`.
pub(super) async fn one(
    State(admin): State<Admin>,
    id: Result<Path<String>, PathRejection>,
) -> Answer<Json<GrantLine>> {
    let records = admin.inner.control.records();
    let id = read(id)?;
    let held = records.grants().get(id).await?.ok_or_else(no_such_grant)?;
    Ok(Json(GrantLine::of(&records, id, held.value)))
}

/// `DELETE /api/v1/grants/{id}`: its code, its refresh tokens and its access tokens are worth nothing any more, on every edge
/// within a second. What the user approved stays approved: the mini-app may be given a new grant without a question.
pub(super) async fn end(
    State(admin): State<Admin>,
    Extension(asker): Extension<Asker>,
    id: Result<Path<String>, PathRejection>,
) -> Answer<Json<GrantLine>> {
    let records = admin.inner.control.records();
    let id = read(id)?;
    let ended = async {
        let held = records.grants().get(id).await?.ok_or_else(no_such_grant)?;
        records.revocations.revoke(Revoked::Grant(id.to_string())).await?;
        Ok(held.value)
    };
    let grant = admin.change(&asker, AuditAction::GrantEnd, AuditTarget::of("grant", id), ended).await?;
    Ok(Json(GrantLine { withdrawn: true, ..GrantLine::of(&records, id, grant) }))
}

fn read(id: Result<Path<String>, PathRejection>) -> Result<GrantId, Refused> {
    id.ok()
        .and_then(|Path(id)| GrantId::parse(&id))
        .ok_or_else(|| invalid("A grant's id is 32 hex digits, in lower case."))
}

fn no_such_grant() -> Refusal {
    Refusal::new(Code::NotFound, "There is no such grant, or it has ended.")
}
