//! A map being read: remembers which keys were asked for, and calls every other key unknown.

use super::problem::did_you_mean;
use super::reader::{Value, one_of};
use super::secret::Secret;
use super::tree::{Key, NOTHING, Node};

/// A map and the keys asked for so far.
pub(super) struct Map<'t> {
    value: Value<'t>,
    entries: Vec<(&'t Key, &'t Node)>,
    known: Vec<&'static str>,
}

impl<'t> Map<'t> {
    pub fn new(value: Value<'t>, entries: Vec<(&'t Key, &'t Node)>) -> Self {
        Map { value, entries, known: Vec::new() }
    }

    /// The map itself, to complain about it as a whole.
    pub fn whole(&self) -> &Value<'t> {
        &self.value
    }

    /// What stands under `key`, if the key is there.
    pub fn get(&mut self, key: &'static str) -> Option<Value<'t>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let path = self.value.below(key);
        #[cfg(test)]
        self.value.load.asked.borrow_mut().insert(format!("{}: {path}", self.value.file.display()));
        let (_, node) = self.entries.iter().find(|(name, _)| name.text == key)?;
        Some(self.value.child(path, node))
    }

    /// A key that has to be there.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Value<'t>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(value) => read(&value),
            None => {
                let missing = Value { path: self.value.below(key), ..self.value.clone() };
                missing.refuse("missing", expected)
            }
        }
    }

    /// A key that may be left out, or left empty.
    pub fn optional<T>(&mut self, key: &'static str, read: impl FnOnce(&Value<'t>) -> Option<T>) -> Option<T> {
        self.get(key).filter(|value| !value.is_nothing()).and_then(|value| read(&value))
    }

    /// A key with a default. An empty one is a fault: whoever wrote the key meant something by it.
    pub fn or<T>(&mut self, key: &'static str, default: T, read: impl FnOnce(&Value<'t>) -> Option<T>) -> T {
        self.get(key).and_then(|value| read(&value)).unwrap_or(default)
    }

    /// A map below this one, in which everything has a default: left out, it is read as an empty one.
    pub fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Map<'t>) -> T) -> T {
        let empty = Value { node: NOTHING, path: self.value.below(key), ..self.value.clone() };
        let value = self.get(key).unwrap_or_else(|| empty.clone());
        if value.is_map() {
            return value.map_or_nothing(read);
        }
        if !value.is_nothing() {
            value.wrong::<()>("a map");
        }
        empty.map_or_nothing(read)
    }

    /// A secret: `file_key` names a file, `key` a variable of the environment.
    pub fn secret(&mut self, key: &'static str, file_key: &'static str) -> Option<Secret> {
        let written = self.get(key);
        let file = self.get(file_key);
        if let (Some(written), Some(_)) = (&written, &file) {
            return written.refuse(format!("stands beside {file_key}"), "one of the two");
        }
        written.and_then(|value| value.secret_variable(file_key)).or_else(|| file.and_then(|value| value.secret_file()))
    }

    /// Whether a key is there, without asking for it.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name.text == key)
    }

    /// Lets keys pass that nobody asked for.
    pub fn ignore(&mut self, other: impl Fn(&str) -> bool) {
        self.entries.retain(|(key, _)| !other(&key.text));
    }

    /// Complains about every key that nobody asked for.
    pub fn finish(self) {
        for (key, node) in &self.entries {
            if !self.known.contains(&key.text.as_str()) {
                let here = Value { spot: key.spot, ..self.value.child(self.value.below(&key.text), node) };
                let hint = did_you_mean(&key.text, self.known.iter().copied());
                here.refuse::<()>(format!("unknown key{hint}"), one_of(&self.known));
            }
        }
    }
}
