//! The store on Redis: one server, a primary that sentinels watch over, or a cluster.
//!
//! | file | |
//! |---|---|
//! | `connect`, `link` | opening connections; a server and the connections to it |
//! | `topology` | which server answers for what |
//! | `call` | one operation: to whom it goes, what is tried again, and when it is enough |
//! | `fault` | what servers say, and what it means for a command |
//! | `script`, `keys` | Lua scripts; what things are called |
//! | `backend`, `dump` | the verbs of the store; everything out and in |
//! | `settings` | whether a Redis keeps what it acknowledges |
//! | `push` | telling other edges, and being told |
//!
//! [`Redis`] is one handle for all of it, cheap to clone. Connections are opened lazily, by the runtime that uses them
//! first, and opened again by another when that one has ended.

mod backend;
mod call;
mod connect;
mod dump;
mod fault;
mod keys;
mod link;
mod push;
mod script;
mod settings;
#[cfg(test)]
#[path = "../../../tests/servers/mod.rs"]
#[expect(dead_code, reason = "the tests of whole edges use the rest")]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod topology;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::backend::Scripts;
use self::call::{Call, Commands, First};
use self::connect::Connector;
use self::link::LinkParts;
use self::push::Topics;
pub use self::script::Script;
pub use self::settings::check;
use self::topology::{Topology, slot_of};
use super::StoreError;
use crate::clock::Clock;
use crate::config::{RedisNode, RedisStore};
use crate::metrics::{Metrics, RedisUse};

/// A Redis, whatever it is made of.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    parts: Arc<LinkParts>,
    topology: Arc<Topology>,
    topics: Arc<Topics>,
    scripts: Scripts,
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.0.parts.connector.store.nodes).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.get_mut() {
            listener.abort();
        }
    }
}

impl Redis {
    /// A handle. Nothing is connected yet, and no runtime is needed.
    pub fn new(store: &RedisStore, clock: Clock, metrics: Arc<Metrics>) -> Redis {
        let connector = Connector { store: store.clone() };
        let parts = Arc::new(LinkParts { connector, clock, metrics, drivers: Mutex::default() });
        let topology = Arc::new(Topology::new(parts.clone()));
        let (scripts, topics, listener) = (Scripts::new(), Arc::default(), Mutex::default());
        Redis(Arc::new(Inner { parts, topology, topics, scripts, listener }))
    }

    /// Drives connections that are opened from now on on `runtime`: where requests are served, rather than beside whatever
    /// work needed one first.
    pub fn drive_on(&self, runtime: Handle) {
        *self.parts().drivers.lock() = Some(runtime);
    }

    /// Runs a script on the slot of its keys, once and at the slot's primary, for callers that decide without Redis when
    /// it is not quick: no repetition, and no pause. Keys begin with `tmcp:` and share a hash tag; there is at least one.
    /// The script may have run when this fails.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is no answer within `limit`, and at once while the server is known to be
    /// out of reach; the others as the server says.
    pub async fn script(
        &self,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        limit: Duration,
    ) -> Result<Value, StoreError> {
        let slot = slot_of(keys.first().copied().unwrap_or_default());
        let commands = Commands { first: First::Script { script, keys, args }, then: Vec::new() };
        let call = Call { slot, what_for: RedisUse::Limit, stale: false, repeatable: false, commands };
        Ok(self.call_now(&call, limit).await?.pop().unwrap_or_default())
    }

    /// Runs a script that only reads ([`Script::read_only`]) on the slot of its keys, for callers that can wait: it is
    /// tried as any read is.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn look_up(&self, script: &Script, keys: &[&[u8]], args: &[&[u8]]) -> Result<Value, StoreError> {
        let slot = slot_of(keys.first().copied().unwrap_or_default());
        let commands = Commands { first: First::Script { script, keys, args }, then: Vec::new() };
        let call = Call { slot, what_for: RedisUse::Read, stale: false, repeatable: true, commands };
        Ok(self.call(&call).await?.pop().unwrap_or_default())
    }

    /// The primaries as they are known; none before the first operation.
    pub fn servers(&self) -> Vec<RedisNode> {
        let mut primaries: Vec<_> = self.topology().shards().iter().map(|shard| shard.primary.clone()).collect();
        primaries.sort_by_key(ToString::to_string);
        primaries.dedup();
        primaries
    }

    /// The primary that a key lies on, as far as that is known.
    pub fn server_of(&self, key: &[u8]) -> Option<RedisNode> {
        self.topology().primary(slot_of(key)).map(|link| link.node.clone())
    }

    /// Asks a server whether it is there, on the connection of [`Redis::script`].
    ///
    /// # Errors
    /// When it does not answer within `limit`.
    pub async fn ping(&self, server: &RedisNode, limit: Duration) -> Result<(), StoreError> {
        let mut ping = redis::pipe();
        ping.cmd("PING");
        self.topology().link(server).exchange(RedisUse::Limit, &ping, (0, 1), limit).await?;
        Ok(())
    }

    /// Tells the subscribers of a topic, at every edge.
    ///
    /// # Errors
    /// When no server could be reached.
    pub async fn publish(&self, topic: &'static str) -> Result<(), StoreError> {
        let mut command = cmd("PUBLISH");
        let channel = keys::channel(topic);
        command.arg(&channel).arg("");
        let commands = Commands { first: First::Plain(command), then: Vec::new() };
        let slot = slot_of(channel.as_bytes());
        let call = Call { slot, what_for: RedisUse::Control, stale: false, repeatable: true, commands };
        self.call(&call).await?;
        Ok(())
    }

    /// A number that moves when somebody tells `topic`, and whenever something may have been told unheard.
    pub fn subscribe(&self, topic: &'static str) -> watch::Receiver<u64> {
        let number = self.0.topics.subscribe(topic);
        self.keep_listening();
        number
    }

    fn parts(&self) -> &LinkParts {
        &self.0.parts
    }

    fn scripts(&self) -> &Scripts {
        &self.0.scripts
    }

    fn topology(&self) -> &Arc<Topology> {
        &self.0.topology
    }

    /// Sees to it that somebody listens for pushes, on a runtime that lives: the one that the last listener was on may
    /// have ended. Where there is no runtime yet, the first operation does it.
    fn keep_listening(&self) {
        let mut listener = self.0.listener.lock();
        if listener.as_ref().is_some_and(|listener| !listener.is_finished()) {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let (parts, topology, topics) = (self.0.parts.clone(), self.0.topology.clone(), self.0.topics.clone());
            *listener = Some(runtime.spawn(push::listen(parts, topology, topics)));
        }
    }
}
