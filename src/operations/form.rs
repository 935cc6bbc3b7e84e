//! Parameters of a query string or a form (`application/x-www-form-urlencoded`).

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Parameters by name.
#[derive(Clone, Debug, Default)]
pub struct Form<'a>(BTreeMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> Form<'a> {
    /// Reads them. Of a name that stands twice the first counts; bodies in which one does have been refused before.
    pub fn parse(text: &'a [u8]) -> Form<'a> {
        let mut all = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(text) {
            all.entry(name).or_insert(value);
        }
        Form(all)
    }

    /// The value of a name; an empty one is no value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(AsRef::as_ref).filter(|value| !value.is_empty())
    }
}
