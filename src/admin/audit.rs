//! Changes with their audit lines, and `GET /api/v1/audit`: who changed what.

use std::future::Future;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::answer::{Answer, Refused, page_size, query};
use super::guard::Asker;
use crate::error::{Code, Refusal};
use crate::model::Role;
use crate::model::audit::{AuditAction, AuditActor, AuditTarget};
use crate::store::StoreError;
use crate::store::audit::{AuditLog, Change, as_json};

/// Seconds after which a store that took no line is worth asking again.
const RETRY_AFTER: u64 = 5;

impl Asker {
    /// A change that the asker wants.
    pub(super) fn change(&self, action: AuditAction, target: AuditTarget) -> Change {
        let role = self.role.unwrap_or(Role::Viewer);
        let actor = AuditActor::token(&self.name, role, self.peer.to_string());
        Change { actor, action, target, request_id: self.request_id.to_string() }
    }
}

impl Admin {
    /// Makes a change, with its audit line around it: see [`AuditLog::around`].
    pub(super) async fn change<T>(
        &self,
        asker: &Asker,
        action: AuditAction,
        target: AuditTarget,
        made: impl Future<Output = Result<T, Refusal>>,
    ) -> Answer<T> {
        let audit = self.inner.control.records().audit();
        Ok(audit.around(asker.change(action, target), unwritten, made).await?)
    }
}

fn unwritten(error: StoreError) -> Refusal {
    Refusal::new(Code::ServiceUnavailable, "Nothing was changed: the store does not take the audit line.")
        .retry_after(RETRY_AFTER)
        .inside(error.to_string())
}

/// Which lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    since: Option<u64>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/v1/audit?since=…&cursor=…&limit=…`: the newest lines first, none from before `since` (Unix time).
pub(super) async fn lines(
    State(admin): State<Admin>,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer<Json<Value>> {
    let Which { since, cursor, limit } = query(which)?;
    let limit = page_size(limit)?;
    if cursor.as_deref().is_some_and(|cursor| !AuditLog::gave(cursor)) {
        return Err(Refused::from(StoreError::NoSuchCursor));
    }
    let since = since.unwrap_or_default().saturating_mul(1000);
    // One more, which tells whether there is another page.
    let mut lines = admin.inner.control.records().audit().lines(since, cursor.as_deref(), limit + 1).await?;
    let more = lines.len() > limit;
    lines.truncate(limit);
    let next = lines.last().filter(|_| more).map(|(name, _)| name.clone());
    let lines: Vec<Value> = lines.iter().map(|(_, line)| as_json(line)).collect();
    Ok(Json(json!({ "lines": lines, "next_cursor": next })))
}
