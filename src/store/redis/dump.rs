//! Everything out, and everything in.
//!
//! A dump walks the primaries one after the other by `SCAN`; its cursor names the server, which run of it, and how far it got
//! there. A fail-over, a restart or slots that move in between end it with an error: keys would be missed, and nobody
//! would know.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use redis::{Pipeline, cmd};

use super::Redis;
use super::backend::{answer, entry, text};
use super::keys::{EVERYTHING, Key, parse};
use super::link::Link;
use super::topology::Shard;
use crate::metrics::RedisUse;
use crate::store::seal::sha256;
use crate::store::{Batch, Operation, Partition, Record, StoreError};

/// Batches on their way at once while loading.
const AT_ONCE: usize = 32;

/// How far a dump has got. The servers are those that it began with: of others it would miss what was there.
struct Cursor {
    /// Which slots were where when it began.
    map: String,
    /// The server that it is at.
    server: String,
    /// Which run of that server: after a restart, or behind an address that leads to another one now, a place means
    /// something else. Empty before the first piece.
    run: String,
    /// The place in its keys.
    place: u64,
}

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        let [map, server, run, place] = <[&str; 4]>::try_from(text.split(' ').collect::<Vec<_>>()).ok()?;
        let owned = str::to_owned;
        Some(Cursor { map: owned(map), server: owned(server), run: owned(run), place: place.parse().ok()? })
    }

    fn text(&self) -> String {
        format!("{} {} {} {}", self.map, self.server, self.run, self.place)
    }
}

/// The next piece of everything.
pub(super) async fn dump(
    redis: &Redis,
    cursor: Option<String>,
    limit: usize,
) -> Result<(Vec<Record>, Option<String>), StoreError> {
    let cursor = cursor.map(|text| Cursor::parse(&text).ok_or(StoreError::NoSuchCursor)).transpose()?;
    if redis.topology().shards().is_empty() || cursor.is_none() {
        redis.topology().look().await?;
    }
    let shards = redis.topology().shards();
    let map = map_of(&shards);
    let primaries = redis.servers();
    let Some(first) = primaries.first() else { return Ok((Vec::new(), None)) };
    let begun = || Cursor { map: map.clone(), server: first.to_string(), run: String::new(), place: 0 };
    let cursor = cursor.unwrap_or_else(begun);
    let at = primaries.iter().position(|primary| primary.to_string() == cursor.server);
    let at = at.filter(|_| cursor.map == map).ok_or_else(interrupted)?;
    let primary = primaries.get(at).ok_or_else(interrupted)?;
    let link = redis.topology().link(primary);
    let run = run_of(redis, &link).await?;
    if !cursor.run.is_empty() && cursor.run != run {
        return Err(interrupted());
    }
    let mut command = cmd("SCAN");
    command.arg(cursor.place).arg("MATCH").arg(EVERYTHING).arg("COUNT").arg(limit.max(1));
    let (place, found): (u64, Vec<Vec<u8>>) = answer(redis.topology().ask(&link, &command).await?)?;
    let records = records(redis, &link, &found).await?;
    if run_of(redis, &link).await? != run {
        return Err(interrupted());
    }
    let next = match (place, primaries.get(at + 1)) {
        (0, None) => None,
        (0, Some(next)) => Some(Cursor { server: next.to_string(), run: String::new(), place: 0, ..cursor }),
        (place, _) => Some(Cursor { run, place, ..cursor }),
    };
    if next.is_none() {
        // What has moved meanwhile was perhaps at neither place when that was looked at.
        redis.topology().look().await?;
        if map_of(&redis.topology().shards()) != map {
            return Err(interrupted());
        }
    }
    Ok((records, next.map(|next| next.text())))
}

