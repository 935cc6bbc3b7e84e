//! Whether a Redis keeps what it acknowledges: asked once, before the edge serves.
//!
//! A server that may forget is refused, with the setting to change, unless the config says otherwise. Managed servers
//! often do not let their settings be read; what `INFO` tells has to suffice there, and the rest is left to
//! `docs/store.md`.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use redis::{Value, cmd, from_redis_value};

use super::Redis;
use super::fault::Fault;
use super::link::Link;
use super::push;
use crate::clock::Clock;
use crate::config::{RedisMode, RedisStore};
use crate::metrics::{Metrics, RedisFault};
use crate::store::{Backend as _, Batch, Condition, Operation, Partition, Read, StoreError};

/// Looks at every server, and tries whatever an edge does. Blocks, on a runtime of its own whose connections end with
/// it.
///
/// # Errors
/// What has to be changed, for a person.
pub fn check(store: &RedisStore, clock: &Clock, metrics: &Arc<Metrics>) -> Result<(), String> {
    let redis = Redis::new(store, clock.clone(), metrics.clone());
    let looked = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(look(&redis))
    });
    looked.join().unwrap_or_else(|_| Err("the check of Redis did not end well".to_owned()))
}

pub(super) async fn look(redis: &Redis) -> Result<(), String> {
    let store = &redis.parts().connector.store;
    let reach = tokio::time::timeout(store.timeouts.total, redis.topology().look()).await;
    let reach = reach.unwrap_or_else(|_| Err(Fault::timeout(store.timeouts.total)));
    reach.map_err(|fault| unreached(&fault))?;
    let mut wrong = Vec::new();
    for shard in redis.topology().shards().iter() {
        let primary = redis.topology().link(&shard.primary);
        let role = redis.topology().role(&primary).await.map_err(|fault| unreached(&fault))?;
        if !role.is_primary {
            return Err(format!("store.nodes: {} is a replica; name its primary", shard.primary));
        }
        wrong.extend(server(redis, &primary, true).await?);
        // After a fail-over a replica is what has to keep things. One that cannot be reached now is none to refuse for.
        for replica in &role.replicas {
            let replica = redis.topology().link(replica);
            match server(redis, &replica, false).await {
                Ok(found) => wrong.extend(found),
                Err(why) => log::warn!("Redis: a replica could not be looked at: {why}"),
            }
        }
        if store.mode == RedisMode::Single && store.wait_replicas.is_none() && !role.replicas.is_empty() {
            wrong.push(format!(
                "{} has replicas: set store.wait_replicas to 1 if one may take over, to 0 if none may",
                shard.primary
            ));
        }
    }
    wrong.dedup();
    if store.require_durability && !wrong.is_empty() {
        return Err(format!(
            "store: this Redis may lose what it has acknowledged:\n  {}\nChange that, or set store.require_durability to \
             false and live with it.",
            wrong.join("\n  ")
        ));
    }
    wrong.iter().for_each(|what| log::warn!("Redis may lose what it has acknowledged: {what}"));
    rehearse(redis).await
}

/// Why not even the first question was answered, with the part of the config that has to do with it.
fn unreached(fault: &Fault) -> String {
    match fault.kind {
        RedisFault::Denied => format!("store.username, store.password_file: Redis refuses this user: {fault}"),
        _ => format!("store.nodes: Redis cannot be reached: {fault}"),
    }
}

/// What is wrong with one server's settings.
async fn server(redis: &Redis, link: &Link, is_primary: bool) -> Result<Vec<String>, String> {
    let info: String = ask(redis, link, "INFO", &[]).await.map_err(|fault| format!("store: {fault}"))?;
    let info = Info(&info);
    let major = info.get("redis_version").and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    if major.is_some_and(|major| major < 7) {
        return Err(format!(
            "store: {} is Redis {}; Redis 7.0 or later is needed",
            link.node,
            info.get("redis_version").unwrap_or_default()
        ));
    }
    let names = ["appendonly", "appendfsync", "maxmemory-policy", "min-replicas-to-write"];
    let asked: Result<HashMap<String, String>, Fault> = {
        let args: Vec<&str> = std::iter::once("GET").chain(names).collect();
        ask(redis, link, "CONFIG", &args).await
    };
    let settings = match asked {
        Ok(settings) if !settings.is_empty() => settings,
        Err(fault) if !matches!(fault.kind, RedisFault::Denied | RedisFault::Other) => {
            return Err(format!("store: {fault}"));
        }
        _ => {
            log::warn!(
                "{} does not let its settings be read (ACL: +config|get): appendfsync and min-replicas-to-write are not checked",
                link.node
            );
            info.settings()
        }
    };
    let wanted = redis.parts().connector.store.replicas_to_wait_for();
    Ok(faults(&settings, if is_primary { wanted } else { 0 }).map(|what| format!("{}: {what}", link.node)).collect())
}

