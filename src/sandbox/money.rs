//! Money in exact decimal arithmetic: a count of minor units, read from and written as JSON numbers digit by digit.
//!
//! A binary float never touches an amount. `5000.00` is read as 500000 minor units and written as `5000.00` again,
//! because the edge's callers sign amounts in the wallet's digits (protocol section 5).

use std::fmt;
use std::iter::Sum;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Digits after the decimal point. Every sandbox wallet holds one currency of two digits.
const DIGITS: i32 = 2;
const UNITS: i64 = 100;

/// An amount in minor units (cents). Arithmetic is checked: an overflow is refused, never wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);

    /// An amount of whole currency units.
    pub const fn whole(units: i32) -> Money {
        Money(units as i64 * UNITS)
    }

    /// An amount of minor units.
    pub const fn minor(minor: i64) -> Money {
        Money(minor)
    }

    /// The amount in minor units.
    pub const fn as_minor(self) -> i64 {
        self.0
    }

    /// The sum, unless it is too large to hold.
    pub fn plus(self, other: Money) -> Option<Money> {
        self.0.checked_add(other.0).map(Money)
    }

    /// The difference, unless it would be below zero.
    pub fn minus(self, other: Money) -> Option<Money> {
        self.0.checked_sub(other.0).filter(|rest| *rest >= 0).map(Money)
    }

    /// Reads a JSON number without going through a float. `None` if it is not a number, is finer than the currency's
    /// minor unit, or is too large.
    pub fn parse(number: &str) -> Option<Money> {
        let (negative, unsigned) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (unsigned.get(..at)?, unsigned.get(at + 1..)?.parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = || whole.bytes().chain(fraction.bytes());
        if whole.is_empty() || (fraction.is_empty() && mantissa.contains('.')) || !digits().all(|b| b.is_ascii_digit())
        {
            return None;
        }
        let mut minor =
            digits().try_fold(0i64, |sum, digit| sum.checked_mul(10)?.checked_add((digit - b'0').into()))?;
        let shift = exponent.checked_add(DIGITS)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        if minor != 0 {
            for _ in 0..shift.unsigned_abs() {
                minor = match shift {
                    1.. => minor.checked_mul(10)?,
                    _ if minor % 10 == 0 => minor / 10,
                    _ => return None,
                };
            }
        }
        Some(Money(if negative { -minor } else { minor }))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let minor = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", minor / UNITS.unsigned_abs(), minor % UNITS.unsigned_abs())
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Money>>(amounts: I) -> Money {
        Money(amounts.map(|money| money.0).sum())
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string()).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Money, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Money::parse(raw.get()).ok_or_else(|| D::Error::custom("an amount is a number with at most two decimals"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_that_are_amounts() {
        for (text, minor) in [
            ("5000.00", 500_000),
            ("5000", 500_000),
            ("0.1", 10),
            ("1e2", 10_000),
            ("1.5E+1", 1500),
            ("1200e-2", 1200),
            ("0.10000", 10),
            ("0e999999", 0),
            ("-3.5", -350),
        ] {
            assert_eq!(Money::parse(text), Some(Money(minor)), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_amount() {
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "0.001",
            "1e",
            "1e-3",
            "99999999999999999999",
            "1e30",
            "\"5\"",
            "null",
            "1e99999999999",
        ] {
            assert_eq!(Money::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_amount_reads_back_from_its_text(minor in any::<i64>().prop_filter("has a negative", |m| *m != i64::MIN)) {
            prop_assert_eq!(Money::parse(&Money(minor).to_string()), Some(Money(minor)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,24}") {
            let _ = Money::parse(&text);
        }

        #[test]
        fn json_keeps_the_digits(minor in 0i64..1_000_000_000) {
            let text = serde_json::to_string(&Money(minor)).unwrap();
            prop_assert_eq!(&text, &Money(minor).to_string());
            prop_assert_eq!(serde_json::from_str::<Money>(&text).unwrap(), Money(minor));
        }
    }
}
