//! How values and items lie in the tables.
//!
//! Every key begins with its partition and a zero byte, which no partition's text has in it. What is ordered by number
//! has the number big-endian, so that the tables' bytewise order is the number's. Every value begins with the number of
//! its format: a later release can tell what it reads.

use redb::TableDefinition;

use super::super::backend::{Lease, Partition, StoreError, Version};

/// `partition 0 name` → [`Stored`].
pub(super) const VALUES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("values");
/// `partition 0 length(queue) queue id` → [`Item`].
pub(super) const ITEMS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("items");
/// `partition 0 length(queue) queue due id`: the items of a queue by when they are due.
pub(super) const DUE: TableDefinition<'_, &[u8], ()> = TableDefinition::new("due");
/// How often each topic was told.
pub(super) const TOPICS: TableDefinition<'_, &str, u64> = TableDefinition::new("topics");
/// What is to be known of the file as a whole.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The entry of [`META`] that tells the format of the other tables.
pub(super) const FORMAT_KEY: &str = "format";
/// The format that this release writes.
pub(super) const FORMAT: u64 = 1;

const TAG: u8 = 1;
/// The expiry of what stays.
const NEVER: u64 = 0;

pub(super) fn value_key(partition: &Partition, name: &str) -> Vec<u8> {
    let mut key = partition.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(name.as_bytes());
    key
}

/// What a [`value_key`] was made of.
pub(super) fn value_key_parts(key: &[u8]) -> Result<(Partition, &str), StoreError> {
    let (partition, name) = split_partition(key)?;
    Ok((partition, text(name)?))
}

pub(super) fn queue_key(partition: &Partition, queue: &str) -> Vec<u8> {
    let mut key = value_key(partition, "");
    key.extend_from_slice(&u32::try_from(queue.len()).unwrap_or(u32::MAX).to_be_bytes());
    key.extend_from_slice(queue.as_bytes());
    key
}

pub(super) fn item_key(partition: &Partition, queue: &str, id: &str) -> Vec<u8> {
    let mut key = queue_key(partition, queue);
    key.extend_from_slice(id.as_bytes());
    key
}

/// What an [`item_key`] was made of: partition, queue and id.
pub(super) fn item_key_parts(key: &[u8]) -> Result<(Partition, &str, &str), StoreError> {
    let (partition, rest) = split_partition(key)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(|| malformed("an item's key"))?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| malformed("an item's key"))?;
    let (queue, id) = rest.split_at_checked(length).ok_or_else(|| malformed("an item's key"))?;
    Ok((partition, text(queue)?, text(id)?))
}

pub(super) fn due_key(queue: &[u8], due: u64, id: &str) -> Vec<u8> {
    let mut key = queue.to_vec();
    key.extend_from_slice(&due.to_be_bytes());
    key.extend_from_slice(id.as_bytes());
    key
}

/// The id in a [`due_key`] of a queue whose key has that many bytes.
pub(super) fn due_id(key: &[u8], queue: usize) -> Result<&str, StoreError> {
    text(key.get(queue + size_of::<u64>()..).ok_or_else(|| malformed("a due item's key"))?)
}

fn split_partition(key: &[u8]) -> Result<(Partition, &[u8]), StoreError> {
    let end = key.iter().position(|byte| *byte == 0).ok_or_else(|| malformed("a key without a partition"))?;
    let (partition, rest) = key.split_at_checked(end).ok_or_else(|| malformed("a key without a partition"))?;
    let partition = Partition::parse(text(partition)?).ok_or_else(|| malformed("a key without a partition"))?;
    Ok((partition, rest.get(1..).unwrap_or_default()))
}

fn text(bytes: &[u8]) -> Result<&str, StoreError> {
    str::from_utf8(bytes).map_err(|_| malformed("a name that is not text"))
}

pub(super) fn malformed(what: &str) -> StoreError {
    StoreError::Malformed(format!("the embedded store has {what}"))
}

/// A value with what is known of it. Times are milliseconds since the Unix epoch.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) version: Version,
    /// From when on it counts as absent.
    pub(super) expires: Option<u64>,
    pub(super) value: &'a [u8],
}

impl<'a> Stored<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17 + self.value.len());
        bytes.push(TAG);
        bytes.extend_from_slice(&self.version.0.to_be_bytes());
        bytes.extend_from_slice(&self.expires.unwrap_or(NEVER).to_be_bytes());
        bytes.extend_from_slice(self.value);
        bytes
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Stored<'a>, StoreError> {
        let mut rest = tagged(bytes)?;
        let version = Version(take_u64(&mut rest)?);
        let expires = Some(take_u64(&mut rest)?).filter(|at| *at != NEVER);
        Ok(Stored { version, expires, value: rest })
    }

    pub(super) fn is_live(&self, now: u64) -> bool {
        self.expires.is_none_or(|at| now < at)
    }
}

/// An item of a queue with what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    /// Of the batch that added it.
    pub(super) version: Version,
    /// When it is due, or when its lease ends.
    pub(super) due: u64,
    /// Its latest lease.
    pub(super) lease: Option<Lease>,
    pub(super) claims: u32,
    pub(super) value: &'a [u8],
}

impl<'a> Item<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(29 + self.value.len());
        bytes.push(TAG);
        bytes.extend_from_slice(&self.version.0.to_be_bytes());
        bytes.extend_from_slice(&self.due.to_be_bytes());
        bytes.extend_from_slice(&self.lease.map_or(0, |lease| lease.0).to_be_bytes());
        bytes.extend_from_slice(&self.claims.to_be_bytes());
        bytes.extend_from_slice(self.value);
        bytes
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Item<'a>, StoreError> {
        let mut rest = tagged(bytes)?;
        let version = Version(take_u64(&mut rest)?);
        let due = take_u64(&mut rest)?;
        let lease = Some(Lease(take_u64(&mut rest)?)).filter(|lease| lease.0 != 0);
        let (claims, value) = rest.split_first_chunk().ok_or_else(|| malformed("a value cut short"))?;
        Ok(Item { version, due, lease, claims: u32::from_be_bytes(*claims), value })
    }
}

fn tagged(bytes: &[u8]) -> Result<&[u8], StoreError> {
    match bytes.split_first() {
        Some((&TAG, rest)) => Ok(rest),
        Some((tag, _)) => Err(malformed(&format!("a value of format {tag}; this release reads format {TAG}"))),
        None => Err(malformed("a value without a format")),
    }
}

fn take_u64(bytes: &mut &[u8]) -> Result<u64, StoreError> {
    let (number, rest) = bytes.split_first_chunk().ok_or_else(|| malformed("a value cut short"))?;
    *bytes = rest;
    Ok(u64::from_be_bytes(*number))
}
