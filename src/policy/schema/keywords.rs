//! Two keywords that JSON Schema lacks. Other tools pass over them and check the rest.

use jsonschema::json::{JsonNumber, Node};
use jsonschema::paths::Location;
use jsonschema::{Keyword, ValidationError};
use serde_json::{Map, Value};

use super::view::{Indexed, View};

type Compiled<'a> = Result<Box<dyn for<'i> Keyword<'i, Indexed>>, ValidationError<'a>>;

/// `"decimal": {"digits": 15, "fraction": 8}`: a number written as a plain decimal, without exponent, with at most so
/// many digits in all and behind the point. A double holds any 15 digits, so nobody behind the edge who reads the
/// amount as one gets another amount; and a schema's own number keywords see only the double.
pub(super) fn decimal<'a>(_: &'a Map<String, Value>, value: &'a Value, _: Location) -> Compiled<'a> {
    let part = |name: &str| value.get(name)?.as_u64().and_then(|count| usize::try_from(count).ok());
    match (part("digits"), part("fraction")) {
        (Some(digits), Some(fraction)) => Ok(Box::new(Decimal { digits, fraction })),
        _ => Err(ValidationError::schema("`decimal` needs `digits` and `fraction`")),
    }
}

/// `"maxBytes": 256`: a string's length in UTF-8, where the protocol counts bytes and not characters.
pub(super) fn max_bytes<'a>(_: &'a Map<String, Value>, value: &'a Value, _: Location) -> Compiled<'a> {
    match value.as_u64().and_then(|most| usize::try_from(most).ok()) {
        Some(most) => Ok(Box::new(MaxBytes { most })),
        None => Err(ValidationError::schema("`maxBytes` needs a whole number")),
    }
}

struct Decimal {
    digits: usize,
    fraction: usize,
}

impl Decimal {
    fn admits(&self, number: &str) -> bool {
        let number = number.strip_prefix('-').unwrap_or(number);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let plain = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
        plain && fraction.len() <= self.fraction && whole.len() + fraction.len() <= self.digits
    }
}

impl<'i> Keyword<'i, Indexed> for Decimal {
    fn validate(&self, instance: View<'i>) -> Result<(), ValidationError<'i>> {
        if Keyword::<Indexed>::is_valid(self, instance) {
            return Ok(());
        }
        Err(ValidationError::custom(format!(
            "must be written as a plain decimal of at most {} digits, {} of them after the point",
            self.digits, self.fraction
        )))
    }

    fn is_valid(&self, instance: View<'i>) -> bool {
        instance.as_number().is_none_or(|number| self.admits(&number.as_str()))
    }
}

struct MaxBytes {
    most: usize,
}

impl<'i> Keyword<'i, Indexed> for MaxBytes {
    fn validate(&self, instance: View<'i>) -> Result<(), ValidationError<'i>> {
        if Keyword::<Indexed>::is_valid(self, instance) {
            return Ok(());
        }
        Err(ValidationError::custom(format!("must have at most {} bytes in UTF-8", self.most)))
    }

    fn is_valid(&self, instance: View<'i>) -> bool {
        instance.as_string().is_none_or(|text| text.len() <= self.most)
    }
}
