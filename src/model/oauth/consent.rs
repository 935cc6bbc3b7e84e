//! What a user is asked: one authorization request (RFC 6749 section 4.1.1), waiting for an answer.

use serde::{Deserialize, Serialize};

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

    /// The user's yes, to these scopes and no more than were asked for: the grant, with a code that is still to be
    /// redeemed. `None` as long as nobody has proven who they are.
    pub fn approved(self, scopes: ScopeSet, code: super::Digest, now: u64) -> Option<Grant> {
        let code = Code { hash: code, redirect: self.redirect, challenge: self.challenge, redeemed_at: None };
        Some(Grant {
            client: self.client,
            user: self.user?,
            scopes: scopes.intersection(self.scopes),
            via: Via::Code,
            granted_at: now,
            room: None,
            launch_source: None,
            code: Some(code),
            family: None,
            ends_at: None,
        })
    }
}
