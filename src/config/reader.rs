//! The typed reader: a value that knows its place is asked to be a number, a duration, a list …, and complains by itself.
//!
//! Every reading function returns `None` after it has complained, and the caller goes on with the next key, so that
//! one run shows every fault. What a failed key leaves behind does not matter: a load with problems yields no config.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::{Host, Url};

use super::map::Map;
use super::opener::Opener;
use super::problem::{Problem, did_you_mean};
use super::tree::{self, Key, Kind, Node, Spot};
use super::types::Unlisted;
use super::units::{parse_duration, parse_size, show_duration, show_size};
use crate::model::MiniAppId;

/// Largest YAML file.
pub(super) const MAX_YAML: usize = 16 << 20;

/// What a whole load shares: how to reach the outside, and what has been found so far.
pub(super) struct Load<'t> {
    pub env: &'t dyn Fn(&str) -> Option<String>,
    pub opener: &'t dyn Opener,
    /// Faults: there will be no config.
    pub problems: RefCell<Vec<Problem>>,
    /// What `check` lets pass and `run` does not.
    pub unmet: RefCell<Vec<Problem>>,
    /// Mini-apps that are mentioned and not listed.
    pub unlisted: RefCell<Vec<Unlisted>>,
    pub files: RefCell<Vec<PathBuf>>,
    /// Every key that was asked for, so that a test can hold the explanation against it.
    #[cfg(test)]
    pub asked: RefCell<std::collections::BTreeSet<String>>,
}

impl<'t> Load<'t> {
    pub fn new(env: &'t dyn Fn(&str) -> Option<String>, opener: &'t dyn Opener) -> Self {
        Load {
            env,
            opener,
            problems: RefCell::default(),
            unmet: RefCell::default(),
            unlisted: RefCell::default(),
            files: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// How many faults there are so far: a check that builds on others asks whether some came to light in between.
    pub fn faults(&self) -> usize {
        self.problems.borrow().len()
    }

    /// Parses `text`; a fault is reported and yields `None`.
    pub fn parse(&self, file: &Path, text: &str) -> Option<Node> {
        tree::parse(text)
            .map_err(|flaw| {
                self.problems.borrow_mut().push(Problem {
                    file: file.to_owned(),
                    line: flaw.spot.line,
                    column: flaw.spot.column,
                    key_path: String::new(),
                    message: flaw.message,
                    expected: String::new(),
                });
            })
            .ok()
    }

    /// Reads and parses a YAML file that nothing but its folder names.
    pub fn parse_file(&self, file: &Path) -> Option<Node> {
        let whole = |message: String| {
            let file = file.to_owned();
            let problem =
                Problem { file, line: 0, column: 0, key_path: String::new(), message, expected: String::new() };
            self.problems.borrow_mut().push(problem);
        };
        self.files.borrow_mut().push(file.to_owned());
        let content = self.opener.read(file, MAX_YAML).map_err(|error| whole(unreadable(&error))).ok()?;
        let text = String::from_utf8(content).map_err(|error| whole(not_utf8(&error))).ok()?;
        self.parse(file, &text)
    }
}

pub(super) fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

pub(super) fn not_utf8(error: &std::string::FromUtf8Error) -> String {
    format!("not UTF-8 text: byte {} is no part of a character", error.utf8_error().valid_up_to() + 1)
}

/// A node with everything needed to read it and to complain about it.
#[derive(Clone)]
pub(super) struct Value<'t> {
    pub load: &'t Load<'t>,
    pub file: &'t Path,
    pub spot: Spot,
    pub path: String,
    pub node: &'t Node,
}

/// A scalar after `${NAME}` has been filled in.
pub(super) struct Scalar<'t> {
    pub text: Cow<'t, str>,
    pub style: Style,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Style {
    /// A number, a truth value or text, by its looks.
    Plain,
    /// Text, whatever it looks like.
    Quoted,
    /// From the environment, which knows text only: whatever is wanted.
    Filled,
}

impl<'t> Value<'t> {
    /// The root of a parsed file.
    pub fn root(load: &'t Load<'t>, file: &'t Path, node: &'t Node) -> Self {
        Value { load, file, spot: node.spot, path: String::new(), node }
    }

