//! Durations and sizes as people write them.

use std::time::Duration;

const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1 << 10),
    ("MB", 1 << 20),
    ("GB", 1 << 30),
    ("B", 1),
];

/// Reads `250ms`, `10s`, `5m`, `1h`, `30d` or plain seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "" => 1_000,
        _ => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Reads `10MB`, `8KB`, `1GB` (powers of two, also spelt `MiB`) or plain bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" => 1,
        _ => SIZES.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.checked_mul(factor)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(at)?;
    Some((number.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

/// Writes a duration the way [`parse_duration`] reads it, in the largest unit that keeps it whole.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(millis, UNITS.iter().rev().map(|(name, size)| (*name, *size)), "s")
}

/// Writes a size the way [`parse_size`] reads it, in the largest unit that keeps it whole.
pub fn show_size(bytes: u64) -> String {
    show(bytes, [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)].into_iter(), "B")
}

fn show(value: u64, mut units: impl Iterator<Item = (&'static str, u64)>, zero: &str) -> String {
    match units.find(|(_, size)| value > 0 && value.is_multiple_of(*size)) {
        Some((name, size)) => format!("{}{name}", value / size),
        None => format!("{value}{zero}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("30d", 2_592_000_000),
            ("300", 300_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in
            ["", "s", "-1s", "1.5h", "1h30m", "10 minutes", "1w", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, bytes) in [("10MB", 10_485_760), ("8KB", 8192), ("1GiB", 1 << 30), ("17", 17), ("3B", 3)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "MB", "-1KB", "1.5MB", "10mb", "10Mb", "17179869184GB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(value in 0u64..1 << 50) {
            prop_assert_eq!(parse_size(&show_size(value)), Some(value));
            let duration = Duration::from_millis(value);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }

        #[test]
        fn no_text_is_too_much(text in ".*") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
