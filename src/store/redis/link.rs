//! A server and the connections to it.
//!
//! Connections are opened when they are needed, by a task of the runtime that needs them, or of the one that was named for
//! it ([`super::Redis::drive_on`]), and shared by everyone after that; a caller whose patience ends does not take a connection attempt with it. A connection that breaks, or leaves
//! everyone without an answer for the time of one command, is given up. After a failed attempt there is none for a
//! while that doubles from 20 ms to a second: until then callers are told at once rather than kept waiting, so that a
//! server that swallows packets costs one of them its time and not all.
//!
//! What is done here is done over separate connections by what for. A durable write is followed by `WAIT`, which holds
//! up whatever comes after it on the same connection; reads and limits must not stand behind it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::rand;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::connect::{Connector, Peer};
use super::fault::Fault;
use crate::clock::{Clock, Tick};
use crate::config::RedisNode;
use crate::metrics::{Metrics, Opened, RedisFault, RedisUse};

/// Connections for writes: as many durable batches can wait for replicas at once as there are.
const WRITERS: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A server and the connections to it.
pub(super) struct Link {
    pub node: RedisNode,
    shared: Arc<LinkParts>,
    lanes: Vec<Arc<Lane>>,
    next_writer: AtomicUsize,
}

/// What every link needs.
#[derive(Debug)]
pub(super) struct LinkParts {
    pub connector: Connector,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// Where connections are driven; `None`: on the runtime of whoever needs one first.
    pub drivers: Mutex<Option<Handle>>,
}

struct Lane {
    state: Mutex<State>,
    /// Counts connections, so that a fault of an older one does not close a newer one.
    generation: AtomicU64,
}

enum State {
    /// There is no connection, and no attempt before a moment.
    Closed { failures: u32, not_before: Tick, why: Option<Fault> },
    /// Somebody is opening one.
    Opening(Shared<BoxFuture<'static, Result<Open, Fault>>>),
    /// There is one.
    Open(Open),
}

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    generation: u64,
    /// Since when nothing has been answered, in nanoseconds of the clock; 0: the last exchange was answered.
    silent_since: Arc<AtomicU64>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.node)
    }
}

impl Link {
    pub fn new(node: RedisNode, shared: Arc<LinkParts>) -> Link {
        let closed = || State::Closed { failures: 0, not_before: Tick::default(), why: None };
        let lane = || Arc::new(Lane { state: Mutex::new(closed()), generation: AtomicU64::new(0) });
        let lanes = (0..2 + WRITERS).map(|_| lane()).collect();
        Link { node, shared, lanes, next_writer: AtomicUsize::new(0) }
    }

    /// Sends commands together and reads their answers, all within `limit`. `skip` answers come first and are dropped.
    pub async fn exchange(
        &self,
        what_for: RedisUse,
        commands: &Pipeline,
        (skip, count): (usize, usize),
        limit: Duration,
    ) -> Result<Vec<Value>, Fault> {
        let Some(lane) = self.lane(what_for) else {
            return Err(Fault::new(RedisFault::Other, "there is no such connection"));
        };
        let began = self.shared.clock.tick();
        let outcome = timeout(limit, async {
            let open = self.open(lane).await?;
            self.shared.metrics.redis_round_trips.inc(what_for);
            let mut connection = open.connection.clone();
            // The answer's deadline is the one around this; what was sent has a witness that it was.
            let sent = Sent { open, began, answered: false };
            let answer = connection.send_packed_commands(commands, skip, count).await;
            Ok::<_, Fault>((sent.answered(), answer))
        })
        .await;
        let fault = match outcome {
            Ok(Ok((_, Ok(values)))) => return Ok(values),
            Ok(Ok((open, Err(error)))) => {
                let fault = Fault::from(&error);
                if matches!(fault.kind, RedisFault::Dropped | RedisFault::Denied) {
                    lane.close(open.generation, self.shared.clock.tick());
                }
                fault
            }
            // It says already whose connection could not be opened.
            Ok(Err(fault)) => return Err(fault),
            Err(_) => {
                self.give_up_if_silent(lane);
                Fault::timeout(limit)
            }
        };
        Err(Fault { message: format!("{}: {}", self.node, fault.message), ..fault })
    }

    fn lane(&self, what_for: RedisUse) -> Option<&Arc<Lane>> {
        let at = match what_for {
            RedisUse::Read | RedisUse::Control => 0,
            RedisUse::Limit => 1,
            RedisUse::Write => 2 + self.next_writer.fetch_add(1, Ordering::Relaxed) % WRITERS,
        };
        self.lanes.get(at)
    }

