//! Wall time for the sandbox: passed in by whoever starts it, written as RFC 3339.

use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// Tells the time since the Unix epoch. A test hands in one that it moves by hand.
pub type Now = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Milliseconds since the Unix epoch; in JSON an RFC 3339 text in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// The moment of that duration since the Unix epoch.
    pub fn of(since_epoch: Duration) -> Millis {
        Millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    /// That many seconds later.
    pub fn plus_secs(self, seconds: u64) -> Millis {
        Millis(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// The number of the day since the Unix epoch, in UTC.
    pub fn day(self) -> u64 {
        self.0 / 86_400_000
    }

    /// How far apart two moments are, in seconds.
    pub fn distance_secs(self, other: Millis) -> u64 {
        self.0.abs_diff(other.0) / 1000
    }

    /// Reads the timestamp of a signed request: RFC 3339 in UTC, or Unix time in seconds or milliseconds.
    pub fn parse(text: &str) -> Option<Millis> {
        if text.bytes().all(|b| b.is_ascii_digit()) {
            let number: u64 = text.parse().ok()?;
            // Seconds reach eleven digits in the year 5138, milliseconds had them in 1973.
            return Some(if number < 100_000_000_000 { Millis(number * 1000) } else { Millis(number) });
        }
        let number = |at: usize, length: usize| text.get(at..at + length)?.parse::<u64>().ok();
        let separators = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
        if separators.iter().any(|(at, expected)| text.get(*at..at + 1) != Some(*expected)) {
            return None;
        }
        let millis = match text.get(19..)?.strip_suffix('Z')? {
            "" => 0,
            fraction => {
                let digits = fraction.strip_prefix('.')?;
                let padded = format!("{digits:0<3}");
                digits.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
                padded.get(..3)?.parse().ok()?
            }
        };
        let (month, day) = (number(5, 2)?, number(8, 2)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || number(0, 4)? < 1970 {
            return None;
        }
        let seconds = days_from_civil(number(0, 4)?, month, day) * 86_400
            + number(11, 2)? * 3600
            + number(14, 2)? * 60
            + number(17, 2)?;
        Some(Millis(seconds * 1000 + millis))
    }
}

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = civil_from_days(self.day());
        let seconds = self.0 / 1000 % 86_400;
        let (hour, minute, second, milli) = (seconds / 3600, seconds / 60 % 60, seconds % 60, self.0 % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Days since 1970-01-01 of a Gregorian date, counting years from March so that the leap day comes last.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The Gregorian date of a day since 1970-01-01: the inverse of [`days_from_civil`].
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = (shifted_month + 2) % 12 + 1;
    (era * 400 + year_of_era + u64::from(month <= 2), month, of_year - (153 * shifted_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        assert_eq!(Millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Millis(1_709_210_096_789).to_string(), "2024-02-29T12:34:56.789Z");
        assert_eq!(Millis::parse("2024-02-29T12:34:56Z"), Some(Millis(1_709_210_096_000)));
        assert_eq!(Millis::parse("1709210096"), Some(Millis(1_709_210_096_000)));
        assert_eq!(Millis::parse("1709210096789"), Some(Millis(1_709_210_096_789)));
    }

    proptest! {
        #[test]
        fn a_moment_reads_back_from_its_text(millis in 0u64..200_000_000_000_000) {
            prop_assert_eq!(Millis::parse(&Millis(millis).to_string()), Some(Millis(millis)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-0-9TZ:.é]{0,30}") {
            let _ = Millis::parse(&text);
        }
    }
}
