//! What a value leads to outside its text: environment variables, files, secrets.

use std::path::{Path, PathBuf};

use super::reader::{MAX_YAML, Style, Value, is_bool, is_null, not_utf8, unreadable};
use super::secret::Secret;
use super::tree::{Kind, Node};

/// Largest file of another kind: secrets, certificates.
const MAX_FILE: usize = 1 << 20;

impl<'t> Value<'t> {
    /// Replaces each `${NAME}` by the environment's value; `$${` is a literal `${`.
    pub fn fill_in(&self, text: &str) -> Option<String> {
        let (mut filled, mut rest, mut whole) = (String::with_capacity(text.len()), text, true);
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                filled.push_str(before);
                filled.push_str("${");
                rest = after;
                continue;
            }
            filled.push_str(before);
            let Some((name, after)) = after.split_once('}').filter(|(name, _)| is_variable(name)) else {
                return self.refuse("`${` without a variable's name", "${NAME}, or $${ for these two characters");
            };
            match (self.load.env)(name) {
                Some(value) => filled.push_str(&value),
                None => {
                    whole = false;
                    self.refuse::<()>(format!("environment variable {name} is not set"), "a value for it");
                }
            }
            rest = after;
        }
        filled.push_str(rest);
        whole.then_some(filled)
    }

    /// A path, relative to the file that names it.
    pub fn path(&self) -> Option<PathBuf> {
        let text = self.text("a path, relative to this file or absolute")?;
        Some(self.file.parent().unwrap_or(Path::new("")).join(text))
    }

    /// The path that this value led to, for a message: as written where a variable is part of it, in case the wrong
    /// variable was named.
    pub fn shown(&self, path: &Path) -> String {
        match &self.node.kind {
            Kind::Scalar { text, .. } if text.contains("${") => self.found(),
            _ => path.display().to_string(),
        }
    }

    /// A path and the content of the file there.
    pub fn file(&self) -> Option<(PathBuf, Vec<u8>)> {
        self.file_up_to(MAX_FILE)
    }

    fn file_up_to(&self, limit: usize) -> Option<(PathBuf, Vec<u8>)> {
        let path = self.path()?;
        self.load.files.borrow_mut().push(path.clone());
        match self.load.opener.read(&path, limit) {
            Ok(content) => Some((path, content)),
            Err(error) => {
                self.refuse(format!("{} {}", self.shown(&path), unreadable(&error)), "a file that can be read")
            }
        }
    }

    /// A path and the tree in the YAML file there.
    pub fn yaml(&self) -> Option<(PathBuf, Node)> {
        let (path, content) = self.file_up_to(MAX_YAML)?;
        match String::from_utf8(content) {
            Ok(text) => self.load.parse(&path, &text).map(|node| (path, node)),
            Err(error) => self.refuse(format!("{} is {}", self.shown(&path), not_utf8(&error)), "a YAML file"),
        }
    }

    /// A secret in the file that this names; line ends behind it are not part of it.
    pub fn secret_file(&self) -> Option<Secret> {
        let (path, content) = self.file()?;
        let secret = String::from_utf8(content).ok().map(zeroize::Zeroizing::new);
        match secret.as_deref().map(|text| text.trim_end_matches(['\r', '\n'])) {
            Some("") => self.refuse(format!("{} is empty", self.shown(&path)), "a file with the secret in it"),
            Some(secret) => Some(Secret::new(secret)),
            None => self.refuse(format!("{} is not text", self.shown(&path)), "a file with the secret in it"),
        }
    }

    /// A secret from the environment: exactly `${NAME}`. Anything else would be the secret itself, and is not shown.
    pub fn secret_variable(&self, file_key: &str) -> Option<Secret> {
        let expected = format!("{file_key}: <path>, or ${{NAME}} to take it from the environment");
        let Kind::Scalar { text, .. } = &self.node.kind else { return self.wrong(expected) };
        let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).filter(|name| is_variable(name));
        if name.is_none() {
            return self.refuse("a secret is written out here", expected);
        }
        match self.fill_in(text)? {
            secret if secret.is_empty() => self.refuse("the environment variable is empty", expected),
            secret => Some(Secret::new(secret)),
        }
    }

    /// A secret that may stand here as it is, because the file is one that another program shares with us. A
    /// placeholder such as `<HOMESERVER_TOKEN>` is not one; it is noted for `run`.
    pub fn shared_secret(&self) -> Option<Secret> {
        let expected = "a token";
        let scalar = self.scalar(expected)?;
        if scalar.text.starts_with('<') && scalar.text.ends_with('>') {
            self.unmet(format!("not set: the placeholder {} still stands here", self.found()), "the token itself");
            return None;
        }
        if scalar.style == Style::Plain && (is_null(&scalar.text) || is_bool(&scalar.text)) {
            return self.wrong(expected);
        }
        // Not `wrong`: a message must not repeat a token.
        if scalar.text.is_empty() || !scalar.text.bytes().all(|b| b.is_ascii_graphic()) {
            return self
                .refuse("found what no header can carry", "a token of printable ASCII characters without spaces");
        }
        Some(Secret::new(scalar.text.into_owned()))
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}
