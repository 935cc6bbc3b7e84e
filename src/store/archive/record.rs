//! One record of a backup, as bytes. Texts and values have their length before them, as a u32.

use std::time::Duration;

use bytes::Bytes;

use super::super::backend::{Entry, Partition, Record, Version};

const VALUE: u8 = 1;
const ITEM: u8 = 2;
/// The life of what stays.
const NEVER: u64 = u64::MAX;

/// Kind and body; `None` for a part of more than 4 GiB.
pub(super) fn encode(record: &Record) -> Option<(u8, Vec<u8>)> {
    let mut body = Vec::new();
    match record {
        Record::Value { partition, name, entry, ttl } => {
            put(&mut body, partition.as_str().as_bytes())?;
            put(&mut body, name.as_bytes())?;
            body.extend_from_slice(&entry.version.0.to_be_bytes());
            body.extend_from_slice(&ttl.map_or(NEVER, millis).to_be_bytes());
            put(&mut body, &entry.value)?;
            Some((VALUE, body))
        }
        Record::Item { partition, queue, id, value, due_in } => {
            put(&mut body, partition.as_str().as_bytes())?;
            put(&mut body, queue.as_bytes())?;
            put(&mut body, id.as_bytes())?;
            body.extend_from_slice(&millis(*due_in).to_be_bytes());
            put(&mut body, value)?;
            Some((ITEM, body))
        }
    }
}

/// `None` for what is no record.
pub(super) fn decode(kind: u8, body: &[u8]) -> Option<Record> {
    let mut rest = body;
    let partition = Partition::parse(text(&mut rest)?)?;
    let record = match kind {
        VALUE => {
            let name = text(&mut rest)?.to_owned();
            let version = Version(number(&mut rest)?);
            let ttl = Some(number(&mut rest)?).filter(|ttl| *ttl != NEVER).map(Duration::from_millis);
            let value = Bytes::copy_from_slice(part(&mut rest)?);
            Record::Value { partition, name, entry: Entry { value, version }, ttl }
        }
        ITEM => {
            let (queue, id) = (text(&mut rest)?.to_owned(), text(&mut rest)?.to_owned());
            let due_in = Duration::from_millis(number(&mut rest)?);
            Record::Item { partition, queue, id, value: Bytes::copy_from_slice(part(&mut rest)?), due_in }
        }
        _ => return None,
    };
    rest.is_empty().then_some(record)
}

fn put(body: &mut Vec<u8>, part: &[u8]) -> Option<()> {
    body.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
    body.extend_from_slice(part);
    Some(())
}

/// Whole milliseconds, at most what is not [`NEVER`].
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER).min(NEVER - 1)
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let (part, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    Some(part)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    str::from_utf8(part(rest)?).ok()
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_be_bytes(*number))
}