    /// A value below this one.
    pub fn child(&self, path: String, node: &'t Node) -> Value<'t> {
        Value { load: self.load, file: self.file, spot: node.spot, path, node }
    }

    fn problem(&self, message: impl Into<String>, expected: impl Into<String>) -> Problem {
        Problem {
            file: self.file.to_owned(),
            line: self.spot.line,
            column: self.spot.column,
            key_path: self.path.clone(),
            message: message.into(),
            expected: expected.into(),
        }
    }

    /// Complains in the caller's own words.
    pub fn refuse<T>(&self, message: impl Into<String>, expected: impl Into<String>) -> Option<T> {
        self.load.problems.borrow_mut().push(self.problem(message, expected));
        None
    }

    /// Complains that this is not what was expected.
    pub fn wrong<T>(&self, expected: impl Into<String>) -> Option<T> {
        self.refuse(format!("found {}", self.found()), expected)
    }

    /// Notes something that `run` will not start with.
    pub fn unmet(&self, message: impl Into<String>, expected: impl Into<String>) {
        self.load.unmet.borrow_mut().push(self.problem(message, expected));
    }

    /// Notes a mini-app that the store has to know.
    pub fn unlisted(&self, id: MiniAppId, message: impl Into<String>) {
        let place = self.problem(message, "a mini-app in the store, then");
        self.load.unlisted.borrow_mut().push(Unlisted { id, place });
    }

    /// What stands here, for a message: as written, so that what a variable held is not shown.
    pub fn found(&self) -> String {
        match &self.node.kind {
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
            Kind::Scalar { text, quoted: false } if is_null(text) => "nothing".into(),
            // A file that is nothing but a word may be a secret's, named by mistake.
            Kind::Scalar { .. } if self.path.is_empty() => "a single value".into(),
            Kind::Scalar { text, quoted: false } if is_bool(text) || is_number(text) => text.clone(),
            Kind::Scalar { text, .. } => {
                let short: String = text.chars().take(60).collect();
                let more = if short.len() < text.len() { "…" } else { "" };
                format!("\"{}{more}\"", short.escape_debug())
            }
        }
    }

    /// Whether a map stands here.
    pub fn is_map(&self) -> bool {
        matches!(self.node.kind, Kind::Map(_))
    }

    /// The text of a plain scalar, before anything is filled in.
    pub fn word(&self) -> Option<&'t str> {
        match &self.node.kind {
            Kind::Scalar { text, quoted: false } => Some(text),
            _ => None,
        }
    }

    /// Whether text stands here that is not a truth value or a number.
    pub fn is_text(&self) -> bool {
        match &self.node.kind {
            Kind::Scalar { text, quoted } => *quoted || !(is_null(text) || is_bool(text) || is_number(text)),
            _ => false,
        }
    }

    /// Whether nothing stands here: `key:`, `~` or `null`.
    pub fn is_nothing(&self) -> bool {
        matches!(&self.node.kind, Kind::Scalar { text, quoted: false } if is_null(text))
    }

    pub fn scalar(&self, expected: &str) -> Option<Scalar<'t>> {
        match &self.node.kind {
            Kind::Scalar { text, .. } if text.contains("${") => {
                Some(Scalar { text: Cow::Owned(self.fill_in(text)?), style: Style::Filled })
            }
            Kind::Scalar { text, quoted } => {
                Some(Scalar { text: Cow::Borrowed(text), style: if *quoted { Style::Quoted } else { Style::Plain } })
            }
            _ => self.wrong(expected),
        }
    }

