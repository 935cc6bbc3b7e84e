//! Who has gone too far is kept out for a while: callers that keep calling over their limits (protocol section 8,
//! `ACCOUNT_SUSPENDED`), users whose payments keep failing (section 9, `PAYMENT_LOCKED`). Both are off unless the config
//! turns them on; then a call costs one more look, and one that is kept out costs nothing else.
//!
//! # Who
//! A suspension is the caller's: a user in one mini-app, a Matrix user, a client that has authenticated. A mini-app that
//! runs wild takes its users' other mini-apps with it no more than it takes other users. An address is never suspended:
//! it is no account, and may be a whole office. A payment lock is the user's, whatever mini-app it comes from, for it is
//! the user's money that somebody tries to get at.
//!
//! # What counts
//! A violation is a call that a limit refused; not one that a `report_only` policy let through, nor one that could not be
//! decided. A failed payment is a wallet's word about what the user asked for or proved ([`is_failed_payment`]): money that
//! is not there, a second factor or a signature that is wrong, a payment that could not be carried out. What the wallet
//! or the way to it did wrong (`UPSTREAM_ERROR`, a time-out, an unknown outcome) is nobody's guess at a PIN; nor is a slip
//! in the request, or a transfer that came too late. The wallet's own lock (`MFA_LOCKED`) has its own end.
//!
//! The call that is one too many still gets its own answer; what comes after it is kept out.
//!
//! # What is locked
//! A suspension stops all calls of the caller, a payment lock only what spends ([`spends`]): a user can still look, be
//! paid and open gifts.

mod strikes;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use self::strikes::Lockout;
use super::authn::Caller;
use super::rate_limit::{Engine, LimitKey, PolicyError, window_text};
use crate::clock::{Tick, rfc3339};
use crate::config;
use crate::error::{Code, Refusal};
use crate::metrics::{Label as _, LockoutKind, Metrics};
use crate::model::{MiniAppId, Operation, UserId};
use crate::store::StoreError;

/// The lockouts of one config revision; what has been counted for them outlives it.
pub struct Lockouts {
    suspension: Option<Lockout>,
    payments: Option<Lockout>,
    metrics: Arc<Metrics>,
}

/// Somebody whom an operator asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A user in one mini-app; its payment lock is the user's.
    UserOf(MiniAppId, UserId),
    /// A user by Matrix access token.
    User(UserId),
    /// A client.
    Client(MiniAppId),
}

/// How somebody stands with one lockout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub kind: LockoutKind,
    /// Strikes that count now.
    pub strikes: u32,
    /// Strikes after which one is kept out.
    pub of: u32,
    /// For how long one is kept out still.
    pub locked_for: Option<Duration>,
}

impl Standing {
    /// When it is over, RFC 3339; `None` when one is not kept out.
    pub fn until(&self, unix: u64) -> Option<String> {
        self.locked_for.map(|left| end(left, unix).1)
    }
}

impl Lockouts {
    /// What the config turns on, counted by `engine`; `None` when that is nothing.
    ///
    /// # Errors
    /// When a time is too long for the arithmetic.
    pub fn new(
        config: &config::Lockouts,
        engine: &Arc<dyn Engine>,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Lockouts>, PolicyError> {
        let lockout = |kind, numbers: Option<config::Lockout>| {
            numbers.map(|numbers| Lockout::new(kind, numbers, engine.clone())).transpose()
        };
        let suspension = lockout(LockoutKind::AccountSuspension, config.account_suspension)?;
        let payments = lockout(LockoutKind::PaymentLock, config.payment_lock)?;
        let any = suspension.is_some() || payments.is_some();
        Ok(any.then(|| Lockouts { suspension, payments, metrics: metrics.clone() }))
    }

    /// Refuses a caller that is kept out.
    ///
    /// # Errors
    /// `ACCOUNT_SUSPENDED` or `PAYMENT_LOCKED`, with the time at which it is over.
    pub async fn check(&self, caller: &Caller, operation: Operation, (now, unix): (Tick, u64)) -> Result<(), Refusal> {
        if let (Some(lockout), Some(key)) = (&self.suspension, account_of(caller))
            && let Some(left) = lockout.locked_for(key, now).await
        {
            return Err(suspended(lockout, left, unix));
        }
        if let (Some(lockout), Some(key)) = (&self.payments, payer_of(caller))
            && spends(operation)
            && let Some(left) = lockout.locked_for(key, now).await
        {
            return Err(locked(lockout, left, unix));
        }
        Ok(())
    }

    /// Counts a call that a limit refused. `refusal` is what the caller is told of it; when the caller is suspended for it,
    /// it says so and until when: trying again before is in vain.
    pub async fn violated(&self, caller: &Caller, refusal: Refusal, (now, unix): (Tick, u64)) -> Refusal {
        let (Some(lockout), Some(key)) = (&self.suspension, account_of(caller)) else { return refusal };
        let Some(left) = self.strike(lockout, key, now).await else { return refusal };
        let (seconds, until) = end(left, unix);
        refusal.retry_after(seconds).details(json!({ "suspended_until": until }))
    }

    /// Takes note of what the wallet answered to a call that it refused.
    pub async fn refused_by_wallet(&self, caller: &Caller, operation: Operation, code: Code, now: Tick) {
        if let (Some(lockout), Some(key)) = (&self.payments, payer_of(caller))
            && spends(operation)
            && is_failed_payment(code)
        {
            self.strike(lockout, key, now).await;
        }
    }

    async fn strike(&self, lockout: &Lockout, key: LimitKey, now: Tick) -> Option<Duration> {
        let (left, by_this_one) = lockout.strike(key, now).await?;
        if by_this_one {
            self.metrics.lockouts.inc(lockout.kind);
            log::warn!("{}: set on a {key:?} for {} s", lockout.kind.name(), left.as_secs());
        }
        Some(left)
    }

    /// How somebody stands, for operators: it asks wherever the strikes are counted.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn look_at(&self, whose: &Subject, now: Tick) -> Result<Vec<Standing>, StoreError> {
        let mut standings = Vec::new();
        for (lockout, key) in self.of(whose) {
            standings.push(lockout.look_at(key, now).await?);
        }
        Ok(standings)
    }

