//! What a signal does: the one place that decides when and how the process ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::join_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::accept::Rules;
use super::counters::Counters;
use super::guard::Guard;
use super::lifecycle::{Lifecycle, Phase};
use super::listeners::{Listener, to_hand_over};
use super::notify::{State, notify};
use super::reload::Reloads;
use super::upgrade;
use crate::store::folder::ServiceLock;

/// The longest that readiness says no before listeners stop. A tenth of the time to drain, when that is less.
const LONGEST_NOTICE: Duration = Duration::from_secs(3);
/// The longest that an idle connection is kept for its next request, which is then its last. Half of what is left of
/// the time to drain, when that is less.
const LONGEST_LINGER: Duration = Duration::from_secs(5);

/// How the process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every connection had ended.
    Drained,
    /// The time to drain was over first.
    Cut {
        /// Connections that were still open.
        open: usize,
    },
    /// At once, as asked by SIGINT or a second SIGTERM.
    Fast,
}

/// What the process may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Stop at once: SIGINT.
    Stop,
    /// Finish what is under way and stop: SIGTERM.
    Drain,
    /// Hand over to a successor: SIGQUIT.
    HandOver,
    /// Read the config again: SIGHUP.
    Reload,
    /// Reopen logs: SIGUSR1.
    ReopenLogs,
}

/// Where orders come from.
pub(super) trait Orders {
    /// The next order.
    async fn next(&mut self) -> Order;
}

/// The process's signals.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangup: Signal,
    usr1: Signal,
}

impl Signals {
    /// Takes the signals over from their default actions.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
        })
    }
}

impl Orders for Signals {
    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.terminate.recv() => Order::Drain,
            _ = self.quit.recv() => Order::HandOver,
            _ = self.hangup.recv() => Order::Reload,
            _ = self.usr1.recv() => Order::ReopenLogs,
        }
    }
}

/// What orders act on.
pub(super) struct Control {
    pub(super) lifecycle: Lifecycle,
    pub(super) guard: Arc<Guard>,
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) counters: Arc<Counters>,
    pub(super) reloads: Reloads,
    pub(super) reopen_logs: Box<dyn Fn() + Send + Sync>,
    pub(super) upgrade_socket: Option<PathBuf>,
    /// Kept to hand over and dropped when nothing more is accepted; the accept loops have their own handles.
    pub(super) listeners: Arc<Vec<Listener>>,
    /// The hold on the data folder; a successor gets it too.
    pub(super) folder: Option<Arc<ServiceLock>>,
    /// The accept loops, which end by themselves once nothing more is accepted.
    pub(super) accepting: Vec<JoinHandle<()>>,
}

impl Control {
    /// Follows orders to the process's end.
    pub(super) async fn run(mut self, mut orders: impl Orders) -> Ended {
        let notice = loop {
            match orders.next().await {
                Order::Stop => return Ended::Fast,
                Order::Drain => {
                    notify(State::Stopping);
                    break (self.rules.load().drain / 10).min(LONGEST_NOTICE);
                }
                Order::HandOver => {
                    if self.hand_over().await {
                        self.lifecycle.hand_over();
                        break Duration::ZERO;
                    }
                }
                Order::Reload => self.reloads.ask(),
                Order::ReopenLogs => (self.reopen_logs)(),
            }
        };
        let (listeners, accepting) = (std::mem::take(&mut self.listeners), std::mem::take(&mut self.accepting));
        let mut draining = std::pin::pin!(self.drain(notice, listeners, accepting));
        loop {
            tokio::select! {
                ended = &mut draining => return ended,
                order = orders.next() => match order {
                    Order::Stop | Order::Drain => return Ended::Fast,
                    Order::ReopenLogs => (self.reopen_logs)(),
                    Order::HandOver | Order::Reload => log::warn!("{order:?} ignored: the process is stopping"),
                },
            }
        }
    }

    /// True when a successor has taken over and this process is to end.
    async fn hand_over(&self) -> bool {
        let handed = match self.upgrade_socket.clone() {
            None => Err("server.upgrade_socket is not configured".to_owned()),
            Some(path) => {
                let (listeners, folder) = (self.listeners.clone(), self.folder.clone());
                tokio::task::spawn_blocking(move || give(&path, &listeners, folder.as_deref()))
                    .await
                    .unwrap_or_else(|error| Err(error.to_string()))
            }
        };
        match handed {
            Ok(()) => {
                log::info!("a successor has taken over");
                true
            }
            Err(error) => {
                self.counters.upgrades_refused.add();
                log::error!("SIGQUIT refused, this process serves on: {error}");
                false
            }
        }
    }

    /// Ends connections one by one, each after an answer that says so or while it waits for a request.
    async fn drain(&self, notice: Duration, listeners: Arc<Vec<Listener>>, accepting: Vec<JoinHandle<()>>) -> Ended {
        let deadline = Instant::now() + self.rules.load().drain;
        log::info!("draining {} connections", self.guard.open());
        self.lifecycle.enter(Phase::Draining);
        tokio::time::sleep(notice).await;
        self.lifecycle.enter(Phase::Closing);
        drop(listeners);
        // Until they have ended, a connection may just have been accepted that is not counted yet.
        join_all(accepting).await;
        // Whoever has a request on its way to an idle connection is answered; ending the connection now would cut it.
        let linger = ((deadline - Instant::now()) / 2).min(LONGEST_LINGER);
        if tokio::time::timeout(linger, self.guard.emptied()).await.is_err() {
            self.guard.end_idle();
        }
        match tokio::time::timeout_at(deadline, self.guard.emptied()).await {
            Ok(()) => Ended::Drained,
            Err(_) => Ended::Cut { open: self.guard.open() },
        }
    }
}

fn give(path: &Path, listeners: &[Listener], folder: Option<&ServiceLock>) -> Result<(), String> {
    let (names, sockets) = to_hand_over(listeners, folder);
    upgrade::hand_over(path, &names, &sockets)?.let_go()
}
