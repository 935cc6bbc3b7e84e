//! The scan: one pass over the bytes, no recursion, no allocation per value or name.

use smallvec::SmallVec;

use super::fault::{self, Fault, Problem, push_step, syntax};
use super::names::{Hashes, Name, same, text_of};
use super::text::hex4;
use super::tree::{Kind, Node};
use super::{MAX_DEPTH, MAX_NUMBER, MAX_VALUES};

/// Up to so many names of an object are compared one by one; of more, hashes are looked up first.
const COMPARED_ONE_BY_ONE: usize = 16;

/// Checks `bytes`, and with `INDEX` returns the nodes in the order of the text.
pub(super) fn scan<const INDEX: bool>(bytes: &[u8]) -> Result<(&str, Vec<Node>), Fault> {
    let refuse = |offset, problem| Err(Fault::at(bytes, offset, problem, String::new()));
    if u32::try_from(bytes.len()).is_err() {
        return refuse(0, fault::SIZE);
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return refuse(error.valid_up_to(), fault::UTF8),
    };
    if text.starts_with('\u{feff}') {
        return refuse(0, fault::BOM);
    }
    let nodes = if INDEX { Vec::with_capacity((bytes.len() / 12 + 4).min(4096)) } else { Vec::new() };
    let mut scanner: Scanner<'_, INDEX> =
        Scanner { text, bytes, at: 0, nodes, values: 0, frames: SmallVec::new(), names: SmallVec::new() };
    match scanner.run() {
        Ok(()) => Ok((text, scanner.nodes)),
        Err(problem) => Err(Fault::at(bytes, scanner.at.min(bytes.len()), problem, scanner.pointer())),
    }
}

struct Scanner<'a, const INDEX: bool> {
    text: &'a str,
    bytes: &'a [u8],
    /// The next byte to read; on a fault, its place.
    at: usize,
    nodes: Vec<Node>,
    /// Values and names so far.
    values: usize,
    frames: SmallVec<[Frame; 8]>,
    /// The names of all open objects; each frame knows where its own begin.
    names: SmallVec<[Name; 32]>,
}

/// An open array or object.
struct Frame {
    /// Its node.
    node: usize,
    /// Values that it holds and that are complete.
    count: u32,
    holds: Holds,
}

enum Holds {
    Elements,
    Members { names_from: usize, current: Option<Name>, hashes: Option<Box<Hashes>> },
}

type Step = Result<(), Problem>;

