//! A user's permission to a mini-app, as the tokens that came of it know it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Challenge, ClientId, Digest};
use crate::model::{RoomId, ScopeSet, UserId};

/// How long a client that has authenticated and lost an answer may ask for it again, milliseconds (protocol section 11).
pub const REPEAT_WITHIN: u64 = 60_000;
/// The same for a client that cannot show who it is, milliseconds: long enough for two windows that refresh at once, and for
/// a phone that lost its network for a moment. Who has stolen the token could do as much, so no longer.
pub const REPEAT_WITHIN_UNPROVEN: u64 = 10_000;

/// How much later than it was redeemed a code may arrive once more and still have been sent at the same moment,
/// milliseconds: two instances may have answered, and their clocks differ.
const RACE: u64 = 1_000;
/// How much earlier, milliseconds: its request may have been slow to come in whole.
const ARRIVED: u64 = 60_000;

/// Names a grant: 32 hex digits. No secret: tokens carry it as `grant_id`, and revocations name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(pub [u8; 16]);

impl GrantId {
    /// Reads its text.
    pub fn parse(text: &str) -> Option<GrantId> {
        let hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hex {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| GrantId(number.to_be_bytes()))
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantId({self})")
    }
}

/// How a permission was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// On the consent page, by authorization code.
    Code,
    /// By user code, for a device.
    Device,
    /// By exchange of a Matrix session. It lives for a day at most (protocol section 3).
    Delegation,
}

impl Via {
    /// The name at the admin address and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Via::Code => "code",
            Via::Device => "device",
            Via::Delegation => "delegation",
        }
    }
}

/// A permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// To whom.
    pub client: ClientId,
    /// Whose.
    pub user: UserId,
    /// To do what.
    pub scopes: ScopeSet,
    /// How it came about.
    pub via: Via,
    /// When, milliseconds since the Unix epoch.
    pub granted_at: u64,
    /// Revocations of its user, its mini-app or both with a larger number end it, and scopes that were taken back with a
    /// larger number are not in it, whether or not it has been written anew since: the last one that was known before the
    /// user answered. No time: clocks of two machines could not tell what came first.
    #[serde(default)]
    pub holds_from: u64,
    /// Whether it has ended, and only its access tokens may still have to be revoked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// `miniapp_context.room_id` of its tokens.
    pub room: Option<RoomId>,
    /// `miniapp_context.launch_source` of its tokens.
    pub launch_source: Option<String>,
    /// The authorization code, also when it has been redeemed: a second use has to be recognised.
    pub code: Option<Code>,
    /// The refresh tokens, once there are any.
    pub family: Option<Family>,
    /// When it ends whatever happens, milliseconds since the Unix epoch.
    pub ends_at: Option<u64>,
    /// `wallet_id` of its tokens, once the wallet has said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet: Option<String>,
}

/// An authorization code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Its hash.
    pub hash: Digest,
    /// Where it was sent.
    pub redirect: String,
    /// What its redeemer has to know.
    pub challenge: Challenge,
    /// When it was redeemed.
    pub redeemed_at: Option<u64>,
}

/// Who wants to redeem a code, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Redeemer<'a> {
    /// The client, which has authenticated if it has to.
    pub client: &'a ClientId,
    /// `redirect_uri`.
    pub redirect: &'a str,
    /// The SHA-256 of `code_verifier`.
    pub verifier: Digest,
    /// The hash of the code.
    pub code: Digest,
    /// When the request arrived, milliseconds since the Unix epoch.
    pub arrived_at: u64,
}

/// What comes of redeeming a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// The code is spent, and the grant has its first refresh token.
    Done(Box<Grant>),
    /// It is not this client's, was sent elsewhere, or its verifier is another. The grant stays as it is: whoever steals
    /// a code must not be able to end the grant with it.
    Refused(&'static str),
    /// It was redeemed, at the same moment, by another request.
    Raced,
    /// It was redeemed before, and now again by somebody who could have done so the first time: one of the two is a
    /// thief, so the grant ends (RFC 9700 section 4.5, RFC 6749 section 4.1.2).
    Reused,
}

/// The refresh tokens of a grant: one is in force, all before it are spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// The hash of the one in force.
    pub current: Digest,
    /// The hash of the one before.
    pub previous: Option<Digest>,
    /// When the one in force was made, milliseconds since the Unix epoch.
    pub rotated_at: u64,
}

