//! The trie behind the route table: literal before parameter before wildcard, segment by segment.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::path::PathView;
use super::route::Params;
use crate::model::rows::{SLASH_SEGMENTS, Verb};

/// Patterns by segment. Node 0 is the root.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    /// The literals in lower case, see [`Node::hides_a_literal`].
    folded: HashSet<Box<str>, foldhash::fast::RandomState>,
    param: Option<usize>,
    /// Patterns that end here.
    end: Leaf,
    /// Patterns that take the rest of the path from here.
    rest: Leaf,
}

#[derive(Debug, Default)]
struct Leaf {
    by_method: [Option<Ending>; Verb::ALL.len()],
}

#[derive(Clone, Debug)]
struct Ending {
    route: usize,
    pattern: Arc<str>,
    params: Arc<[Param]>,
}

#[derive(Debug)]
struct Param {
    name: Box<str>,
    /// Whether its text may hold encoded slashes and `;`.
    free_text: bool,
}

/// What a look-up came to.
#[derive(Debug)]
pub(super) enum Found<'t> {
    Route {
        index: usize,
        pattern: &'t Arc<str>,
        params: Params<'t>,
    },
    /// The path is known, with these methods.
    OtherMethods(Vec<Verb>),
    /// A segment holds what only free text may hold.
    Ambiguous,
    Nothing,
}

impl Default for Trie {
    fn default() -> Self {
        Trie { nodes: vec![Node::default()] }
    }
}

impl Trie {
    /// Adds a pattern: literals, `{name}`, and at the end `{name...}` or `*` for the rest. The first row to claim a
    /// pattern and method keeps it: built-in rows are inserted first.
    pub(super) fn insert(&mut self, pattern: &Arc<str>, methods: &[Verb], route: usize) {
        let mut at = 0;
        let mut params = Vec::new();
        let mut rest = false;
        for segment in pattern.split('/').skip(1) {
            if segment == "*" {
                params.push(Param { name: "*".into(), free_text: false });
                rest = true;
            } else if let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                let plain = name.trim_end_matches("...");
                params.push(Param { name: plain.into(), free_text: SLASH_SEGMENTS.contains(&plain) });
                rest = plain.len() != name.len();
                if !rest {
                    at = self.child(at, None);
                }
            } else {
                at = self.child(at, Some(segment));
            }
        }
        let ending = Ending { route, pattern: pattern.clone(), params: params.into() };
        if let Some(node) = self.nodes.get_mut(at) {
            let leaf = if rest { &mut node.rest } else { &mut node.end };
            for verb in methods {
                if let Some(place @ None) = leaf.by_method.get_mut(*verb as usize) {
                    *place = Some(ending.clone());
                }
            }
        }
    }

    fn child(&mut self, at: usize, literal: Option<&str>) -> usize {
        let next = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return at };
        let found = match literal {
            Some(text) => {
                node.folded.insert(text.to_ascii_lowercase().into());
                *node.literals.entry(text.into()).or_insert(next)
            }
            None => *node.param.get_or_insert(next),
        };
        if found == next {
            self.nodes.push(Node::default());
        }
        found
    }

    pub(super) fn find<'t>(&'t self, path: &PathView<'_>, verb: Option<Verb>) -> Found<'t> {
        let Some(leaf) = self.descend(0, 0, path) else { return Found::Nothing };
        let Some(ending) = verb.and_then(|verb| leaf.by_method.get(verb as usize)).and_then(Option::as_ref) else {
            let listed = Verb::ALL.iter().zip(&leaf.by_method).filter(|(_, ending)| ending.is_some());
            return Found::OtherMethods(listed.map(|(verb, _)| *verb).collect());
        };
        bind(ending, path)
    }

    /// The leaf of the best pattern: depth first, in order of precedence.
    fn descend<'t>(&'t self, at: usize, depth: usize, path: &PathView<'_>) -> Option<&'t Leaf> {
        let node = self.nodes.get(at)?;
        let Some(segment) = path.segments.get(depth) else {
            return (!node.end.is_empty()).then_some(&node.end);
        };
        if let Some(next) = node.literals.get(segment.text.as_ref())
            && let Some(leaf) = self.descend(*next, depth + 1, path)
        {
            return Some(leaf);
        }
        if let Some(next) = node.param
            && !segment.text.is_empty()
            && let Some(leaf) = self.descend(next, depth + 1, path)
        {
            return Some(leaf);
        }
        if node.rest.is_empty() || node.hides_a_literal(&segment.text) {
            return None;
        }
        Some(&node.rest)
    }
}

impl Node {
    /// A wildcard must not swallow `Admin` where a stricter row stands at `admin`: an upstream that ignores case
    /// would serve the stricter row's resource under the looser rule.
    fn hides_a_literal(&self, text: &str) -> bool {
        !self.rest.free_text()
            && !self.literals.contains_key(text)
            && self.folded.contains(text.to_ascii_lowercase().as_str())
    }
}

impl Leaf {
    fn is_empty(&self) -> bool {
        self.by_method.iter().all(Option::is_none)
    }

    fn free_text(&self) -> bool {
        self.by_method.iter().flatten().all(|ending| ending.params.last().is_some_and(|param| param.free_text))
    }
}

/// Gives the parameters their places, in order: a pattern's parameters stand where the literals do not.
fn bind<'t>(ending: &'t Ending, path: &PathView<'_>) -> Found<'t> {
    let mut params = Params::new();
    if ending.params.is_empty() {
        // Every segment matched a literal, and no literal holds an ambiguous character.
        return Found::Route { index: ending.route, pattern: &ending.pattern, params };
    }
    let mut names = ending.params.iter();
    let mut pattern = ending.pattern.split('/').skip(1).peekable();
    for (at, segment) in path.segments.iter().enumerate() {
        let Some(text) = pattern.next() else { break };
        let is_param = text == "*" || text.starts_with('{');
        let takes_rest = text == "*" || text.ends_with("...}");
        let Some(param) = is_param.then(|| names.next()).flatten() else {
            if segment.ambiguous {
                return Found::Ambiguous;
            }
            continue;
        };
        let covered =
            if takes_rest { path.segments.get(at..).unwrap_or_default() } else { std::slice::from_ref(segment) };
        if !param.free_text && covered.iter().any(|segment| segment.ambiguous) {
            return Found::Ambiguous;
        }
        let end = covered.last().map_or(segment.range.end, |last| last.range.end);
        params.push((&param.name, segment.range.start..end));
        if takes_rest {
            break;
        }
    }
    Found::Route { index: ending.route, pattern: &ending.pattern, params }
}