impl<const INDEX: bool> Scanner<'_, INDEX> {
    fn run(&mut self) -> Step {
        self.white_space();
        loop {
            self.value()?;
            loop {
                self.white_space();
                let next = self.bytes.get(self.at);
                match self.frames.last().map(|frame| &frame.holds) {
                    None if next.is_none() => return Ok(()),
                    None => return Err(fault::TRAILING),
                    Some(Holds::Elements) => match next {
                        Some(b',') => {
                            self.at += 1;
                            self.white_space();
                            break;
                        }
                        Some(b']') => self.close(),
                        _ => return Err(syntax("`,` or `]` after an element of an array")),
                    },
                    Some(Holds::Members { .. }) => match next {
                        Some(b',') => {
                            self.at += 1;
                            self.name()?;
                            break;
                        }
                        Some(b'}') => self.close(),
                        _ => return Err(syntax("`,` or `}` after a member of an object")),
                    },
                }
            }
        }
    }

    /// Reads one scalar or empty container whole; of another container, all before its first scalar.
    fn value(&mut self) -> Step {
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let name = self.string()?;
                    return self.complete(name.start, name.end, Kind::String, name.escaped);
                }
                Some(b'{') => {
                    let holds = Holds::Members { names_from: self.names.len(), current: None, hashes: None };
                    self.open(Kind::Object, holds)?;
                    if self.bytes.get(self.at) == Some(&b'}') {
                        self.close();
                        return Ok(());
                    }
                    self.name()?;
                }
                Some(b'[') => {
                    self.open(Kind::Array, Holds::Elements)?;
                    if self.bytes.get(self.at) == Some(&b']') {
                        self.close();
                        return Ok(());
                    }
                }
                Some(b'-' | b'0'..=b'9') => {
                    let start = self.at;
                    self.number()?;
                    return self.complete(offset(start), offset(self.at), Kind::Number, false);
                }
                Some(b't') => return self.word(b"true", Kind::Bool),
                Some(b'f') => return self.word(b"false", Kind::Bool),
                Some(b'n') => return self.word(b"null", Kind::Null),
                _ => return Err(syntax("a JSON value")),
            }
        }
    }

    fn word(&mut self, word: &'static [u8], kind: Kind) -> Step {
        let end = self.at + word.len();
        if self.bytes.get(self.at..end) != Some(word) {
            return Err(syntax("a JSON value"));
        }
        let start = std::mem::replace(&mut self.at, end);
        self.complete(offset(start), offset(end), kind, false)
    }

    /// Notes a scalar.
    fn complete(&mut self, start: u32, end: u32, kind: Kind, escaped: bool) -> Step {
        if let Some(frame) = self.frames.last_mut() {
            frame.count += 1;
        }
        self.push(Node { start, end, count: 0, kind, escaped })
    }

    fn push(&mut self, node: Node) -> Step {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(fault::COUNT);
        }
        if INDEX {
            self.nodes.push(node);
        }
        Ok(())
    }

    fn open(&mut self, kind: Kind, holds: Holds) -> Step {
        if self.frames.len() == MAX_DEPTH {
            return Err(fault::DEPTH);
        }
        let node = self.nodes.len();
        self.push(Node { start: offset(self.at), end: 0, count: 0, kind, escaped: false })?;
        self.frames.push(Frame { node, count: 0, holds });
        self.at += 1;
        self.white_space();
        Ok(())
    }

    fn close(&mut self) {
        self.at += 1;
        let Some(frame) = self.frames.pop() else { return };
        let end = offset(self.nodes.len());
        if let Some(node) = self.nodes.get_mut(frame.node) {
            node.count = frame.count;
            node.end = end;
        }
        if let Holds::Members { names_from, .. } = frame.holds {
            self.names.truncate(names_from);
        }
        if let Some(parent) = self.frames.last_mut() {
            parent.count += 1;
        }
    }

    /// Reads a member's name and the colon, up to its value.
    fn name(&mut self) -> Step {
        if let Some(Frame { holds: Holds::Members { current, .. }, .. }) = self.frames.last_mut() {
            *current = None;
        }
        self.white_space();
        let start = self.at;
        if self.bytes.get(start) != Some(&b'"') {
            return Err(syntax("a member's name in quotes"));
        }
        let name = self.string()?;
        if !self.is_new(name) {
            self.at = start;
            return Err(fault::DUPLICATE);
        }
        self.push(Node { start: name.start, end: name.end, count: 0, kind: Kind::String, escaped: name.escaped })?;
        self.white_space();
        if self.bytes.get(self.at) != Some(&b':') {
            return Err(syntax("`:` after a member's name"));
        }
        self.at += 1;
        self.white_space();
        Ok(())
    }

    /// Remembers a name of the innermost object; false when it stood there before.
    fn is_new(&mut self, name: Name) -> bool {
        let text = self.text;
        let Some(Frame { holds: Holds::Members { names_from, current, hashes }, .. }) = self.frames.last_mut() else {
            return true;
        };
        *current = Some(name);
        let known = self.names.get(*names_from..).unwrap_or_default();
        if hashes.is_none() && known.len() == COMPARED_ONE_BY_ONE {
            let mut all = Box::<Hashes>::default();
            for name in known {
                all.insert(&text_of(text, *name));
            }
            *hashes = Some(all);
        }
        let suspect = hashes.as_mut().is_none_or(|hashes| !hashes.insert(&text_of(text, name)));
        if suspect && known.iter().any(|other| same(text, *other, name)) {
            return false;
        }
        self.names.push(name);
        true
    }

    /// Reads a string literal whose opening quote is next.
    fn string(&mut self) -> Result<Name, Problem> {
        self.at += 1;
        let start = offset(self.at);
        let mut escaped = false;
        loop {
            self.at += plain_run(self.bytes.get(self.at..).unwrap_or_default());
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let end = offset(self.at);
                    self.at += 1;
                    return Ok(Name { start, end, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(syntax("control characters in a string to be escaped")),
                None => return Err(syntax("`\"` at the end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Step {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let unit = self.unit(self.at).ok_or(syntax("four hexadecimal digits after \\u"))?;
                match unit {
                    0xd800..=0xdbff if matches!(self.unit(self.at + 6), Some(0xdc00..=0xdfff)) => self.at += 12,
                    0xd800..=0xdfff => return Err(fault::SURROGATE),
                    _ => self.at += 6,
                }
            }
            _ => return Err(syntax("one of \" \\ / b f n r t u after a backslash")),
        }
        Ok(())
    }

    /// The UTF-16 unit that the `\uXXXX` at `at` stands for.
    fn unit(&self, at: usize) -> Option<u32> {
        let escape = self.bytes.get(at..at + 6)?;
        hex4(escape.strip_prefix(b"\\u")?)
    }

    fn number(&mut self) -> Step {
        let start = self.at;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits("a digit")?,
        }
        if matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            return Err(syntax("no zero before the other digits of a number"));
        }
        let integer_digits = self.at - start;
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits("a digit after the decimal point")?;
        }
        let exponent = matches!(self.bytes.get(self.at), Some(b'e' | b'E'));
        if exponent {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("a digit in the exponent")?;
        }
        if self.at - start > MAX_NUMBER {
            self.at = start;
            return Err(fault::LONG_NUMBER);
        }
        // The largest double has 309 digits: shorter numbers without an exponent cannot overflow.
        if exponent || integer_digits > 308 {
            let value: Option<f64> = self.text.get(start..self.at).and_then(|literal| literal.parse().ok());
            if !value.is_some_and(f64::is_finite) {
                self.at = start;
                return Err(fault::RANGE);
            }
        }
        Ok(())
    }

    fn digits(&mut self, expected: &'static str) -> Step {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += digits;
        if digits == 0 { Err(syntax(expected)) } else { Ok(()) }
    }

    fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The pointer to what was being read: only asked for on a fault.
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for frame in &self.frames {
            match &frame.holds {
                Holds::Elements => push_step(&mut pointer, &frame.count.to_string()),
                Holds::Members { current: Some(name), .. } => push_step(&mut pointer, &text_of(self.text, *name)),
                Holds::Members { current: None, .. } => {}
            }
        }
        pointer
    }
}

/// An offset or an index as it is stored; [`scan`] has refused what is too long for it.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// How many bytes at the start need no attention inside a string: neither quote, backslash nor control character.
/// Eight at a time: in each byte of the word the top bit is raised when the byte is one of them. A borrow may raise it
/// wrongly in a higher byte, never in the lowest that is raised, and only that one is asked for.
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    let mut run = 0;
    while let Some(chunk) = bytes.get(run..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
        let found = control | zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return run + (found.trailing_zeros() / 8) as usize;
        }
        run += 8;
    }
    let rest = bytes.get(run..).unwrap_or_default();
    run + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len())
}
