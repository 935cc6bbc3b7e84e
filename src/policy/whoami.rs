//! Matrix access tokens: opaque to us, so the homeserver is asked, and its answer kept for a minute.
//!
//! Refusals are kept as well, apart from the good answers, so that a client that retries a dead token does not cost the
//! homeserver a query each time and garbage cannot push good answers out. Requests with one token ask once; how many
//! questions are open at a time is capped, because a homeserver answers a few hundred a second and has its own users.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use http::HeaderValue;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::authn::identity::{UserHash, UserHasher};
use super::rate_limit::LimitKey;
use crate::error::{Challenge, Code, Refusal};
use crate::model::UserId;
use crate::model::matrix::Whoami;
use crate::store::seal::sha256;
use crate::upstream::forward::Identity;
use crate::upstream::homeserver::{self, WhoamiError};
use crate::upstream::identity::UserRules;

/// How long an answer is kept.
pub const KEPT_FOR: Duration = Duration::from_secs(60);
/// How many answers of each kind are kept.
const MAX_KEPT: u64 = 20_000;
/// How many questions may be open at the homeserver at a time.
pub const MAX_OPEN: usize = 32;
/// Longest token that a homeserver is asked about, bytes.
const MAX_TOKEN: usize = 4096;

/// The homeserver did not say: it is down, slow or spoke nonsense. Says nothing about the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// Why, for the log.
    pub reason: String,
    /// Seconds after which asking again makes sense, if that is known.
    pub retry_after: Option<u64>,
}

/// Who can say whose access token it is.
#[async_trait]
pub trait Homeserver: Send + Sync {
    /// Whose token it is; `None`: nobody's, or no longer.
    ///
    /// # Errors
    /// [`Unavailable`] when the homeserver did not say.
    async fn whoami(&self, token: &str) -> Result<Option<Whoami>, Unavailable>;
}

#[async_trait]
impl Homeserver for homeserver::Homeserver {
    async fn whoami(&self, token: &str) -> Result<Option<Whoami>, Unavailable> {
        match self.whoami(token).await {
            Ok(whoami) => Ok(Some(whoami)),
            Err(WhoamiError::Rejected { .. }) => Ok(None),
            Err(WhoamiError::Unavailable(refusal)) => {
                Err(Unavailable { reason: refusal.to_string(), retry_after: refusal.retry_after_seconds() })
            }
        }
    }
}

/// A user proven by Matrix access token, with what each of its requests needs worked out already.
#[derive(Debug)]
pub struct MatrixUser {
    /// The user.
    pub user: UserId,
    /// The device, if the token has one.
    pub device_id: Option<String>,
    /// Who upstreams are told is calling.
    pub identity: Identity,
    /// The limit bucket of the user, the same as that of the user's TEP tokens.
    pub user_key: LimitKey,
    /// The user in logs.
    pub user_hash: UserHash,
}

/// What there is to say about a token.
#[derive(Clone, Debug)]
enum Verdict {
    User(Arc<MatrixUser>),
    /// Nobody's token.
    Unknown,
    /// Somebody's, whom we do not serve.
    Forbidden(&'static str),
}

/// Why a token could not be asked about.
#[derive(Clone, Debug)]
enum Trouble {
    Busy,
    Homeserver(Unavailable),
}

type Asking = Shared<BoxFuture<'static, Result<Verdict, Trouble>>>;
type Key = [u8; 32];

/// Matrix access tokens and what is known of them. Kept over reloads as long as homeserver and rules stay the same.
pub struct MatrixTokens {
    inner: Arc<Inner>,
}

struct Inner {
    homeserver: Arc<dyn Homeserver>,
    rules: UserRules,
    hasher: UserHasher,
    good: Cache<Key, (Verdict, u64)>,
    bad: Cache<Key, (Verdict, u64)>,
    asking: Mutex<HashMap<Key, Asking>>,
    open: Arc<Semaphore>,
}

impl std::fmt::Debug for MatrixTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MatrixTokens({} known)", self.inner.good.entry_count())
    }
}

impl MatrixTokens {
    /// Asks `homeserver`, with at most `open` questions at a time ([`MAX_OPEN`]).
    pub fn new(homeserver: Arc<dyn Homeserver>, rules: UserRules, hasher: UserHasher, open: usize) -> MatrixTokens {
        // Times are ours to judge, by the clock that callers hold; moka's own only clears away what is long dead.
        let cache = || Cache::builder().max_capacity(MAX_KEPT).time_to_live(2 * KEPT_FOR).build();
        let inner = Inner {
            homeserver,
            rules,
            hasher,
            good: cache(),
            bad: cache(),
            asking: Mutex::default(),
            open: Arc::new(Semaphore::new(open)),
        };
        MatrixTokens { inner: Arc::new(inner) }
    }