/// What a refresh token that was shown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// The one in force.
    Current,
    /// The one before, not long ago, and the one in force has not been used: the client may have lost our answer.
    Repeated,
    /// Neither: spent, or never one of ours.
    Other,
}

impl Grant {
    /// What `user` permitted `client`, `granted_at` (milliseconds since the Unix epoch), when `holds_from` was the last
    /// revocation that was known: without a code or refresh tokens, in no room, with no end.
    pub const fn given(
        client: ClientId,
        user: UserId,
        scopes: ScopeSet,
        via: Via,
        (granted_at, holds_from): (u64, u64),
    ) -> Grant {
        Grant {
            client,
            user,
            scopes,
            via,
            granted_at,
            holds_from,
            ended: false,
            room: None,
            launch_source: None,
            code: None,
            family: None,
            ends_at: None,
            wallet: None,
        }
    }

    /// Redeems the code (RFC 6749 section 4.1.3, RFC 7636 section 4.6). `refresh` is the hash of the first refresh token.
    pub fn redeemed(self, by: &Redeemer<'_>, refresh: Digest, now: u64) -> Redeemed {
        let Some(code) = &self.code else { return Redeemed::Refused("the grant has no code") };
        if code.hash != by.code {
            return Redeemed::Refused("no code of this grant");
        }
        // A redeemed code may have become the back end's; the front could still have been the first.
        let could = match code.redeemed_at {
            None => by.client.may_use(&self.client),
            Some(_) => by.client.app == self.client.app,
        };
        if !could {
            return Redeemed::Refused("another client's code");
        }
        if code.redirect != by.redirect {
            return Redeemed::Refused("another redirect_uri");
        }
        if !code.challenge.answered_by(by.verifier) {
            return Redeemed::Refused("another code_verifier");
        }
        match code.redeemed_at {
            Some(at) if (at.saturating_sub(ARRIVED)..=at.saturating_add(RACE)).contains(&by.arrived_at) => {
                Redeemed::Raced
            }
            Some(_) => Redeemed::Reused,
            None => {
                let code = Code { redeemed_at: Some(now), ..code.clone() };
                // What was fetched with a secret is worth nothing without it from now on.
                let (client, code) = (by.client.clone(), Some(code));
                Redeemed::Done(Box::new(Grant { client, code, ..self.begun(refresh, now) }))
            }
        }
    }

    /// The grant with its first refresh token.
    #[must_use]
    pub fn begun(self, refresh: Digest, now: u64) -> Grant {
        Grant { family: Some(Family { current: refresh, previous: None, rotated_at: now }), ..self }
    }

    /// The grant with `next` in place of the refresh token in force.
    #[must_use]
    pub fn rotated(self, next: Digest, now: u64) -> Grant {
        let previous = self.family.as_ref().map(|family| family.current);
        Grant { family: Some(Family { current: next, previous, rotated_at: now }), ..self }
    }

    /// The grant without `scopes`; `None` when nothing is left that a user has to permit.
    pub fn without(self, scopes: ScopeSet) -> Option<Grant> {
        let left = self.scopes.difference(scopes);
        (!left.difference(ScopeSet::UNASKED).is_empty()).then_some(Grant { scopes: left, ..self })
    }

    /// How long it lives on from `now` if nothing is done with it: as long as its code (`code_ttl`), and once that is
    /// redeemed as long as its refresh token (`refresh_ttl`), but not beyond its end.
    pub fn life(&self, code_ttl: Duration, refresh_ttl: Duration, now: u64) -> Duration {
        let (since, ttl) = match &self.family {
            Some(family) => (family.rotated_at, refresh_ttl),
            None => (self.granted_at, code_ttl),
        };
        let unused = since.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let end = self.ends_at.map_or(unused, |end| end.min(unused));
        // The store keeps nothing for no time at all.
        Duration::from_millis(end.saturating_sub(now).max(1))
    }
}

impl Family {
    /// What a token with that hash is, shown by a client that `has_authenticated` or has not. Whether [`Presented::Other`] is
    /// spent or foreign is for the store to say.
    pub fn presented(&self, hash: Digest, has_authenticated: bool, now: u64) -> Presented {
        let within = if has_authenticated { REPEAT_WITHIN } else { REPEAT_WITHIN_UNPROVEN };
        if hash == self.current {
            Presented::Current
        } else if Some(hash) == self.previous && now.saturating_sub(self.rotated_at) < within {
            Presented::Repeated
        } else {
            Presented::Other
        }
    }
}

#[cfg(test)]
mod tests;
