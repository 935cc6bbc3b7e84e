//! Names of members, and telling whether one stood before.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use super::text::unescape;

/// A string literal's inside.
#[derive(Clone, Copy)]
pub(super) struct Name {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) escaped: bool,
}

fn raw(text: &str, name: Name) -> &str {
    text.get(name.start as usize..name.end as usize).unwrap_or_default()
}

/// The name out of its escapes.
pub(super) fn text_of(text: &str, name: Name) -> Cow<'_, str> {
    if name.escaped { unescape(raw(text, name)) } else { Cow::Borrowed(raw(text, name)) }
}

/// Whether two names are one, however they are escaped.
pub(super) fn same(text: &str, one: Name, other: Name) -> bool {
    if one.escaped || other.escaped {
        text_of(text, one) == text_of(text, other)
    } else {
        raw(text, one).as_bytes() == raw(text, other).as_bytes()
    }
}

/// The hashes of an object's names. They are made by the standard library's keyed hasher with a key of their own, so
/// that nobody can prepare names that collide; here they are only stored. A hash that stands here already is a reason to
/// compare the names themselves, which happens once: it is a double, then, and the end of the scan.
#[derive(Default)]
pub(super) struct Hashes {
    keyed: RandomState,
    known: HashSet<u64, BuildHasherDefault<AsItIs>>,
}

#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Hashes {
    /// False when such a hash is known already.
    pub(super) fn insert(&mut self, name: &str) -> bool {
        self.known.insert(self.keyed.hash_one(name))
    }
}
