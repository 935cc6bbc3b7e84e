//! Mini-apps from elsewhere than the config: the command line, a file that is read once, the store.
//!
//! What a mini-app may be is decided in one place, the reader of `miniapps.yaml`. Everything else is brought into its
//! form and goes through it, so that a mini-app is allowed the same wherever it was written down.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::miniapp::MiniApp;
use super::miniapps::{document, entry};
use super::opener::Opener;
use super::problem::{Problem, Problems};
use super::reader::{Load, MAX_YAML, Value};
use super::tree::{Key, Kind, Node, Spot};

/// A mini-app as it is written down, still unchecked: the keys of `miniapps.yaml`, without its secrets and the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// `id`.
    pub id: String,
    /// `name`.
    pub name: String,
    /// `developer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub developer: Option<String>,
    /// `icon_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
    /// `classification`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification: Option<String>,
    /// `type`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub client_type: Option<String>,
    /// `redirect_uris`.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// `scopes`.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// `preapproved_scopes`.
    #[serde(default)]
    pub preapproved_scopes: Vec<String>,
    /// `webhook_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
}

impl Registration {
    /// How a mini-app is written down.
    pub fn of(app: &MiniApp) -> Registration {
        let names = |scopes: crate::model::ScopeSet| scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        Registration {
            id: app.id.to_string(),
            name: app.name.clone(),
            developer: app.developer.clone(),
            icon_url: app.icon_url.as_ref().map(ToString::to_string),
            classification: Some(app.classification.to_string()),
            client_type: Some(app.client_type.to_string()),
            redirect_uris: app.redirect_uris.iter().map(ToString::to_string).collect(),
            scopes: names(app.scopes),
            preapproved_scopes: names(app.preapproved_scopes),
            webhook_url: app.webhook_url.as_ref().map(ToString::to_string),
        }
    }

    /// The mini-app, checked. `origin` is where it comes from, in words, for complaints; `complete` adds what is not
    /// written here: secrets, and whether it is switched off.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with the key and what was expected.
    pub fn read(&self, origin: &str, complete: &mut dyn FnMut(&mut MiniApp)) -> Result<MiniApp, Problems> {
        let origin = Path::new(origin);
        let json = serde_json::to_value(self).unwrap_or_default();
        let (load, node) = (Load::new(&|_| None, &Nothing), node(json));
        let read = entry(&Value::root(&load, origin, &node), complete);
        finish(read, origin, load)
    }
}

/// Reads mini-apps from `text`, which has the form of `miniapps.yaml`; `file` is what it is called, and what names of files
/// in it are relative to. `env` answers for `${NAME}`; `complete` adds to each mini-app what its entry leaves out.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(
    text: &str,
    file: &Path,
    opener: &dyn Opener,
    env: &dyn Fn(&str) -> Option<String>,
    complete: &mut dyn FnMut(&mut MiniApp),
) -> Result<Vec<MiniApp>, Problems> {
    let load = Load::new(env, opener);
    let read = load.parse(file, text).and_then(|node| document(&Value::root(&load, file, &node), complete));
    let read = read.map(|apps| apps.into_values().map(std::sync::Arc::unwrap_or_clone).collect());
    finish(read, file, load)
}

