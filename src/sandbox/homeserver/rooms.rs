//! Rooms: who is in them, and events sent into them.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::model::{RoomId, UserId};

use super::super::random;
use super::super::time::Millis;
use super::access::Caller;
use super::{Homeserver, MatrixError, Room, matrix_error};

type Answer = Result<Json<Value>, MatrixError>;

fn not_in_room(user: &UserId, room: &str) -> MatrixError {
    matrix_error(StatusCode::FORBIDDEN, "M_FORBIDDEN", &format!("User {user} not in room {room}"))
}

fn not_found(what: &str) -> MatrixError {
    matrix_error(StatusCode::NOT_FOUND, "M_NOT_FOUND", what)
}

impl Homeserver {
    /// Works on a room that the caller is in.
    fn in_room<T>(
        &self,
        room_id: &str,
        caller: &Caller,
        work: impl FnOnce(&mut Room) -> Result<T, MatrixError>,
    ) -> Result<T, MatrixError> {
        let mut state = self.state.lock();
        let room = state.rooms.get_mut(room_id).filter(|room| room.joined.contains(&caller.user));
        work(room.ok_or_else(|| not_in_room(&caller.user, room_id))?)
    }

    fn rooms_of(&self, user: &UserId) -> Vec<String> {
        let state = self.state.lock();
        let joined = state.rooms.iter().filter(|(_, room)| room.joined.contains(user));
        let mut rooms: Vec<_> = joined.map(|(id, _)| id.clone()).collect();
        rooms.sort();
        rooms
    }