    fn give_up_if_silent(&self, lane: &Lane) {
        let now = self.shared.clock.tick();
        let silent = match &*lane.state.lock() {
            State::Open(open) => Some((open.generation, open.silent_since.load(Ordering::Relaxed))),
            _ => None,
        };
        if let Some((generation, since)) = silent.filter(|(_, since)| *since != 0)
            && now.since(Tick(since)) >= self.shared.connector.store.timeouts.command
        {
            log::warn!("Redis at {} does not answer; the connection is given up", self.node);
            lane.close(generation, now);
        }
    }

    async fn open(&self, lane: &Arc<Lane>) -> Result<Open, Fault> {
        let opening = {
            let mut state = lane.state.lock();
            match &*state {
                State::Open(open) => return Ok(open.clone()),
                State::Opening(opening) => opening.clone(),
                State::Closed { not_before, why: Some(why), .. } if self.shared.clock.tick() < *not_before => {
                    return Err(why.clone());
                }
                State::Closed { failures, .. } => {
                    let opening = self.start_opening(lane, *failures);
                    *state = State::Opening(opening.clone());
                    opening
                }
            }
        };
        opening.await
    }

    /// Opens a connection in a task of its own. Called with the lane's state locked.
    fn start_opening(&self, lane: &Arc<Lane>, failures: u32) -> Shared<BoxFuture<'static, Result<Open, Fault>>> {
        let (parts, node, own) = (self.shared.clone(), self.node.clone(), lane.clone());
        let generation = lane.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let runtime = self.shared.drivers.lock().clone().unwrap_or_else(Handle::current);
        let task = runtime.spawn(async move {
            let opened = parts.connector.connect(&node, Peer::Server).await;
            parts.metrics.redis_connections.inc(if opened.is_ok() { Opened::Ok } else { Opened::Failed });
            let opened = opened.map(|connection| Open { connection, generation, silent_since: Arc::default() });
            *own.state.lock() = match &opened {
                Ok(open) => State::Open(open.clone()),
                Err(fault) => {
                    let not_before = parts.clock.tick().plus(pause(failures));
                    State::Closed { failures: failures.saturating_add(1), not_before, why: Some(fault.clone()) }
                }
            };
            opened
        });
        let (own, parts) = (lane.clone(), self.shared.clone());
        let joined = async move {
            match task.await {
                Ok(opened) => opened,
                // The runtime that the attempt ran on has ended: the next caller begins another one on its own.
                Err(_) => {
                    parts.drivers.lock().take();
                    let mut state = own.state.lock();
                    if matches!(*state, State::Opening(_)) {
                        *state = State::Closed { failures, not_before: Tick::default(), why: None };
                    }
                    Err(Fault::new(RedisFault::Connect, "the attempt to connect was given up"))
                }
            }
        };
        joined.boxed().shared()
    }
}

impl Lane {
    /// Gives a connection up, unless it has been replaced already.
    fn close(&self, generation: u64, now: Tick) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Open(open) if open.generation == generation) {
            *state = State::Closed { failures: 0, not_before: now, why: None };
        }
    }
}

/// Commands that were sent. Dropped without an answer, it marks the connection as silent since they were.
struct Sent {
    open: Open,
    began: Tick,
    answered: bool,
}

impl Sent {
    fn answered(mut self) -> Open {
        self.answered = true;
        self.open.silent_since.store(0, Ordering::Relaxed);
        self.open.clone()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if !self.answered {
            let began = self.began.0.max(1);
            // The first unanswered exchange counts; later ones began later.
            let _ = self.open.silent_since.compare_exchange(0, began, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// The pause after the `failures`th failed attempt in a row: doubling, and up to a quarter shorter by chance, so that
/// edges that lost the same server do not come back in step.
pub(super) fn pause(failures: u32) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << failures.min(6)).min(LONGEST_PAUSE);
    let mut chance = [0];
    // Without chance the pause is the full one.
    let _ = rand::fill(&mut chance);
    full - full.mul_f64(f64::from(chance[0]) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second() {
        for (failures, full) in [(0, 20), (1, 40), (5, 640), (6, 1000), (60, 1000)] {
            let pause = pause(failures).as_millis();
            assert!(pause <= full && pause >= full * 3 / 4, "{failures}: {pause} ms");
        }
    }
}
