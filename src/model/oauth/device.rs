//! A device that asks on a user's behalf and waits (RFC 8628).

use serde::{Deserialize, Serialize};

use super::{ClientId, Digest, Grant, UserCode, Via};
use crate::model::{Scope, ScopeSet, UserId};

/// The `grant_type` of a device's questions (RFC 8628 section 3.4).
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Seconds between two questions, to begin with (RFC 8628 section 3.2).
pub const INTERVAL: u64 = 5;
/// By how many seconds it grows each time that a device does not wait (RFC 8628 section 3.5).
const SLOWER: u64 = 5;
/// How much earlier than told a device may ask, milliseconds: networks jitter, and its clock starts with our answer.
const EARLY: u64 = 500;

/// A device authorization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Who asks.
    pub client: ClientId,
    /// What is asked for.
    pub scopes: ScopeSet,
    /// The hash of the device code.
    pub hash: Digest,
    /// What the user types.
    pub user_code: UserCode,
    /// What the user said.
    pub answer: Answer,
    /// Seconds that the device has to wait between two questions.
    pub interval: u64,
    /// When it last asked.
    pub asked_at: Option<u64>,
    /// When it expires.
    pub expires_at: u64,
}

/// What the user said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Answer {
    /// Nothing yet.
    Pending,
    /// Yes, to these scopes.
    Approved {
        /// Who.
        user: UserId,
        /// To what.
        scopes: ScopeSet,
        /// When, milliseconds since the Unix epoch.
        at: u64,
        /// The last revocation that was known before: what is withdrawn until the device's next question takes the yes
        /// along.
        known: u64,
    },
    /// No.
    Denied,
}

/// What a device that asks is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poll {
    /// `slow_down`: it asked too early.
    SlowDown(Device),
    /// `authorization_pending`.
    Pending(Device),
    /// `access_denied`.
    Denied,
    /// `expired_token`.
    Expired,
    /// The user said yes.
    Granted(Box<Grant>),
}

impl Device {
    /// A new one.
    pub fn new(client: ClientId, scopes: ScopeSet, hash: Digest, user_code: UserCode, expires_at: u64) -> Device {
        let (answer, interval, asked_at) = (Answer::Pending, INTERVAL, None);
        Device { client, scopes, hash, user_code, answer, interval, asked_at, expires_at }
    }

    /// Scopes that a device is never given: whoever is talked into typing a code must not have paid with it
    /// (protocol section 3).
    pub const NEVER: ScopeSet = ScopeSet::of(&[Scope::WalletPay]);

    /// The user's yes, to no more than was asked for, when `known` was the last revocation that was known. `None` when
    /// it was answered before.
    pub fn approved(self, user: UserId, scopes: ScopeSet, at: u64, known: u64) -> Option<Device> {
        let scopes = scopes.intersection(self.scopes).difference(Device::NEVER);
        let answer = Answer::Approved { user, scopes, at, known };
        (self.answer == Answer::Pending).then_some(Device { answer, ..self })
    }

    /// The user's no. `None` when it was answered before.
    pub fn denied(self) -> Option<Device> {
        (self.answer == Answer::Pending).then_some(Device { answer: Answer::Denied, ..self })
    }

    /// When the device may ask next.
    pub fn due(&self) -> u64 {
        self.asked_at.map_or(0, |asked| (asked + self.interval * 1000).saturating_sub(EARLY))
    }

    /// The device asks. Asking too early is looked at first, so that one which was told to slow down does.
    pub fn polled(self, now: u64) -> Poll {
        if now >= self.expires_at {
            return Poll::Expired;
        }
        match &self.answer {
            Answer::Pending if now < self.due() => {
                Poll::SlowDown(Device { interval: self.interval + SLOWER, asked_at: Some(now), ..self })
            }
            Answer::Pending => Poll::Pending(Device { asked_at: Some(now), ..self }),
            Answer::Denied => Poll::Denied,
            Answer::Approved { user, scopes, at, known } => {
                let grant = Grant::given(self.client, user.clone(), *scopes, Via::Device, (*at, *known));
                Poll::Granted(Box::new(grant))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MiniAppId;

    fn device() -> Device {
        let client = ClientId::of(MiniAppId::parse("ma_tv").unwrap());
        let scopes = ScopeSet::of(&[Scope::WalletBalance, Scope::WalletPay]);
        Device::new(client, scopes, Digest([1; 32]), UserCode::parse("WDJBMJHT").unwrap(), 600_000)
    }

    #[test]
    fn a_device_in_a_hurry_is_slowed_down() {
        let Poll::Pending(device) = device().polled(1_000) else { panic!("the first question is on time") };
        let Poll::SlowDown(device) = device.polled(2_000) else { panic!("the second is not") };
        assert_eq!(device.interval, 10);
        assert!(matches!(device.clone().polled(11_000), Poll::SlowDown(_)));
        assert!(matches!(device.polled(12_000), Poll::Pending(_)));
    }

    #[test]
    fn yes_and_no_are_said_once_and_paying_is_never_given() {
        let user = UserId::parse("@alice:tween.example").unwrap();
        let approved = device().approved(user.clone(), ScopeSet::of(Scope::ALL), 500, 7).unwrap();
        assert_eq!(approved.clone().denied(), None);
        let Poll::Granted(grant) = approved.clone().polled(1_000) else { panic!("granted") };
        assert_eq!((grant.user, grant.scopes), (user.clone(), ScopeSet::of(&[Scope::WalletBalance])));
        assert_eq!(approved.polled(600_000), Poll::Expired);
        let denied = device().denied().unwrap();
        assert_eq!(denied.clone().approved(user, ScopeSet::EMPTY, 500, 7), None);
        assert_eq!(denied.polled(1_000), Poll::Denied);
    }
}
