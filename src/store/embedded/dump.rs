//! Reading everything, piece by piece.
//!
//! A cursor is the table's letter and the last key in hex. Each piece is a transaction of its own, so a long
//! backup holds no old pages of the file back.

use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use redb::{ReadTransaction, TableDefinition};

use super::super::backend::{Record, StoreError};
use super::entry;
use super::fault::fault;
use super::file::File;
use super::layout::{ITEMS, Item, Stored, VALUES, item_key_parts, value_key_parts};

const IN_VALUES: char = 'v';
const IN_ITEMS: char = 'q';

/// The next records after `cursor`, and where to go on.
pub(super) fn piece(
    file: &File,
    cursor: Option<&str>,
    limit: usize,
) -> Result<(Vec<Record>, Option<String>), StoreError> {
    let now = file.now();
    let limit = limit.max(1);
    let (table, after) = match cursor {
        Some(cursor) => decode(cursor).ok_or(StoreError::NoSuchCursor)?,
        None => (IN_VALUES, Vec::new()),
    };
    file.read(|transaction| {
        if table == IN_ITEMS {
            let (records, last) =
                read(transaction, ITEMS, &after, limit, |key, value| item(key, value, now).map(Some))?;
            return Ok((records, last.map(|last| encode(IN_ITEMS, &last))));
        }
        let (records, last) = read(transaction, VALUES, &after, limit, |key, bytes| value(key, bytes, now))?;
        Ok((records, Some(last.map_or_else(|| encode(IN_ITEMS, &[]), |last| encode(IN_VALUES, &last)))))
    })
}

/// The records of up to `limit` entries after a key, and the last key when there may be more.
fn read(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, &'static [u8], &'static [u8]>,
    after: &[u8],
    limit: usize,
    record: impl Fn(&[u8], &[u8]) -> Result<Option<Record>, StoreError>,
) -> Result<(Vec<Record>, Option<Vec<u8>>), StoreError> {
    let table = transaction.open_table(table).map_err(fault)?;
    let from = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
    let (mut records, mut looked_at, mut last) = (Vec::new(), 0, Vec::new());
    for entry in table.range::<&[u8]>((from, Bound::Unbounded)).map_err(fault)?.take(limit) {
        let (key, value) = entry.map_err(fault)?;
        records.extend(record(key.value(), value.value())?);
        looked_at += 1;
        last = key.value().to_vec();
    }
    Ok((records, (looked_at == limit).then_some(last)))
}

fn value(key: &[u8], bytes: &[u8], now: u64) -> Result<Option<Record>, StoreError> {
    let stored = Stored::decode(bytes)?;
    if !stored.is_live(now) {
        return Ok(None);
    }
    let (partition, name) = value_key_parts(key)?;
    let ttl = stored.expires.map(|at| Duration::from_millis(at.saturating_sub(now)));
    Ok(Some(Record::Value { partition, name: name.to_owned(), entry: entry(&stored), ttl }))
}

fn item(key: &[u8], bytes: &[u8], now: u64) -> Result<Record, StoreError> {
    let item = Item::decode(bytes)?;
    let (partition, queue, id) = item_key_parts(key)?;
    let due_in = Duration::from_millis(item.due.saturating_sub(now));
    let (queue, id) = (queue.to_owned(), id.to_owned());
    Ok(Record::Item { partition, queue, id, value: Bytes::copy_from_slice(item.value), due_in })
}

fn encode(table: char, key: &[u8]) -> String {
    let hex = key.iter().map(|byte| format!("{byte:02x}"));
    std::iter::once(table.to_string()).chain(hex).collect()
}

fn decode(cursor: &str) -> Option<(char, Vec<u8>)> {
    let table = cursor.chars().next().filter(|table| [IN_VALUES, IN_ITEMS].contains(table))?;
    let hex = cursor.get(1..)?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let key = hex.chunks(2).map(|pair| byte(pair).filter(|_| pair.len() == 2)).collect::<Option<_>>()?;
    Some((table, key))
}
