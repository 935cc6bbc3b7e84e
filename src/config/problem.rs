//! What is wrong with a config: every fault with its place, what stood there and what was expected.

use std::fmt;
use std::path::PathBuf;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as it was opened.
    pub file: PathBuf,
    /// Line, from 1; 0 when the fault is the whole file's.
    pub line: usize,
    /// Column, from 1; 0 when the fault is the whole file's.
    pub column: usize,
    /// Where in the structure, such as `rate_limits.default.burst`; empty when the fault is the whole file's.
    pub key_path: String,
    /// What was found.
    pub message: String,
    /// What would have been right; empty when the message says it all.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key_path.is_empty() {
            write!(f, ": {}", self.key_path)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.expected.is_empty() {
            write!(f, ", expected {}", self.expected)?;
        }
        Ok(())
    }
}

/// Every fault of a config, in the order of the text; the main file's first. Printed one a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Orders the faults and drops repetitions: a value that two checks look at is complained of once.
    pub(super) fn new(main: &std::path::Path, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_cached_key(|problem| (problem.file != main, problem.clone()));
        problems.dedup();
        Problems(problems)
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many faults there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The faults in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The name that was probably meant, ready to be put behind a message: ` (did you mean …?)`, or nothing.
pub(super) fn did_you_mean<'a>(found: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(found, names) {
        Some(name) => format!(" (did you mean {name}?)"),
        None => String::new(),
    }
}

/// The name nearest to `found`, when one is near enough to be a slip: a third of its letters may differ.
pub(super) fn nearest<'a>(found: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let budget = (found.chars().count() / 3).clamp(1, 4);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(found, name), name))
        .filter(|(distance, _)| *distance <= budget)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(file: &str, line: usize, message: &str) -> Problem {
        Problem {
            file: file.into(),
            line,
            column: 5,
            key_path: "a.b".into(),
            message: message.into(),
            expected: "a whole number".into(),
        }
    }

    #[test]
    fn problems_are_printed_in_the_order_of_the_text_and_once() {
        let all = vec![problem("b", 1, "z"), problem("main", 9, "y"), problem("main", 2, "x"), problem("main", 9, "y")];
        let text = Problems::new(std::path::Path::new("main"), all).to_string();
        assert_eq!(
            text,
            "main:2:5: a.b: x, expected a whole number\n\
             main:9:5: a.b: y, expected a whole number\n\
             b:1:5: a.b: z, expected a whole number"
        );
    }

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let names = ["burst", "requests_per_minute"];
        assert_eq!(nearest("brust", names), Some("burst"));
        assert_eq!(nearest("request_per_minutes", names), Some("requests_per_minute"));
        assert_eq!(nearest("colour", names), None);
    }
}