    /// Lets somebody in again, with no strikes left, at every instance.
    ///
    /// # Errors
    /// When the store does not answer; some strikes may have been taken back then.
    pub async fn lift(&self, whose: &Subject) -> Result<(), StoreError> {
        for (lockout, key) in self.of(whose) {
            lockout.lift(key).await?;
        }
        Ok(())
    }

    fn of(&self, whose: &Subject) -> impl Iterator<Item = (&Lockout, LimitKey)> {
        let (account, payer) = match whose {
            Subject::UserOf(app, user) => (LimitKey::app_user(app, user), Some(LimitKey::user(user))),
            Subject::User(user) => (LimitKey::user(user), Some(LimitKey::user(user))),
            Subject::Client(app) => (LimitKey::app(app), None),
        };
        let suspension = self.suspension.as_ref().map(|lockout| (lockout, account));
        suspension.into_iter().chain(self.payments.as_ref().zip(payer))
    }
}

/// Whose a suspension is.
fn account_of(caller: &Caller) -> Option<LimitKey> {
    match caller {
        Caller::Tep(token) => Some(token.app_user_key),
        Caller::Matrix(user) => Some(user.user_key),
        Caller::Client(client) => Some(LimitKey::app(&client.app.id)),
        Caller::Anonymous | Caller::Homeserver | Caller::Named(_) | Caller::ResourceServer(_) => None,
    }
}

/// Whose a payment lock is.
fn payer_of(caller: &Caller) -> Option<LimitKey> {
    match caller {
        Caller::Tep(token) => Some(token.user_key),
        _ => None,
    }
}

/// Whether an operation creates or authorises a payment out of the caller's wallet.
fn spends(operation: Operation) -> bool {
    use Operation::{
        GiftCreate, P2pConfirm, P2pInitiate, PaymentAuthorize, PaymentInitiate, PaymentMfaChallenge, PaymentMfaVerify,
    };
    matches!(
        operation,
        P2pInitiate
            | P2pConfirm
            | GiftCreate
            | PaymentInitiate
            | PaymentAuthorize
            | PaymentMfaChallenge
            | PaymentMfaVerify
    )
}

/// Whether a wallet's refusal is a failed payment: see the head of this file.
fn is_failed_payment(code: Code) -> bool {
    matches!(code, Code::PaymentFailed | Code::InsufficientFunds | Code::MfaFailed | Code::InvalidSignature)
}

fn suspended(lockout: &Lockout, left: Duration, unix: u64) -> Refusal {
    let (seconds, until) = end(left, unix);
    let message = format!(
        "{} calls over the limits within {} have suspended this caller until {until}.",
        lockout.numbers.strikes,
        window_text(lockout.numbers.within)
    );
    Refusal::new(Code::AccountSuspended, message).retry_after(seconds).details(json!({ "suspended_until": until }))
}

fn locked(lockout: &Lockout, left: Duration, unix: u64) -> Refusal {
    let (seconds, until) = end(left, unix);
    let message = format!(
        "{} failed payments within {} have locked this user's payments until {until}.",
        lockout.numbers.strikes,
        window_text(lockout.numbers.within)
    );
    Refusal::new(Code::PaymentLocked, message).retry_after(seconds).details(json!({ "locked_until": until }))
}

/// Seconds until it is over, rounded up, and when that is.
fn end(left: Duration, unix: u64) -> (u64, String) {
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    (seconds, rfc3339(unix.saturating_add(seconds)))
}
