//! What is wrong with a text that should be JSON, and where.

use std::fmt;

/// The first fault of a text: the place, the rule and what was expected. It never quotes a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The rule that is broken, as a short fixed name for programs.
    pub rule: &'static str,
    /// What was expected at the place, for people.
    pub expected: &'static str,
    /// Bytes before the place.
    pub offset: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column, in characters from 1.
    pub column: usize,
    /// JSON pointer (RFC 6901) to the value that was being read.
    pub pointer: String,
}

/// Longest pointer shown: the names in it are the client's, and a name may be megabytes long.
const MAX_POINTER: usize = 256;

impl Fault {
    pub(super) fn at(bytes: &[u8], offset: usize, problem: Problem, pointer: String) -> Self {
        let before = bytes.get(..offset).unwrap_or(bytes);
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count() + 1;
        Fault { rule: problem.rule, expected: problem.expected, offset, line, column, pointer }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at line {} column {} (byte {})", self.expected, self.line, self.column, self.offset)
    }
}

impl std::error::Error for Fault {}

/// A rule and the words for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Problem {
    pub(super) rule: &'static str,
    pub(super) expected: &'static str,
}

/// A broken rule of the grammar: `expected` says which.
pub(super) const fn syntax(expected: &'static str) -> Problem {
    Problem { rule: "syntax", expected }
}

const fn rule(rule: &'static str, expected: &'static str) -> Problem {
    Problem { rule, expected }
}

pub(super) const UTF8: Problem = rule("utf8", "UTF-8 text");
pub(super) const BOM: Problem = rule("byte_order_mark", "no byte order mark before the JSON value");
pub(super) const DEPTH: Problem = rule("depth", "at most 64 levels of arrays and objects");
pub(super) const DUPLICATE: Problem = rule("duplicate_name", "each name at most once in an object");
pub(super) const SURROGATE: Problem =
    rule("lone_surrogate", "a \\u escape for a surrogate to stand in a pair, high then low");
pub(super) const TRAILING: Problem = rule("trailing_bytes", "nothing but white space after the JSON value");
pub(super) const RANGE: Problem = rule("number_range", "a number that a 64-bit float can hold");
pub(super) const LONG_NUMBER: Problem = rule("number_length", "a number of at most 512 characters");
pub(super) const COUNT: Problem = rule("value_count", "at most 1048576 values and names");
pub(super) const SIZE: Problem = rule("size", "less than 4 GiB");

/// Appends one step to a JSON pointer, escaped as RFC 6901 section 3 says.
pub(super) fn push_step(pointer: &mut String, step: &str) {
    if pointer.len() >= MAX_POINTER {
        return;
    }
    pointer.push('/');
    for char in step.chars() {
        if pointer.len() >= MAX_POINTER {
            pointer.push('…');
            return;
        }
        match char {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}
