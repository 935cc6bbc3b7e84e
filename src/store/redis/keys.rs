//! What things are called in Redis. Everything begins with `tmcp:`, which is what an ACL user needs to be let at
//! (`~tmcp:*`, `&tmcp:*`).
//!
//! | key | type | holds |
//! |---|---|---|
//! | `tmcp:{partition}:v:name` | string | a value: 8 bytes of version, then the value itself; its TTL is the value's |
//! | `tmcp:{partition}:n` | sorted set, all scores 0 | the names, in lexical order: what scans go by |
//! | `tmcp:{partition}:x` | sorted set by Unix ms | the names that expire, and when: what keeps the former clean |
//! | `tmcp:{partition}:b:version` | string | a batch that has been applied, for two minutes: what makes sending it again safe |
//! | `tmcp:{partition}:w` | string | touched to see whether replicas still follow ([`Read::Confirmed`]) |
//! | `tmcp:{partition}:q:queue` | sorted set by Unix ms | the items of a queue by when they are due |
//! | `tmcp:{partition}:d:queue` | hash | what they say: 8 bytes of lease, 4 of claims, then the value |
//!
//! The braces are a hash tag: a partition is one slot of a cluster.

use super::super::Partition;
#[cfg(doc)]
use super::super::Read;

/// What every key and channel begins with.
const PREFIX: &str = "tmcp:";

/// What a key of a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Value(&'a str),
    Names,
    Expiring,
    Batch(&'a str),
    Witness,
    Due(&'a str),
    Items(&'a str),
}

impl Key<'_> {
    /// As Redis knows it.
    pub fn of(self, partition: &Partition) -> String {
        let (letter, rest) = match self {
            Key::Value(name) => (":v:", name),
            Key::Names => (":n", ""),
            Key::Expiring => (":x", ""),
            Key::Batch(version) => (":b:", version),
            Key::Witness => (":w", ""),
            Key::Due(queue) => (":q:", queue),
            Key::Items(queue) => (":d:", queue),
        };
        format!("{PREFIX}{{{}}}{letter}{rest}", partition.as_str())
    }
}

/// What all values' keys of a partition begin with.
pub(super) fn values_of(partition: &Partition) -> String {
    Key::Value("").of(partition)
}

/// The pattern of every value or queue, for `SCAN`.
pub(super) const EVERYTHING: &str = "tmcp:{*}:[vq]:*";

/// Takes a key apart: its partition, and what it is. `None`: it is none of ours.
pub(super) fn parse(key: &str) -> Option<(Partition, Key<'_>)> {
    let (partition, rest) = key.strip_prefix(PREFIX)?.strip_prefix('{')?.split_once('}')?;
    let partition = Partition::parse(partition)?;
    let key = match rest.split_at_checked(3)? {
        (":v:", name) => Key::Value(name),
        (":q:", queue) => Key::Due(queue),
        _ => return None,
    };
    Some((partition, key))
}

/// The channel of a topic.
pub(super) fn channel(topic: &str) -> String {
    format!("{PREFIX}topic:{topic}")
}

/// The topic of a channel.
pub(super) fn topic_of(channel: &str) -> &str {
    channel.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix("topic:")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::topology::slot_of;
    use super::*;

    #[test]
    fn keys_of_a_partition_share_a_slot_and_read_back() {
        let partition = Partition::of("grant", &["a"]);
        let slot = slot_of(Key::Names.of(&partition).as_bytes());
        for key in [Key::Value("a}b{c"), Key::Value(""), Key::Due("out")] {
            let text = key.of(&partition);
            assert_eq!(slot_of(text.as_bytes()), slot, "{text}");
            assert_eq!(parse(&text), Some((partition.clone(), key)));
        }
        for key in [Key::Names, Key::Expiring, Key::Batch("1"), Key::Witness, Key::Items("out")] {
            assert_eq!(slot_of(key.of(&partition).as_bytes()), slot);
            assert_eq!(parse(&key.of(&partition)), None, "{key:?} goes with another one");
        }
        assert_eq!(parse("tmcp:{grant:zz}:v:x"), None);
        assert_eq!(topic_of(&channel("revocations")), "revocations");
    }
}
