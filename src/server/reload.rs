//! When the config is read again: on SIGHUP, when asked over the admin API, and when a file changes if so configured.
//!
//! What a reload does is the caller's; this decides when, one at a time, and remembers how the last one went. A reload
//! that fails changes nothing, so all there is to do is to say so where people look.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::fingerprint::Fingerprint;
use crate::clock::Clock;

/// How often watched files are looked at. A change is acted on once it has stood for as long, so that a tool which
/// writes several files is not overtaken.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who or what wants a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Somebody who waits for what comes of it, and answers for it himself.
    Asked,
    /// SIGHUP.
    Signal,
    /// A watched file that changed.
    File,
}

/// Reads the config again, puts it into force and returns the files it was read from, for watching.
/// An error is text for people; nothing may have changed then.
pub type ReloadHook = Arc<dyn Fn(Prompt) -> BoxFuture<'static, Result<Vec<PathBuf>, String>> + Send + Sync>;

/// The files of the config that a process starts with, and what they looked like when it was read.
#[derive(Clone, Debug)]
pub struct ConfigFiles {
    paths: Vec<PathBuf>,
    state: Fingerprint,
}

impl ConfigFiles {
    /// To be called as soon as the config has been read: what changes from here on counts as a change, however long
    /// the rest of the start takes.
    pub fn look(paths: Vec<PathBuf>) -> Self {
        ConfigFiles { state: Fingerprint::of(&paths), paths }
    }
}

/// How reloading went so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadStatus {
    /// Which config is in force: 1 is the one the process started with, each reload that works adds one.
    pub revision: u64,
    /// When it came into force, seconds since the Unix epoch.
    pub since: u64,
    /// The last attempt that failed, unless one has worked since.
    pub last_error: Option<FailedReload>,
    /// Attempts that failed since the start.
    pub failures: u64,
}

/// A reload that changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedReload {
    /// When, seconds since the Unix epoch.
    pub at: u64,
    /// Why, for people.
    pub error: String,
}

/// Asks for reloads and tells how they went. Clones share the state.
#[derive(Clone, Debug)]
pub struct Reloads {
    asking: mpsc::Sender<Ask>,
    status: Arc<Mutex<ReloadStatus>>,
}

type Ask = Option<oneshot::Sender<Result<u64, String>>>;

impl Reloads {
    /// How reloading went so far.
    pub fn status(&self) -> ReloadStatus {
        self.status.lock().clone()
    }

