//! Times as people and parsers read them: RFC 3339 in UTC.

use std::time::Duration;

/// Length of `2025-12-20T01:15:00.123Z`.
pub const LEN: usize = 24;

/// Writes times to the millisecond and keeps the text of the second it wrote last: within one second only three digits
/// change.
#[derive(Clone, Debug)]
pub struct Rfc3339 {
    second: Option<u64>,
    text: [u8; LEN],
}

impl Default for Rfc3339 {
    fn default() -> Self {
        Rfc3339 { second: None, text: *b"1970-01-01T00:00:00.000Z" }
    }
}

impl Rfc3339 {
    /// The text of a time since the Unix epoch. Years past 9999 are written as 9999.
    pub fn write(&mut self, unix: Duration) -> &[u8; LEN] {
        let second = unix.as_secs();
        if self.second != Some(second) {
            self.second = Some(second);
            let (year, month, day) = civil(second / 86_400);
            let rest = second % 86_400;
            self.digits(0, year.min(9999), 4);
            for (at, value) in [(5, month), (8, day), (11, rest / 3600), (14, rest / 60 % 60), (17, rest % 60)] {
                self.digits(at, value, 2);
            }
        }
        self.digits(20, u64::from(unix.subsec_millis()), 3);
        &self.text
    }

    fn digits(&mut self, at: usize, mut value: u64, count: usize) {
        for place in self.text.iter_mut().skip(at).take(count).rev() {
            // A digit is below ten.
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
}

/// The text of one time, for where there is no second one.
pub fn rfc3339(unix: Duration) -> String {
    String::from_utf8_lossy(Rfc3339::default().write(unix)).into_owned()
}

/// Year, month and day of a day since the Unix epoch, in the Gregorian calendar (Howard Hinnant, "chrono-compatible
/// low-level date algorithms"): years are counted from March, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times() {
        assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Duration::from_millis(951_782_400_007)), "2000-02-29T00:00:00.007Z");
        assert_eq!(rfc3339(Duration::from_millis(1_766_193_300_123)), "2025-12-20T01:15:00.123Z");
        assert_eq!(rfc3339(Duration::from_secs(4_102_444_799)), "2099-12-31T23:59:59.000Z");
    }

    proptest! {
        #[test]
        fn agrees_with_the_http_date(seconds in 0u64..250_000_000_000, millis in 0u64..1000) {
            let text = rfc3339(Duration::from_millis(seconds * 1000 + millis));
            let at = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
            let http = httpdate::fmt_http_date(at);
            // "Sat, 20 Dec 2025 01:15:00 GMT"
            prop_assert_eq!(&text[..4], &http[12..16]);
            prop_assert_eq!(&text[8..10], &http[5..7]);
            prop_assert_eq!(&text[11..19], &http[17..25]);
            let months = ["Jan","Feb","Mar","Apr","May","Jun","Jul","Aug","Sep","Oct","Nov","Dec"];
            prop_assert_eq!(months[text[5..7].parse::<usize>().unwrap() - 1], &http[8..11]);
            prop_assert_eq!(&text[20..], format!("{millis:03}Z"));
        }

        #[test]
        fn a_kept_second_is_not_a_stale_one(steps in prop::collection::vec(0u64..3_000, 1..50)) {
            let (mut kept, mut now) = (Rfc3339::default(), 1_766_193_300_000);
            for step in steps {
                now += step;
                let now = Duration::from_millis(now);
                let text = rfc3339(now);
                prop_assert_eq!(&kept.write(now)[..], text.as_bytes());
            }
        }
    }
}
