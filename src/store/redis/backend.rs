//! The five verbs.
//!
//! # What is durable
//! A durable batch is followed by `WAIT`. While too few replicas acknowledge it, the batch is sent again, which is safe
//! ([`super::super::Backend::apply`]) and waits once more, until `timeouts.total`: a caller who is told that it failed
//! cannot take back what a script has done, so it is worth waiting out a replica's short absence.
//!
//! # What is confirmed
//! A server that is cut off answers reads for as long as somebody reaches it. So a confirmed read comes behind a write and
//! its `WAIT`, on one connection: the server that answers had replicas after the question was asked.

use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::rand;
use bytes::Bytes;
use redis::{Cmd, FromRedisValue, Value, cmd, from_redis_value};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::call::{Call, Commands, First};
use super::dump;
use super::fault::Fault;
use super::keys::{self, Key};
use super::link::pause;
use super::topology::slot_of;
use super::{Redis, Script};
use crate::metrics::{RedisFault, RedisUse};
use crate::store::{
    Applied, Backend, Batch, Claimed, Condition, Durability, Entry, Lease, Operation, Partition, Read, Record,
    StoreError, Version,
};

/// Most items that one claim takes.
const MOST_CLAIMED: usize = 1000;

/// How long the witness of confirmed reads lives; longer than the pauses between them, so that it is there on a server
/// that has become full.
const WITNESS_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The scripts of the store.
#[derive(Debug)]
pub(super) struct Scripts {
    apply: Script,
    claim: Script,
    scan: Script,
    witness: Script,
}

impl Scripts {
    pub fn new() -> Scripts {
        Scripts {
            apply: Script::new(include_str!("../scripts/apply.lua")),
            claim: Script::new(include_str!("../scripts/claim.lua")),
            scan: Script::read_only(include_str!("../scripts/scan.lua")),
            witness: Script::new(include_str!("../scripts/witness.lua")),
        }
    }
}

#[async_trait]
impl Backend for Redis {
    async fn get(&self, partition: &Partition, name: &str, read: Read) -> Result<Option<Entry>, StoreError> {
        let key = Key::Value(name).of(partition);
        let mut command = cmd("GET");
        command.arg(&key);
        let value = self.read(partition, &key, First::Plain(command), read).await?;
        answer::<Option<Vec<u8>>>(value)?.map(|stored| entry(&stored)).transpose()
    }

    async fn scan(
        &self,
        partition: &Partition,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        read: Read,
    ) -> Result<Vec<(String, Entry)>, StoreError> {
        let names = Key::Names.of(partition);
        let least = match after {
            Some(after) if after >= prefix => format!("({after}"),
            _ => format!("[{prefix}"),
        };
        // No name holds this byte: names are UTF-8.
        let greatest = [b"(", prefix.as_bytes(), &[0xff]].concat();
        let (values, limit) = (keys::values_of(partition), limit.to_string());
        let script = First::Script {
            script: &self.scripts().scan,
            keys: &[names.as_bytes()],
            args: &[values.as_bytes(), least.as_bytes(), &greatest, limit.as_bytes()],
        };
        let found = answer::<Vec<Vec<u8>>>(self.read(partition, &names, script, read).await?)?;
        let pairs = found.chunks_exact(2).map(|pair| match pair {
            [name, stored] => Ok((text(name)?, entry(stored)?)),
            _ => Err(strange()),
        });
        pairs.collect()
    }

    async fn apply(&self, batch: Batch) -> Result<Applied, StoreError> {
        self.apply_marked(&batch, &batch.version.0.to_string()).await
    }

    async fn claim(
        &self,
        partition: &Partition,
        queue: &str,
        lease: Duration,
        max: usize,
    ) -> Result<Vec<Claimed>, StoreError> {
        let max = max.min(MOST_CLAIMED);
        if max == 0 {
            return Ok(Vec::new());
        }
        let mut leases = vec![0; max * 8];
        rand::fill(&mut leases).map_err(|_| StoreError::Internal("the system gives no random numbers".to_owned()))?;
        let lease = millis(lease).to_string();
        let args: Vec<&[u8]> = std::iter::once(lease.as_bytes()).chain(leases.chunks_exact(8)).collect();
        let (due, items) = (Key::Due(queue).of(partition), Key::Items(queue).of(partition));
        let keys = [due.as_bytes(), items.as_bytes()];
        let script = First::Script { script: &self.scripts().claim, keys: &keys, args: &args };
        // Sent again it would claim other items, and leave these to their leases: no harm, but no use either.
        let value = self.write(&due, script, Durability::Durable, false).await?;
        let claimed = answer::<Vec<Value>>(value)?;
        let read = |item: &[Value]| match item {
            [id, claims, value, lease] => {
                let lease = bytes_of(lease)?.try_into().map_err(|_| strange())?;
                Ok(Claimed {
                    id: text(&bytes_of(id)?)?,
                    value: Bytes::from(bytes_of(value)?),
                    lease: Lease(u64::from_be_bytes(lease)),
                    claims: answer(claims.clone())?,
                })
            }
            _ => Err(strange()),
        };
        claimed.chunks_exact(4).map(read).collect()
    }