    /// What is not text: quotes around it make it the wrong type.
    fn unquoted(&self, expected: &str) -> Option<Cow<'t, str>> {
        let scalar = self.scalar(expected)?;
        if scalar.style == Style::Quoted {
            self.wrong(format!("{expected}, without quotes"))
        } else {
            Some(scalar.text)
        }
    }

    /// Text that satisfies `read`.
    pub fn parsed<T>(&self, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let scalar = self.scalar(expected)?;
        if scalar.style == Style::Plain && (is_null(&scalar.text) || is_bool(&scalar.text)) {
            return self.wrong(expected);
        }
        if scalar.style == Style::Plain && is_number(&scalar.text) {
            return self.wrong(format!("{expected} (a number meant as text has to be quoted)"));
        }
        read(&scalar.text).or_else(|| self.wrong(expected))
    }

    /// Text that is not empty.
    pub fn text(&self, expected: &str) -> Option<String> {
        self.parsed(expected, |text| (!text.trim().is_empty()).then(|| text.to_owned()))
    }

    /// `true` or `false`.
    pub fn flag(&self) -> Option<bool> {
        let expected = "true or false";
        match self.unquoted(expected)?.as_ref() {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.wrong(expected),
        }
    }

    /// A whole number in `range`.
    pub fn whole<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let number = self.unquoted(&expected)?.parse::<u64>().ok().filter(|number| range.contains(number));
        number.and_then(|number| T::try_from(number).ok()).or_else(|| self.wrong(expected))
    }

    /// A duration in `range`.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
        let expected = format!("a duration such as 10s, 5m or plain seconds, from {least} to {most}");
        let duration = parse_duration(&self.scalar(&expected)?.text).filter(|duration| range.contains(duration));
        duration.or_else(|| self.wrong(expected))
    }

    /// A size in bytes, in `range`.
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<usize> {
        let (least, most) = (show_size(*range.start()), show_size(*range.end()));
        let expected = format!("a size such as 10MB, 8KB or plain bytes, from {least} to {most}");
        let size = parse_size(&self.scalar(&expected)?.text).filter(|size| range.contains(size));
        size.and_then(|size| usize::try_from(size).ok()).or_else(|| self.wrong(expected))
    }

    /// One of some words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let expected = one_of(&names);
        let text = self.scalar(&expected)?.text;
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => Some(*choice),
            None => self.refuse(format!("found {}{}", self.found(), did_you_mean(&text, names)), expected),
        }
    }

    /// A name that has to be one of `known`.
    pub fn known<'n>(&self, what: &str, known: impl Iterator<Item = &'n str> + Clone) -> Option<String> {
        let name = self.text(&format!("the name of a {what}"))?;
        if known.clone().any(|known| known == name) {
            return Some(name);
        }
        let hint = did_you_mean(&name, known.clone());
        let names: Vec<&str> = known.collect();
        let expected = if names.is_empty() { format!("a {what}, but there is none") } else { one_of(&names) };
        self.refuse(format!("there is no {what} {}{hint}", self.found()), expected)
    }

    /// An address on the web. `http` is taken for loopback hosts only; user, password and fragment never.
    pub fn url(&self, expected: &str) -> Option<Url> {
        let text = self.text(expected)?;
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else { return self.wrong(expected) };
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return self.refuse("found a URL with a user, password or fragment", expected);
        }
        if url.scheme() == "http" && !is_loopback(&url) {
            return self.refuse(
                format!("found {}, unprotected", self.found()),
                format!("{expected} (http is for loopback addresses only)"),
            );
        }
        Some(url)
    }

    /// A list, each item read by `read`. All items get to complain; one that fails fails the list.
    pub fn list<T>(&self, expected: &str, mut read: impl FnMut(&Value<'t>) -> Option<T>) -> Option<Vec<T>> {
        let Kind::List(items) = &self.node.kind else { return self.wrong(expected) };
        let each = items.iter().enumerate();
        let read: Vec<Option<T>> =
            each.map(|(at, node)| read(&self.child(format!("{}[{at}]", self.path), node))).collect();
        read.into_iter().collect()
    }

    /// As [`Value::list`], and something has to stand in it.
    pub fn some<T>(&self, expected: &str, read: impl FnMut(&Value<'t>) -> Option<T>) -> Option<Vec<T>> {
        match &self.node.kind {
            Kind::List(items) if items.is_empty() => self.refuse("an empty list", expected),
            _ => self.list(expected, read),
        }
    }

    /// A map with the keys that `read` asks for, and no others.
    pub fn map<T>(&self, expected: &str, read: impl FnOnce(&mut Map<'t>) -> T) -> Option<T> {
        let Kind::Map(_) = self.node.kind else { return self.wrong(expected) };
        Some(self.map_or_nothing(read))
    }

    /// As [`Value::map`], where the caller knows that this is a map or nothing.
    pub fn map_or_nothing<T>(&self, read: impl FnOnce(&mut Map<'t>) -> T) -> T {
        let mut map = Map::new(self.clone(), self.unique_entries());
        let result = read(&mut map);
        map.finish();
        result
    }

    /// The entries of a map whose keys are names that people choose.
    pub fn named(&self, expected: &str) -> Option<Vec<(&'t Key, Value<'t>)>> {
        let Kind::Map(_) = self.node.kind else { return self.wrong(expected) };
        let entries = self.unique_entries();
        Some(entries.into_iter().map(|(key, node)| (key, self.child(self.below(&key.text), node))).collect())
    }

    /// The key path of a key below this value.
    pub fn below(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn unique_entries(&self) -> Vec<(&'t Key, &'t Node)> {
        let Kind::Map(entries) = &self.node.kind else { return Vec::new() };
        let mut first = std::collections::HashMap::new();
        let mut unique = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            match first.insert(key.text.as_str(), key.spot.line) {
                None => unique.push((key, node)),
                Some(line) => {
                    let here = Value { spot: key.spot, ..self.child(self.below(&key.text), node) };
                    here.refuse::<()>(format!("stands twice (first in line {line})"), "each key once");
                }
            }
        }
        unique
    }
}

/// Whether a URL's host is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

/// `a`, `a or b`, `one of: a, b, c`.
pub(super) fn one_of(names: &[&str]) -> String {
    match names {
        [one] => (*one).to_owned(),
        [one, other] => format!("{one} or {other}"),
        _ => format!("one of: {}", names.join(", ")),
    }
}

pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

pub(super) fn is_bool(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) && text.parse::<f64>().is_ok()
}
