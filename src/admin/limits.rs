//! `GET /api/v1/limits` and `POST /api/v1/limits/reset`: how one caller stands with its limits, and starting it afresh.

use std::net::IpAddr;

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use super::api::refuse;
use super::guard::Asker;
use crate::error::Code;
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
pub(super) async fn limits(State(admin): State<Admin>, query: Result<Query<Who>, QueryRejection>) -> Response {
    let key = match query.map_err(|error| error.body_text()).and_then(|Query(who)| who.key()) {
        Ok(key) => key,
        Err(message) => return refuse(&admin, Code::ValidationFailed, &message),
    };
    match admin.inner.control.limits(key).await {
        Ok(limits) => Json(limits).into_response(),
        Err(error) => lost(&admin, &error),
    }
}

/// `POST /api/v1/limits/reset` with `{"user": "…", "app": "…"}`: everything is available to the caller again.
pub(super) async fn reset(
    State(admin): State<Admin>,
    Extension(asker): Extension<Asker>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Ok(body) = body else {
        return refuse(&admin, Code::PayloadTooLarge, "The body is larger than anything that is expected here.");
    };
    let who =
        serde_json::from_slice::<Who>(&body).map_err(|error| format!("The body is not what is expected: {error}."));
    let key = match who.and_then(Who::key) {
        Ok(key) => key,
        Err(message) => return refuse(&admin, Code::ValidationFailed, &message),
    };
    let (name, peer) = (&asker.name, asker.peer);
    match admin.inner.control.reset_limits(key).await {
        Ok(()) => {
            log::info!(target: "tmcp_edge::audit", "action=reset_limits whose={key:?} by={name:?} from={peer}");
            Json(json!({ "reset": true })).into_response()
        }
        Err(error) => {
            log::warn!(target: "tmcp_edge::audit", "action=reset_limits whose={key:?} by={name:?} from={peer} failed");
            lost(&admin, &error)
        }
    }
}

fn lost(admin: &Admin, error: &str) -> Response {
    log::warn!("limits of one caller cannot be had: {error}");
    refuse(admin, Code::ServiceUnavailable, "The store that holds the limits does not answer.")
}
