//! What the edge asks the homeserver: whose token is this, and do two users share a room?
//!
//! An application service may ask for the members of rooms that its own user is in, and of no others; asking in the
//! name of real users is refused to it. Whether two users share *any* room can only be asked of the admin API, and only
//! where the config allows that. What was not found out is never taken for a yes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::backend::Backend;
use super::client::{Answer, Call, CallError, nonsense};
use super::forward::name;
use super::templates::encode_segment;
use crate::config::Secret;
use crate::error::Refusal;
use crate::metrics::{HomeserverCall, Metrics};
use crate::model::matrix::Whoami;
use crate::model::rows::Class;
use crate::model::{RoomId, UserId};

/// Largest list of a room's members that is read, bytes: some hundred thousand members.
const MEMBERS_CAP: usize = 16 * 1024 * 1024;

/// The homeserver, as a service that answers questions.
#[derive(Clone, Debug)]
pub struct Homeserver {
    backend: Arc<Backend>,
    as_token: Option<Secret>,
    metrics: Arc<Metrics>,
}

/// Why the homeserver did not vouch for a token.
#[derive(Debug)]
pub enum WhoamiError {
    /// The token is no good: 401 for the caller.
    Rejected {
        /// The client may get a new token without signing in again.
        soft_logout: bool,
    },
    /// Nobody knows: never 401, so that a homeserver in trouble signs nobody out.
    Unavailable(Refusal),
}

/// Why it is not known whether two users share a room.
#[derive(Debug)]
pub enum RoomError {
    /// There is no way to ask: the bot is not in that room, or neither token nor admin API is configured.
    NotAskable,
    /// The homeserver could not be asked, or spoke nonsense.
    Unavailable(Refusal),
}

impl fmt::Display for WhoamiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhoamiError::Rejected { soft_logout } => {
                write!(f, "the homeserver rejected it (soft logout: {soft_logout})")
            }
            WhoamiError::Unavailable(refusal) => refusal.fmt(f),
        }
    }
}

