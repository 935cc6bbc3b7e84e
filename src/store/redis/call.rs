//! One operation on one slot: to whom it goes, what is tried again, and when it is enough.
//!
//! A command is repeated when it is known that it did not happen (refused, or never sent), or when it is safe to happen
//! twice. Between attempts there is a pause that doubles; `timeouts.total` ends it all.

use std::time::Duration;

use redis::{Cmd, ErrorKind, Pipeline, ServerErrorKind, Value, cmd};
use tokio::time::{sleep, timeout};

use super::Redis;
use super::fault::Fault;
use super::link::{Link, pause};
use super::script::Script;
use crate::config::{RedisMode, RedisNode};
use crate::metrics::{RedisFault, RedisUse};

/// Redirections that one operation follows without a pause.
const REDIRECTIONS: u32 = 5;

/// One operation.
pub(super) struct Call<'a> {
    /// The slot that its keys are in.
    pub slot: u16,
    pub what_for: RedisUse,
    /// May be answered by a replica.
    pub stale: bool,
    /// May happen twice.
    pub repeatable: bool,
    pub commands: Commands<'a>,
}

/// What is sent: one command or script, and what has to follow it on the same connection.
pub(super) struct Commands<'a> {
    pub first: First<'a>,
    pub then: Vec<Cmd>,
}

pub(super) enum First<'a> {
    Plain(Cmd),
    Script { script: &'a Script, keys: &'a [&'a [u8]], args: &'a [&'a [u8]] },
}

impl First<'_> {
    /// As a command. A script goes by its hash, or whole to a server that does not know it.
    pub fn command(&self, whole: bool) -> Cmd {
        match self {
            First::Plain(command) => command.clone(),
            First::Script { script, keys, args } => script.command(whole, keys, args),
        }
    }
}

impl Commands<'_> {
    /// How many answers come.
    fn count(&self) -> usize {
        1 + self.then.len()
    }

    /// What goes out, behind `before`.
    fn pipeline(&self, before: Option<&'static str>, whole: bool) -> Pipeline {
        let mut pipeline = redis::pipe();
        if let Some(before) = before {
            pipeline.add_command(cmd(before));
        }
        pipeline.add_command(self.first.command(whole));
        for then in &self.then {
            pipeline.add_command(then.clone());
        }
        pipeline
    }
}

/// Where an attempt goes, and what has to be said first there.
struct Target {
    link: std::sync::Arc<Link>,
    before: Option<&'static str>,
}

impl Redis {
    /// Does it, trying until it is done, refused for good, or late. The first answer is no error; further ones may be.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Vec<Value>, Fault> {
        self.keep_listening();
        let total = self.parts().connector.store.timeouts.total;
        let mut last = None;
        match timeout(total, self.attempts(call, &mut last)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(last.unwrap_or_else(|| Fault::timeout(total))),
        }
    }

    async fn attempts(&self, call: &Call<'_>, last: &mut Option<Fault>) -> Result<Vec<Value>, Fault> {
        let limit = self.parts().connector.store.timeouts.command;
        let (mut failures, mut redirections) = (0, 0);
        // Whether an attempt got no answer: then it may have happened, whatever a later one is told.
        let mut unsure = false;
        let mut redirected = None;
        let mut stale = call.stale;
        loop {
            let target = match self.target(call.slot, stale, redirected.take()).await {
                Ok(target) => target,
                Err(fault) => {
                    if !fault.passes() {
                        return Err(fault);
                    }
                    self.rest(fault, &mut failures, last).await;
                    continue;
                }
            };
            let fault = match self.once(call, &target, limit).await {
                Ok(values) => return Ok(values),
                Err(fault) => fault,
            };
            if let Some((node, ask)) = &fault.redirect
                && redirections < REDIRECTIONS
            {
                redirections += 1;
                redirected = Some((node.clone(), *ask));
                continue;
            }
            // A replica that fails is not worth waiting for.
            if std::mem::take(&mut stale) {
                continue;
            }
            if !(fault.passes() && (fault.refused() || call.repeatable)) {
                return Err(if unsure { fault.after_silence() } else { fault });
            }
            unsure |= !fault.refused();
            self.rest(fault, &mut failures, last).await;
        }
    }

    async fn rest(&self, fault: Fault, failures: &mut u32, last: &mut Option<Fault>) {
        *last = Some(fault);
        sleep(pause(*failures)).await;
        *failures += 1;
    }

    /// One attempt by what is known now, for callers that cannot wait: no pauses, and no look at the topology but one
    /// that goes on without them.
    pub(super) async fn call_now(&self, call: &Call<'_>, limit: Duration) -> Result<Vec<Value>, Fault> {
        self.keep_listening();
        let Some(link) = self.topology().primary(call.slot) else {
            self.topology().look_soon();
            return Err(Fault::new(RedisFault::Connect, "no server is known yet"));
        };
        let attempt = async {
            match self.once(call, &Target { link, before: None }, limit).await {
                Err(Fault { redirect: Some((node, ask)), .. }) => {
                    let before = ask.then_some("ASKING");
                    self.once(call, &Target { link: self.topology().link(&node), before }, limit).await
                }
                outcome => outcome,
            }
        };
        timeout(limit, attempt).await.unwrap_or_else(|_| Err(Fault::timeout(limit)))
    }

    async fn target(&self, slot: u16, stale: bool, redirected: Option<(RedisNode, bool)>) -> Result<Target, Fault> {
        if let Some((node, ask)) = redirected {
            return Ok(Target { link: self.topology().link(&node), before: ask.then_some("ASKING") });
        }
        let known = || if stale { self.topology().replica(slot) } else { self.topology().primary(slot) };
        let link = match known() {
            Some(link) => link,
            None => {
                self.topology().look().await?;
                known().ok_or_else(|| Fault::new(RedisFault::ClusterDown, format!("slot {slot} is not served")))?
            }
        };
        // A replica in a cluster redirects readers that have not said that they know what it is.
        let cluster = self.parts().connector.store.mode == RedisMode::Cluster;
        Ok(Target { link, before: (stale && cluster).then_some("READONLY") })
    }

    /// One attempt at one server; two when that does not know the script.
    async fn once(&self, call: &Call<'_>, target: &Target, limit: Duration) -> Result<Vec<Value>, Fault> {
        let skip = usize::from(target.before.is_some());
        let mut whole = false;
        let fault = loop {
            let pipeline = call.commands.pipeline(target.before, whole);
            let fault = match target.link.exchange(call.what_for, &pipeline, (skip, call.commands.count()), limit).await
            {
                Ok(values) => match values.first().cloned().map(Value::extract_error) {
                    Some(Err(error)) if error.kind() == NO_SCRIPT && !whole => {
                        whole = true;
                        continue;
                    }
                    Some(Err(error)) => Fault::from(&error),
                    _ => return Ok(values),
                },
                Err(fault) => fault,
            };
            break self.seen(call, target, fault);
        };
        Err(fault)
    }

    /// Takes note of a fault, and of what it tells about the topology.
    fn seen(&self, call: &Call<'_>, target: &Target, mut fault: Fault) -> Fault {
        self.parts().metrics.redis_faults.inc(fault.kind);
        if let Some((node, ask)) = &mut fault.redirect {
            // A cluster may leave the host out: then it is that of the server asked.
            if node.host.is_empty() {
                node.host.clone_from(&target.link.node.host);
            }
            if !*ask {
                self.topology().moved(call.slot, node);
            }
        }
        if fault.moves() {
            self.topology().look_soon();
        }
        fault
    }
}

const NO_SCRIPT: ErrorKind = ErrorKind::Server(ServerErrorKind::NoScript);
