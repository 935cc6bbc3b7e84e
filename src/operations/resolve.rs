//! `GET /api/v1/wallet/resolve/{user_id}`, `POST /api/v1/wallet/resolve/batch` (protocol section 4): from a user to a wallet.
//!
//! A user may resolve only people that it shares a room with, or any mini-app could list who has a wallet. The homeserver
//! is asked each time, because leaving a room must take effect at once; what the wallet says is kept for five minutes.
//! It is kept per caller: nothing says that a wallet tells everybody the same.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::header::AUTHORIZATION;
use moka::sync::Cache;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Call, Local, Services};
use crate::clock::Tick;
use crate::error::{Code, Refusal};
use crate::metrics::{CacheName, CacheResult, Membership};
use crate::model::{Operation, RoomId, UserId};
use crate::policy::Permit;
use crate::policy::authn::Caller;
use crate::upstream::forward::caller_headers;
use crate::upstream::homeserver::{Homeserver, RoomError};
use crate::upstream::wallet::Wallet;

/// How long a resolution is kept (protocol section 4).
const KEEP: Duration = Duration::from_secs(300);
/// Resolutions kept, weighed in bytes.
const KEPT_BYTES: u64 = 32 * 1024 * 1024;
/// Room checks of one batch under way at once.
const CHECKS_AT_ONCE: usize = 8;

/// Resolutions by caller and user. The key holds the names themselves, so that no two callers can meet in it.
pub struct Resolved {
    entries: Cache<(UserId, UserId), (Tick, Bytes)>,
}

impl Default for Resolved {
    fn default() -> Self {
        let weigh = |key: &(UserId, UserId), value: &(Tick, Bytes)| {
            u32::try_from(key.0.as_str().len() + key.1.as_str().len() + value.1.len() + 128).unwrap_or(u32::MAX)
        };
        Resolved { entries: Cache::builder().weigher(weigh).max_capacity(KEPT_BYTES).time_to_live(KEEP).build() }
    }
}

impl Resolved {
    fn get(&self, key: &(UserId, UserId), now: Tick) -> Option<Bytes> {
        self.entries.get(key).filter(|(kept, _)| now.since(*kept) < KEEP).map(|(_, body)| body)
    }
}

#[derive(Deserialize)]
struct Batch {
    user_ids: Vec<String>,
    room_id: Option<String>,
}

#[derive(Deserialize)]
struct BatchAnswer {
    results: Vec<Box<RawValue>>,
}

/// Resolves one user, or a batch.
pub async fn answer(permit: &Permit, services: &Services, call: Call<'_>) -> Result<Local, Refusal> {
    let wallet = services.wallet.as_ref().ok_or_else(|| no_upstream("wallet"))?;
    let Caller::Tep(token) = call.caller else {
        return Err(Refusal::internal("a wallet is resolved for a TEP token only"));
    };
    let desk = Desk { services, wallet, caller: token.claims.user.clone(), call: &call };
    if permit.route().operation == Operation::WalletResolveBatch {
        let batch: Batch = serde_json::from_slice(permit.body().map_or(&[], |body| body))
            .map_err(|error| Refusal::internal(format!("a batch passed its schema and does not read: {error}")))?;
        return desk.batch(batch).await.map(Local::ok);
    }
    let raw = call.params.first().copied().unwrap_or_default();
    let user = user_id(&decode(raw))?;
    let room = query_value(call.query, "room_id").map(|room| room_id(&room)).transpose()?;
    desk.one(&user, room.as_ref()).await.map(Local::ok)
}

/// One caller's request at work.
struct Desk<'a, 'c> {
    services: &'a Services,
    wallet: &'a Wallet,
    caller: UserId,
    call: &'a Call<'c>,
}

impl Desk<'_, '_> {
    async fn one(&self, user: &UserId, room: Option<&RoomId>) -> Result<Bytes, Refusal> {
        self.check_room(user, room).await?;
        let key = (self.caller.clone(), user.clone());
        if let Some(kept) = self.cached(&key) {
            return Ok(kept);
        }
        let body = self.wallet.resolve(user, self.headers()).await?;
        self.keep(key, body.clone());
        Ok(body)
    }

