//! Which server answers for what.
//!
//! One map for all modes: a single server and what sentinels watch over are a cluster of one shard. The client
//! library's own cluster connection is not used: a durable write has to be followed by `WAIT` on the very connection
//! that it went out on, an operation's deadline has to count its redirections, and with the system's TLS library that
//! connection takes no certificates of one's own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use redis::{Cmd, FromRedisValue, Value, cmd, from_redis_value};
use tokio::time::timeout;

use super::connect::Peer;
use super::fault::Fault;
use super::link::{Link, LinkParts};
use crate::config::{RedisMode, RedisNode};
use crate::metrics::{RedisFault, RedisUse};

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// A run of slots, and the servers that hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub first: u16,
    pub last: u16,
    pub primary: RedisNode,
    pub replicas: Vec<RedisNode>,
}

/// What is known of the servers.
#[derive(Debug)]
pub(super) struct Topology {
    parts: Arc<LinkParts>,
    links: RwLock<HashMap<RedisNode, Arc<Link>>>,
    shards: RwLock<Arc<[Shard]>>,
    looking: tokio::sync::Mutex<()>,
    look_planned: AtomicBool,
    turn: AtomicUsize,
}

impl Topology {
    pub fn new(parts: Arc<LinkParts>) -> Topology {
        Topology {
            parts,
            links: RwLock::default(),
            shards: RwLock::new(Arc::from([])),
            looking: tokio::sync::Mutex::default(),
            look_planned: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
        }
    }

    /// All shards as they are known; none before the first look.
    pub fn shards(&self) -> Arc<[Shard]> {
        self.shards.read().clone()
    }

    /// The link to a server.
    pub fn link(&self, node: &RedisNode) -> Arc<Link> {
        if let Some(link) = self.links.read().get(node) {
            return link.clone();
        }
        let mut links = self.links.write();
        links.entry(node.clone()).or_insert_with(|| Arc::new(Link::new(node.clone(), self.parts.clone()))).clone()
    }

    /// The primary of a slot.
    pub fn primary(&self, slot: u16) -> Option<Arc<Link>> {
        self.shard(slot).map(|shard| self.link(&shard.primary))
    }

    /// A replica of a slot, each in turn; the primary where there is none.
    pub fn replica(&self, slot: u16) -> Option<Arc<Link>> {
        let shard = self.shard(slot)?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % shard.replicas.len().max(1);
        Some(self.link(shard.replicas.get(turn).unwrap_or(&shard.primary)))
    }

    fn shard(&self, slot: u16) -> Option<Shard> {
        self.shards.read().iter().find(|shard| (shard.first..=shard.last).contains(&slot)).cloned()
    }

    /// Takes a redirection's word for where a slot is, until the next look shows everything.
    pub fn moved(&self, slot: u16, to: &RedisNode) {
        let mut shards = self.shards.write();
        let mut new: Vec<Shard> = Vec::with_capacity(shards.len() + 2);
        for shard in shards.iter() {
            if !(shard.first..=shard.last).contains(&slot) || shard.primary == *to {
                new.push(shard.clone());
                continue;
            }
            if shard.first < slot {
                new.push(Shard { last: slot - 1, ..shard.clone() });
            }
            new.push(Shard { first: slot, last: slot, primary: to.clone(), replicas: Vec::new() });
            if slot < shard.last {
                new.push(Shard { first: slot + 1, ..shard.clone() });
            }
        }
        *shards = new.into();
    }

    /// Looks anew, now. Of several who want that at once, one looks.
    pub async fn look(&self) -> Result<(), Fault> {
        let before = self.shards();
        let _one = self.looking.lock().await;
        // Somebody else has looked while we waited.
        if !Arc::ptr_eq(&before, &self.shards()) {
            return Ok(());
        }
        let found = match &self.parts.connector.store.mode {
            RedisMode::Single => self.single().await?,
            RedisMode::Sentinel { master } => self.sentinel(master).await?,
            RedisMode::Cluster => self.cluster().await?,
        };
        if found[..] != before[..] {
            log::info!("Redis: {}", shown(&found));
            let used = |node: &RedisNode| {
                found.iter().any(|shard| shard.primary == *node || shard.replicas.contains(node))
                    || self.parts.connector.store.nodes.contains(node)
            };
            self.links.write().retain(|node, _| used(node));
        }
        *self.shards.write() = found.into();
        Ok(())
    }

