//! What every wallet call has in common: who calls, the books under one lock, idempotency, and the answer's shape.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::{MiniAppId, UserId};

use super::super::ledger::{Ledger, Refused};
use super::super::time::{Millis, Now};

/// How long an idempotency key is remembered (protocol section 5).
const REMEMBER_SECS: u64 = 24 * 3600;

/// The wallet. Clones share its books.
#[derive(Clone)]
pub struct Wallet {
    books: Arc<Mutex<Books>>,
    now: Now,
    merchants: Arc<HashMap<MiniAppId, String>>,
}

struct Books {
    ledger: Ledger,
    answers: Answers,
}

/// Whom the edge says the caller is.
pub struct Caller {
    user: Option<UserId>,
    app: Option<MiniAppId>,
}

impl Caller {
    fn of(headers: &HeaderMap) -> Result<Caller, Refused> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let user = text("x-tmcp-user-id").map(UserId::parse).transpose();
        let app = text("x-tmcp-app-id").map(MiniAppId::parse).transpose();
        let (Ok(user), Ok(app)) = (user, app) else {
            return Err(Refused::NoIdentity("X-TMCP-User-Id or X-TMCP-App-Id"));
        };
        if user.is_none() && app.is_none() {
            Err(Refused::NoIdentity("X-TMCP-User-Id"))
        } else {
            Ok(Caller { user, app })
        }
    }

    /// The user, without whom most calls mean nothing.
    pub fn user(&self) -> Result<&UserId, Refused> {
        self.user.as_ref().ok_or(Refused::NoIdentity("X-TMCP-User-Id"))
    }

    /// The user, if a user called rather than a merchant's own client.
    pub fn maybe_user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    /// The mini-app.
    pub fn app(&self) -> Result<&MiniAppId, Refused> {
        self.app.as_ref().ok_or(Refused::NoIdentity("X-TMCP-App-Id"))
    }
}

impl Wallet {
    /// A wallet over these books. `merchants` names mini-apps for people.
    pub fn new(ledger: Ledger, now: Now, merchants: HashMap<MiniAppId, String>) -> Wallet {
        let books = Books { ledger, answers: Answers::default() };
        Wallet { books: Arc::new(Mutex::new(books)), now, merchants: Arc::new(merchants) }
    }

    /// A mini-app's name for people; its id where nobody has named it.
    pub fn merchant_name(&self, app: &MiniAppId) -> String {
        self.merchants.get(app).cloned().unwrap_or_else(|| app.to_string())
    }

    /// A call that only looks.
    pub fn read<T: Serialize>(
        &self,
        headers: &HeaderMap,
        work: impl FnOnce(&mut Ledger, &Caller, Millis) -> Result<T, Refused>,
    ) -> Response {
        let now = Millis::of((self.now)());
        let mut books = self.books.lock();
        books.ledger.settle_deadlines(now);
        let answer = Caller::of(headers).and_then(|caller| work(&mut books.ledger, &caller, now));
        match answer.map(|answer| serde_json::to_vec(&answer)) {
            Ok(body) => written(body),
            Err(refused) => refusal(&refused, headers, now),
        }
    }

    /// A call that changes something. With an `idempotency_key` in its body it changes it once: the same body again
    /// gets the same answer, another one 409. Refusals are not remembered: they changed nothing, and may be retried.
    /// `operation` names what is done to what, path ids included.
    pub fn act<'a, B: Deserialize<'a>, T: Serialize>(
        &self,
        operation: &[&str],
        headers: &HeaderMap,
        body: &'a [u8],
        work: impl FnOnce(&mut Ledger, &Caller, B, Millis) -> Result<T, Refused>,
    ) -> Response {
        let now = Millis::of((self.now)());
        let mut books = self.books.lock();
        books.ledger.settle_deadlines(now);
        match books.act(operation, headers, body, now, work) {
            Ok(answer) => answer,
            Err(refused) => refusal(&refused, headers, now),
        }
    }
}

