//! What a user is asked: one authorization request (RFC 6749 section 4.1.1), waiting for an answer.

use serde::{Deserialize, Serialize};
use url::form_urlencoded::Serializer;

use super::{Challenge, ClientId, Code, Grant, Via};
use crate::model::{ScopeSet, UserId};

/// An authorization request that has been checked. It is answered once, and by nobody but the user that it was bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Who asks.
    pub client: ClientId,
    /// Where the answer goes, exactly as the client wrote it.
    pub redirect: String,
    /// What the client wants back with the answer, untouched.
    pub state: Option<String>,
    /// What is asked for.
    pub scopes: ScopeSet,
    /// Whoever redeems the code has to know what this is the hash of.
    pub challenge: Challenge,
    /// Whose permission it is, once somebody has proven who they are.
    pub user: Option<UserId>,
    /// When the question was put.
    pub asked_at: u64,
}

impl Consent {
    /// Binds the question to a user. A question that is another user's stays theirs: `None`.
    pub fn identified(self, user: UserId) -> Option<Consent> {
        match &self.user {
            Some(bound) if *bound != user => None,
            _ => Some(Consent { user: Some(user), ..self }),
        }
    }

    /// The address that takes the user's browser back to the client, with `answer` (`code`, or `error`), the client's
    /// `state`, and who we are (RFC 6749 section 4.1.2, RFC 9207).
    pub fn address(&self, issuer: &str, answer: &[(&str, &str)]) -> String {
        address(&self.redirect, self.state.as_deref(), issuer, answer)
    }

    /// The user's yes, to these scopes and no more than were asked for: the grant, with a code that is still to be
    /// redeemed. `None` as long as nobody has proven who they are.
    /// `known` is the number of the last revocation that was known before.
    pub fn approved(self, scopes: ScopeSet, code: super::Digest, now: u64, known: u64) -> Option<Grant> {
        let code = Code { hash: code, redirect: self.redirect, challenge: self.challenge, redeemed_at: None };
        let scopes = scopes.intersection(self.scopes);
        let grant = Grant::given(self.client, self.user?, scopes, Via::Code, (now, known));
        Some(Grant { code: Some(code), ..grant })
    }
}

/// As [`Consent::address`], for a request of which no more is known than where its answer goes. The redirect URI stays
/// byte for byte what it was.
pub fn address(redirect: &str, state: Option<&str>, issuer: &str, answer: &[(&str, &str)]) -> String {
    let mut query = Serializer::new(String::new());
    query.extend_pairs(answer);
    query.extend_pairs(state.map(|state| ("state", state)));
    query.append_pair("iss", issuer);
    format!("{redirect}{}{}", if redirect.contains('?') { '&' } else { '?' }, query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_where_they_were_asked_for_and_nowhere_else() {
        let at = |redirect: &str| address(redirect, Some("a b&c=d"), "https://edge.example", &[("code", "x+y")]);
        assert_eq!(
            at("https://s.example/cb"),
            "https://s.example/cb?code=x%2By&state=a+b%26c%3Dd&iss=https%3A%2F%2Fedge.example"
        );
        assert!(at("https://s.example/cb?x=1").starts_with("https://s.example/cb?x=1&code="));
        assert!(at("com.example.app:/cb").starts_with("com.example.app:/cb?code="));
    }
}
