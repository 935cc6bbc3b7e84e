//! Pushes: what one edge tells the others through `PUBLISH`.
//!
//! A topic is a number that moves. One connection listens for all topics; when it breaks it is opened anew, and then
//! every number moves, since what was told in between is lost.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use parking_lot::Mutex;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::{Notify, watch};
use tokio::time::{interval, sleep, timeout};

use super::fault::Fault;
use super::keys::{channel, topic_of};
use super::link::{LinkParts, pause};
use super::topology::Topology;
use crate::metrics::RedisFault;

/// How often the listening connection is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(5);

/// The topics that somebody listens to.
#[derive(Debug, Default)]
pub(super) struct Topics {
    numbers: Mutex<BTreeMap<&'static str, watch::Sender<u64>>>,
    added: Notify,
}

impl Topics {
    /// The number of a topic.
    pub fn subscribe(&self, topic: &'static str) -> watch::Receiver<u64> {
        let mut numbers = self.numbers.lock();
        let number = numbers.entry(topic).or_insert_with(|| {
            self.added.notify_one();
            watch::Sender::new(0)
        });
        number.subscribe()
    }

    fn names(&self) -> Vec<&'static str> {
        self.numbers.lock().keys().copied().collect()
    }

    fn tell(&self, topic: &str) {
        if let Some(number) = self.numbers.lock().get(topic) {
            number.send_modify(|number| *number = number.wrapping_add(1));
        }
    }
}

/// Listens for ever; ends with its runtime.
pub(super) async fn listen(parts: Arc<LinkParts>, topology: Arc<Topology>, topics: Arc<Topics>) {
    let mut failures = 0;
    loop {
        let fault = match connected(&parts, &topology).await {
            Ok((sink, stream)) => match follow(&parts, &topology, &topics, sink, stream, &mut failures).await {
                Err(fault) => fault,
            },
            Err(fault) => fault,
        };
        // Said once: a server that lets nobody listen would fill the log.
        let level = if failures == 0 { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "Redis: pushes are interrupted, so changes are found by looking: {fault}");
        topology.look_soon();
        sleep(pause(failures)).await;
        failures = failures.saturating_add(1);
    }
}

/// A connection to a primary: that of a single shard, or any of a cluster, where every node passes pushes on.
async fn connected(parts: &LinkParts, topology: &Topology) -> Result<(PubSubSink, PubSubStream), Fault> {
    if topology.shards().is_empty() {
        topology.look().await?;
    }
    let mut last = Fault::new(RedisFault::Connect, "no server is known");
    for shard in topology.shards().iter() {
        match parts.connector.listen(&shard.primary).await {
            Ok(connection) => return Ok(connection.split()),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

/// Listens until that fails. `failures` begins anew when listening has begun.
async fn follow(
    parts: &LinkParts,
    topology: &Arc<Topology>,
    topics: &Topics,
    mut sink: PubSubSink,
    mut stream: PubSubStream,
    failures: &mut u32,
) -> Result<Infallible, Fault> {
    let mut listening: Vec<&'static str> = Vec::new();
    let mut ping = interval(PING_EVERY);
    let limit = parts.connector.store.timeouts.command;
    loop {
        for topic in topics.names() {
            if listening.contains(&topic) {
                continue;
            }
            within(limit, sink.subscribe(channel(topic))).await?;
            *failures = 0;
            listening.push(topic);
            // What was told before we listened is lost: whoever cares has to look.
            topics.tell(topic);
        }
        tokio::select! {
            message = stream.next() => match message {
                Some(message) => topics.tell(topic_of(message.get_channel_name())),
                None => return Err(Fault::new(RedisFault::Dropped, "the connection broke")),
            },
            () = topics.added.notified() => {}
            _ = ping.tick() => {
                within(limit, sink.ping::<redis::Value>()).await?;
                // A primary that changes shows in a fault; a replica that comes shows in nothing.
                if parts.connector.store.replica_reads {
                    topology.look_soon();
                }
            }
        }
    }
}

/// Listens once, so that a user who may not is found out.
pub(super) async fn rehearse(parts: &LinkParts, topology: &Topology) -> Result<(), Fault> {
    let (mut sink, _stream) = connected(parts, topology).await?;
    within(parts.connector.store.timeouts.command, sink.subscribe(channel("rehearsal"))).await
}

async fn within<T>(limit: Duration, what: impl Future<Output = redis::RedisResult<T>>) -> Result<T, Fault> {
    match timeout(limit, what).await {
        Ok(outcome) => outcome.map_err(|error| Fault::from(&error)),
        Err(_) => Err(Fault::timeout(limit)),
    }
}
