//! `GET /api/v1/limits` and `POST /api/v1/limits/reset`: how one caller stands with its limits, and starting it afresh.

use std::net::IpAddr;

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, body, invalid, query};
use super::guard::Asker;
use super::{Admin, CallerLimit};
use crate::error::{Code, Refusal};
use crate::model::audit::{AuditAction, AuditTarget};
use crate::model::{MiniAppId, UserId};
use crate::policy::rate_limit::LimitKey;

/// Whose limits: a user, a mini-app, a user of a mini-app, or an address.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Who {
    user: Option<String>,
    app: Option<String>,
    address: Option<String>,
}

impl Who {
    fn target(&self) -> AuditTarget {
        let named = [("user", &self.user), ("app", &self.app), ("address", &self.address)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        named.fold(AuditTarget::none(), |target, (name, value)| target.and(name, value))
    }

    fn key(self) -> Result<LimitKey, String> {
        let user = self.user.map(|text| UserId::parse(&text).map_err(|_| format!("{text:?} is no Matrix user id.")));
        let app = self.app.map(|text| MiniAppId::parse(&text).map_err(|_| format!("{text:?} is no mini-app's id.")));
        let address =
            self.address.map(|text| text.parse::<IpAddr>().map_err(|_| format!("{text:?} is no IP address.")));
        match (user.transpose()?, app.transpose()?, address.transpose()?) {
            (Some(user), Some(app), None) => Ok(LimitKey::app_user(&app, &user)),
            (Some(user), None, None) => Ok(LimitKey::user(&user)),
            (None, Some(app), None) => Ok(LimitKey::app(&app)),
            (None, None, Some(address)) => Ok(LimitKey::ip(address)),
            _ => Err("Say whose limits: user, app, both of them, or address.".to_owned()),
        }
    }
}

/// `GET /api/v1/limits?user=…&app=…`: every policy that the caller has used something of.
pub(super) async fn limits(
    State(admin): State<Admin>,
    who: Result<Query<Who>, QueryRejection>,
) -> Answer<Json<Vec<CallerLimit>>> {
    let key = query(who)?.key().map_err(invalid)?;
    Ok(Json(admin.inner.control.limits(key).await.map_err(lost)?))
}

/// `POST /api/v1/limits/reset` with `{"user": "…", "app": "…"}`: everything is available to the caller again.
pub(super) async fn reset(
    State(admin): State<Admin>,
    Extension(asker): Extension<Asker>,
    who: Result<Bytes, BytesRejection>,
) -> Answer<Json<Value>> {
    let who: Who = body(who)?;
    let target = who.target();
    let key = who.key().map_err(invalid)?;
    let done = async { admin.inner.control.reset_limits(key).await.map_err(lost) };
    admin.change(&asker, AuditAction::LimitsReset, target, done).await?;
    Ok(Json(json!({ "reset": true })))
}

fn lost(error: String) -> Refusal {
    Refusal::new(Code::ServiceUnavailable, "The store that holds the limits does not answer.")
        .inside(format!("limits of one caller cannot be had: {error}"))
}
