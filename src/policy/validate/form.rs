//! Forms, `application/x-www-form-urlencoded`: what OAuth requests are made of.
//!
//! A parameter that stands twice is refused (RFC 6749 section 3.1): one reader takes the first, another the last.

use std::borrow::Cow;

use super::refuse_findings;
use crate::error::Refusal;
use crate::policy::schema::Finding;

/// Largest form, bytes: a Matrix access token and a context fit in many times over.
pub(super) const CAP: usize = 64 << 10;
/// Most parameters of one form.
const MOST_PARAMETERS: usize = 100;

/// The parameters of a form or of a query string. One without a value counts as left out (RFC 6749 section 3.1).
#[derive(Clone, Default)]
pub struct Form(Vec<(String, String)>);

impl std::fmt::Debug for Form {
    /// The names only: values are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Form {
    /// Reads one.
    ///
    /// # Errors
    /// 400 `VALIDATION_FAILED` when it is malformed or a parameter stands twice.
    pub fn parse(form: &[u8]) -> Result<Form, Refusal> {
        check(form).map_err(|finding| malformed(&finding))?;
        let filled = url::form_urlencoded::parse(form).filter(|(_, value)| !value.is_empty());
        Ok(Form(filled.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()))
    }

    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// The refusal of a malformed form.
pub(super) fn malformed(finding: &Finding) -> Refusal {
    let name = finding.pointer.trim_start_matches('/');
    let message = match name {
        "" => format!("The form is not well formed: it {}.", finding.message),
        name => format!("The form is not well formed: {name} {}.", finding.message),
    };
    refuse_findings(message, std::slice::from_ref(finding))
}

/// Checks a form's structure: percent-encoding, UTF-8, names, number of parameters.
pub(super) fn check(form: &[u8]) -> Result<(), Finding> {
    let mut names: Vec<Cow<'_, [u8]>> = Vec::new();
    for parameter in form.split(|byte| *byte == b'&').filter(|parameter| !parameter.is_empty()) {
        let equals = parameter.iter().position(|byte| *byte == b'=').unwrap_or(parameter.len());
        let (name, value) = parameter.split_at(equals);
        let Some(name) = decode(name) else {
            return Err(finding("", "encoding", "must be UTF-8 in well-formed percent-encoding"));
        };
        let pointer = pointer(&name);
        if decode(value.get(1..).unwrap_or_default()).is_none() {
            return Err(finding(&pointer, "encoding", "must be UTF-8 in well-formed percent-encoding"));
        }
        if names.contains(&name) {
            return Err(finding(&pointer, "duplicate_name", "must not stand twice"));
        }
        if names.len() == MOST_PARAMETERS {
            return Err(finding("", "maxProperties", "must have at most 100 parameters"));
        }
        names.push(name);
    }
    Ok(())
}

/// Takes the percent-encoding off; `None` when it is malformed, holds a bare control character or is no UTF-8.
fn decode(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if text.iter().any(u8::is_ascii_control) {
        return None;
    }
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return std::str::from_utf8(text).ok().map(|text| Cow::Borrowed(text.as_bytes()));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let (digits, behind) = rest.split_first_chunk::<2>()?;
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let [high, low] = *digits;
                decoded.push(digit(high)? << 4 | digit(low)?);
                rest = behind;
            }
            other => decoded.push(*other),
        }
    }
    std::str::from_utf8(&decoded).is_ok().then_some(Cow::Owned(decoded))
}

fn pointer(name: &[u8]) -> String {
    let name: String = String::from_utf8_lossy(name).chars().take(64).collect();
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn finding(pointer: &str, rule: &str, message: &str) -> Finding {
    Finding { pointer: pointer.to_owned(), rule: rule.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::form_urlencoded::{self, Serializer};

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(pairs in prop::collection::btree_map("\\PC{0,8}", "\\PC{0,20}", 0..12)) {
            let written = Serializer::new(String::new()).extend_pairs(&pairs).finish();
            let form = Form::parse(written.as_bytes()).unwrap();
            for (name, value) in &pairs {
                prop_assert_eq!(form.get(name).unwrap_or_default(), value, "one without a value counts as left out");
            }
        }

        #[test]
        fn what_stands_twice_is_refused_however_it_is_spelled(name in "[a-z_]{1,8}", at in 0usize..8, values: (bool, bool)) {
            let at = at % name.len();
            let spelled = format!("{}%{:02x}{}", &name[..at], name.as_bytes()[at], &name[at + 1..]);
            let value = |filled| if filled { "=x" } else { "" };
            let twice = format!("{name}{}&{spelled}{}", value(values.0), value(values.1));
            prop_assert!(Form::parse(twice.as_bytes()).is_err(), "{}", twice);
        }

        #[test]
        fn bytes_are_refused_or_read_as_others_read_them(bytes in prop::collection::vec(prop::sample::select(b"ab=&%+2e0\xc3\x00;".to_vec()), 0..40)) {
            if let Ok(form) = Form::parse(&bytes) {
                for (name, value) in form_urlencoded::parse(&bytes) {
                    prop_assert_eq!(form.get(&name).unwrap_or_default(), value);
                }
            }
        }
    }
}
