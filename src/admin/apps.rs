//! `GET /api/v1/apps` and `/api/v1/apps/{id}`, `POST /api/v1/apps/{id}/suspend` and `/resume`: the mini-apps, and switching one
//! off. It is what `tmcp-edge app` does; registering one takes a secret to be handed over, which is for a command.

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::answer::{Answer, Refused, body, invalid, page_size, query};
use super::guard::Asker;
use super::records::Records;
use crate::error::{Code, Refusal};
use crate::model::MiniAppId;
use crate::model::audit::{AuditAction, AuditTarget};
use crate::policy::apps::registrar::RegistrarError;
use crate::policy::apps::view::{View, views};

/// Which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    cursor: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/v1/apps?cursor=…&limit=…`: the config's and the store's, by id.
pub(super) async fn list(
    State(admin): State<Admin>,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer<Json<Value>> {
    let Which { cursor, limit } = query(which)?;
    let limit = page_size(limit)?;
    let after = cursor.map(|cursor| parse(&cursor)).transpose()?;
    let all = all(&admin.inner.control.records()).await?;
    let is_after = |view: &View| after.as_ref().is_none_or(|after| view.registration.id.as_str() > after.as_str());
    let mut apps: Vec<View> = all.into_iter().filter(is_after).collect();
    let more = apps.len() > limit;
    // One that both know stands there twice, and both stay on one page: a cursor could not tell them apart.
    let last = apps.get(limit - 1).map(|view| view.registration.id.clone());
    if let Some(last) = last.filter(|_| more) {
        apps.retain(|view| view.registration.id <= last);
        return Ok(Json(json!({ "apps": apps, "next_cursor": last })));
    }
    Ok(Json(json!({ "apps": apps, "next_cursor": null })))
}

async fn all(records: &Records) -> Result<Vec<View>, Refused> {
    Ok(views(&records.named.0, &records.app_store(), records.clock.unix_secs()).await?)
}

/// `GET /api/v1/apps/{id}`: where both know one, the config's, which is the one in force.
pub(super) async fn one(State(admin): State<Admin>, id: Result<Path<String>, PathRejection>) -> Answer<Json<View>> {
    let id = read(id)?;
    shown(&admin, &id).await.map(Json)
}

async fn shown(admin: &Admin, id: &MiniAppId) -> Answer<View> {
    let all = all(&admin.inner.control.records()).await?;
    let found = all.into_iter().find(|view| view.registration.id == id.as_str());
    Ok(found.ok_or_else(|| refusal(RegistrarError::Unknown(id.clone())))?)
}

/// Why one is switched off.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suspension {
    reason: Option<String>,
}

/// `POST /api/v1/apps/{id}/suspend`, with `{"reason": "…"}` or nothing: its tokens are void and it gets no others, on every edge
/// within a second.
pub(super) async fn suspend(
    State(admin): State<Admin>,
    Extension(asker): Extension<Asker>,
    id: Result<Path<String>, PathRejection>,
    asked: Result<Bytes, BytesRejection>,
) -> Answer<Json<View>> {
    let id = read(id)?;
    let reason = match &asked {
        Ok(nothing) if nothing.is_empty() => None,
        _ => body::<Suspension>(asked)?.reason,
    };
    let target = AuditTarget::of("app", &id);
    let target = reason.iter().fold(target, |target, reason| target.and("reason", reason));
    let records = admin.inner.control.records();
    let suspended = async { records.registrar().suspend(&id, reason).await.map_err(refusal) };
    admin.change(&asker, AuditAction::AppSuspend, target, suspended).await?;
    follow(&records).await;
    shown(&admin, &id).await.map(Json)
}

/// `POST /api/v1/apps/{id}/resume`: it may be given tokens again; those of before stay void.
pub(super) async fn resume(
    State(admin): State<Admin>,
    Extension(asker): Extension<Asker>,
    id: Result<Path<String>, PathRejection>,
) -> Answer<Json<View>> {
    let id = read(id)?;
    let records = admin.inner.control.records();
    let resumed = async { records.registrar().resume(&id).await.map_err(refusal) };
    admin.change(&asker, AuditAction::AppResume, AuditTarget::of("app", &id), resumed).await?;
    follow(&records).await;
    shown(&admin, &id).await.map(Json)
}

/// Puts the change in force here at once; the others are told. What fails here is tried again by whoever follows anyway.
async fn follow(records: &Records) {
    if let Err(error) = records.apps.look().await {
        log::warn!("a mini-app has been changed, and cannot be read yet: {error}");
    }
    if let Err(error) = records.revocations.look().await {
        log::warn!("a mini-app has been changed, but the log of revocations cannot be read: {error}");
    }
}

fn read(id: Result<Path<String>, PathRejection>) -> Answer<MiniAppId> {
    match id {
        Ok(Path(id)) => parse(&id),
        Err(_) => Err(invalid("That is no mini-app's id.")),
    }
}

fn parse(id: &str) -> Answer<MiniAppId> {
    MiniAppId::parse(id).map_err(|_| invalid(format!("{id:?} is no mini-app's id.")))
}

fn refusal(error: RegistrarError) -> Refusal {
    match error {
        RegistrarError::Store(error) => error.into(),
        RegistrarError::Unknown(id) => Refusal::new(Code::MiniappNotFound, format!("There is no mini-app {id}.")),
        RegistrarError::Reason => {
            Refusal::new(Code::ValidationFailed, "reason is too long, or not one line of plain text.")
        }
        other => Refusal::new(Code::ValidationFailed, format!("Nothing was changed: {other}.")),
    }
}