    /// Whose token it is; `now` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// 401 `INVALID_TOKEN` for nobody's; 403 `FORBIDDEN` for guests, our own service's users and other servers' users;
    /// 503 when the homeserver does not say or too many questions are open.
    pub async fn check(&self, token: &str, now: u64) -> Result<Arc<MatrixUser>, Refusal> {
        // A homeserver answers 500 to some of these, which would look as if it were down.
        if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
            return Err(unknown("a token that no homeserver issues"));
        }
        // The token itself is not kept in memory: its hash names it as well.
        let key = sha256(token.as_bytes());
        let verdict = match self.inner.known(&key, now) {
            Some(verdict) => verdict,
            None => self.ask(token, key, now).await.map_err(unavailable)?,
        };
        match verdict {
            Verdict::User(user) => Ok(user),
            Verdict::Unknown => Err(unknown("the homeserver does not know it")),
            Verdict::Forbidden(why) => Err(Refusal::new(Code::Forbidden, why)),
        }
    }

    /// Asks the homeserver, or joins whoever is asking about the same token already.
    async fn ask(&self, token: &str, key: Key, now: u64) -> Result<Verdict, Trouble> {
        let asking = {
            let mut asking = self.inner.asking.lock();
            match asking.get(&key) {
                Some(already) => already.clone(),
                None => {
                    // Somebody may have got the answer between the look into the cache and this lock.
                    if let Some(verdict) = self.inner.known(&key, now) {
                        return Ok(verdict);
                    }
                    let Ok(permit) = self.inner.open.clone().try_acquire_owned() else { return Err(Trouble::Busy) };
                    let (inner, token) = (self.inner.clone(), token.to_owned());
                    // A task of its own: whoever asked first may leave, the others still get their answer.
                    let task = tokio::spawn(async move {
                        let answer = inner.homeserver.whoami(&token).await;
                        let outcome = inner.remember(key, answer, now);
                        inner.asking.lock().remove(&key);
                        drop(permit);
                        outcome
                    });
                    let lost = |_| Err(Trouble::Homeserver(lost()));
                    let shared = task.map(move |done| done.unwrap_or_else(lost)).boxed().shared();
                    asking.insert(key, shared.clone());
                    shared
                }
            }
        };
        asking.await
    }
}

impl Inner {
    fn known(&self, key: &Key, now: u64) -> Option<Verdict> {
        let (verdict, asked_at) = self.good.get(key).or_else(|| self.bad.get(key))?;
        (now.abs_diff(asked_at) < KEPT_FOR.as_secs()).then_some(verdict)
    }

    fn judge(&self, whoami: Whoami) -> Verdict {
        let whoami = match self.rules.admit(whoami) {
            Ok(whoami) => whoami,
            Err(why) => return Verdict::Forbidden(why),
        };
        let Ok(header) = HeaderValue::from_str(whoami.user.as_str()) else { return Verdict::Unknown };
        Verdict::User(Arc::new(MatrixUser {
            identity: Identity { user_id: Some(header), ..Identity::default() },
            user_key: LimitKey::user(&whoami.user),
            user_hash: self.hasher.hash(whoami.user.as_str()),
            device_id: whoami.device_id,
            user: whoami.user,
        }))
    }

    fn remember(&self, key: Key, answer: Result<Option<Whoami>, Unavailable>, now: u64) -> Result<Verdict, Trouble> {
        let verdict = match answer.map_err(Trouble::Homeserver)? {
            Some(whoami) => self.judge(whoami),
            None => Verdict::Unknown,
        };
        let (keep, drop) = match verdict {
            Verdict::User(_) => (&self.good, &self.bad),
            Verdict::Unknown | Verdict::Forbidden(_) => (&self.bad, &self.good),
        };
        drop.invalidate(&key);
        keep.insert(key, (verdict.clone(), now));
        Ok(verdict)
    }
}

fn lost() -> Unavailable {
    Unavailable { reason: "the question was lost".to_owned(), retry_after: None }
}

fn unknown(inside: &'static str) -> Refusal {
    Refusal::new(Code::InvalidToken, "The Matrix access token is not valid.")
        .challenge(Challenge::BearerInvalid)
        .inside(inside)
}

fn unavailable(trouble: Trouble) -> Refusal {
    let (inside, retry_after) = match trouble {
        Trouble::Busy => ("whoami: too many open questions".to_owned(), 1),
        Trouble::Homeserver(trouble) => (format!("whoami: {}", trouble.reason), trouble.retry_after.unwrap_or(5)),
    };
    Refusal::new(Code::ServiceUnavailable, "The homeserver cannot be asked about the access token. Try again.")
        .retry_after(retry_after)
        .inside(inside)
}

#[cfg(test)]
mod tests;