    /// Users that the caller may not resolve, and users without a wallet, are entries of their own: one of them does
    /// not spoil the batch. Entries stand in the order that was asked for.
    async fn batch(&self, batch: Batch) -> Result<Bytes, Refusal> {
        let room = batch.room_id.as_deref().map(room_id).transpose()?;
        let users = batch.user_ids.iter().map(|id| user_id(id)).collect::<Result<Vec<_>, _>>()?;
        let asked: Vec<_> = users.iter().map(|user| self.check_room(user, room.as_ref())).collect();
        let checks: Vec<Result<(), Refusal>> = futures::stream::iter(asked).buffered(CHECKS_AT_ONCE).collect().await;
        let mut results: Vec<Option<Box<RawValue>>> = Vec::with_capacity(users.len());
        let mut unknown: Vec<(usize, UserId)> = Vec::new();
        let mut resolved = 0_usize;
        for (at, (user, check)) in users.into_iter().zip(checks).enumerate() {
            results.push(match check {
                Err(refusal) if refusal.code() != Code::Forbidden => return Err(refusal),
                Err(refusal) => Some(raw(&refused_entry(&user, &refusal))?),
                Ok(()) => match self.cached(&(self.caller.clone(), user.clone())) {
                    Some(kept) => {
                        resolved += 1;
                        Some(raw_bytes(&kept)?)
                    }
                    None => {
                        unknown.push((at, user));
                        None
                    }
                },
            });
        }
        if !unknown.is_empty() {
            let asked: Vec<UserId> = unknown.iter().map(|(_, user)| user.clone()).collect();
            let body = self.wallet.resolve_batch(&asked, self.headers()).await?;
            let answer: BatchAnswer = serde_json::from_slice(&body).map_err(|error| nonsense(&error))?;
            for entry in answer.results {
                let read: Value = serde_json::from_str(entry.get()).unwrap_or(Value::Null);
                let user = read.get("user_id").and_then(Value::as_str).and_then(|id| UserId::parse(id).ok());
                let found = read.get("wallet_id").is_some_and(|id| !id.is_null());
                let mut places = unknown.iter().filter(|(_, asked)| user.as_ref() == Some(asked)).map(|(at, _)| *at);
                // Nobody else than who was asked about, and nobody twice.
                let free = places.find(|at| results.get(*at).is_some_and(Option::is_none));
                let (Some(place), Some(user)) = (free.and_then(|at| results.get_mut(at)), user) else { continue };
                if found {
                    resolved += 1;
                    self.keep((self.caller.clone(), user), Bytes::from(entry.get().to_owned()));
                }
                *place = Some(entry);
            }
        }
        for (at, user) in &unknown {
            if let Some(place @ None) = results.get_mut(*at) {
                *place = Some(raw(&refused_entry(user, &nonsense(&"this user is missing")))?);
            }
        }
        let total = batch.user_ids.len();
        let answer = json!({"results": results, "resolved_count": resolved, "total_count": total});
        Ok(Bytes::from(answer.to_string()))
    }

    /// 403 unless caller and user are joined to `room`, or, without one, to any room together.
    async fn check_room(&self, user: &UserId, room: Option<&RoomId>) -> Result<(), Refusal> {
        if *user == self.caller && room.is_none() {
            return Ok(());
        }
        let homeserver = self.services.homeserver.as_ref().ok_or_else(|| no_upstream("homeserver"))?;
        let asked = self.ask(homeserver, user, room).await;
        self.services.metrics.membership.inc(match &asked {
            Ok(true) => Membership::Joined,
            Ok(false) | Err(RoomError::NotAskable) => Membership::NotJoined,
            Err(RoomError::Unavailable(_)) => Membership::Unavailable,
        });
        match asked {
            Ok(true) => Ok(()),
            Ok(false) => Err(forbidden("You may resolve only users that you share a room with.")),
            Err(RoomError::NotAskable) if room.is_none() => {
                Err(forbidden("Name the room that you share with the user: room_id is missing."))
            }
            Err(RoomError::NotAskable) => Err(forbidden("That you share this room with the user cannot be confirmed.")),
            Err(RoomError::Unavailable(refusal)) => Err(refusal),
        }
    }

    async fn ask(&self, homeserver: &Homeserver, user: &UserId, room: Option<&RoomId>) -> Result<bool, RoomError> {
        match room {
            Some(room) => homeserver.share_room(room, &self.caller, user).await,
            None => homeserver.share_any_room(&self.caller, user).await,
        }
    }

    fn cached(&self, key: &(UserId, UserId)) -> Option<Bytes> {
        let kept = self.services.resolved.get(key, self.services.clock.tick());
        let result = if kept.is_some() { CacheResult::Hit } else { CacheResult::Miss };
        self.services.metrics.cache.inc(CacheName::Resolve, result);
        kept
    }

    fn keep(&self, key: (UserId, UserId), body: Bytes) {
        self.services.resolved.entries.insert(key, (self.services.clock.tick(), body));
    }

    fn headers(&self) -> http::HeaderMap {
        caller_headers(self.call.caller.identity(), &self.call.trace, self.call.headers.get(AUTHORIZATION))
    }
}

fn nonsense(why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::UpstreamError, "The wallet's answer could not be understood.")
        .inside(format!("resolve/batch: {why}"))
}

fn refused_entry(user: &UserId, refusal: &Refusal) -> Value {
    json!({"user_id": user.as_str(), "error": {"code": refusal.code_text(), "message": refusal.message()}})
}

fn raw(value: &Value) -> Result<Box<RawValue>, Refusal> {
    serde_json::value::to_raw_value(value).map_err(|error| Refusal::internal(error.to_string()))
}

fn raw_bytes(bytes: &[u8]) -> Result<Box<RawValue>, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Refusal::internal(error.to_string()))
}

fn forbidden(message: &'static str) -> Refusal {
    Refusal::new(Code::Forbidden, message)
}

fn no_upstream(name: &str) -> Refusal {
    Refusal::new(Code::ServiceUnavailable, "This operation is not available here.")
        .inside(format!("the config names no upstream {name}"))
}

fn user_id(text: &str) -> Result<UserId, Refusal> {
    UserId::parse(text).map_err(|error| malformed("user_id", error.expected))
}

fn room_id(text: &str) -> Result<RoomId, Refusal> {
    RoomId::parse(text).map_err(|error| malformed("room_id", error.expected))
}

fn malformed(name: &'static str, expected: &'static str) -> Refusal {
    Refusal::new(Code::ValidationFailed, format!("{name} is not well formed: expected {expected}."))
        .details(json!({"errors": [{"parameter": name, "expected": expected}]}))
}

/// A path segment, percent-decoded. It has been checked by `policy::path`, so nothing is lost.
fn decode(raw: &str) -> String {
    url::form_urlencoded::parse(format!("v={}", raw.replace('+', "%2B")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query?.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// For [`Services`]: one cache for every revision.
pub fn cache() -> Arc<Resolved> {
    Arc::new(Resolved::default())
}
