//! The key of a cached answer: everything that the answer may depend on.
//!
//! One run of bytes with every part preceded by its length, so that no two different requests have the same bytes.
//! Keys are equal when their bytes are; the hash only finds the place.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use http::HeaderMap;

use super::Purge;
use super::rules::ALWAYS_VARY;
use crate::model::Operation;

/// Who an answer is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The user, if one is known.
    pub user: Option<&'a str>,
    /// The mini-app, if one is known.
    pub app: Option<&'a str>,
    /// Whatever else an upstream is told about the caller: scopes, session, wallet.
    pub claims: &'a [&'a str],
}

impl Identity<'_> {
    /// Whose writes make the answer stale.
    pub(super) fn owner(&self) -> (u8, &str) {
        match (self.user, self.app) {
            (Some(user), _) => (0, user),
            (None, Some(app)) => (1, app),
            (None, None) => (2, ""),
        }
    }
}

/// What a key is made of.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a> {
    /// The row: a number that is another one when its config is another one, so that an entry does not survive a change
    /// of what it was admitted by.
    pub row: u64,
    /// The operation, for purging.
    pub operation: Operation,
    /// The host asked for, in lower case.
    pub host: &'a str,
    /// The path as it is forwarded.
    pub path: &'a str,
    /// The query as it is forwarded; `None` and `Some("")` are different requests.
    pub query: Option<&'a str>,
    /// Who asks.
    pub identity: Identity<'a>,
    /// The request's headers, for those that answers vary by.
    pub headers: &'a HeaderMap,
}

/// The key of a cached answer. Cloning shares it.
#[derive(Clone)]
pub struct Key(Arc<Inner>);

struct Inner {
    bytes: Box<[u8]>,
    operation: Operation,
    user: Option<Box<str>>,
    app: Option<Box<str>>,
    path: Box<str>,
}

impl Key {
    pub(super) fn new(parts: &KeyParts<'_>, vary_by: &[String], generation: u64) -> Key {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&parts.row.to_be_bytes());
        bytes.extend_from_slice(&generation.to_be_bytes());
        bytes.push(parts.operation.index() as u8);
        part(&mut bytes, parts.host.as_bytes());
        part(&mut bytes, parts.path.as_bytes());
        option(&mut bytes, parts.query);
        option(&mut bytes, parts.identity.user);
        option(&mut bytes, parts.identity.app);
        length(&mut bytes, parts.identity.claims.len());
        for claim in parts.identity.claims {
            part(&mut bytes, claim.as_bytes());
        }
        // The names are the same for every key of a cache, so only values need to stand here.
        for name in ALWAYS_VARY.iter().copied().chain(vary_by.iter().map(String::as_str)) {
            let values = parts.headers.get_all(name);
            length(&mut bytes, values.iter().count());
            for value in values {
                part(&mut bytes, value.as_bytes());
            }
        }
        Key(Arc::new(Inner {
            bytes: bytes.into(),
            operation: parts.operation,
            user: parts.identity.user.map(Into::into),
            app: parts.identity.app.map(Into::into),
            path: parts.path.into(),
        }))
    }

    /// Bytes in memory, about.
    pub(super) fn weight(&self) -> usize {
        // The structures around: the key, an entry, and moka's own books.
        const AROUND: usize = 384;
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        AROUND + self.0.bytes.len() + self.0.path.len() + text(&self.0.user) + text(&self.0.app)
    }

    pub(super) fn is_meant_by(&self, what: &Purge) -> bool {
        match what {
            Purge::All => true,
            Purge::Operation(operation) => self.0.operation == *operation,
            Purge::User(user) => self.0.user.as_deref() == Some(user),
            Purge::App(app) => self.0.app.as_deref() == Some(app),
            Purge::PathPrefix(prefix) => self.0.path.starts_with(prefix.as_str()),
        }
    }
}

fn length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend_from_slice(&(length as u64).to_be_bytes());
}

fn part(bytes: &mut Vec<u8>, part: &[u8]) {
    length(bytes, part.len());
    bytes.extend_from_slice(part);
}

fn option(bytes: &mut Vec<u8>, text: Option<&str>) {
    bytes.push(u8::from(text.is_some()));
    part(bytes, text.unwrap_or_default().as_bytes());
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.bytes.hash(state);
    }
}

/// The bytes hold whatever headers the config varies by, credentials among them: they are not shown.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("operation", &self.0.operation).finish_non_exhaustive()
    }
}