/// Which slots are where.
fn map_of(shards: &[Shard]) -> String {
    let one = |shard: &Shard| format!("{}-{} {}\n", shard.first, shard.last, shard.primary);
    let text: String = shards.iter().map(one).collect();
    sha256(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What a server calls its own run: another one after each start.
async fn run_of(redis: &Redis, link: &Link) -> Result<String, StoreError> {
    let mut command = cmd("INFO");
    command.arg("server");
    let info: String = answer(redis.topology().ask(link, &command).await?)?;
    let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    run.map(|run| run.trim_end().to_owned()).ok_or_else(interrupted)
}

fn interrupted() -> StoreError {
    StoreError::Unavailable("the servers have changed since the dump began: begin again".to_owned())
}

/// What lies under some keys.
async fn records(redis: &Redis, link: &Link, found: &[Vec<u8>]) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::with_capacity(found.len());
    for bytes in found {
        // Other things may begin with the same letters; they are not ours.
        let Some((partition, key)) = str::from_utf8(bytes).ok().and_then(parse) else { continue };
        match key {
            Key::Due(queue) => records.extend(items(redis, link, &partition, queue).await?),
            Key::Value(name) => records.extend(value(redis, link, partition.clone(), name, bytes).await?),
            Key::Names | Key::Expiring | Key::Batch(_) | Key::Witness | Key::Items(_) => {}
        }
    }
    Ok(records)
}

async fn value(
    redis: &Redis,
    link: &Link,
    partition: Partition,
    name: &str,
    key: &[u8],
) -> Result<Option<Record>, StoreError> {
    let mut pipeline = redis::pipe();
    pipeline.atomic().cmd("GET").arg(key).cmd("PTTL").arg(key);
    let (stored, left): (Option<Vec<u8>>, i64) = together(redis, link, &pipeline, 2).await?;
    let Some(stored) = stored else { return Ok(None) };
    let ttl = u64::try_from(left).ok().map(Duration::from_millis);
    Ok(Some(Record::Value { partition, name: name.to_owned(), entry: entry(&stored)?, ttl }))
}

async fn items(redis: &Redis, link: &Link, partition: &Partition, queue: &str) -> Result<Vec<Record>, StoreError> {
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    pipeline.cmd("ZRANGE").arg(Key::Due(queue).of(partition)).arg(0).arg(-1).arg("WITHSCORES");
    pipeline.cmd("HGETALL").arg(Key::Items(queue).of(partition));
    type Answers = (Vec<(Vec<u8>, f64)>, BTreeMap<Vec<u8>, Vec<u8>>);
    let (due, said): Answers = together(redis, link, &pipeline, 2).await?;
    let (seconds, micros): (u64, u64) = answer(redis.topology().ask(link, &cmd("TIME")).await?)?;
    let now = Duration::from_secs(seconds) + Duration::from_micros(micros);
    let mut records = Vec::with_capacity(due.len());
    for (id, at) in due {
        // Lease, claims and version stand before what the item says.
        let Some(value) = said.get(&id).and_then(|item| item.get(20..)) else { continue };
        let due_in = Duration::try_from_secs_f64(at / 1000.0).unwrap_or_default().saturating_sub(now);
        let (partition, queue) = (partition.clone(), queue.to_owned());
        records.push(Record::Item { partition, queue, id: text(&id)?, value: Bytes::copy_from_slice(value), due_in });
    }
    Ok(records)
}

/// A transaction of reads, at one server.
async fn together<T: redis::FromRedisValue>(
    redis: &Redis,
    link: &Link,
    pipeline: &Pipeline,
    commands: usize,
) -> Result<T, StoreError> {
    let limit = redis.parts().connector.store.timeouts.command;
    // MULTI and each command are acknowledged; EXEC brings the answers.
    let mut answers = link.exchange(RedisUse::Read, pipeline, (commands + 1, 1), limit).await?;
    answer(answers.pop().unwrap_or_default())
}

/// Writes records in place of whatever has the same names.
pub(super) async fn load(redis: &Redis, records: Vec<Record>) -> Result<(), StoreError> {
    let mut batches: Vec<Batch> = Vec::new();
    for record in records {
        let (partition, version, operation) = match record {
            Record::Value { partition, name, entry, ttl } => {
                (partition, Some(entry.version), Operation::Put { name, value: entry.value, ttl })
            }
            Record::Item { partition, queue, id, value, due_in } => {
                (partition, None, Operation::Enqueue { queue, id, value, due_in })
            }
        };
        // Neighbours of one partition and version travel together, a batch having one version.
        match batches.last_mut() {
            Some(last) if last.partition == partition && version.is_none_or(|version| version == last.version) => {
                last.operations.push(operation);
            }
            _ => {
                let mut batch = Batch::new(partition)?.with(operation);
                batch.version = version.unwrap_or(batch.version);
                batches.push(batch);
            }
        }
    }
    let sent = batches.into_iter().map(|batch| async move {
        // A marker of its own: the batch that first had this version may have left one.
        let marker = format!("load-{}", Batch::new(batch.partition.clone())?.version.0);
        redis.apply_marked(&batch, &marker).await
    });
    stream::iter(sent).buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await
}