    fn subscribe(&self, topic: &'static str) -> watch::Receiver<u64> {
        Redis::subscribe(self, topic)
    }

    async fn dump(&self, cursor: Option<String>, limit: usize) -> Result<(Vec<Record>, Option<String>), StoreError> {
        dump::dump(self, cursor, limit).await
    }

    async fn load(&self, records: Vec<Record>) -> Result<(), StoreError> {
        dump::load(self, records).await
    }
}

impl Redis {
    /// Applies a batch that is known to have been applied by `marker`.
    pub(super) async fn apply_marked(&self, batch: &Batch, marker: &str) -> Result<Applied, StoreError> {
        let sent = Sent::new(batch, marker);
        let keys: Vec<&[u8]> = sent.keys.iter().map(String::as_bytes).collect();
        let args: Vec<&[u8]> = sent.args.iter().map(Vec::as_slice).collect();
        let script = First::Script { script: &self.scripts().apply, keys: &keys, args: &args };
        let names = sent.keys.first().map(String::as_str).unwrap_or_default();
        let value = self.write(names, script, batch.durability, true).await?;
        match answer::<Vec<Value>>(value)?.as_slice() {
            [Value::Int(1)] => Ok(Applied::Done),
            // A script's answer ends at its first nil.
            [Value::Int(0), condition] | [Value::Int(0), condition, Value::Nil] => {
                Ok(Applied::Conflict { condition: answer(condition.clone())?, found: None })
            }
            [Value::Int(0), condition, stored] => {
                Ok(Applied::Conflict { condition: answer(condition.clone())?, found: Some(entry(&bytes_of(stored)?)?) })
            }
            _ => Err(strange()),
        }
    }

    async fn read(&self, partition: &Partition, key: &str, first: First<'_>, read: Read) -> Result<Value, StoreError> {
        if read == Read::Confirmed && self.parts().connector.store.replicas_to_wait_for() > 0 {
            return self.confirmed(partition, &first).await;
        }
        let stale = read == Read::Stale && self.parts().connector.store.replica_reads;
        let commands = Commands { first, then: Vec::new() };
        let slot = slot_of(key.as_bytes());
        let call = Call { slot, what_for: RedisUse::Read, stale, repeatable: true, commands };
        Ok(self.call(&call).await?.pop().unwrap_or_default())
    }

    /// A read behind a write that replicas acknowledge. One that comes up short is not tried again: whoever asks wants
    /// to know how things stand now.
    async fn confirmed(&self, partition: &Partition, read: &First<'_>) -> Result<Value, StoreError> {
        let replicas = self.parts().connector.store.replicas_to_wait_for();
        let (key, life) = (Key::Witness.of(partition), millis(WITNESS_LIFE).to_string());
        let script = &self.scripts().witness;
        let first = First::Script { script, keys: &[key.as_bytes()], args: &[life.as_bytes()] };
        let commands = Commands { first, then: vec![self.wait(replicas), read.command(true)] };
        let slot = slot_of(key.as_bytes());
        let call = Call { slot, what_for: RedisUse::Write, stale: false, repeatable: true, commands };
        match <[Value; 3]>::try_from(self.call(&call).await?) {
            Ok([_, waited, value]) => {
                holds(waited, replicas)?;
                Ok(value)
            }
            Err(_) => Err(strange()),
        }
    }

    async fn write(
        &self,
        key: &str,
        first: First<'_>,
        durability: Durability,
        repeatable: bool,
    ) -> Result<Value, StoreError> {
        let replicas = match durability {
            Durability::Durable => self.parts().connector.store.replicas_to_wait_for(),
            Durability::Relaxed => 0,
        };
        let then = (replicas > 0).then(|| self.wait(replicas)).into_iter().collect();
        let slot = slot_of(key.as_bytes());
        let call =
            Call { slot, what_for: RedisUse::Write, stale: false, repeatable, commands: Commands { first, then } };
        let outcome = match self.tried(&call, replicas).await? {
            (value, Ok(())) => Ok(value),
            // It has happened; only how safe it is was in question.
            (_, Err(short)) if repeatable => self.until_safe(&call, replicas).await.ok_or(short),
            (_, Err(short)) => Err(short),
        };
        if matches!(outcome, Err(StoreError::NotDurable(_))) {
            self.parts().metrics.redis_shortfalls.inc();
        }
        outcome
    }

    /// Writes, and says whether as many replicas have it as have to.
    async fn tried(&self, call: &Call<'_>, replicas: u32) -> Result<(Value, Result<(), StoreError>), StoreError> {
        let mut answers = self.call(call).await?.into_iter();
        let value = answers.next().unwrap_or_default();
        Ok((value, answers.next().map_or(Ok(()), |waited| holds(waited, replicas))))
    }

