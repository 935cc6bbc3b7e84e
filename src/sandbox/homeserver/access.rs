//! Who calls: access tokens and the paths that are about them.

use axum::Json;
use axum::extract::{RawQuery, State};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::UserId;

use super::super::random;
use super::{DEMO_PASSWORD, Homeserver, MatrixError, Session, matrix_error};

/// A caller that has been recognised.
pub struct Caller {
    /// In whose name it calls.
    pub user: UserId,
    pub(super) device_id: Option<String>,
    /// Whether it is the application service.
    pub is_service: bool,
    /// The access token: what a transaction id is unique within.
    pub token: String,
}

fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

impl Homeserver {
    /// Recognises the caller by the header or by `?access_token=`, never by both, as Synapse does it. The application
    /// service may speak for a user that it has registered (`?user_id=`).
    pub(super) fn caller(&self, headers: &HeaderMap, query: Option<&str>) -> Result<Caller, MatrixError> {
        let missing = || matrix_error(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "Missing access token");
        let from_query = query_value(query, "access_token");
        let token = match (headers.get(AUTHORIZATION), from_query) {
            (Some(header), None) => {
                // Synapse fails on a token that is not ASCII, and so do we: the edge must never send one.
                let header = header.to_str().map_err(|_| {
                    matrix_error(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "Internal server error")
                })?;
                header.strip_prefix("Bearer ").filter(|token| !token.is_empty()).ok_or_else(missing)?.to_owned()
            }
            (None, Some(token)) => token,
            _ => return Err(missing()),
        };
        if token == *self.as_token {
            let user = match query_value(query, "user_id") {
                None => self.bot.clone(),
                Some(name) => {
                    let user = UserId::parse(&name).ok();
                    user.filter(|user| self.state.lock().service_users.contains(user)).ok_or_else(|| {
                        let error = "Application service has not registered this user";
                        matrix_error(StatusCode::FORBIDDEN, "M_FORBIDDEN", error)
                    })?
                }
            };
            return Ok(Caller { user, device_id: None, is_service: true, token });
        }
        match self.state.lock().sessions.get(&token).cloned() {
            Some(Session { user, device_id }) => Ok(Caller { user, device_id, is_service: false, token }),
            None => {
                let error = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "Invalid access token passed.", "soft_logout": false});
                Err(MatrixError::new(StatusCode::UNAUTHORIZED, error))
            }
        }
    }
}

/// GET account/whoami
pub async fn whoami(
    State(homeserver): State<Homeserver>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Value>, MatrixError> {
    let caller = homeserver.caller(&headers, query.as_deref())?;
    let mut answer = json!({"user_id": caller.user.as_str(), "is_guest": false});
    if let (Some(fields), Some(device)) = (answer.as_object_mut(), caller.device_id) {
        fields.insert("device_id".to_owned(), device.into());
    }
    Ok(Json(answer))
}

/// GET login
pub async fn flows() -> Json<Value> {
    Json(json!({"flows": [{"type": "m.login.password"}, {"type": "m.login.application_service"}]}))
}

#[derive(Deserialize)]
struct Login {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<Identifier>,
    user: Option<String>,
    password: Option<String>,
    device_id: Option<String>,
}

#[derive(Deserialize)]
struct Identifier {
    user: Option<String>,
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, MatrixError> {
    serde_json::from_slice(body)
        .map_err(|error| matrix_error(StatusCode::BAD_REQUEST, "M_BAD_JSON", &error.to_string()))
}

fn randomness(error: std::io::Error) -> MatrixError {
    matrix_error(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", &error.to_string())
}

/// POST login: a demo user by the demo password, or an application-service user by the `as_token`.
pub async fn login(
    State(homeserver): State<Homeserver>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, MatrixError> {
    let login: Login = parse(&body)?;
    let name = login.identifier.and_then(|identifier| identifier.user).or(login.user).unwrap_or_default();
    let user = homeserver.local_user(&name);
    let known = {
        let state = homeserver.state.lock();
        match login.kind.as_str() {
            "m.login.password" if login.password.as_deref() == Some(DEMO_PASSWORD) => {
                user.filter(|user| state.users.contains(user))
            }
            "m.login.application_service" => {
                drop(state);
                let service = homeserver.caller(&headers, query.as_deref())?.is_service;
                let state = homeserver.state.lock();
                user.filter(|user| service && state.service_users.contains(user))
            }
            "m.login.password" => None,
            _ => return Err(matrix_error(StatusCode::BAD_REQUEST, "M_UNKNOWN", "Unknown login type")),
        }
    };
    let user =
        known.ok_or_else(|| matrix_error(StatusCode::FORBIDDEN, "M_FORBIDDEN", "Invalid username or password"))?;
    homeserver.open_session(user, login.device_id)
}

impl Homeserver {
    fn local_user(&self, name: &str) -> Option<UserId> {
        let full = if name.starts_with('@') { name.to_owned() } else { format!("@{name}:{}", self.server_name) };
        UserId::parse(&full).ok()
    }

    fn open_session(&self, user: UserId, device_id: Option<String>) -> Result<Json<Value>, MatrixError> {
        let token = random::token("syt_").map_err(randomness)?;
        let device_id = match device_id {
            Some(device) => device,
            None => random::token("").map_err(randomness)?.chars().take(10).collect::<String>().to_uppercase(),
        };
        let answer = json!({
            "user_id": user.as_str(), "access_token": token, "device_id": device_id, "home_server": *self.server_name,
        });
        self.state.lock().sessions.insert(token, Session { user, device_id: Some(device_id) });
        Ok(Json(answer))
    }
}

/// POST logout
pub async fn logout(
    State(homeserver): State<Homeserver>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Value>, MatrixError> {
    let caller = homeserver.caller(&headers, query.as_deref())?;
    homeserver.state.lock().sessions.remove(&caller.token);
    Ok(Json(json!({})))
}

/// POST register: the application service makes a user of its namespaces (`@_tmcp…`, `@ma_…`).
pub async fn register(
    State(homeserver): State<Homeserver>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, MatrixError> {
    #[derive(Deserialize)]
    struct Register {
        #[serde(rename = "type")]
        kind: Option<String>,
        username: String,
        device_id: Option<String>,
        #[serde(default)]
        inhibit_login: bool,
    }
    let wanted: Register = parse(&body)?;
    if wanted.kind.as_deref() != Some("m.login.application_service") {
        return Err(matrix_error(StatusCode::FORBIDDEN, "M_FORBIDDEN", "Registration has been disabled."));
    }
    if !homeserver.caller(&headers, query.as_deref())?.is_service {
        return Err(matrix_error(StatusCode::FORBIDDEN, "M_FORBIDDEN", "Not an application service"));
    }
    let user = homeserver.local_user(&wanted.username).filter(|user| {
        let name = user.localpart();
        name == "_tmcp" || name.starts_with("_tmcp_") || name.starts_with("ma_")
    });
    let Some(user) = user else {
        return Err(matrix_error(StatusCode::BAD_REQUEST, "M_EXCLUSIVE", "Not in the application service's namespace"));
    };
    if !homeserver.state.lock().service_users.insert(user.clone()) {
        return Err(matrix_error(StatusCode::BAD_REQUEST, "M_USER_IN_USE", "User ID already taken."));
    }
    if wanted.inhibit_login {
        return Ok(Json(json!({"user_id": user.as_str(), "home_server": *homeserver.server_name})));
    }
    homeserver.open_session(user, wanted.device_id)
}
