//! Lets the schema validator read the scan's index in place of a tree of its own: nothing is parsed twice, and numbers
//! are read as they are written.

use std::borrow::Cow;
use std::collections::HashSet;

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, JsonNumber, Node, NodeIdentity, Object, cmp, unique};
use serde_json::Value as Tree;

use crate::policy::json::{self, Kind, Value};

/// The index, as the validator's representation of JSON.
#[derive(Debug)]
pub(super) struct Indexed;

/// A value, or a member's name standing for itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    what: What<'a>,
    /// How many elements of one container are shown.
    most: usize,
}

#[derive(Clone, Copy, Debug)]
enum What<'a> {
    Value(Value<'a>),
    Name(&'a str),
}

impl<'a> View<'a> {
    /// All of it.
    pub(super) fn whole(value: Value<'a>) -> Self {
        Self::upto(value, usize::MAX)
    }

    /// No more than `most` elements of any container in it.
    pub(super) fn upto(value: Value<'a>, most: usize) -> Self {
        View { what: What::Value(value), most }
    }

    fn of_kind(self, kind: Kind) -> Option<Value<'a>> {
        match self.what {
            What::Value(value) if value.kind() == kind => Some(value),
            _ => None,
        }
    }

    /// A tree of the value: for what a schema compares whole, and for elements that have to differ.
    fn tree(self) -> Tree {
        match self.what {
            What::Name(name) => Tree::from(name),
            What::Value(value) => match value.kind() {
                Kind::Null => Tree::Null,
                Kind::Bool => Tree::from(value.raw() == "true"),
                Kind::Number => serde_json::from_str(value.raw()).unwrap_or_default(),
                Kind::String => Tree::from(value.string().unwrap_or_default()),
                Kind::Array => value.elements().map(|element| View::whole(element).tree()).collect(),
                Kind::Object => {
                    let member = |(name, value): (Value<'a>, Value<'a>)| {
                        (name.string().unwrap_or_default().into_owned(), View::whole(value).tree())
                    };
                    value.members().map(member).collect()
                }
            },
        }
    }
}

impl Json for Indexed {
    type Node<'a> = View<'a>;
    type PreparedKey = String;
    type StringBuffer = ();
    /// Finding one member walks over all of them, so one walk is as cheap as one look-up.
    const KEYS_PER_LOOKUP: usize = 8;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(View<'_>) -> T) -> T {
        f(View { what: What::Name(string), most: usize::MAX })
    }
}

impl<'a> Node<'a, Indexed> for View<'a> {
    type Object = Container<'a>;
    type Array = Container<'a>;
    type Number = Literal<'a>;

    fn as_object(&self) -> Option<Container<'a>> {
        self.of_kind(Kind::Object).map(|value| Container { value, most: self.most })
    }

    fn as_array(&self) -> Option<Container<'a>> {
        self.of_kind(Kind::Array).map(|value| Container { value, most: self.most })
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        match self.what {
            What::Value(value) => value.string(),
            What::Name(name) => Some(Cow::Borrowed(name)),
        }
    }

    fn as_number(&self) -> Option<Literal<'a>> {
        self.of_kind(Kind::Number).map(|value| Literal(value.raw()))
    }

    fn as_boolean(&self) -> Option<bool> {
        self.of_kind(Kind::Bool).map(|value| value.raw() == "true")
    }

    fn is_null(&self) -> bool {
        self.of_kind(Kind::Null).is_some()
    }

    fn is_number(&self) -> bool {
        self.of_kind(Kind::Number).is_some()
    }

    fn json_type(&self) -> JsonType {
        match self.what {
            What::Name(_) => JsonType::String,
            What::Value(value) => match value.kind() {
                Kind::Null => JsonType::Null,
                Kind::Bool => JsonType::Boolean,
                Kind::Number => JsonType::Number,
                Kind::String => JsonType::String,
                Kind::Array => JsonType::Array,
                Kind::Object => JsonType::Object,
            },
        }
    }

    fn equals_value(&self, expected: &Tree) -> bool {
        match (expected, self.json_type()) {
            (Tree::String(expected), JsonType::String) => {
                self.as_string().is_some_and(|text| text == expected.as_str())
            }
            // Only a schema that compares arrays or objects whole makes a tree of one.
            (Tree::Array(_), JsonType::Array) | (Tree::Object(_), JsonType::Object) => {
                cmp::equal(&self.tree(), expected)
            }
            (_, JsonType::Array | JsonType::Object) => false,
            _ => cmp::equal(&self.tree(), expected),
        }
    }

    /// Always null. The validator asks for it only to put the failing value into its errors, and ours never show one:
    /// so it is neither copied nor at hand for a log to print.
    fn to_value(&self) -> Cow<'a, Tree> {
        Cow::Owned(Tree::Null)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        match self.what {
            What::Value(value) => {
                u32::try_from(value.index()).ok().map(|index| NodeIdentity::tagged(value.document_address(), index))
            }
            What::Name(name) => Some(NodeIdentity::new(name.as_ptr().addr())),
        }
    }
}

/// An array or an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container<'a> {
    value: Value<'a>,
    most: usize,
}

impl<'a> Object<'a, Indexed> for Container<'a> {
    type Node = View<'a>;
    type MemberName = Cow<'a, str>;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        self.value.len()
    }

    fn get(&self, key: &String) -> Option<View<'a>> {
        self.value.member(key).map(|value| View::upto(value, self.most))
    }

    fn members(&self) -> Members<'a> {
        Members { members: self.value.members(), left: self.most, most: self.most }
    }
}

impl<'a> Array<'a, Indexed> for Container<'a> {
    type Node = View<'a>;
    type ElementsIter = Elements<'a>;

    fn len(&self) -> usize {
        self.value.len()
    }

    fn elements(&self) -> Elements<'a> {
        Elements { elements: self.value.elements(), left: self.most, most: self.most }
    }

    fn is_unique(&self) -> bool {
        if self.value.elements().all(|element| element.kind() == Kind::String) {
            let mut seen = HashSet::with_capacity(self.value.len());
            return self.value.elements().filter_map(Value::string).all(|text| seen.insert(text));
        }
        let trees: Vec<Tree> = self.value.elements().map(|element| View::whole(element).tree()).collect();
        unique::is_unique(&trees)
    }
}

/// Members, as far as they are shown.
pub(super) struct Members<'a> {
    members: json::Members<'a>,
    left: usize,
    most: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, View<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (name, value) = self.members.next()?;
        Some((name.string()?, View::upto(value, self.most)))
    }
}

/// Elements, as far as they are shown.
pub(super) struct Elements<'a> {
    elements: json::Elements<'a>,
    left: usize,
    most: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = View<'a>;

    fn next(&mut self) -> Option<View<'a>> {
        self.left = self.left.checked_sub(1)?;
        self.elements.next().map(|value| View::upto(value, self.most))
    }
}

/// A number as it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Literal<'a>(&'a str);

impl JsonNumber for Literal<'_> {
    fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }

    fn as_i64(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    fn as_f64(&self) -> Option<f64> {
        self.0.parse().ok()
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.0)
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        Cow::Owned(serde_json::from_str(self.0).unwrap_or_else(|_| serde_json::Number::from(0)))
    }

    fn is_integer(&self) -> bool {
        !self.0.contains(['.', 'e', 'E']) || self.as_f64().is_some_and(|value| value.fract() == 0.0)
    }
}
