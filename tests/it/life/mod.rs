//! The server's life: real processes, real signals, real sockets.
//!
//! | file | what it holds |
//! |---|---|
//! | `process` | a config in a folder, and `tmcp-edge run` on it |
//! | `upstream`, `client` | the two ends: a server that can be held, killed and asked; a client that forgives nothing |
//! | the others | tests, one file per thing that can happen to an edge |

mod client;
pub mod process;
mod upstream;

mod apps;
mod commands;
mod doors;
mod drain;
mod proxies;
mod reload;
mod store;
mod tls;
mod upgrade;
mod upstreams;
mod websocket;

use std::time::Duration;

/// Long enough for a machine that does other things besides; nothing waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            // A rest between two looks, not a wait for something that has a sign: files and logs of another process.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}

/// Asks again until `question` is answered with what `accepts` accepts.
async fn eventually<T, F: Future<Output = T>>(
    what: &str,
    mut question: impl FnMut() -> F,
    accepts: impl Fn(&T) -> bool,
) -> T {
    let asking = async {
        loop {
            let answer = question().await;
            if accepts(&answer) {
                return answer;
            }
            // A rest between two questions: what another process does shows in its answers alone.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never came true: {what}"))
}
