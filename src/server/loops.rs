//! Loops that run for as long as the edge does, each in a task of its own.
//!
//! A panic in one must neither end the others nor go unnoticed: an edge that no longer follows revocations, or takes no
//! new certificate, still answers. So whatever loop ends is told in the log and makes the edge not ready, and the next
//! start is somebody's decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;

/// The loops of an edge, and which of them have ended.
#[derive(Debug, Default)]
pub struct Loops {
    /// By what they are called: whether one of that name has ended.
    ended: Mutex<BTreeMap<&'static str, bool>>,
}

impl Loops {
    /// Starts one on `runtime`, with whose end it may end. Several may have one `name`, which says what they do.
    pub fn start(
        self: &Arc<Self>,
        runtime: &Handle,
        name: &'static str,
        running: impl Future<Output = ()> + Send + 'static,
    ) {
        self.ended.lock().entry(name).or_default();
        let (own, running) = (self.clone(), runtime.spawn(running));
        runtime.spawn(async move {
            let why = match running.await {
                Ok(()) => "it came to its end".to_owned(),
                Err(error) if error.is_cancelled() => return,
                Err(error) => error.to_string(),
            };
            log::error!("{name} has stopped, and this edge wants no more traffic: {why}. Start it anew");
            own.ended.lock().insert(name, true);
        });
    }

    /// What keeps the edge from being ready, in words for a person.
    pub fn faults(&self) -> Vec<String> {
        let ended = self.ended.lock();
        ended.iter().filter(|(_, ended)| **ended).map(|(name, _)| format!("{name} has stopped")).collect()
    }

    /// What they are called, those that have ended among them.
    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.ended.lock().keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_ends_is_named_and_the_others_go_on() {
        let (loops, runtime) = (Arc::<Loops>::default(), Handle::current());
        let (alive, mut living) = tokio::sync::watch::channel(0);
        loops.start(&runtime, "counting", async move {
            loop {
                alive.send_modify(|count| *count += 1);
                tokio::task::yield_now().await;
            }
        });
        loops.start(&runtime, "sweeping", async { panic!("out of brooms") });
        while loops.faults().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(loops.faults(), ["sweeping has stopped"]);
        living.mark_unchanged();
        living.changed().await.unwrap();
        loops.start(&runtime, "fetching", async {});
        while loops.faults().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(loops.faults(), ["fetching has stopped", "sweeping has stopped"]);
        assert_eq!(loops.names(), ["counting", "fetching", "sweeping"]);
    }
}
