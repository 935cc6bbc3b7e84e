//! A checked text and the index of its values.

use std::borrow::Cow;

use super::Fault;
use super::scan;
use super::text::unescape;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number, as it is written.
    Number,
    /// A string, or the name of a member.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// One value in the index, or one name; a member is its name and then its value, a container comes before what it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Offset of the first byte; of a string, of the one after its quote.
    pub(super) start: u32,
    /// Of a scalar: offset behind its last byte (of a string, of the closing quote). Of a container: the index behind
    /// the last node that it holds.
    pub(super) end: u32,
    /// Of a container: how many values it holds.
    pub(super) count: u32,
    pub(super) kind: Kind,
    /// Of a string: whether there are escapes in it.
    pub(super) escaped: bool,
}

/// A text that is JSON throughout, with the place of every value.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    nodes: Vec<Node>,
}

impl<'a> Document<'a> {
    /// Checks the structure and writes the index.
    ///
    /// # Errors
    /// The first fault, with its place and what was expected there.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let (text, nodes) = scan::scan::<true>(bytes)?;
        Ok(Document { text, nodes })
    }

    /// The one value that the text consists of.
    pub fn root(&self) -> Value<'_> {
        Value { document: self, index: 0 }
    }

    fn node(&self, index: usize) -> Option<&Node> {
        self.nodes.get(index)
    }
}

/// A value of a [`Document`].
#[derive(Clone, Copy, Debug)]
pub struct Value<'d> {
    document: &'d Document<'d>,
    index: usize,
}

impl<'d> Value<'d> {
    /// What it is.
    pub fn kind(self) -> Kind {
        self.node().map_or(Kind::Null, |node| node.kind)
    }

    /// How many values a container holds; 0 for the others.
    pub fn len(self) -> usize {
        self.node().map_or(0, |node| node.count as usize)
    }

    /// Whether it holds nothing.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// A scalar as it is written; of a string, what is between its quotes, in its own escapes.
    pub fn raw(self) -> &'d str {
        match self.node() {
            Some(node) if !matches!(node.kind, Kind::Array | Kind::Object) => {
                self.document.text.get(node.start as usize..node.end as usize).unwrap_or_default()
            }
            _ => "",
        }
    }

    /// A string's text.
    pub fn string(self) -> Option<Cow<'d, str>> {
        let node = self.node().filter(|node| node.kind == Kind::String)?;
        Some(if node.escaped { unescape(self.raw()) } else { Cow::Borrowed(self.raw()) })
    }

    /// Where a string's literal stands in the text, quotes included.
    pub fn literal(self) -> Option<std::ops::Range<usize>> {
        let node = self.node().filter(|node| node.kind == Kind::String)?;
        Some(node.start as usize - 1..node.end as usize + 1)
    }

    /// An array's elements; nothing for the others.
    pub fn elements(self) -> Elements<'d> {
        let left = if self.kind() == Kind::Array { self.len() } else { 0 };
        Elements { next: Value { index: self.index + 1, ..self }, left }
    }

    /// An object's members, name first; nothing for the others.
    pub fn members(self) -> Members<'d> {
        let left = if self.kind() == Kind::Object { self.len() } else { 0 };
        Members { name: Value { index: self.index + 1, ..self }, left }
    }

    /// The value of an object's member.
    pub fn member(self, wanted: &str) -> Option<Value<'d>> {
        self.members().find(|(name, _)| name.is_text(wanted)).map(|(_, value)| value)
    }

    /// Whether it is a string of that text.
    pub fn is_text(self, wanted: &str) -> bool {
        self.node().is_some_and(|node| {
            node.kind == Kind::String
                && if node.escaped {
                    unescape(self.raw()) == wanted
                } else {
                    self.raw().as_bytes() == wanted.as_bytes()
                }
        })
    }

    /// A number that tells this value from every other of its document.
    pub fn index(self) -> usize {
        self.index
    }

    /// The document's address: tells documents apart that live at the same time.
    pub fn document_address(self) -> usize {
        std::ptr::from_ref(self.document).addr()
    }

    fn node(self) -> Option<&'d Node> {
        self.document.node(self.index)
    }

    fn after(self) -> usize {
        match self.node() {
            Some(Node { kind: Kind::Array | Kind::Object, end, .. }) => *end as usize,
            _ => self.index + 1,
        }
    }
}

/// What [`Value::elements`] walks with.
#[derive(Clone, Debug)]
pub struct Elements<'d> {
    next: Value<'d>,
    left: usize,
}

impl<'d> Iterator for Elements<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        self.left = self.left.checked_sub(1)?;
        let element = self.next;
        self.next.index = element.after();
        Some(element)
    }
}

/// What [`Value::members`] walks with.
#[derive(Clone, Debug)]
pub struct Members<'d> {
    name: Value<'d>,
    left: usize,
}

impl<'d> Iterator for Members<'d> {
    type Item = (Value<'d>, Value<'d>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = self.name;
        let value = Value { index: name.index + 1, ..name };
        self.name.index = value.after();
        Some((name, value))
    }
}