/// What settings say against keeping things.
fn faults(settings: &HashMap<String, String>, replicas: u32) -> impl Iterator<Item = String> {
    let other_than = |name: &str, wanted: &str| {
        let found = settings.get(name).filter(|found| *found != wanted);
        found.map(|found| format!("{name} is {found}: set `{name} {wanted}`"))
    };
    let few = settings.get("min-replicas-to-write").filter(|_| replicas > 0);
    let few = few.filter(|found| found.parse::<u32>().is_ok_and(|found| found < replicas)).map(|found| {
        format!(
            "min-replicas-to-write is {found}: set `min-replicas-to-write {replicas}`, or a cut-off primary goes on"
        )
    });
    [
        other_than("appendonly", "yes"),
        other_than("appendfsync", "always"),
        other_than("maxmemory-policy", "noeviction"),
        few,
    ]
    .into_iter()
    .flatten()
}

/// What becomes of an edge that starts while nothing can be written safely: an edge that did not start would not answer
/// what it can answer.
const MEANWHILE: &str = "What has to be kept is refused until that is over; what only reads goes on";

/// Does once what an edge does all the time, so that an ACL user who may not is found out now.
async fn rehearse(redis: &Redis) -> Result<(), String> {
    let partition = Partition::of("rehearsal", &[]);
    let (queue, id) = ("q".to_owned(), "item".to_owned());
    let item = Operation::Enqueue { queue, id, value: "1".into(), due_in: Duration::ZERO };
    let brief = Some(Duration::from_secs(10));
    let batch = |partition: &Partition| Batch::new(partition.clone());
    let all = async {
        let put = batch(&partition)?.when("never", Condition::Absent).put("a", "1", brief).put("b", "1", None);
        redis.apply(put.with(item).telling("rehearsal")).await?;
        redis.get(&partition, "a", Read::Latest).await?;
        redis.scan(&partition, "", None, 10, Read::Latest).await?;
        let mut clear = batch(&partition)?.delete("a").delete("b");
        for claimed in redis.claim(&partition, "q", Duration::from_secs(10), 10).await? {
            let (queue, lease) = ("q".to_owned(), Some(claimed.lease));
            clear = clear.with(Operation::Dequeue { queue, id: claimed.id, lease });
        }
        redis.apply(clear).await
    };
    let not_needed = |error: StoreError| format!("store: Redis does not do what an edge needs: {error}");
    match all.await {
        Err(StoreError::NotDurable(why)) => {
            log::warn!("Redis: {why}: too few replicas follow their primary (store.wait_replicas). {MEANWHILE}");
        }
        Err(StoreError::Full(why)) => log::warn!("Redis: {why}. {MEANWHILE}"),
        outcome => drop(outcome.map_err(not_needed)?),
    }
    redis.publish("rehearsal").await.map_err(not_needed)?;
    push::rehearse(redis.parts(), redis.topology()).await.map_err(|fault| not_needed(fault.into()))
}

async fn ask<T: redis::FromRedisValue>(redis: &Redis, link: &Link, name: &str, args: &[&str]) -> Result<T, Fault> {
    let mut command = cmd(name);
    args.iter().for_each(|arg| {
        command.arg(*arg);
    });
    let value: Value = redis.topology().ask(link, &command).await?;
    from_redis_value(value).map_err(|error| Fault::new(RedisFault::Other, error.to_string()))
}

/// The text of `INFO`.
struct Info<'a>(&'a str);

impl Info<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim_end))
    }

    /// The settings that it tells.
    fn settings(&self) -> HashMap<String, String> {
        let mut settings = HashMap::new();
        if let Some(enabled) = self.get("aof_enabled") {
            settings.insert("appendonly".to_owned(), if enabled == "1" { "yes" } else { "no" }.to_owned());
        }
        if let Some(policy) = self.get("maxmemory_policy") {
            settings.insert("maxmemory-policy".to_owned(), policy.to_owned());
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_forget() {
        let set = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let good = [("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")];
        assert_eq!(faults(&set(&good), 1).count(), 0, "what is not told is not held against it");
        let bad = [("appendonly", "no"), ("appendfsync", "everysec"), ("min-replicas-to-write", "0")];
        assert_eq!(faults(&set(&bad), 0).count(), 2);
        let told: Vec<String> = faults(&set(&bad), 1).collect();
        assert_eq!(told[0], "appendonly is no: set `appendonly yes`");
        assert!(told[2].contains("set `min-replicas-to-write 1`"));
    }

    #[test]
    fn info_tells_some() {
        let info = Info("# Server\r\nredis_version:7.0.15\r\naof_enabled:0\r\nmaxmemory_policy:noeviction\r\n");
        assert_eq!(info.get("redis_version"), Some("7.0.15"));
        assert_eq!(faults(&info.settings(), 0).collect::<Vec<_>>(), ["appendonly is no: set `appendonly yes`"]);
    }
}
