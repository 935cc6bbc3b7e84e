//! Asking the store from code that does not wait, such as a start or a command.

use std::future::Future;
use std::thread;

use super::StoreError;

/// Runs `work` to its end on a thread and a runtime of its own, so it may be called anywhere, from inside of a
/// runtime too. Blocks the caller.
///
/// # Errors
/// Those of `work`, and when the system gives no thread.
pub fn blocking<T: Send, E: From<StoreError> + Send>(work: impl Future<Output = Result<T, E>> + Send) -> Result<T, E> {
    let failed = |why: String| StoreError::Internal(why);
    thread::scope(|scope| {
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| failed(format!("no runtime: {error}")))?.block_on(work)
        };
        let running = thread::Builder::new().name("store-asking".to_owned()).spawn_scoped(scope, run);
        let running = running.map_err(|error| failed(format!("no thread: {error}")))?;
        running.join().unwrap_or_else(|_| Err(failed("asking it has failed".to_owned()).into()))
    })
}
