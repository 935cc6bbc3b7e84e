//! Who wants to know of what: the numbers behind [`super::Backend::subscribe`].

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

/// A number per topic, and who watches it.
#[derive(Debug, Default)]
pub(super) struct Topics(Mutex<HashMap<&'static str, watch::Sender<u64>>>);

impl Topics {
    /// A view of the topic's number.
    pub(super) fn subscribe(&self, topic: &'static str) -> watch::Receiver<u64> {
        self.0.lock().entry(topic).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Sets the topic's number; its subscribers are told when it is another one.
    pub(super) fn set(&self, topic: &str, number: u64) {
        if let Some(sender) = self.0.lock().get(topic) {
            sender.send_if_modified(|known| {
                let moved = *known != number;
                *known = number;
                moved
            });
        }
    }

    /// The topics that somebody has subscribed to.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.0.lock().keys().copied().collect()
    }
}

/// Waits until somebody tells of a change, or for `rest`: a telling may be lost. When nobody can tell any more, for `rest`.
pub async fn told_or_after(told: &mut watch::Receiver<u64>, rest: Duration) {
    let push = async {
        if told.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = push => {}
        () = tokio::time::sleep(rest) => {}
    }
}
