//! YAML text → a tree in which every node knows its place.
//!
//! Built from the parser's events rather than taken ready-made, for three reasons: keys keep their own place, a key that
//! stands twice reaches the reader (which reports each), and what a few lines may blow up to is bounded here: depth,
//! nodes, and what aliases copy. Scalars stay as written; only the reader of a key knows what they should be.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// Deeper than this nothing sensible is nested.
const MAX_DEPTH: usize = 32;
/// Nodes of one file: some 50,000 route rows.
const MAX_NODES: usize = 1_000_000;
/// Nodes of one file that aliases may copy.
const MAX_COPIED: usize = 100_000;

/// A place in a file: line and column, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spot {
    pub line: usize,
    pub column: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub spot: Spot,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar { text: String, quoted: bool },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub spot: Spot,
    pub text: String,
}

/// Why a text is not a tree.
#[derive(Debug)]
pub(super) struct Flaw {
    pub spot: Spot,
    pub message: String,
}

/// What stands where a section was left out.
pub(super) const NOTHING: &Node =
    &Node { spot: Spot { line: 0, column: 0 }, kind: Kind::Scalar { text: String::new(), quoted: false } };

enum Frame {
    List { spot: Spot, anchor: usize, items: Vec<Node> },
    Map { spot: Spot, anchor: usize, entries: Vec<(Key, Node)>, key: Option<Key> },
}

#[derive(Default)]
struct Builder {
    open: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    copied: usize,
    root: Option<Node>,
}

/// Parses one YAML (or JSON) document.
pub(super) fn parse(text: &str) -> Result<Node, Flaw> {
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut builder = Builder::default();
    let mut documents = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let spot = spot(&Span::empty(*error.marker()));
            let braces = text.lines().nth(spot.line - 1).is_some_and(|line| line.contains("${"));
            let hint = if braces { " (inside { } and [ ], ${NAME} has to be quoted)" } else { "" };
            Flaw { spot, message: format!("not YAML: {}{hint}", error.info()) }
        })?;
        match event {
            Event::DocumentStart(_) => documents += 1,
            Event::StreamEnd => break,
            _ => {}
        }
        if documents > 1 {
            return Err(Flaw { spot: spot(&span), message: "a second document begins; one file holds one".into() });
        }
        builder.take(event, spot(&span))?;
    }
    Ok(builder.root.unwrap_or_else(|| Node { spot: Spot { line: 1, column: 1 }, ..NOTHING.clone() }))
}

fn spot(span: &Span) -> Spot {
    Spot { line: span.start.line().max(1), column: span.start.col() + 1 }
}

impl Builder {
    fn take(&mut self, event: Event<'_>, spot: Spot) -> Result<(), Flaw> {
        let flaw = |message: &str| Err(Flaw { spot, message: message.into() });
        match event {
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                flaw("a YAML tag (`!…`) has no meaning here; quote the value to make it text")
            }
            Event::Scalar(text, style, anchor, None) => {
                let quoted = style != ScalarStyle::Plain;
                self.place(Node { spot, kind: Kind::Scalar { text: text.into_owned(), quoted } }, anchor)
            }
            Event::SequenceStart(anchor, None) => self.descend(Frame::List { spot, anchor, items: Vec::new() }, spot),
            Event::MappingStart(anchor, None) => {
                self.descend(Frame::Map { spot, anchor, entries: Vec::new(), key: None }, spot)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Frame::List { spot, anchor, items }) => self.place(Node { spot, kind: Kind::List(items) }, anchor),
                Some(Frame::Map { spot, anchor, entries, .. }) => {
                    self.place(Node { spot, kind: Kind::Map(entries) }, anchor)
                }
                None => flaw("not YAML: an end without a beginning"),
            },
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return flaw("an alias to something that is not complete yet");
                };
                let (count, depth) = measure(node);
                self.copied += count;
                if self.copied > MAX_COPIED || self.open.len() + depth > MAX_DEPTH {
                    return flaw("aliases blow this file up beyond what a config can need");
                }
                let node = node.clone();
                self.place(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn descend(&mut self, frame: Frame, spot: Spot) -> Result<(), Flaw> {
        self.open.push(frame);
        if self.open.len() > MAX_DEPTH {
            return Err(Flaw { spot, message: format!("nested more than {MAX_DEPTH} levels deep") });
        }
        Ok(())
    }

    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Flaw> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Flaw { spot: node.spot, message: format!("more than {MAX_NODES} values in one file") });
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, key, .. }) => match (key.take(), node.kind) {
                (Some(key), kind) => entries.push((key, Node { spot: node.spot, kind })),
                (None, Kind::Scalar { text, .. }) => *key = Some(Key { spot: node.spot, text }),
                (None, _) => {
                    return Err(Flaw { spot: node.spot, message: "a key has to be a plain word".into() });
                }
            },
            None => self.root = Some(node),
        }
        Ok(())
    }
}

fn measure(node: &Node) -> (usize, usize) {
    let below: &mut dyn Iterator<Item = &Node> = match &node.kind {
        Kind::Scalar { .. } => return (1, 0),
        Kind::List(items) => &mut items.iter(),
        Kind::Map(entries) => &mut entries.iter().map(|(_, node)| node),
    };
    let (count, depth) = below.map(measure).fold((1, 0), |(count, depth), (n, d)| (count + n, depth.max(d)));
    (count, depth + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaw(text: &str) -> String {
        let flaw = parse(text).unwrap_err();
        format!("{}:{}: {}", flaw.spot.line, flaw.spot.column, flaw.message)
    }

    #[test]
    fn places_of_keys_and_values() {
        let Kind::Map(entries) = parse("a: 1\nb:\n  - x\n  - \"1\"\n").unwrap().kind else { panic!("no map") };
        assert_eq!((entries[1].0.spot, entries[1].0.text.as_str()), (Spot { line: 2, column: 1 }, "b"));
        let Kind::List(items) = &entries[1].1.kind else { panic!("no list") };
        assert_eq!(items[1].spot, Spot { line: 4, column: 5 });
        assert!(matches!(&items[1].kind, Kind::Scalar { text, quoted: true } if text == "1"));
    }

    #[test]
    fn what_is_no_tree_is_said_with_its_place() {
        assert_eq!(flaw("a: 1\n---\nb: 2\n"), "2:1: a second document begins; one file holds one");
        assert_eq!(flaw("a: !!str 1\n"), "1:4: a YAML tag (`!…`) has no meaning here; quote the value to make it text");
        assert_eq!(flaw("[a]: 1\n"), "1:1: a key has to be a plain word");
        assert_eq!(flaw("a: &x [*x]\n"), "1:8: an alias to something that is not complete yet");
        assert!(flaw("a: [1\nb: 2\n").contains("not YAML: "));
        assert!(flaw("a: { b: ${PORT} }\n").ends_with("(inside { } and [ ], ${NAME} has to be quoted)"));
        assert!(flaw(&"[".repeat(100)).contains("nested more than 32 levels deep"));
    }

    #[test]
    fn aliases_copy_within_bounds() {
        assert!(parse("a: &x {b: 1}\nc: *x\n").is_ok());
        let mut bomb = String::from("a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
        for n in 1..9 {
            let before = n - 1;
            bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{before}"); 10].join(", "));
        }
        assert!(flaw(&bomb).contains("aliases blow this file up"));
    }
}
