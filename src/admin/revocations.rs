//! `GET /api/v1/revocations` and `POST /api/v1/revocations`: what was taken back of late, and taking something back. It is
//! what `tmcp-edge revoke` and `tmcp-edge keys revoke` do.

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::answer::{Answer, body, invalid, page_size, query};
use super::guard::Asker;
use super::records::Records;
use crate::clock::rfc3339;
use crate::error::{Code, Refusal};
use crate::model::audit::{AuditAction, AuditTarget};
use crate::model::{Revocation, RevokeOrder, RevokeRequest, Revoked};
use crate::policy::keyring::KeyringError;
use crate::store::revocations::EPOCHS_FOR;

/// Which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    cursor: Option<u64>,
    limit: Option<usize>,
}

/// `GET /api/v1/revocations?cursor=…&limit=…`: the last hour's, the oldest first.
pub(super) async fn list(
    State(admin): State<Admin>,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer<Json<Value>> {
    let Which { cursor, limit } = query(which)?;
    let limit = page_size(limit)?;
    let records = admin.inner.control.records();
    let log = records.revocations.log();
    // One more, which tells whether there is another page.
    let mut found = log.recent(cursor.unwrap_or_default(), limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| last.number.to_string());
    let revocations: Vec<Value> = found.iter().map(line).collect();
    Ok(Json(json!({ "revocations": revocations, "next_cursor": next })))
}

fn line(revocation: &Revocation) -> Value {
    let what = match &revocation.what {
        Revoked::Payments { off } => AuditTarget::of("payments", if *off { "off" } else { "on" }),
        what => AuditTarget::from(what),
    };
    json!({
        "number": revocation.number.to_string(),
        "at": rfc3339(revocation.at),
        "kind": revocation.what.kind(),
        "what": what,
    })
}

/// `POST /api/v1/revocations` with `{"app": …}`, `{"user": …}`, both, `{"grant": …}`, `{"token": …}` or `{"key": …}`: in force
/// on every edge within a second.
pub(super) async fn revoke(
    State(admin): State<Admin>,
    Extension(asker): Extension<Asker>,
    asked: Result<Bytes, BytesRejection>,
) -> Answer<Json<Value>> {
    let request: RevokeRequest = body(asked)?;
    let records = admin.inner.control.records();
    let now = records.clock.unix_secs();
    let answer = match request.read(now + EPOCHS_FOR.as_secs(), &records.issuers).map_err(invalid)? {
        RevokeOrder::OwnKey(kid) => own_key(&admin, &asker, &records, &kid, now).await?,
        RevokeOrder::Log(what) => {
            let target = AuditTarget::from(&what);
            let done = async { Ok(records.revocations.revoke(what).await?) };
            line(&admin.change(&asker, AuditAction::Revoke, target, done).await?)
        }
    };
    Ok(Json(answer))
}

async fn own_key(admin: &Admin, asker: &Asker, records: &Records, kid: &str, now: u64) -> Answer<Value> {
    let target = AuditTarget::of("key", kid);
    let done = async { records.keyring.revoke(kid, now).await.map_err(refusal) };
    let successor = admin.change(asker, AuditAction::KeyRevoke, target.clone(), done).await?;
    Ok(json!({ "at": rfc3339(now), "kind": "key", "what": target, "signs_now": successor }))
}

fn refusal(error: KeyringError) -> Refusal {
    match error {
        KeyringError::NoSuchKey(kid) => Refusal::new(Code::NotFound, format!("There is no key {kid} in the ring.")),
        KeyringError::Store(error) => error.into(),
        other => Refusal::internal(other.to_string()),
    }
}
