//! A cached answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::clock::Tick;

/// A cached answer. Its status is 200: nothing else is kept.
#[derive(Debug)]
pub struct Entry {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) stored: Tick,
    pub(super) expires: Tick,
    pub(super) age: Duration,
}

impl Entry {
    /// The status.
    pub fn status(&self) -> StatusCode {
        StatusCode::OK
    }

    /// The upstream's headers, without those of one connection or one request.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The whole body. A `HEAD` is answered with the headers and this body's length.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The value of `Age`: whole seconds since the upstream made the answer.
    pub fn age(&self, now: Tick) -> u64 {
        (self.age + now.since(self.stored)).as_secs()
    }

    pub(super) fn is_fresh(&self, now: Tick) -> bool {
        now < self.expires
    }

    /// Bytes in memory, about, without what a key and its entry cost anyway.
    pub(super) fn weight(&self) -> usize {
        // A header's place in the map: its hash, its name and the books of its value.
        const HEADER: usize = 96;
        let headers = self.headers.iter().map(|(name, value)| HEADER + name.as_str().len() + value.len());
        self.body.len() + headers.sum::<usize>()
    }
}
