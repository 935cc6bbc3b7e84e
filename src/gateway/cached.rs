//! Answers from the response cache, and the way into it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::proxy::Session;

use super::{Gateway, Passage};
use crate::cache::{Entry, FillGuard, Identity, KeyParts, Lookup, RequestRule, Waited};
use crate::response::Answer;
use crate::telemetry::CacheStatus;

/// How long a request waits for another one that is fetching the same answer.
const WAIT_AT_MOST: Duration = Duration::from_secs(5);

/// What the cache has for a request.
pub(super) enum Cached {
    /// The answer.
    Hit(Answer),
    /// Nothing; what the upstream answers may be kept.
    Fill(Option<FillGuard>),
}

impl Gateway {
    /// Asks the cache about a request whose route is cached.
    pub(super) async fn ask_cache(&self, session: &Session, passage: &mut Passage) -> Cached {
        let head = session.req_header();
        let rule = RequestRule::of(&head.method, &head.headers);
        if rule == RequestRule::Bypass {
            passage.context.cache = Some(CacheStatus::Bypass);
            return Cached::Fill(None);
        }
        let context = &passage.context;
        let cache = self.cache.load_full();
        let index = context.trail.route.as_ref().map_or(usize::MAX, |(_, index)| *index);
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).or(head.uri.host());
        let host = host.unwrap_or_default().to_ascii_lowercase();
        let key = with_identity(passage, |identity| {
            cache.key(&KeyParts {
                row: context.snapshot.way(index).map_or(0, |way| way.fingerprint),
                operation: context.trail.operation(),
                host: &host,
                path: head.uri.path(),
                query: head.uri.query(),
                identity,
                headers: &head.headers,
            })
        });
        let (status, cached) = match cache.lookup(&key, rule) {
            Lookup::Hit(entry) => (CacheStatus::Hit, Cached::Hit(self.answer_of(&entry, &head.headers))),
            Lookup::Fill(guard) => (CacheStatus::Miss, Cached::Fill(Some(guard))),
            Lookup::Pass => (CacheStatus::Miss, Cached::Fill(None)),
            Lookup::Wait(waiter) => match waiter.wait(WAIT_AT_MOST).await {
                Waited::Hit(entry) => (CacheStatus::Hit, Cached::Hit(self.answer_of(&entry, &head.headers))),
                Waited::Alone => (CacheStatus::Miss, Cached::Fill(None)),
            },
        };
        passage.context.cache = Some(status);
        cached
    }

    /// The answer that is kept, or 304 for a caller that has it.
    fn answer_of(&self, entry: &Entry, request: &HeaderMap) -> Answer {
        let age = HeaderValue::from(entry.age(self.edge.live().clock.tick()));
        let answer = if entry.is_held_by(request) {
            Answer { status: StatusCode::NOT_MODIFIED, headers: listed(&entry.held_headers()), body: Bytes::new() }
        } else {
            Answer { status: entry.status(), headers: listed(entry.headers()), body: entry.body().clone() }
        };
        answer.with(AGE, age)
    }

    /// What a caller has changed, it must not be shown as it was.
    pub(super) fn forget_after_write(&self, session: &Session, passage: &Passage) {
        if !session.req_header().method.is_safe() {
            with_identity(passage, |identity| self.cache.load().invalidate_caller(&identity));
        }
    }
}

fn listed(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let headers = headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH);
    headers.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Runs `then` with everything that an upstream is told about the caller.
fn with_identity<T>(passage: &Passage, then: impl FnOnce(Identity<'_>) -> T) -> T {
    let caller = &passage.context.trail.caller;
    let told = caller.identity();
    let text = |value: &'_ Option<HeaderValue>| {
        value.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let claims = [text(&told.scopes), text(&told.session_id), text(&told.wallet_id)];
    let claims: [&str; 3] = [&claims[0], &claims[1], &claims[2]];
    then(Identity {
        user: caller.user().map(|user| user.as_str()),
        app: caller.app().map(|app| app.as_str()),
        claims: &claims,
    })
}