/// The text of a file of mini-apps, as large as a config file may be.
///
/// # Errors
/// Those of reading; text that is too long is `FileTooLarge`.
pub fn text_of(source: impl io::Read) -> io::Result<String> {
    let (mut text, cap) = (String::new(), u64::try_from(MAX_YAML).unwrap_or(u64::MAX));
    source.take(cap.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() > MAX_YAML { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

fn finish<T>(read: Option<T>, file: &Path, load: Load<'_>) -> Result<T, Problems> {
    let mut problems = load.problems.into_inner();
    match read {
        Some(read) if problems.is_empty() => Ok(read),
        _ => {
            if problems.is_empty() {
                let (file, message) = (file.to_owned(), "cannot be read, for a reason that was not told".to_owned());
                let (key_path, expected) = (String::new(), String::new());
                problems.push(Problem { file, line: 0, column: 0, key_path, message, expected });
            }
            Err(Problems::new(file, problems))
        }
    }
}

/// JSON as the reader's tree, every text as it stands: what looks like a number or a variable is none.
fn node(json: Json) -> Node {
    let plain = |text: String| Kind::Scalar { text, quoted: false };
    let kind = match json {
        Json::Null => plain(String::new()),
        Json::Bool(flag) => plain(flag.to_string()),
        Json::Number(number) => plain(number.to_string()),
        // The reader would fill in a variable.
        Json::String(text) => Kind::Scalar { text: text.replace("${", "$${"), quoted: true },
        Json::Array(items) => Kind::List(items.into_iter().map(node).collect()),
        Json::Object(entries) => Kind::Map(
            entries.into_iter().map(|(text, value)| (Key { spot: Spot::default(), text }, node(value))).collect(),
        ),
    };
    Node { spot: Spot::default(), kind }
}

/// No file at all: what is read has none to name.
struct Nothing;

impl Opener for Nothing {
    fn read(&self, _: &Path, _: usize) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{InMemory, Secret};

    fn shop() -> Registration {
        Registration {
            id: "ma_shop".to_owned(),
            name: "Shop".to_owned(),
            redirect_uris: vec!["https://shop.example/cb".to_owned()],
            scopes: vec!["wallet:balance".to_owned()],
            ..Registration::default()
        }
    }

    fn refused(changed: Registration) -> String {
        changed.read("command line", &mut |_| {}).unwrap_err().to_string()
    }

    #[test]
    fn every_fault_is_told_with_its_key_and_what_was_expected() {
        for (changed, told) in [
            (
                Registration { id: "shop".to_owned(), ..shop() },
                "command line: id: found \"shop\", expected a mini-app id such as ma_shop_001",
            ),
            (
                Registration { redirect_uris: vec!["https://shop.example/#x".to_owned()], ..shop() },
                "command line: redirect_uris[0]: a redirect URI has no fragment (RFC 6749 section 3.1.2), expected a \
                 redirect URI such as https://shop.example.com/callback",
            ),
            (
                Registration { redirect_uris: vec!["http://shop.example/cb".to_owned()], ..shop() },
                "command line: redirect_uris[0]: http is for the loopback literals 127.0.0.1 and [::1] only (RFC 8252 \
                 section 7.3), expected a redirect URI such as https://shop.example.com/callback",
            ),
            (
                Registration { client_type: Some("privat".to_owned()), ..shop() },
                "command line: type: found \"privat\", expected one of: public, confidential, hybrid",
            ),
            (
                Registration {
                    classification: Some("official".to_owned()),
                    preapproved_scopes: vec!["user:read".to_owned()],
                    ..shop()
                },
                "command line: preapproved_scopes: user:read is not registered, expected scopes that also stand under scopes",
            ),
            (
                Registration { client_type: Some("confidential".to_owned()), ..shop() },
                "command line: type: confidential without a client secret, expected client_secret_hashes with one hash or \
                 two, or type: public",
            ),
            (
                Registration { webhook_url: Some("http://shop.example/hook".to_owned()), ..shop() },
                "command line: webhook_url: found \"http://shop.example/hook\", unprotected, expected the https URL that its \
                 webhooks go to (http is for loopback addresses only)",
            ),
        ] {
            assert_eq!(refused(changed), told);
        }
        let scope = refused(Registration { scopes: vec!["wallet:balence".to_owned()], ..shop() });
        assert!(scope.contains("there is no scope \"wallet:balence\" (did you mean wallet:balance?)"), "{scope}");
        let secret = shop().read("command line", &mut |app| app.secret_hashes.push([1; 32])).unwrap_err();
        assert!(secret.to_string().contains("a public client keeps no secret"), "{secret}");
    }

    #[test]
    fn what_is_missing_may_be_added() {
        let asked = Registration { client_type: Some("confidential".to_owned()), ..shop() };
        let app = asked.read("command line", &mut |app| app.secret_hashes.push([1; 32])).unwrap();
        assert_eq!(app.secret_hashes, [[1; 32]]);
    }

    #[test]
    fn a_file_is_read_as_the_configs_own() {
        let text =
            "miniapps:\n  - { id: ma_a, name: '${NAME}', webhook_secret_file: hook }\n  - { id: ma_b, name: B }\n";
        let secret = format!("whsec_{}", "A".repeat(32));
        let files = InMemory::default().with("c/hook", secret.clone());
        let env = |name: &str| (name == "NAME").then(|| "A".to_owned());
        let apps = parse(text, Path::new("c/apps.yaml"), &files, &env, &mut |_| {}).unwrap();
        assert_eq!(apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(apps[0].webhook_secret, Some(Secret::new(secret)));
        for (bad, told) in [
            ("", "-:1:1: found nothing, expected a map with the key miniapps"),
            ("id: ma_a", "-:1:1: miniapps: missing, expected a list of mini-apps"),
            ("miniapps: [{ id: ma_a, name: A }, { id: ma_a, name: B }]", "-:1:35: miniapps[1]: ma_a stands twice"),
            (
                "miniapps: [{ id: ma_a, name: A, type: hybrid, client_secret_hashes: ['HASH'] }, { id: ma_a_backend, name: B }]",
                "ma_a_backend cannot be told from ma_a, one being the name of the other's back end, expected another id",
            ),
        ] {
            let bad = bad.replace("HASH", &"0".repeat(64));
            let error = parse(&bad, Path::new("-"), &files, &env, &mut |_| {}).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        assert_eq!(text_of(io::repeat(b' ')).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(text_of(&b"miniapps: []"[..]).unwrap(), "miniapps: []");
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_down_the_same(name in "\\PC{1,40}", path in "[a-z${}/]{0,20}", hybrid: bool) {
            let mut written = Registration { name, redirect_uris: vec![format!("https://shop.example/{path}")], ..shop() };
            written.client_type = Some(if hybrid { "hybrid" } else { "public" }.to_owned());
            let mut complete = |app: &mut MiniApp| app.secret_hashes.extend(hybrid.then_some([7; 32]));
            if let Ok(app) = written.read("store", &mut complete) {
                let again = Registration::of(&app);
                prop_assert_eq!((&again.name, &again.redirect_uris), (&written.name, &written.redirect_uris));
                prop_assert_eq!(again.read("store", &mut complete).unwrap(), app);
            }
        }
    }
}
