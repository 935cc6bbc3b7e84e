//! A mini-app as it is registered, and the rules that bind its parts together: the same whether a config file names it
//! or the store.

use url::Url;

use super::secret::Secret;
use crate::model::miniapp::{Classification, ClientType, RedirectUri};
use crate::model::oauth::BACKEND;
use crate::model::scope::Sensitivity;
use crate::model::{MiniAppId, Scope, ScopeSet};

/// Most secrets that are valid at a time: the old one and the new one, while one is being replaced.
pub const MAX_SECRETS: usize = 2;
/// Longest name of a mini-app or developer, characters.
pub const MAX_NAME: usize = 100;
/// Most redirect URIs of one mini-app.
pub const MAX_REDIRECT_URIS: usize = 20;

/// A mini-app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MiniApp {
    /// Its id; also its OAuth client id.
    pub id: MiniAppId,
    /// Name for people.
    pub name: String,
    /// Who makes it, for people.
    pub developer: Option<String>,
    /// Its picture, for people.
    pub icon_url: Option<Url>,
    /// How far it is trusted.
    pub classification: Classification,
    /// What kind of OAuth client it is.
    pub client_type: ClientType,
    /// Where its codes may be sent.
    pub redirect_uris: Vec<RedirectUri>,
    /// Scopes it registered.
    pub scopes: ScopeSet,
    /// Scopes among those that users need not approve; of official mini-apps only.
    pub preapproved_scopes: ScopeSet,
    /// SHA-256 of its client secrets, hex in files; two while rotating. Secrets are random, so a plain hash suffices
    /// (they cannot be guessed). Empty: a public client.
    pub secret_hashes: Vec<[u8; 32]>,
    /// Where its webhooks go.
    pub webhook_url: Option<Url>,
    /// Its webhook secret.
    pub webhook_secret: Option<Secret>,
    /// Whether it is switched off.
    pub suspended: bool,
}

/// A part of a mini-app that does not go with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The part, by its key in the config.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub expected: &'static str,
}

impl MiniApp {
    /// A public mini-app with nothing but an id and a name.
    pub fn new(id: MiniAppId, name: impl Into<String>) -> MiniApp {
        MiniApp {
            id,
            name: name.into(),
            developer: None,
            icon_url: None,
            classification: Classification::Community,
            client_type: ClientType::Public,
            redirect_uris: Vec::new(),
            scopes: ScopeSet::EMPTY,
            preapproved_scopes: ScopeSet::EMPTY,
            secret_hashes: Vec::new(),
            webhook_url: None,
            webhook_secret: None,
            suspended: false,
        }
    }

    /// Whether it is one of the platform's own: may hold official scopes and privileged tokens.
    pub fn official(&self) -> bool {
        self.classification == Classification::Official
    }

    /// Whether people are told that its developer is known.
    pub fn verified(&self) -> bool {
        self.classification >= Classification::Verified
    }

    /// What it may be granted: what it registered, and what every mini-app has.
    pub fn allowed_scopes(&self) -> ScopeSet {
        self.scopes.union(ScopeSet::UNASKED)
    }

    /// The registered redirect URI that `sent` is, if it is one.
    pub fn redirect_uri(&self, sent: &str) -> Option<&RedirectUri> {
        self.redirect_uris.iter().find(|own| own.matches(sent))
    }