    /// Writes once more, and again, until enough replicas have it. `None`: they have not, for as long as one waits.
    async fn until_safe(&self, call: &Call<'_>, replicas: u32) -> Option<Value> {
        let again = async {
            loop {
                sleep(pause(0)).await;
                if let (value, Ok(())) = self.tried(call, replicas).await.ok()? {
                    return Some(value);
                }
            }
        };
        timeout(self.parts().connector.store.timeouts.total, again).await.ok().flatten()
    }

    /// `WAIT`: acknowledged by so many replicas, within half the time of a command.
    fn wait(&self, replicas: u32) -> Cmd {
        let mut command = cmd("WAIT");
        command.arg(replicas).arg(millis(self.parts().connector.store.timeouts.command / 2));
        command
    }
}

/// Whether as many replicas acknowledged a write as had to.
fn holds(waited: Value, replicas: u32) -> Result<(), StoreError> {
    Err(StoreError::NotDurable(match waited.extract_error().map(from_redis_value::<u32>) {
        Ok(Ok(count)) if count >= replicas => return Ok(()),
        Ok(Ok(count)) => format!("{count} of {replicas} replicas have it"),
        Ok(Err(_)) => "the server did not tell how many replicas have it".to_owned(),
        Err(error) => error.to_string(),
    }))
}

/// A batch as the script takes it.
struct Sent {
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Sent {
    fn new(batch: &Batch, marker: &str) -> Sent {
        let partition = &batch.partition;
        let fixed = [Key::Names, Key::Expiring, Key::Batch(marker)];
        let mut sent = Sent { keys: fixed.map(|key| key.of(partition)).to_vec(), args: Vec::new() };
        sent.arg(batch.version.0.to_be_bytes());
        sent.arg(batch.tell.map(keys::channel).unwrap_or_default());
        sent.arg(batch.conditions.len().to_string());
        sent.arg(batch.operations.len().to_string());
        for (name, condition) in &batch.conditions {
            sent.keys.push(Key::Value(name).of(partition));
            let (letter, version) = match condition {
                Condition::Absent => ("A", Vec::new()),
                Condition::Present => ("P", Vec::new()),
                Condition::Is(version) => ("V", version.0.to_be_bytes().to_vec()),
            };
            sent.arg(letter);
            sent.arg(version);
        }
        for operation in &batch.operations {
            sent.operation(partition, operation);
        }
        sent
    }

    fn operation(&mut self, partition: &Partition, operation: &Operation) {
        match operation {
            Operation::Put { name, value, ttl } => {
                self.keys.push(Key::Value(name).of(partition));
                self.arg("P");
                self.arg(name.as_str());
                self.arg(value.as_ref());
                self.arg(ttl.map(|ttl| millis(ttl).max(1).to_string()).unwrap_or_default());
            }
            Operation::Delete { name } => {
                self.keys.push(Key::Value(name).of(partition));
                self.arg("D");
                self.arg(name.as_str());
            }
            Operation::Enqueue { queue, id, value, due_in } => {
                self.queue(partition, queue);
                self.arg("E");
                self.arg(id.as_str());
                self.arg(value.as_ref());
                self.arg(millis(*due_in).to_string());
            }
            Operation::Dequeue { queue, id, lease } => {
                self.queue(partition, queue);
                self.arg("T");
                self.arg(id.as_str());
                self.arg(lease.map(|lease| lease.0.to_be_bytes().to_vec()).unwrap_or_default());
            }
        }
    }

    fn queue(&mut self, partition: &Partition, queue: &str) {
        self.keys.push(Key::Due(queue).of(partition));
        self.keys.push(Key::Items(queue).of(partition));
    }

    fn arg(&mut self, arg: impl AsRef<[u8]>) {
        self.args.push(arg.as_ref().to_vec());
    }
}

/// A stored value taken apart.
pub(super) fn entry(stored: &[u8]) -> Result<Entry, StoreError> {
    let damaged = || StoreError::Malformed("a value without a version".to_owned());
    let (version, value) = stored.split_first_chunk::<8>().ok_or_else(damaged)?;
    Ok(Entry { value: Bytes::copy_from_slice(value), version: Version(u64::from_be_bytes(*version)) })
}

/// Whole milliseconds, at most a hundred years: what a script counts with without losing any.
pub(super) fn millis(time: Duration) -> u64 {
    const CENTURY: u64 = 100 * 366 * 86_400 * 1000;
    u64::try_from(time.as_millis()).unwrap_or(CENTURY).min(CENTURY)
}

/// An answer of the type that it has to be.
pub(super) fn answer<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    let value = value.extract_error().map_err(|error| Fault::from(&error))?;
    from_redis_value(value).map_err(|error| Fault::new(RedisFault::Other, error.to_string()).into())
}

pub(super) fn bytes_of(value: &Value) -> Result<Vec<u8>, StoreError> {
    answer(value.clone())
}

pub(super) fn text(bytes: &[u8]) -> Result<String, StoreError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| StoreError::Malformed("a name that is not UTF-8".to_owned()))
}

fn strange() -> StoreError {
    StoreError::Internal("Redis answered something else than was asked".to_owned())
}
