//! The access log: one JSON line a request.
//!
//! A worker writes its line into a buffer in memory and goes on. The buffers are several, so that workers
//! seldom meet at a lock; a thread of the log's own takes them away every tenth of a second, or sooner when one has
//! grown, and does the writing. A sink that is stuck (a pipe nobody reads, a full disk) therefore stops that thread and
//! nobody else: buffers fill up to their bound, and lines past it are lost and counted.
//!
//! Lines of different workers may stand a tenth of a second out of order. Each carries its time.

mod line;
mod sink;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::outcome::Outcome;
use super::time::Rfc3339;
use crate::config::AccessLog as Target;
use crate::metrics::Metrics;
use sink::Sink;

/// How often buffers are written out.
const EVERY: Duration = Duration::from_millis(100);
/// A buffer of this size is written out at once, bytes.
const SOON: usize = 64 * 1024;
/// A buffer does not grow past this, bytes: some two thousand lines.
const BOUND: usize = 1024 * 1024;

/// The access log. Cloning shares it.
#[derive(Clone)]
pub struct AccessLog {
    handle: Option<Arc<Handle>>,
}

struct Shared {
    lanes: Box<[Mutex<Lane>]>,
    control: Mutex<Control>,
    /// Wakes the writer.
    wake: Condvar,
    /// Set before `wake` is notified for a full lane, so that one full lane wakes once.
    soon: AtomicBool,
    /// Wakes those who wait for a flush.
    written: Condvar,
    metrics: Arc<Metrics>,
}

/// What users of the log share. The writer ends with it, after it has written out what is left.
struct Handle {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// One buffer. A worker holds its lock for the time of writing a line, the writer for swapping it out.
#[derive(Default)]
struct Lane {
    lines: Vec<u8>,
    time: Rfc3339,
}

#[derive(Default)]
struct Control {
    stop: bool,
    reopen: bool,
    /// Flushes asked for and done: numbers, so that one pass answers everybody who asked before it began.
    asked: u64,
    done: u64,
}

impl AccessLog {
    /// Opens the log that a config asks for. The error is the file's; its path is in the text.
    pub fn open(target: &Target, metrics: Arc<Metrics>) -> io::Result<AccessLog> {
        let sink = match target {
            Target::Off => return Ok(AccessLog { handle: None }),
            Target::Stdout => Sink::Writer(Box::new(io::stdout())),
            Target::File(path) => Sink::file(path)
                .map_err(|error| io::Error::new(error.kind(), format!("access log {}: {error}", path.display())))?,
        };
        AccessLog::start(sink, metrics)
    }

    /// A log that is written to `writer`.
    pub fn to_writer(writer: Box<dyn Write + Send>, metrics: Arc<Metrics>) -> io::Result<AccessLog> {
        AccessLog::start(Sink::Writer(writer), metrics)
    }

    fn start(sink: Sink, metrics: Arc<Metrics>) -> io::Result<AccessLog> {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let lanes = (0..(2 * workers).next_power_of_two()).map(|_| Mutex::default()).collect();
        let shared = Arc::new(Shared {
            lanes,
            control: Mutex::default(),
            wake: Condvar::new(),
            soon: AtomicBool::new(false),
            written: Condvar::new(),
            metrics,
        });
        let theirs = shared.clone();
        let writer = thread::Builder::new().name("access-log".to_owned()).spawn(move || theirs.run(sink))?;
        Ok(AccessLog { handle: Some(Arc::new(Handle { shared, writer: Mutex::new(Some(writer)) })) })
    }

    /// Whether lines are written at all: when not, an outcome need not be put together for the log.
    pub fn is_on(&self) -> bool {
        self.handle.is_some()
    }

    /// Takes note of a finished request. Never waits for the sink.
    pub fn write(&self, outcome: &Outcome<'_>) {
        let Some(Handle { shared, .. }) = self.handle.as_deref() else { return };
        let Some(lane) = shared.lanes.get(lane_of_this_thread() & (shared.lanes.len() - 1)) else { return };
        let mut lane = lane.lock();
        let Lane { lines, time } = &mut *lane;
        let before = lines.len();
        if before >= BOUND {
            drop(lane);
            shared.lose(1);
            return;
        }
        line::write(lines, time, outcome);
        let after = lines.len();
        drop(lane);
        shared.metrics.log_lines.inc();
        if before < SOON && after >= SOON && !shared.soon.swap(true, Ordering::Relaxed) {
            // Taking the lock first makes sure that the writer is either waiting or will see `soon`.
            drop(shared.control.lock());
            shared.wake.notify_one();
        }
    }