    /// What does not go together.
    pub fn mismatches(&self) -> Vec<Mismatch> {
        let mut found = Vec::new();
        let mut tell = |key, message, expected| found.push(Mismatch { key, message, expected });
        let official = names(self.scopes, |scope| scope.official_only());
        if !self.official() && !official.is_empty() {
            tell("scopes", format!("{official} is for official mini-apps only"), "classification: official");
        }
        if !self.official() && !self.preapproved_scopes.is_empty() {
            tell("preapproved_scopes", "users of this mini-app approve every scope".into(), "classification: official");
        }
        let critical = names(self.preapproved_scopes, |scope| scope.sensitivity() == Sensitivity::Critical);
        if !critical.is_empty() {
            let message = format!("{critical} is critical: users are asked for it in any case");
            tell("preapproved_scopes", message, "scopes of another sensitivity");
        }
        let unregistered = self.preapproved_scopes.difference(self.allowed_scopes());
        if !unregistered.is_empty() {
            let message = format!("{} is not registered", names(unregistered, |_| true));
            tell("preapproved_scopes", message, "scopes that also stand under scopes");
        }
        match (self.client_type, self.secret_hashes.len()) {
            (ClientType::Public, 1..) => {
                let message = "a public client keeps no secret".into();
                tell("client_secret_hashes", message, "no secrets, or type: confidential or hybrid");
            }
            (ClientType::Confidential | ClientType::Hybrid, 0) => {
                let message = format!("{} without a client secret", self.client_type);
                tell("type", message, "client_secret_hashes with one hash or two, or type: public");
            }
            (_, count) if count > MAX_SECRETS => {
                let message = format!("{count} secrets");
                tell("client_secret_hashes", message, "one, or two while one is being replaced");
            }
            _ => {}
        }
        let native = self.redirect_uris.iter().find(|uri| uri.is_native());
        if let (false, Some(uri)) = (self.client_type.has_public_part(), native) {
            let message = format!("{uri} lies on the user's own device");
            tell("redirect_uris", message, "https, or type: public or hybrid");
        }
        if self.redirect_uris.len() > MAX_REDIRECT_URIS {
            let message = format!("{} redirect URIs", self.redirect_uris.len());
            tell("redirect_uris", message, "at most 20");
        }
        found
    }
}

/// Which of `others` a mini-app could not be told from: the back end of a hybrid one signs in under a name that must not
/// be another one's id.
pub fn namesake<'a>(
    (id, client_type): (&MiniAppId, ClientType),
    mut others: impl Iterator<Item = (&'a MiniAppId, ClientType)>,
) -> Option<&'a MiniAppId> {
    let is_backend = |name: &MiniAppId, of: &MiniAppId, client_type| {
        client_type == ClientType::Hybrid && name.as_str().strip_suffix(BACKEND) == Some(of.as_str())
    };
    let same = |(other, other_type): &(&MiniAppId, ClientType)| {
        is_backend(id, other, *other_type) || is_backend(other, id, client_type)
    };
    others.find(same).map(|(other, _)| other)
}

/// A line that people are shown: something to read, of bounded length, and without what turns text round or is not seen.
pub fn is_line(text: &str) -> bool {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    // Two names that look the same must not be two. Joiners (U+200C, U+200D) are letters' own in some scripts.
    let unseen = |c: char| {
        matches!(c, '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{2000}'..='\u{200b}'
            | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}'..='\u{2065}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{e0000}'..='\u{e007f}')
    };
    let fits = !text.trim().is_empty() && text.chars().count() <= MAX_NAME;
    fits && !text.chars().any(|c| c.is_control() || turns(c) || unseen(c))
}

/// A name that people are shown: a line without the mark that pages put behind those that have been verified.
pub fn is_name(text: &str) -> bool {
    is_line(text) && !text.contains(['\u{2611}', '\u{2705}', '\u{2713}', '\u{2714}'])
}

fn names(scopes: ScopeSet, which: impl Fn(Scope) -> bool) -> String {
    scopes.iter().filter(|scope| which(*scope)).map(Scope::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_seen_whole_and_claims_no_mark() {
        for good in [
            "Tween Pay",
            "Caf\u{e9} \u{4f60}\u{597d}",
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            "A & B <3",
        ] {
            assert!(is_name(good), "{good:?}");
        }
        for bad in [
            "",
            " ",
            "a\nb",
            "Tween\u{a0}Pay",
            "A\u{200b}B",
            "A\u{202e}B",
            "\u{3164}",
            "A\u{e0041}",
            "Pay \u{2713} Verified",
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(is_line("checked \u{2713}"), "a reason may say so");
        assert!(!is_name(&"n".repeat(MAX_NAME + 1)));
    }
}
