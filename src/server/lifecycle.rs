//! Where the process stands between start and exit.
//!
//! One value that everything reads: readiness, the connections (a draining process ends each one after its answer) and
//! the accept loops. It only ever moves forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use pingora::server::ShutdownWatch;
use tokio::sync::watch;

/// The stages of a process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Listeners are bound or being taken over; nothing is accepted yet.
    Starting = 0,
    /// Requests are served.
    Serving = 1,
    /// Requests are still served, but every answer ends its connection, and readiness says no.
    Draining = 2,
    /// No connection is accepted any more; the last requests run to their end.
    Closing = 3,
}

/// A handle on the process's stage. Clones share it.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    phase: Arc<AtomicU8>,
    handed_over: Arc<AtomicBool>,
    serving: Arc<watch::Sender<bool>>,
    draining: Arc<watch::Sender<bool>>,
    closing: Arc<watch::Sender<bool>>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A process that is starting.
    pub fn new() -> Self {
        Lifecycle {
            phase: Arc::new(AtomicU8::new(Phase::Starting as u8)),
            handed_over: Arc::new(AtomicBool::new(false)),
            serving: Arc::new(watch::Sender::new(false)),
            draining: Arc::new(watch::Sender::new(false)),
            closing: Arc::new(watch::Sender::new(false)),
        }
    }

    /// The stage now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            2 => Phase::Draining,
            _ => Phase::Closing,
        }
    }

    /// Whether a load balancer should send requests here: what `/readyz` says. After a hand-over the address is served
    /// on, by the successor, so whoever still asks this process must not be sent elsewhere.
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Serving || self.handed_over.load(Ordering::Acquire)
    }

    /// Turns true when requests are served; whoever listens on an address of its own (admin) waits for it, as until
    /// then a predecessor may be the one that answers there.
    pub fn serving(&self) -> ShutdownWatch {
        self.serving.subscribe()
    }

    /// Notes that a successor serves on.
    pub(super) fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
    }

    /// Whether the process is on its way out. Answers then end their connection; the server sees to that.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Turns true when the process starts to drain. The type is the one that Pingora's services take.
    pub fn draining(&self) -> ShutdownWatch {
        self.draining.subscribe()
    }

    /// Turns true when nothing more is to be accepted; whoever listens on an address of its own (admin) stops then.
    pub fn closing(&self) -> ShutdownWatch {
        self.closing.subscribe()
    }

    /// Moves on to `phase`; moving back does nothing.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        if phase >= Phase::Serving {
            self.serving.send_replace(true);
        }
        if phase >= Phase::Draining {
            self.draining.send_replace(true);
        }
        if phase >= Phase::Closing {
            self.closing.send_replace(true);
        }
    }
}

/// Resolves once `watch` holds true, or its sender is gone.
pub(super) async fn turned_true(mut watch: ShutdownWatch) {
    let _gone = watch.wait_for(|on| *on).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn moves_forward_only_and_tells_those_who_wait() {
        let life = Lifecycle::new();
        assert!(!life.is_ready());
        let served = tokio::spawn(turned_true(life.serving()));
        life.enter(Phase::Serving);
        served.await.unwrap();
        assert!(life.is_ready());
        let waiting = tokio::spawn(turned_true(life.draining()));
        life.enter(Phase::Draining);
        waiting.await.unwrap();
        life.enter(Phase::Serving);
        assert_eq!(life.phase(), Phase::Draining);
        assert!(life.is_draining() && !*life.closing().borrow());
        life.enter(Phase::Closing);
        turned_true(life.closing()).await;
        assert!(!life.is_ready());
        life.hand_over();
        assert!(life.is_ready());
    }
}
