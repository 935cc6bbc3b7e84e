//! Fetching an answer once for everybody who waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;

use super::entry::Entry;
use super::key::Key;
use super::rules::{Freshness, Unstorable, content_length, freshness, strip};
use super::{PASS, Shared, Stored};

/// How a fetch stands.
#[derive(Clone, Debug)]
enum Progress {
    UnderWay,
    Stored(Arc<Entry>),
    Nothing,
}

/// A fetch under way, as the table of flights knows it.
pub(super) struct Flight(watch::Receiver<Progress>);

impl Flight {
    pub(super) fn wait(&self) -> Waiter {
        Waiter(self.0.clone())
    }
}

/// Waits for somebody else's fetch.
#[derive(Debug)]
pub struct Waiter(watch::Receiver<Progress>);

/// What waiting came to.
#[derive(Debug)]
pub enum Waited {
    /// Here is the answer.
    Hit(Arc<Entry>),
    /// There is none to be had, or it takes too long: go upstream, and do not keep the answer.
    Alone,
}

impl Waiter {
    /// Waits at most `longest`.
    pub async fn wait(mut self, longest: Duration) -> Waited {
        let over = self.0.wait_for(|progress| !matches!(progress, Progress::UnderWay));
        match tokio::time::timeout(longest, over).await {
            Ok(Ok(progress)) => match &*progress {
                Progress::Stored(entry) => Waited::Hit(entry.clone()),
                _ => Waited::Alone,
            },
            _ => Waited::Alone,
        }
    }
}

/// The right and the duty to fetch an answer. It is given the head and the body as they pass. When it is dropped before
/// [`FillGuard::finish`], nothing is kept and those who wait are let go.
pub struct FillGuard {
    shared: Arc<Shared>,
    key: Key,
    progress: watch::Sender<Progress>,
    /// Purges before the fetch began.
    purges: u64,
    head: Option<Head>,
    pub(super) body: BytesMut,
    over: bool,
}

struct Head {
    headers: HeaderMap,
    freshness: Freshness,
    length: Option<usize>,
}

impl FillGuard {
    pub(super) fn new(shared: Arc<Shared>, key: Key) -> (FillGuard, Flight) {
        let (progress, receiver) = watch::channel(Progress::UnderWay);
        let purges = shared.purges.load(Ordering::Acquire);
        let guard = FillGuard { shared, key, progress, purges, head: None, body: BytesMut::new(), over: false };
        (guard, Flight(receiver))
    }

    /// Takes the head of the upstream's answer as the upstream sent it: a cookie that goes no further still says that the
    /// answer is not for keeping. When the answer may not be kept, those who wait are let go at once; later calls then do nothing.
    pub fn head(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Unstorable> {
        let shared = &self.shared;
        let result = freshness(status, headers, &shared.vary_by, shared.size.ttl).and_then(|freshness| {
            let length = content_length(headers);
            if length.is_some_and(|length| length > shared.largest) {
                return Err(Unstorable::TooLarge);
            }
            Ok((freshness, length))
        });
        match result {
            Ok((freshness, length)) => {
                let mut headers = headers.clone();
                strip(&mut headers);
                self.body.reserve(length.unwrap_or(0));
                self.head = Some(Head { headers, freshness, length });
                Ok(())
            }
            Err(why) => {
                self.give_up(why);
                Err(why)
            }
        }
    }

    /// Takes the headers as they go on to the client, before anything of ours is added: what has been taken out of them
    /// is not kept either.
    pub fn passed_on(&mut self, headers: &HeaderMap) {
        if let Some(head) = &mut self.head {
            head.headers = headers.clone();
            strip(&mut head.headers);
        }
    }

    /// Takes the next piece of the body.
    pub fn body(&mut self, piece: &[u8]) {
        if self.over || self.head.is_none() {
            return;
        }
        if self.body.len() + piece.len() > self.shared.largest {
            return self.give_up(Unstorable::TooLarge);
        }
        self.body.extend_from_slice(piece);
    }

    /// The body has come to its end: keeps the answer, and hands it to those who wait.
    pub fn finish(mut self) -> Result<Arc<Entry>, Unstorable> {
        let Some(head) = self.head.take().filter(|_| !self.over) else { return Err(Unstorable::Incomplete) };
        if head.length.is_some_and(|length| length != self.body.len()) {
            self.give_up(Unstorable::Incomplete);
            return Err(Unstorable::Incomplete);
        }
        let now = self.shared.clock.tick();
        let entry = Arc::new(Entry {
            headers: head.headers,
            body: Bytes::from(std::mem::take(&mut self.body)),
            stored: now,
            expires: now.plus(head.freshness.lives),
            age: head.freshness.age,
        });
        // What was fetched before a purge is what the purge was meant for.
        if self.shared.purges.load(Ordering::Acquire) != self.purges {
            self.end(Progress::Nothing);
            return Err(Unstorable::Old);
        }
        self.shared.stored.insert(self.key.clone(), Stored::Answer(entry.clone()));
        if self.shared.purges.load(Ordering::Acquire) != self.purges {
            // A purge that began between the look and the insertion may have walked past the entry.
            self.shared.stored.invalidate(&self.key);
        }
        self.end(Progress::Stored(entry.clone()));
        Ok(entry)
    }

    fn give_up(&mut self, why: Unstorable) {
        if why.lasts() && !self.over {
            let until = self.shared.clock.tick().plus(PASS);
            self.shared.stored.insert(self.key.clone(), Stored::Pass(until));
        }
        self.body = BytesMut::new();
        self.end(Progress::Nothing);
    }

    fn end(&mut self, progress: Progress) {
        if !std::mem::replace(&mut self.over, true) {
            self.shared.flights.lock().remove(&self.key);
            self.progress.send_replace(progress);
        }
    }
}

impl Drop for FillGuard {
    fn drop(&mut self) {
        self.end(Progress::Nothing);
    }
}

impl std::fmt::Debug for FillGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FillGuard").field("key", &self.key).field("over", &self.over).finish_non_exhaustive()
    }
}