impl fmt::Display for RoomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RoomError::NotAskable => f.write_str("the homeserver cannot be asked about that room"),
            RoomError::Unavailable(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for WhoamiError {}
impl std::error::Error for RoomError {}

#[derive(Deserialize)]
struct WhoamiBody {
    user_id: String,
    device_id: Option<String>,
    #[serde(default)]
    is_guest: bool,
}

#[derive(Deserialize)]
struct LoginBody {
    user_id: String,
    access_token: String,
    device_id: String,
}

#[derive(Deserialize)]
struct MatrixError {
    errcode: String,
    #[serde(default)]
    soft_logout: bool,
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct JoinedMembers {
    joined: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct JoinedRooms {
    joined_rooms: Vec<String>,
}

impl Homeserver {
    /// The homeserver behind `backend`; `as_token` is the application service's own.
    pub fn new(backend: Arc<Backend>, as_token: Option<Secret>, metrics: Arc<Metrics>) -> Self {
        Homeserver { backend, as_token, metrics }
    }

    /// The upstream that is asked.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// `GET /_matrix/client/v3/account/whoami`: whose token is this? Asked afresh each time. A token that cannot be one
    /// (empty, or not printable ASCII) is rejected without asking: homeservers answer those with 500.
    pub async fn whoami(&self, token: &str) -> Result<Whoami, WhoamiError> {
        let headers = bearer(token).ok_or(WhoamiError::Rejected { soft_logout: false })?;
        let call = Call { headers, ..Call::get(Class::Other, "/_matrix/client/v3/account/whoami") };
        let answer = self.timed(HomeserverCall::Whoami, call).await.map_err(WhoamiError::Unavailable)?;
        if answer.status == StatusCode::OK {
            let body: WhoamiBody = self.parse(&answer).map_err(WhoamiError::Unavailable)?;
            let user = UserId::parse(&body.user_id)
                .map_err(|error| WhoamiError::Unavailable(nonsense(self.backend.name(), error)))?;
            return Ok(Whoami { user, device_id: body.device_id, is_guest: body.is_guest });
        }
        match serde_json::from_slice::<MatrixError>(&answer.body) {
            Ok(error) if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(WhoamiError::Rejected { soft_logout: error.soft_logout })
            }
            _ => Err(WhoamiError::Unavailable(self.unexpected(&answer))),
        }
    }

    /// `POST /_matrix/client/v3/login` with `m.login.password`: whose name and password are these? `None`: nobody's. The
    /// session that the homeserver opens is closed at once; nothing is left of it but the answer. `client` is where they come
    /// from: homeservers limit guesses by address, and ours would be everybody's.
    pub async fn sign_in(&self, user_name: &str, password: &str, client: IpAddr) -> Result<Option<Whoami>, Refusal> {
        let login = json!({
            "type": "m.login.password", "identifier": {"type": "m.id.user", "user": user_name}, "password": password,
            "initial_device_display_name": "Mini-app permissions",
        });
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        headers.extend(HeaderValue::from_str(&client.to_string()).map(|client| (name::FORWARDED_FOR, client)));
        let path = "/_matrix/client/v3/login";
        let call =
            Call { method: Method::POST, headers, body: login.to_string().into(), ..Call::get(Class::Other, path) };
        let answer = self.timed(HomeserverCall::Login, call).await?;
        match answer.status {
            StatusCode::OK => {}
            // Wrong, deactivated, or no name that could be anybody's.
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
                if serde_json::from_slice::<MatrixError>(&answer.body).is_ok() =>
            {
                return Ok(None);
            }
            _ => return Err(self.unexpected(&answer)),
        }
        let session: LoginBody = self.parse(&answer)?;
        let user = UserId::parse(&session.user_id).map_err(|error| nonsense(self.backend.name(), error))?;
        if let Err(error) = self.sign_out(&session.access_token).await {
            // The password was right all the same, and nobody keeps the session's token.
            log::warn!("a sign-in's session, device {}, stays open at the homeserver: {error}", session.device_id);
        }
        Ok(Some(Whoami { user, device_id: Some(session.device_id), is_guest: false }))
    }

    async fn sign_out(&self, token: &str) -> Result<(), Refusal> {
        let headers =
            bearer(token).ok_or_else(|| nonsense(self.backend.name(), "an access token that cannot be one"))?;
        let path = "/_matrix/client/v3/logout";
        let call = Call { method: Method::POST, headers, ..Call::get(Class::Other, path) };
        let answer = self.timed(HomeserverCall::Logout, call).await?;
        // A session that is gone already is as good.
        let gone = matches!(answer.status, StatusCode::OK | StatusCode::UNAUTHORIZED);
        if gone { Ok(()) } else { Err(self.unexpected(&answer)) }
    }

    /// Whether both users are joined to `room`. The application service's own user must be in it, else
    /// [`RoomError::NotAskable`]. (`GET /_matrix/client/v3/rooms/{room}/joined_members`)
    pub async fn share_room(&self, room: &RoomId, a: &UserId, b: &UserId) -> Result<bool, RoomError> {
        let path = format!("/_matrix/client/v3/rooms/{}/joined_members", encode_segment(room.as_str()));
        let token = self.as_token.as_ref().ok_or(RoomError::NotAskable)?;
        let answer = self.ask(HomeserverCall::JoinedMembers, &path, token).await?;
        match answer.status {
            StatusCode::OK => {
                let members: JoinedMembers = self.parse(&answer).map_err(RoomError::Unavailable)?;
                Ok([a, b].iter().all(|user| members.joined.contains_key(user.as_str())))
            }
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Err(RoomError::NotAskable),
            _ => Err(RoomError::Unavailable(self.unexpected(&answer))),
        }
    }

    /// Whether the users are joined to any room together, asked of the admin API where the config has one, else
    /// [`RoomError::NotAskable`]. (`GET /_synapse/admin/v1/users/{user}/joined_rooms`)
    pub async fn share_any_room(&self, a: &UserId, b: &UserId) -> Result<bool, RoomError> {
        let token = &self.backend.config().admin_api.as_ref().ok_or(RoomError::NotAskable)?.token;
        let rooms = self.joined_rooms(a, token).await?;
        if rooms.is_empty() || a == b {
            return Ok(a == b && !rooms.is_empty());
        }
        let others = self.joined_rooms(b, token).await?;
        Ok(rooms.iter().any(|room| others.contains(room)))
    }

    async fn joined_rooms(&self, user: &UserId, token: &Secret) -> Result<Vec<String>, RoomError> {
        let path = format!("/_synapse/admin/v1/users/{}/joined_rooms", encode_segment(user.as_str()));
        let answer = self.ask(HomeserverCall::AdminMembers, &path, token).await?;
        match answer.status {
            StatusCode::OK => Ok(self.parse::<JoinedRooms>(&answer).map_err(RoomError::Unavailable)?.joined_rooms),
            // A user that nobody knows is in no room.
            StatusCode::NOT_FOUND
                if serde_json::from_slice::<MatrixError>(&answer.body)
                    .is_ok_and(|error| error.errcode == "M_NOT_FOUND") =>
            {
                Ok(Vec::new())
            }
            _ => Err(RoomError::Unavailable(self.unexpected(&answer))),
        }
    }

    async fn ask(&self, kind: HomeserverCall, path: &str, token: &Secret) -> Result<Answer, RoomError> {
        let headers = bearer(token.expose()).ok_or_else(|| {
            RoomError::Unavailable(Refusal::internal("the token towards the homeserver is not printable ASCII"))
        })?;
        let call = Call { headers, cap: MEMBERS_CAP, ..Call::get(Class::Other, path) };
        self.timed(kind, call).await.map_err(RoomError::Unavailable)
    }

    async fn timed(&self, kind: HomeserverCall, call: Call<'_>) -> Result<Answer, Refusal> {
        let began = self.backend.clock().tick();
        let answer = self.backend.call(call).await;
        self.metrics.homeserver.observe(kind, self.backend.clock().tick().since(began));
        answer.map_err(|error| self.refusal(error))
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, answer: &Answer) -> Result<T, Refusal> {
        serde_json::from_slice(&answer.body).map_err(|error| nonsense(self.backend.name(), error))
    }

    fn refusal(&self, error: CallError) -> Refusal {
        error.refusal(self.backend.name())
    }

    /// The homeserver has trouble, or has with us: its answer is for the log, and the caller tries again later.
    fn unexpected(&self, answer: &Answer) -> Refusal {
        let error = serde_json::from_slice::<MatrixError>(&answer.body).ok();
        let wait =
            error.as_ref().and_then(|error| error.retry_after_ms).map_or(5, |millis| millis.div_ceil(1000).max(1));
        Refusal::new(crate::error::Code::ServiceUnavailable, "The homeserver cannot be asked at the moment.")
            .retry_after(wait)
            .inside(format!(
                "upstream {}: {} {}",
                self.backend.name(),
                answer.status,
                error.map_or_else(|| "without a Matrix error".to_owned(), |error| error.errcode)
            ))
    }
}

fn bearer(token: &str) -> Option<HeaderMap> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
}

#[cfg(test)]
mod tests;
