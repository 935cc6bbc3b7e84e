//! Time, passed in rather than asked for.
//!
//! Limits, token checks, caches and breakers all decide by time. They take a [`Clock`], so that a test
//! holds time still and moves it by hand; `clippy.toml` bans the ambient clocks everywhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of monotonic and of wall time. Cloning shares the source.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    System { start: Instant },
    Manual { nanos: Arc<AtomicU64>, unix_at_zero: Duration },
}

/// A point of monotonic time, in nanoseconds since the clock was made. Only differences mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// Time from `earlier` to this point; zero when `earlier` is later.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The point `after` later.
    pub fn plus(self, after: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Clock {
    /// The machine's clocks.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the ambient clock")]
    pub fn system() -> Self {
        Clock { source: Source::System { start: Instant::now() } }
    }

    /// A clock that moves only by [`ManualClock::advance`]; its wall time starts at `unix` seconds.
    pub fn manual(unix: u64) -> (Self, ManualClock) {
        let nanos = Arc::new(AtomicU64::new(0));
        let source = Source::Manual { nanos: nanos.clone(), unix_at_zero: Duration::from_secs(unix) };
        (Clock { source }, ManualClock { nanos })
    }

    /// Monotonic time.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the ambient clock")]
    pub fn tick(&self) -> Tick {
        match &self.source {
            Source::System { start } => {
                Tick(u64::try_from(Instant::now().duration_since(*start).as_nanos()).unwrap_or(u64::MAX))
            }
            Source::Manual { nanos, .. } => Tick(nanos.load(Ordering::Relaxed)),
        }
    }

    /// Wall time since the Unix epoch.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the ambient clock")]
    pub fn unix(&self) -> Duration {
        match &self.source {
            Source::System { .. } => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            Source::Manual { nanos, unix_at_zero } => {
                *unix_at_zero + Duration::from_nanos(nanos.load(Ordering::Relaxed))
            }
        }
    }

    /// Wall time in whole seconds since the Unix epoch.
    pub fn unix_secs(&self) -> u64 {
        self.unix().as_secs()
    }
}

/// The hand that moves a manual [`Clock`].
#[derive(Clone, Debug)]
pub struct ManualClock {
    nanos: Arc<AtomicU64>,
}

impl ManualClock {
    /// Moves both monotonic and wall time forward.
    pub fn advance(&self, by: Duration) {
        self.nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