    /// Reloads now, and returns the new revision.
    ///
    /// # Errors
    /// Why the config in force stays; also when nothing carries reloads out any more.
    pub async fn reload(&self) -> Result<u64, String> {
        let (answer, answered) = oneshot::channel();
        let gone = || "nothing reads the config any more: the edge is stopping, or has to be started anew".to_owned();
        self.asking.send(Some(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Asks for a reload on SIGHUP, without waiting; one that is waiting already serves this one too.
    pub(super) fn ask(&self) {
        // A full queue means that a reload is still to begin: it will see whatever prompted this one.
        let _queued = self.asking.try_send(None);
    }
}

/// The side that carries reloads out.
pub(super) struct Reloader {
    asked: mpsc::Receiver<Ask>,
    status: Arc<Mutex<ReloadStatus>>,
    hook: ReloadHook,
    clock: Clock,
    /// Files to watch; `None`: watching is off.
    watched: Option<Vec<PathBuf>>,
    /// Their state when the config in force was read.
    in_force: Fingerprint,
}

impl Reloader {
    /// `watched` are the files of the config in force, `None` when they are not to be watched.
    pub(super) fn new(hook: ReloadHook, clock: Clock, watched: Option<ConfigFiles>) -> (Reloads, Self) {
        let (asking, asked) = mpsc::channel(1);
        let first = ReloadStatus { revision: 1, since: clock.unix_secs(), last_error: None, failures: 0 };
        let status = Arc::new(Mutex::new(first));
        let in_force = watched.as_ref().map(|files| files.state.clone()).unwrap_or_default();
        let watched = watched.map(|files| files.paths);
        (Reloads { asking, status: status.clone() }, Reloader { asked, status, hook, clock, watched, in_force })
    }

    /// Carries out what is asked for until nobody can ask any more.
    pub(super) async fn run(mut self) {
        let mut seen = self.in_force.clone();
        let mut pace = tokio::time::interval(LOOK_EVERY);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (prompt, answer) = tokio::select! {
                asked = self.asked.recv() => match asked {
                    Some(Some(answer)) => (Prompt::Asked, Some(answer)),
                    Some(None) => (Prompt::Signal, None),
                    None => return,
                },
                _ = pace.tick(), if self.watched.is_some() => {
                    let now = self.look();
                    let settled = now == seen;
                    seen = now;
                    if !settled || seen == self.in_force {
                        continue;
                    }
                    (Prompt::File, None)
                }
            };
            // Looked at before reading: what changes while it is read counts as the next change.
            self.in_force = self.look();
            let listed = self.watched.clone();
            let result = self.reload(prompt).await;
            if self.watched != listed {
                self.in_force = self.look();
            }
            seen = self.in_force.clone();
            if let Some(answer) = answer {
                // The asker may have left; the reload has happened all the same.
                let _told = answer.send(result);
            }
        }
    }

    fn look(&self) -> Fingerprint {
        Fingerprint::of(self.watched.iter().flatten())
    }

    async fn reload(&mut self, prompt: Prompt) -> Result<u64, String> {
        let outcome = (self.hook)(prompt).await;
        let at = self.clock.unix_secs();
        let mut status = self.status.lock();
        match outcome {
            Ok(files) => {
                if let Some(watched) = &mut self.watched {
                    *watched = files;
                }
                status.revision += 1;
                status.since = at;
                status.last_error = None;
                log::info!("config revision {} is in force", status.revision);
                Ok(status.revision)
            }
            Err(error) => {
                status.failures += 1;
                log::error!("reload failed, config revision {} stays in force: {error}", status.revision);
                status.last_error = Some(FailedReload { at, error: error.clone() });
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A config of one file, which must say `good`.
    fn config(file: &Path, tried: Arc<AtomicUsize>) -> ReloadHook {
        let file = file.to_path_buf();
        Arc::new(move |_| {
            tried.fetch_add(1, Ordering::SeqCst);
            let text = fs::read_to_string(&file).unwrap_or_default();
            let result = if text.starts_with("good") { Ok(vec![file.clone()]) } else { Err(format!("says {text}")) };
            Box::pin(async move { result })
        })
    }

    #[tokio::test]
    async fn a_failure_keeps_the_revision_and_is_remembered_until_one_works() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.yaml");
        let (clock, hand) = Clock::manual(1000);
        let (reloads, reloader) = Reloader::new(config(&file, Arc::default()), clock, None);
        tokio::spawn(reloader.run());
        fs::write(&file, "bad").unwrap();
        hand.advance(Duration::from_secs(5));
        assert_eq!(reloads.reload().await, Err("says bad".to_owned()));
        let failed = FailedReload { at: 1005, error: "says bad".to_owned() };
        let expected = ReloadStatus { revision: 1, since: 1000, last_error: Some(failed), failures: 1 };
        assert_eq!(reloads.status(), expected);
        fs::write(&file, "good").unwrap();
        assert_eq!(reloads.reload().await, Ok(2));
        assert_eq!(reloads.status(), ReloadStatus { revision: 2, since: 1005, last_error: None, failures: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_while_the_process_starts_is_read_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.yaml");
        fs::write(&file, "good").unwrap();
        let files = ConfigFiles::look(vec![file.clone()]);
        fs::write(&file, "good and later").unwrap();
        let (clock, _hand) = Clock::manual(0);
        let (reloads, reloader) = Reloader::new(config(&file, Arc::default()), clock, Some(files));
        tokio::spawn(reloader.run());
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(reloads.status().revision, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_once_it_has_settled() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.yaml");
        fs::write(&file, "good").unwrap();
        let tried = Arc::new(AtomicUsize::new(0));
        let (clock, _hand) = Clock::manual(0);
        let (reloads, reloader) =
            Reloader::new(config(&file, tried.clone()), clock, Some(ConfigFiles::look(vec![file.clone()])));
        tokio::spawn(reloader.run());
        tokio::time::sleep(Duration::from_millis(5500)).await;
        assert_eq!(tried.load(Ordering::SeqCst), 0);
        // Written in three steps, a second apart: read once, when whole.
        for text in ["go", "good a", "good and whole"] {
            fs::write(&file, text).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(tried.load(Ordering::SeqCst), 0);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(tried.load(Ordering::SeqCst), 1);
        assert_eq!(reloads.status().revision, 2);
        // A bad one is tried once, not every second.
        fs::write(&file, "bad").unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(tried.load(Ordering::SeqCst), 2);
        assert_eq!(reloads.status().revision, 2);
        reloads.ask();
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(tried.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_carries_it_out_hears_what_prompted_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.yaml");
        fs::write(&file, "good").unwrap();
        let files = ConfigFiles::look(vec![file.clone()]);
        let (heard, mut hearing) = mpsc::unbounded_channel();
        let listed = file.clone();
        let hook: ReloadHook = Arc::new(move |prompt| {
            heard.send(prompt).unwrap();
            let files = vec![listed.clone()];
            Box::pin(async { Ok(files) })
        });
        let (clock, _hand) = Clock::manual(0);
        let (reloads, reloader) = Reloader::new(hook, clock, Some(files));
        tokio::spawn(reloader.run());
        reloads.reload().await.unwrap();
        assert_eq!(hearing.recv().await, Some(Prompt::Asked));
        reloads.ask();
        assert_eq!(hearing.recv().await, Some(Prompt::Signal));
        fs::write(&file, "good and later").unwrap();
        assert_eq!(hearing.recv().await, Some(Prompt::File));
    }
}