impl Books {
    fn act<'a, B: Deserialize<'a>, T: Serialize>(
        &mut self,
        operation: &[&str],
        headers: &HeaderMap,
        body: &'a [u8],
        now: Millis,
        work: impl FnOnce(&mut Ledger, &Caller, B, Millis) -> Result<T, Refused>,
    ) -> Result<Response, Refused> {
        let caller = Caller::of(headers)?;
        let body: &[u8] = if body.is_empty() { b"{}" } else { body };
        let invalid = |error: serde_json::Error| Refused::Invalid(error.to_string());
        let request: B = serde_json::from_slice(body).map_err(invalid)?;
        let keyed: Keyed = serde_json::from_slice(body).map_err(invalid)?;
        let place = keyed.idempotency_key.map(|key| AnswerKey {
            user: caller.user.clone(),
            app: caller.app.clone(),
            operation: operation.iter().map(|&part| part.to_owned()).collect(),
            key,
        });
        let body_hash = digest(&SHA256, body);
        if let Some(known) = place.as_ref().and_then(|place| self.answers.find(place, now)) {
            return if known.body_hash == body_hash.as_ref() {
                Ok(replayed(&known.answer))
            } else {
                Err(Refused::Duplicate)
            };
        }
        let answer = serde_json::to_vec(&work(&mut self.ledger, &caller, request, now)?);
        if let (Some(place), Ok(answer)) = (place, &answer) {
            self.answers.keep(place, body_hash.as_ref(), answer, now);
        }
        Ok(written(answer))
    }
}

#[derive(Deserialize)]
struct Keyed {
    idempotency_key: Option<String>,
}

/// Whose key it is: the parts are kept apart, so that no two of them can be joined into another's.
#[derive(Clone, PartialEq, Eq, Hash)]
struct AnswerKey {
    user: Option<UserId>,
    app: Option<MiniAppId>,
    operation: Vec<String>,
    key: String,
}

struct Known {
    body_hash: Vec<u8>,
    answer: Bytes,
}

/// Answers by idempotency key.
#[derive(Default)]
struct Answers {
    known: HashMap<AnswerKey, Known>,
    ages: VecDeque<(Millis, AnswerKey)>,
}

impl Answers {
    fn find(&mut self, place: &AnswerKey, now: Millis) -> Option<&Known> {
        while let Some((_, old)) = self.ages.pop_front_if(|(kept_at, _)| kept_at.plus_secs(REMEMBER_SECS) < now) {
            self.known.remove(&old);
        }
        self.known.get(place)
    }

    fn keep(&mut self, place: AnswerKey, body_hash: &[u8], answer: &[u8], now: Millis) {
        self.ages.push_back((now, place.clone()));
        self.known.insert(place, Known { body_hash: body_hash.to_vec(), answer: Bytes::copy_from_slice(answer) });
    }
}

/// Anything that is not a path of the wallet.
pub async fn nowhere(State(wallet): State<Wallet>, headers: HeaderMap) -> Response {
    refusal(&Refused::NotFound("path"), &headers, Millis::of((wallet.now)()))
}

/// A path of the wallet with another method.
pub async fn wrong_method(State(wallet): State<Wallet>, headers: HeaderMap) -> Response {
    let now = Millis::of((wallet.now)());
    let error = error_body("METHOD_NOT_ALLOWED", "The path has no such method.", None, &headers, now);
    (StatusCode::METHOD_NOT_ALLOWED, axum::Json(error)).into_response()
}

fn written(body: Result<Vec<u8>, serde_json::Error>) -> Response {
    match body {
        Ok(body) => ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(error) => {
            log::error!("the sandbox wallet could not write an answer: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn replayed(answer: &Bytes) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true")),
    ];
    (headers, answer.clone()).into_response()
}

fn refusal(refused: &Refused, headers: &HeaderMap, now: Millis) -> Response {
    let (code, status) = refused.code();
    let error = error_body(code, &refused.message(), refused.details(), headers, now);
    (status, axum::Json(error)).into_response()
}

/// The protocol's error shape (section 9).
fn error_body(code: &str, message: &str, details: Option<Value>, headers: &HeaderMap, now: Millis) -> Value {
    let mut error = json!({"code": code, "message": message, "timestamp": now});
    if let Some(fields) = error.as_object_mut() {
        fields.extend(details.map(|details| ("details".to_owned(), details)));
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        fields.extend(id.map(|id| ("request_id".to_owned(), id.into())));
    }
    json!({ "error": error })
}
