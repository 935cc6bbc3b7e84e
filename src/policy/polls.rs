//! Devices that ask whether their user has answered, and the limits (RFC 8628 section 3.5).
//!
//! Such a device asks every few seconds for minutes, and any error but `authorization_pending` and `slow_down` ends that.
//! A mini-app's back end asks for all of its devices on one bucket, which two of them would empty. So a question that is
//! not too early draws on no bucket: its device's own interval is limit enough. One that is too early costs what every
//! call costs, and where nothing is left it is told to slow down. A code that no device waits with is a call like any
//! other.

use super::authn::Caller;
use super::validate::Form;
use crate::error::{Code, OauthError, Refusal};
use crate::model::Operation;
use crate::model::oauth::device::{Answer, GRANT_TYPE};
use crate::store::oauth::{Credential, Devices, Kind};

/// What a call is to the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Poll {
    /// A device's question, in time.
    OnTime,
    /// A device's question, too early, or after its user's no.
    Early,
    /// Anything else.
    None,
}

impl Poll {
    /// What the call is, at `now` (milliseconds since the Unix epoch).
    ///
    /// # Errors
    /// 503 when the store does not say whether a device waits.
    pub(super) async fn of(
        devices: &Devices,
        operation: Operation,
        caller: &Caller,
        form: &Form,
        now: u64,
    ) -> Result<Poll, Refusal> {
        let (Caller::Client(client) | Caller::Named(client)) = caller else { return Ok(Poll::None) };
        if operation != Operation::OauthToken || form.get("grant_type") != Some(GRANT_TYPE) {
            return Ok(Poll::None);
        }
        let shown = form.get("device_code").and_then(|code| Credential::parse(Kind::Device, code));
        let Some(shown) = shown else { return Ok(Poll::None) };
        let device = devices.get(shown.grant()).await?.map(|held| held.value);
        let ours = device.filter(|device| device.hash == shown.hash() && client.id.may_use(&device.client));
        Ok(match ours {
            Some(device) if now < device.due() => Poll::Early,
            // It has been told, or is told now; whoever goes on asking pays for it.
            Some(device) if device.answer == Answer::Denied => Poll::Early,
            Some(_) => Poll::OnTime,
            None => Poll::None,
        })
    }

    /// A limit's refusal in words that let a device go on asking.
    pub(super) fn refused(self, refusal: Refusal) -> Refusal {
        match (self, refusal.code()) {
            (Poll::Early, Code::RateLimitExceeded) => {
                let slower = Refusal::oauth(OauthError::SlowDown, OauthError::SLOWER);
                refusal.retry_after_seconds().into_iter().fold(slower, Refusal::retry_after)
            }
            _ => refusal,
        }
    }
}