    /// Has the file opened again under its path, after what is buffered has gone to the old one: for log rotation.
    pub fn reopen(&self) {
        if let Some(Handle { shared, .. }) = self.handle.as_deref() {
            shared.control.lock().reopen = true;
            shared.wake.notify_one();
        }
    }

    /// Waits until everything written before has reached the sink, at most for `longest`. Whether it has.
    pub fn flush(&self, longest: Duration) -> bool {
        let Some(Handle { shared, .. }) = self.handle.as_deref() else { return true };
        let mut control = shared.control.lock();
        control.asked += 1;
        let number = control.asked;
        shared.wake.notify_one();
        !shared.written.wait_while_for(&mut control, |control| control.done < number, longest).timed_out()
    }

    /// Writes out what is buffered and ends the writer, waiting at most `longest`. Nothing may be written afterwards.
    /// Whether everything reached the sink.
    pub fn shutdown(&self, longest: Duration) -> bool {
        let flushed = self.flush(longest);
        if let Some(handle) = &self.handle {
            handle.stop();
            // A writer that is stuck in its sink cannot be joined; it ends with the process.
            if let (true, Some(writer)) = (flushed, handle.writer.lock().take()) {
                let _ = writer.join();
            }
        }
        flushed
    }
}

impl Handle {
    fn stop(&self) {
        self.shared.control.lock().stop = true;
        self.shared.wake.notify_one();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("on", &self.is_on()).finish()
    }
}

impl Shared {
    fn lose(&self, lines: u64) {
        self.metrics.log_dropped.inc_by(lines);
    }

    /// The writer's life.
    fn run(&self, sink: Sink) {
        let mut output = Output { sink, torn: false, failing: false };
        let mut spare = Vec::new();
        loop {
            let mut control = self.control.lock();
            let idle = !control.stop && !control.reopen && control.asked == control.done;
            if idle && !self.soon.swap(false, Ordering::Relaxed) {
                self.wake.wait_for(&mut control, EVERY);
                self.soon.store(false, Ordering::Relaxed);
            }
            let (stop, asked) = (control.stop, control.asked);
            let reopen = std::mem::take(&mut control.reopen);
            drop(control);
            for lane in &self.lanes {
                std::mem::swap(&mut lane.lock().lines, &mut spare);
                self.lose(output.write(&spare));
                spare.clear();
            }
            if reopen {
                output.reopen();
            }
            self.control.lock().done = asked;
            self.written.notify_all();
            if stop {
                return;
            }
        }
    }
}

/// The sink and how it has been doing.
struct Output {
    sink: Sink,
    /// A write ended within a line: the next one begins on a new line.
    torn: bool,
    failing: bool,
}

impl Output {
    /// Writes whole lines; the result is how many were lost.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        let torn = std::mem::take(&mut self.torn);
        let result = if torn { self.sink.write(b"\n") } else { Ok(()) };
        let result = result.map_err(|(_, error)| (0, error)).and_then(|()| self.sink.write(lines));
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    log::info!("the access log can be written again");
                }
                0
            }
            Err((written, error)) => {
                let (done, rest) = lines.split_at_checked(written).unwrap_or((lines, &[]));
                self.torn = torn && written == 0 || done.last().is_some_and(|byte| *byte != b'\n');
                let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
                // Said once per trouble, not ten times a second.
                if !std::mem::replace(&mut self.failing, true) {
                    log::error!("the access log cannot be written, lines are being lost: {error}");
                }
                lost
            }
        }
    }

    fn reopen(&mut self) {
        match self.sink.reopen() {
            Ok(()) => self.torn = false,
            Err(error) => log::error!("the access log cannot be reopened, the old file stays in use: {error}"),
        }
    }
}

thread_local! {
    static LANE: usize = super::random::next() as usize;
}

fn lane_of_this_thread() -> usize {
    LANE.with(|lane| *lane)
}

#[cfg(test)]
pub(super) mod tests;