    /// Looks anew soon, in a task of its own: for callers that cannot wait.
    pub fn look_soon(self: &Arc<Self>) {
        if self.look_planned.swap(true, Ordering::Relaxed) {
            return;
        }
        let own = self.clone();
        let planned = Planned(self.clone());
        tokio::spawn(async move {
            let _planned = planned;
            if let Err(fault) = own.look().await {
                log::debug!("Redis: {fault}");
            }
        });
    }

    async fn single(&self) -> Result<Vec<Shard>, Fault> {
        let store = &self.parts.connector.store;
        let Some(primary) = store.nodes.first().cloned() else { return Err(nobody()) };
        let replicas = match store.replica_reads {
            true => self.role(&self.link(&primary)).await?.replicas,
            false => Vec::new(),
        };
        Ok(vec![Shard { first: 0, last: SLOTS - 1, primary, replicas }])
    }

    /// Asks one sentinel after the other, until one names a server that says of itself that it is the primary.
    async fn sentinel(&self, master: &str) -> Result<Vec<Shard>, Fault> {
        let mut last = nobody();
        for sentinel in &self.parts.connector.store.nodes {
            match self.as_told_by(sentinel, master).await {
                Ok(shard) => return Ok(vec![shard]),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    async fn as_told_by(&self, sentinel: &RedisNode, master: &str) -> Result<Shard, Fault> {
        let limit = self.parts.connector.store.timeouts.command;
        let mut connection = self.parts.connector.connect(sentinel, Peer::Sentinel).await?;
        let mut ask = async |what: &str| -> Result<Value, Fault> {
            let mut command = cmd("SENTINEL");
            command.arg(what).arg(master);
            let answer = timeout(limit, connection.send_packed_command(&command)).await;
            let answer = answer.map_err(|_| Fault::timeout(limit))?.map_err(|error| Fault::from(&error))?;
            answer.extract_error().map_err(|error| Fault::from(&error))
        };
        let address: Option<(String, u16)> = read(ask("GET-MASTER-ADDR-BY-NAME").await?)?;
        let Some((host, port)) = address else {
            return Err(Fault::new(RedisFault::Connect, format!("the sentinel {sentinel} knows no {master}")));
        };
        let primary = RedisNode { host, port };
        let role = self.role(&self.link(&primary)).await?;
        if !role.is_primary {
            // Asked in the middle of a fail-over: it still names the server that was.
            return Err(Fault::new(RedisFault::ReadOnly, format!("{primary} is not the primary (any more, or yet)")));
        }
        let replicas = match self.parts.connector.store.replica_reads {
            true => replicas_of(read(ask("REPLICAS").await?)?),
            false => Vec::new(),
        };
        Ok(Shard { first: 0, last: SLOTS - 1, primary, replicas })
    }

    /// Asks the known primaries, then the nodes of the config, until one answers for the whole.
    async fn cluster(&self) -> Result<Vec<Shard>, Fault> {
        let known = self.shards();
        let candidates = known.iter().map(|shard| &shard.primary).chain(&self.parts.connector.store.nodes);
        let mut last = nobody();
        for node in candidates {
            let mut command = cmd("CLUSTER");
            command.arg("SLOTS");
            match self.ask(&self.link(node), &command).await.and_then(|value| slots(value, node)) {
                Ok(shards) if !shards.is_empty() => return Ok(shards),
                Ok(_) => last = Fault::new(RedisFault::ClusterDown, format!("{node}: no slot is served")),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    /// What a server says that it is.
    pub async fn role(&self, link: &Link) -> Result<Role, Fault> {
        match read::<Vec<Value>>(self.ask(link, &cmd("ROLE")).await?)?.as_slice() {
            [name, _, replicas] if read::<String>(name.clone())? == "master" => {
                let replicas: Vec<(String, u16, Value)> = read(replicas.clone())?;
                let replicas = replicas.into_iter().map(|(host, port, _)| RedisNode { host, port }).collect();
                Ok(Role { is_primary: true, replicas })
            }
            _ => Ok(Role { is_primary: false, replicas: Vec::new() }),
        }
    }

    /// One command to one server.
    pub async fn ask(&self, link: &Link, command: &Cmd) -> Result<Value, Fault> {
        let mut commands = redis::pipe();
        commands.add_command(command.clone());
        let limit: Duration = self.parts.connector.store.timeouts.command;
        let mut answers = link.exchange(RedisUse::Control, &commands, (0, 1), limit).await?;
        let answer = answers.pop().unwrap_or_default();
        answer.extract_error().map_err(|error| Fault::from(&error))
    }
}

/// What a server says that it is.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub is_primary: bool,
    pub replicas: Vec<RedisNode>,
}

/// Lets the next look be planned when this one is over, whatever way it ends.
struct Planned(Arc<Topology>);

impl Drop for Planned {
    fn drop(&mut self) {
        self.0.look_planned.store(false, Ordering::Relaxed);
    }
}

fn nobody() -> Fault {
    Fault::new(RedisFault::Connect, "no server is known")
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, Fault> {
    from_redis_value(value).map_err(|error| Fault::new(RedisFault::Other, error.to_string()))
}

fn shown(shards: &[Shard]) -> String {
    let one = |shard: &Shard| format!("{} for slots {}-{}", shard.primary, shard.first, shard.last);
    shards.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Replicas that the sentinel holds for usable.
fn replicas_of(told: Vec<HashMap<String, String>>) -> Vec<RedisNode> {
    let usable = |replica: &HashMap<String, String>| {
        let flags = replica.get("flags").map(String::as_str).unwrap_or_default();
        let linked = replica.get("master-link-status").is_some_and(|status| status == "ok");
        linked && !flags.split(',').any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected"))
    };
    let node = |replica: &HashMap<String, String>| {
        Some(RedisNode { host: replica.get("ip")?.clone(), port: replica.get("port")?.parse().ok()? })
    };
    told.iter().filter(|replica| usable(replica)).filter_map(node).collect()
}

/// Reads `CLUSTER SLOTS`: runs of slots with their servers, the primary first.
fn slots(value: Value, asked: &RedisNode) -> Result<Vec<Shard>, Fault> {
    let mut shards = Vec::new();
    for run in read::<Vec<Vec<Value>>>(value)? {
        let [first, last, servers @ ..] = run.as_slice() else { continue };
        let servers: Vec<RedisNode> = servers.iter().filter_map(|server| server_of(server, asked)).collect();
        let Some((primary, replicas)) = servers.split_first() else { continue };
        let (first, last) = (read(first.clone())?, read(last.clone())?);
        shards.push(Shard { first, last, primary: primary.clone(), replicas: replicas.to_vec() });
    }
    shards.sort_by_key(|shard| shard.first);
    Ok(shards)
}

/// A server in `CLUSTER SLOTS`: address, port, id, more. An address left empty, or nil, is that of the server asked.
fn server_of(value: &Value, asked: &RedisNode) -> Option<RedisNode> {
    let fields: Vec<Value> = from_redis_value(value.clone()).ok()?;
    let [host, port, ..] = fields.as_slice() else { return None };
    let host: Option<String> = from_redis_value(host.clone()).ok()?;
    let host = host.filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| asked.host.clone());
    Some(RedisNode { host, port: from_redis_value(port.clone()).ok()? })
}

/// The slot of a key (Redis Cluster specification, "Key distribution model"): CRC16 of what stands between the first
/// `{` and the next `}`, or of the whole key.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tagged = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|b| *b == b'}').filter(|close| *close > 0)?;
        rest.get(..close)
    });
    crc16(tagged.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> RedisNode {
        RedisNode { host: "h".to_owned(), port }
    }

    #[test]
    fn slots_of_keys() {
        // From the cluster specification, and from a server's own CLUSTER KEYSLOT.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
    }

    #[test]
    fn cluster_slots_are_read() {
        let text = "*2\r\n*3\r\n:5461\r\n:16383\r\n*3\r\n$0\r\n\r\n:7002\r\n$1\r\nb\r\n\
                    *4\r\n:0\r\n:5460\r\n*3\r\n$1\r\nh\r\n:7001\r\n$1\r\na\r\n*3\r\n$1\r\nh\r\n:7003\r\n$1\r\nc\r\n";
        let shards = slots(redis::parse_redis_value(text.as_bytes()).unwrap(), &node(1)).unwrap();
        assert_eq!(
            shards,
            [
                Shard { first: 0, last: 5460, primary: node(7001), replicas: vec![node(7003)] },
                Shard { first: 5461, last: 16383, primary: node(7002), replicas: vec![] },
            ]
        );
    }
}
