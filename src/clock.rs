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

/// RFC 3339 in UTC with whole seconds, such as `2025-12-20T01:15:00Z`; from seconds since the Unix epoch.
pub fn rfc3339(unix_secs: u64) -> String {
    let (days, second_of_day) = (unix_secs / 86_400, unix_secs % 86_400);
    // Days to a date in the proleptic Gregorian calendar, by eras of 400 years that start on 1 March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_766_193_300, "2025-12-20T01:15:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(unix), text);
        }
    }
}