    fn new_event(
        &self,
        room_id: &str,
        caller: &Caller,
        event_type: &str,
        content: Map<String, Value>,
    ) -> Result<(String, Value), MatrixError> {
        let token = random::token("$")
            .map_err(|error| matrix_error(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", &error.to_string()))?;
        let event = json!({
            "event_id": token, "room_id": room_id, "sender": caller.user.as_str(), "type": event_type,
            "origin_server_ts": Millis::of((self.now)()).0, "content": content,
        });
        Ok((token, event))
    }
}

/// GET joined_rooms
pub async fn joined_rooms(
    State(homeserver): State<Homeserver>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let caller = homeserver.caller(&headers, query.as_deref())?;
    Ok(Json(json!({"joined_rooms": homeserver.rooms_of(&caller.user)})))
}

/// GET rooms/{room_id}/joined_members: for who is in the room, the bot included.
pub async fn joined_members(
    State(homeserver): State<Homeserver>,
    Path(room_id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let caller = homeserver.caller(&headers, query.as_deref())?;
    homeserver.in_room(&room_id, &caller, |room| {
        let profile = |user: &UserId| json!({"display_name": user.localpart(), "avatar_url": null});
        let joined: Map<_, _> = room.joined.iter().map(|user| (user.to_string(), profile(user))).collect();
        Ok(Json(json!({ "joined": joined })))
    })
}

/// GET /_synapse/admin/v1/users/{user_id}/joined_rooms
pub async fn admin_joined_rooms(
    State(homeserver): State<Homeserver>,
    Path(user): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let caller = homeserver.caller(&headers, query.as_deref())?;
    if !(homeserver.bot_is_admin && caller.user == homeserver.bot) {
        return Err(matrix_error(StatusCode::FORBIDDEN, "M_FORBIDDEN", "You are not a server admin"));
    }
    let user = UserId::parse(&user).map_err(|_| not_found("User not found"))?;
    let rooms = homeserver.rooms_of(&user);
    Ok(Json(json!({"total": rooms.len(), "joined_rooms": rooms})))
}

/// PUT rooms/{room_id}/send/{event_type}/{txn_id}: once per transaction id, whatever the content of a repetition.
pub async fn send(
    State(homeserver): State<Homeserver>,
    Path((room_id, event_type, txn_id)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let caller = homeserver.caller(&headers, query.as_deref())?;
    let content = event_content(&body)?;
    let (event_id, event) = homeserver.new_event(&room_id, &caller, &event_type, content)?;
    homeserver.in_room(&room_id, &caller, |room| {
        let once = (caller.token.clone(), event_type, txn_id);
        if let Some(known) = room.sent.get(&once) {
            return Ok(Json(json!({ "event_id": known })));
        }
        room.sent.insert(once, event_id.clone());
        room.timeline.push(event);
        Ok(Json(json!({ "event_id": event_id })))
    })
}

/// PUT rooms/{room_id}/state/{event_type} with an empty state key
pub async fn set_state_no_key(
    homeserver: State<Homeserver>,
    Path((room_id, event_type)): Path<(String, String)>,
    query: RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    set_state(homeserver, Path((room_id, event_type, String::new())), query, headers, body).await
}

/// PUT rooms/{room_id}/state/{event_type}/{state_key}
pub async fn set_state(
    State(homeserver): State<Homeserver>,
    Path((room_id, event_type, state_key)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let caller = homeserver.caller(&headers, query.as_deref())?;
    let content = event_content(&body)?;
    let (event_id, mut event) = homeserver.new_event(&room_id, &caller, &event_type, content)?;
    if let Some(fields) = event.as_object_mut() {
        fields.insert("state_key".to_owned(), state_key.clone().into());
    }
    homeserver.in_room(&room_id, &caller, |room| {
        room.timeline.push(event);
        room.state.insert((event_type, state_key), event_id.clone());
        Ok(Json(json!({ "event_id": event_id })))
    })
}

/// GET rooms/{room_id}/state/{event_type} with an empty state key
pub async fn state_no_key(
    homeserver: State<Homeserver>,
    Path((room_id, event_type)): Path<(String, String)>,
    query: RawQuery,
    headers: HeaderMap,
) -> Answer {
    state(homeserver, Path((room_id, event_type, String::new())), query, headers).await
}

/// GET rooms/{room_id}/state/{event_type}/{state_key}; membership is answered from who is joined.
pub async fn state(
    State(homeserver): State<Homeserver>,
    Path((room_id, event_type, state_key)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let caller = homeserver.caller(&headers, query.as_deref())?;
    homeserver.in_room(&room_id, &caller, |room| {
        if event_type == "m.room.member" {
            let joined = room.joined.iter().any(|user| user.as_str() == state_key);
            return if joined { Ok(Json(json!({"membership": "join"}))) } else { Err(not_found("Event not found.")) };
        }
        let id = room.state.get(&(event_type, state_key));
        let found = id.and_then(|id| room.timeline.iter().find(|event| event.get("event_id") == Some(&json!(id))));
        let content = found.and_then(|event| event.get("content")).cloned();
        content.map(Json).ok_or_else(|| not_found("Event not found."))
    })
}

/// GET rooms/{room_id}/event/{event_id}
pub async fn event(
    State(homeserver): State<Homeserver>,
    Path((room_id, event_id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let caller = homeserver.caller(&headers, query.as_deref())?;
    homeserver.in_room(&room_id, &caller, |room| {
        let wanted = Some(json!(event_id));
        let found = room.timeline.iter().find(|event| event.get("event_id") == wanted.as_ref());
        found.cloned().map(Json).ok_or_else(|| not_found("Event not found."))
    })
}

/// GET rooms/{room_id}/messages: the whole timeline, newest first, as one page.
pub async fn messages(
    State(homeserver): State<Homeserver>,
    Path(room_id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let caller = homeserver.caller(&headers, query.as_deref())?;
    homeserver.in_room(&room_id, &caller, |room| {
        let chunk: Vec<_> = room.timeline.iter().rev().cloned().collect();
        Ok(Json(json!({"chunk": chunk, "start": "t0"})))
    })
}

/// PUT /_sandbox/rooms/{room_id} `{"joined": ["@alice:…", …]}`: makes the room, or changes who is in it.
pub async fn make(
    State(homeserver): State<Homeserver>,
    Path(room_id): Path<String>,
    body: Bytes,
) -> Result<StatusCode, MatrixError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Members {
        joined: Vec<String>,
    }
    let bad = |message: String| matrix_error(StatusCode::BAD_REQUEST, "M_BAD_JSON", &message);
    RoomId::parse(&room_id).map_err(|malformed| bad(format!("room_id: {malformed}")))?;
    let members: Members = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
    let joined: Result<BTreeSet<_>, _> = members.joined.iter().map(|user| UserId::parse(user)).collect();
    let joined = joined.map_err(|malformed| bad(format!("joined: {malformed}")))?;
    homeserver.state.lock().rooms.entry(room_id).or_default().joined = joined;
    Ok(StatusCode::NO_CONTENT)
}

/// The content of an event. Matrix knows no floats, nor integers beyond 2^53 - 1 (canonical JSON).
fn event_content(body: &[u8]) -> Result<Map<String, Value>, MatrixError> {
    let bad = |message: &str| matrix_error(StatusCode::BAD_REQUEST, "M_BAD_JSON", message);
    if body.len() > 65_536 {
        return Err(matrix_error(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", "event too large"));
    }
    let content: Value = serde_json::from_slice(body)
        .map_err(|_| matrix_error(StatusCode::BAD_REQUEST, "M_NOT_JSON", "Content not JSON."))?;
    if !is_canonical(&content) {
        return Err(bad("Bad JSON value: float, or integer out of range"));
    }
    match content {
        Value::Object(content) => Ok(content),
        _ => Err(bad("Content must be a JSON object.")),
    }
}

fn is_canonical(value: &Value) -> bool {
    const LARGEST: u64 = (1 << 53) - 1;
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => integer.unsigned_abs() <= LARGEST,
            (None, integer) => integer.is_some_and(|integer| integer <= LARGEST),
        },
        Value::Array(values) => values.iter().all(is_canonical),
        Value::Object(fields) => fields.values().all(is_canonical),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}
