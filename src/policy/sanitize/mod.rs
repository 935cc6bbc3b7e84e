//! Text for people, made harmless to show: HTML out, white space off both ends, Unicode normalisation form C.
//!
//! Only a row's `text_fields` are touched: never ids, recipients, URLs, signatures, credentials or stored values. A body
//! in which nothing changes is not rewritten at all; where a string changes, its literal is replaced and every other
//! byte stays, so numbers, order, white space and other strings' escapes reach the upstream as the client wrote them.
//!
//! The order matters. Normalising comes first because it can make markup: U+212A (the Kelvin sign) becomes the letter
//! `K`, and `<` before it then opens a tag. It comes again after markup was taken out, since that can bring a letter
//! and a combining mark together; by then no character is left that could become ASCII. Trimming comes last and cannot
//! undo either. So sanitising what was sanitised changes nothing.

mod html;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::config::types::Sanitization;
use crate::policy::json::{Document, Value, quote};

pub use html::strip as strip_html;

/// What one text becomes; borrowed when it stays as it is.
pub fn text(text: &str, steps: Sanitization) -> Cow<'_, str> {
    let mut clean = Cow::Borrowed(text);
    if steps.normalize_unicode {
        clean = normalize(clean);
    }
    if steps.remove_html
        && let Some(stripped) = html::strip(&clean)
    {
        clean = Cow::Owned(stripped);
        if steps.normalize_unicode {
            clean = normalize(clean);
        }
    }
    if steps.trim_strings {
        let trimmed = clean.trim();
        if trimmed.len() < clean.len() {
            clean = match clean {
                Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
                Cow::Owned(_) => Cow::Owned(trimmed.to_owned()),
            };
        }
    }
    clean
}

fn normalize(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc(&text) { text } else { Cow::Owned(text.nfc().collect()) }
}

/// The body with its text fields sanitised, or `None` when none of them changes. `fields` are dotted paths in which
/// `[]` behind a name stands for each element of an array, such as `items[].name`; a path that leads nowhere, or to
/// something that is no string, is passed over.
pub fn body(document: &Document<'_>, body: &[u8], fields: &[&str], steps: Sanitization) -> Option<Bytes> {
    let mut changes: Vec<(Range<usize>, String)> = Vec::new();
    for field in fields {
        visit(document.root(), field, &mut |value| {
            if let (Some(before), Some(literal)) = (value.string(), value.literal()) {
                let after = text(&before, steps);
                if after != before {
                    changes.push((literal, after.into_owned()));
                }
            }
        });
    }
    if changes.is_empty() {
        return None;
    }
    // Two paths may lead to one string; literals never overlap otherwise.
    changes.sort_by_key(|(literal, _)| literal.start);
    changes.dedup_by_key(|(literal, _)| literal.start);
    let mut rewritten = Vec::with_capacity(body.len());
    let mut copied = 0;
    for (literal, after) in &changes {
        rewritten.extend_from_slice(body.get(copied..literal.start).unwrap_or_default());
        quote(after, &mut rewritten);
        copied = literal.end;
    }
    rewritten.extend_from_slice(body.get(copied..).unwrap_or_default());
    Some(Bytes::from(rewritten))
}

fn visit<'d>(value: Value<'d>, path: &str, found: &mut dyn FnMut(Value<'d>)) {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    let name = step.trim_end_matches("[]");
    let levels = (step.len() - name.len()) / 2;
    if let Some(member) = value.member(name) {
        descend(member, levels, rest, found);
    }
}

fn descend<'d>(value: Value<'d>, levels: usize, rest: Option<&str>, found: &mut dyn FnMut(Value<'d>)) {
    match (levels, rest) {
        (0, None) => found(value),
        (0, Some(rest)) => visit(value, rest, found),
        _ => value.elements().for_each(|element| descend(element, levels - 1, rest, found)),
    }
}
