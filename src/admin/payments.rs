//! `GET /api/v1/payments` and `PUT /api/v1/payments`: the kill switch.
//!
//! Calling payments off must work whatever else does not. This edge throws its own switch before it asks the store to throw
//! everybody's, and the audit line may end up in the log alone.

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::answer::{Answer, body};
use super::guard::Asker;
use crate::clock::rfc3339;
use crate::error::{Code, Refusal};
use crate::model::Revoked;
use crate::model::audit::{AuditAction, AuditTarget};
use crate::store::StoreError;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    payments: Switch,
}

/// `GET /api/v1/payments`: whether they are let through here, since when, and how long ago this edge agreed with the log of
/// revocations. More than a second, and money is withheld whatever the switch says.
pub(super) async fn show(State(admin): State<Admin>) -> Json<Value> {
    Json(standing(&admin))
}

fn standing(admin: &Admin) -> Value {
    let records = admin.inner.control.records();
    let revocations = records.revocations.revocations();
    let switched = revocations.payments_switched();
    let since = (switched > 0).then(|| rfc3339(switched / 1000));
    json!({
        "payments": if revocations.payments_off() { "off" } else { "on" },
        "since": since,
        "log_age_ms": revocations.age(records.clock.tick()).map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
    })
}

/// `PUT /api/v1/payments` with `{"payments": "off"}` or `"on"`: in force on every edge within a second.
pub(super) async fn switch(
    State(admin): State<Admin>,
    Extension(asker): Extension<Asker>,
    asked: Result<Bytes, BytesRejection>,
) -> Answer<Json<Value>> {
    let Asked { payments } = body(asked)?;
    let off = payments == Switch::Off;
    let action = AuditAction::of(&Revoked::Payments { off });
    let feed = admin.inner.control.records().revocations;
    if off {
        feed.call_payments_off_here();
    }
    let switched = async {
        match feed.revoke(Revoked::Payments { off }).await {
            Ok(_) => Ok(()),
            Err(error) if off => Err(here_alone(&error)),
            Err(error) => Err(error.into()),
        }
    };
    admin.change(&asker, action, AuditTarget::none(), switched).await?;
    Ok(Json(standing(&admin)))
}

/// Payments are off at this edge, and the store does not take it for the others.
fn here_alone(error: &StoreError) -> Refusal {
    log::error!("payments are called off at this edge alone, the store did not take it: {error}");
    let message =
        "Payments are off at this edge alone: the store did not take the switch. Ask every edge, and ask again.";
    Refusal::new(Code::ServiceUnavailable, message)
        .retry_after(1)
        .details(json!({ "payments_here": "off" }))
        .inside(error.to_string())
}
