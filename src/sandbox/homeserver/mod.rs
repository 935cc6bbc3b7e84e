//! The sandbox homeserver: as much of Matrix as the edge asks of one, answering in the shapes that Synapse uses.
//!
//! | file | paths |
//! |---|---|
//! | `access.rs` | who calls: access tokens, `whoami`, `login`, `logout`, `register` of application-service users |
//! | `rooms.rs` | `joined_rooms`, `joined_members`, sending events, room state |
//! | `push.rs` | the other direction: transactions and pings to the edge |
//!
//! There is one room, `!chat:<server>`, with every demo user and the application service's bot in it;
//! `PUT /_sandbox/rooms/{room_id}` with `{"joined": […]}` makes more.

mod access;
mod push;
mod rooms;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::model::UserId;

use super::random;
use super::time::Now;

pub use push::Edge;

/// The password of every demo user. It guards nothing but the sandbox.
pub const DEMO_PASSWORD: &str = "demo";

/// What a homeserver is started with.
pub struct Setup {
    /// The server's name.
    pub server_name: String,
    /// The demo users, all of them in the room.
    pub users: Vec<UserId>,
    /// What the application service calls with.
    pub as_token: String,
    /// What the homeserver calls the application service with.
    pub hs_token: String,
    /// Whether the application service's bot may use the admin API.
    pub bot_is_admin: bool,
    /// Tells the time.
    pub now: Now,
}

/// The homeserver. Clones share its state.
#[derive(Clone)]
pub struct Homeserver {
    server_name: Arc<str>,
    bot: UserId,
    as_token: Arc<str>,
    bot_is_admin: bool,
    now: Now,
    state: Arc<Mutex<State>>,
    edge: Edge,
}

#[derive(Default)]
struct State {
    /// Access token → whose it is.
    sessions: HashMap<String, Session>,
    users: BTreeSet<UserId>,
    /// Users that the application service has registered.
    service_users: BTreeSet<UserId>,
    rooms: HashMap<String, Room>,
}

#[derive(Clone)]
struct Session {
    user: UserId,
    device_id: Option<String>,
}

#[derive(Default)]
struct Room {
    joined: BTreeSet<UserId>,
    /// In order of arrival.
    timeline: Vec<Value>,
    /// (type, state key) → event id.
    state: HashMap<(String, String), String>,
    /// (sender's session, type, transaction id) → event id.
    sent: HashMap<(String, String, String), String>,
}

impl Homeserver {
    /// A homeserver with its demo users in `!chat:<server>`.
    pub fn new(setup: Setup) -> io::Result<Homeserver> {
        let user = |localpart: &str| {
            UserId::parse(&format!("@{localpart}:{}", setup.server_name))
                .map_err(|malformed| io::Error::other(format!("server_name: {malformed}")))
        };
        let (bot, payments) = (user("_tmcp")?, user("_tmcp_payments")?);
        let mut state = State { service_users: [bot.clone(), payments.clone()].into(), ..State::default() };
        let mut chat = Room { joined: state.service_users.clone(), ..Room::default() };
        for user in setup.users {
            let session = Session { user: user.clone(), device_id: Some("SANDBOX".to_owned()) };
            state.sessions.insert(random::token("syt_demo_")?, session);
            chat.joined.insert(user.clone());
            state.users.insert(user);
        }
        state.rooms.insert(format!("!chat:{}", setup.server_name), chat);
        Ok(Homeserver {
            server_name: setup.server_name.into(),
            bot,
            as_token: setup.as_token.into(),
            bot_is_admin: setup.bot_is_admin,
            now: setup.now,
            state: Arc::new(Mutex::new(state)),
            edge: Edge::new(setup.hs_token),
        })
    }

    /// The demo users and an access token of each.
    pub fn tokens(&self) -> Vec<(UserId, String)> {
        let state = self.state.lock();
        let mut tokens: Vec<_> =
            state.sessions.iter().map(|(token, session)| (session.user.clone(), token.clone())).collect();
        tokens.sort();
        tokens
    }

    /// The edge that transactions and pings go to.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }
}

/// Every path of the homeserver that is recorded and met by faults.
pub fn routes(homeserver: Homeserver) -> Router {
    let client = Router::new()
        .route("/account/whoami", get(access::whoami))
        .route("/login", get(access::flows).post(access::login))
        .route("/logout", post(access::logout))
        .route("/register", post(access::register))
        .route("/joined_rooms", get(rooms::joined_rooms))
        .route("/rooms/{room_id}/joined_members", get(rooms::joined_members))
        .route("/rooms/{room_id}/send/{event_type}/{txn_id}", put(rooms::send))
        .route("/rooms/{room_id}/state/{event_type}", get(rooms::state_no_key).put(rooms::set_state_no_key))
        .route("/rooms/{room_id}/state/{event_type}/{state_key}", get(rooms::state).put(rooms::set_state))
        .route("/rooms/{room_id}/event/{event_id}", get(rooms::event))
        .route("/rooms/{room_id}/messages", get(rooms::messages));
    Router::new()
        .route("/health", get(|| async { "OK" }))
        .route("/_matrix/client/versions", get(versions))
        .nest("/_matrix/client/v3", client.clone())
        .nest("/_matrix/client/r0", client)
        .route("/_matrix/client/v1/appservice/{id}/ping", post(push::ping))
        .route("/_synapse/admin/v1/users/{user_id}/joined_rooms", get(rooms::admin_joined_rooms))
        .fallback(|| async { unrecognized(StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(|| async { unrecognized(StatusCode::METHOD_NOT_ALLOWED) })
        .with_state(homeserver)
}

/// `/_sandbox/rooms/…` and `/_sandbox/push`: beside the recording.
pub fn controls(homeserver: Homeserver) -> Router {
    Router::new()
        .route("/_sandbox/rooms/{room_id}", put(rooms::make))
        .route("/_sandbox/push", post(push::push))
        .with_state(homeserver)
}

async fn versions() -> Json<Value> {
    Json(json!({"versions": ["r0.6.1", "v1.1", "v1.5", "v1.10", "v1.11", "v1.12"], "unstable_features": {}}))
}

fn unrecognized(status: StatusCode) -> MatrixError {
    matrix_error(status, "M_UNRECOGNIZED", "Unrecognized request")
}

/// An error in Matrix's shape. Boxed: it is the rare half of every result here.
struct MatrixError(Box<(StatusCode, Value)>);

impl MatrixError {
    fn new(status: StatusCode, body: Value) -> MatrixError {
        MatrixError(Box::new((status, body)))
    }
}

impl IntoResponse for MatrixError {
    fn into_response(self) -> Response {
        let (status, body) = *self.0;
        (status, Json(body)).into_response()
    }
}

fn matrix_error(status: StatusCode, errcode: &str, error: &str) -> MatrixError {
    MatrixError::new(status, json!({"errcode": errcode, "error": error}))
}
