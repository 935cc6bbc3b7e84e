//! Loops that run for as long as the edge does, each in a task of its own.
//!
//! A panic in one must neither end the others nor go unnoticed: an edge that no longer follows revocations, or sweeps
//! nothing, still answers. So whatever loop ends is told in the log and makes the edge not ready, and the next start
//! is somebody's decision.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;

/// Which loops have ended.
#[derive(Debug, Default)]
pub(super) struct Loops {
    ended: Mutex<Vec<&'static str>>,
}

impl Loops {
    /// Starts one on `runtime`, with whose end it may end.
    pub(super) fn start(
        self: &Arc<Self>,
        runtime: &Handle,
        name: &'static str,
        running: impl Future<Output = ()> + Send + 'static,
    ) {
        let (own, running) = (self.clone(), runtime.spawn(running));
        runtime.spawn(async move {
            let why = match running.await {
                Ok(()) => "it came to its end".to_owned(),
                Err(error) if error.is_cancelled() => return,
                Err(error) => error.to_string(),
            };
            log::error!("{name} has stopped, and this edge wants no more traffic: {why}. Start it anew");
            own.ended.lock().push(name);
        });
    }

    /// What keeps the edge from being ready, in words for a person.
    pub(super) fn faults(&self) -> Vec<String> {
        self.ended.lock().iter().map(|name| format!("{name} has stopped")).collect()
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
        assert_eq!(loops.faults()[1], "fetching has stopped");
    }
}
