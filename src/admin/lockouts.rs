//! `GET /api/v1/lockouts` and `POST /api/v1/lockouts/lift`: whether somebody is kept out, and letting it in again.

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, body, invalid, query};
use super::guard::Asker;
use super::{Admin, LockoutStatus};
use crate::error::{Code, Refusal};
use crate::model::audit::{AuditAction, AuditTarget};
use crate::model::{MiniAppId, UserId};
use crate::policy::lockout::Subject;

/// Who: a user in a mini-app, a user, or a client. Addresses are never kept out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Who {
    user: Option<String>,
    app: Option<String>,
}

impl Who {
    fn target(&self) -> AuditTarget {
        let named = [("user", &self.user), ("app", &self.app)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        named.fold(AuditTarget::none(), |target, (name, value)| target.and(name, value))
    }

    fn subject(self) -> Result<Subject, String> {
        let user = self.user.map(|text| UserId::parse(&text).map_err(|_| format!("{text:?} is no Matrix user id.")));
        let app = self.app.map(|text| MiniAppId::parse(&text).map_err(|_| format!("{text:?} is no mini-app's id.")));
        match (app.transpose()?, user.transpose()?) {
            (Some(app), Some(user)) => Ok(Subject::UserOf(app, user)),
            (None, Some(user)) => Ok(Subject::User(user)),
            (Some(app), None) => Ok(Subject::Client(app)),
            (None, None) => Err("Say who: user, app, or both of them.".to_owned()),
        }
    }
}

/// `GET /api/v1/lockouts?user=…&app=…`: how somebody stands with every lockout that the config has turned on.
pub(super) async fn lockouts(
    State(admin): State<Admin>,
    who: Result<Query<Who>, QueryRejection>,
) -> Answer<Json<Vec<LockoutStatus>>> {
    let whose = query(who)?.subject().map_err(invalid)?;
    Ok(Json(admin.inner.control.lockouts(&whose).await.map_err(lost)?))
}

/// `POST /api/v1/lockouts/lift` with `{"user": "…", "app": "…"}`: in again, with no strikes left.
pub(super) async fn lift(
    State(admin): State<Admin>,
    Extension(asker): Extension<Asker>,
    who: Result<Bytes, BytesRejection>,
) -> Answer<Json<Value>> {
    let who: Who = body(who)?;
    let target = who.target();
    let whose = who.subject().map_err(invalid)?;
    let done = async { admin.inner.control.lift_lockouts(&whose).await.map_err(lost) };
    admin.change(&asker, AuditAction::LockoutsLift, target, done).await?;
    Ok(Json(json!({ "lifted": true })))
}

fn lost(error: String) -> Refusal {
    Refusal::new(Code::ServiceUnavailable, "The store that holds the lockouts does not answer.")
        .inside(format!("lockouts of somebody cannot be had: {error}"))
}
