//! Payments to merchants (protocol section 5): `INITIATED → [MFA_REQUIRED →] COMPLETED`, or `EXPIRED` after five
//! minutes, or `FAILED` after too many wrong second factors.
//!
//! The states AUTHORIZED and PROCESSING are passed within one call, because this wallet settles at once; so nobody
//! can see them. A payment that the balance does not cover stays where it was and may be authorised again.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::{MiniAppId, RoomId, UserId};

use super::super::money::Money;
use super::super::time::Millis;
use super::account::{Entry, Party};
use super::{DEMO_PIN, Deadline, Ledger, Refused};

/// How long a payer may take to authorise, and to answer a challenge.
const AUTHORIZE_WITHIN_SECS: u64 = 300;
/// How many second factors may be wrong.
pub const MAX_ATTEMPTS: u32 = 3;

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the protocol's own states, section 5")]
pub enum PaymentState {
    PendingAuthorization,
    MfaRequired,
    Completed,
    Failed,
    Expired,
    PartiallyRefunded,
    Refunded,
}

impl PaymentState {
    /// The state as answers write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            PaymentState::PendingAuthorization => "pending_authorization",
            PaymentState::MfaRequired => "mfa_required",
            PaymentState::Completed => "completed",
            PaymentState::Failed => "failed",
            PaymentState::Expired => "expired",
            PaymentState::PartiallyRefunded => "partially_refunded",
            PaymentState::Refunded => "refunded",
        }
    }

    /// Whether the merchant has been paid.
    pub const fn is_paid(self) -> bool {
        matches!(self, PaymentState::Completed | PaymentState::PartiallyRefunded | PaymentState::Refunded)
    }
}

/// What a mini-app asks a user to pay.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the protocol's own field names, section 5")]
pub struct PaymentOrder {
    pub payer: UserId,
    pub merchant: MiniAppId,
    pub amount: Money,
    pub currency: String,
    pub description: Option<String>,
    pub merchant_order_id: Option<String>,
    /// As the client wrote them: nobody here calculates with them.
    pub items: Option<Box<RawValue>>,
    pub room: Option<RoomId>,
}

/// The question for a second factor.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// Its id.
    pub id: String,
    /// Until when it may be answered.
    pub expires_at: Millis,
}

/// A second factor as the ledger sees it.
#[derive(Clone, Copy, Debug)]
pub enum Factor<'a> {
    /// The transaction PIN.
    Pin(&'a str),
    /// A biometric attestation, and whether its signature verified.
    Attestation(bool),
}

/// A payment.
#[derive(Clone, Debug)]
pub struct Payment {
    /// Its id.
    pub id: String,
    /// What was asked for.
    pub order: PaymentOrder,
    /// Where it stands.
    pub state: PaymentState,
    /// The open question for a second factor.
    pub challenge: Option<Challenge>,
    /// How many second factors may still be wrong.
    pub attempts_left: u32,
    /// The id in the payer's history, once paid.
    pub txn_id: Option<String>,
    /// What was given back.
    pub refunded: Money,
    /// When it was asked for.
    pub created_at: Millis,
    /// When it ends by itself.
    pub expires_at: Millis,
    /// When it was paid.
    pub completed_at: Option<Millis>,
}

/// What became of an authorisation.
#[derive(Clone, Debug)]
pub enum Authorized {
    /// The money has moved.
    Paid(Payment),
    /// A second factor is asked for.
    Challenged(Payment, Challenge),
}

/// Money given back.
#[derive(Clone, Debug)]
pub struct Refund {
    /// Its id.
    pub id: String,
    /// The id in the payer's history.
    pub txn_id: String,
    /// How much.
    pub amount: Money,
    /// The payment afterwards.
    pub payment: Payment,
}

impl Ledger {
    /// Opens a payment. No money is held before the payer authorises it.
    pub fn request_payment(&mut self, order: PaymentOrder, now: Millis) -> Result<Payment, Refused> {
        self.check_amount(order.amount, &order.currency)?;
        self.active_account(&order.payer, now)?;
        let payment = Payment {
            id: self.sequence.id("pay_"),
            order,
            state: PaymentState::PendingAuthorization,
            challenge: None,
            attempts_left: MAX_ATTEMPTS,
            txn_id: None,
            refunded: Money::ZERO,
            created_at: now,
            expires_at: now.plus_secs(AUTHORIZE_WITHIN_SECS),
            completed_at: None,
        };
        self.deadlines.insert((payment.expires_at, Deadline::Payment(payment.id.clone())));
        self.payments.insert(payment.id.clone(), payment.clone());
        Ok(payment)
    }

    /// The payment of that payer and mini-app.
    pub fn find_payment(&self, id: &str, payer: &UserId, app: &MiniAppId) -> Result<&Payment, Refused> {
        let found = self.payments.get(id).filter(|payment| payment.order.payer == *payer);
        found.filter(|payment| payment.order.merchant == *app).ok_or(Refused::NotFound("payment"))
    }

    /// The payment of that merchant.
    pub fn find_sale(&self, id: &str, merchant: &MiniAppId) -> Result<&Payment, Refused> {
        self.payments.get(id).filter(|payment| payment.order.merchant == *merchant).ok_or(Refused::NotFound("payment"))
    }

    /// The payer has signed (the caller of this has verified it): pays, or asks for a second factor. Authorising what
    /// is paid answers the same again.
    pub fn authorize(&mut self, id: &str, now: Millis) -> Result<Authorized, Refused> {
        let payment = self.payments.get(id).ok_or(Refused::NotFound("payment"))?;
        match payment.state {
            state if state.is_paid() => Ok(Authorized::Paid(payment.clone())),
            PaymentState::PendingAuthorization if payment.order.amount <= self.rules.mfa_above => {
                self.pay(id, now).map(Authorized::Paid)
            }
            PaymentState::PendingAuthorization | PaymentState::MfaRequired => {
                let fresh = self.sequence.id("mfa_");
                let payment = self.payments.get_mut(id).ok_or(Refused::NotFound("payment"))?;
                payment.state = PaymentState::MfaRequired;
                let expires_at = payment.expires_at;
                let challenge = payment.challenge.get_or_insert(Challenge { id: fresh, expires_at }).clone();
                Ok(Authorized::Challenged(payment.clone(), challenge))
            }
            state => Err(closed(state)),
        }
    }

    /// The open question for a second factor. Only a signed authorisation opens one, so that a second factor never
    /// stands in for the first.
    pub fn challenge(&self, id: &str) -> Result<(&Payment, &Challenge), Refused> {
        let payment = self.payments.get(id).ok_or(Refused::NotFound("payment"))?;
        match (&payment.state, &payment.challenge) {
            (PaymentState::MfaRequired, Some(challenge)) => Ok((payment, challenge)),
            (state, _) => Err(closed(*state)),
        }
    }

    /// Looks at a second factor; the right one pays.
    pub fn verify_factor(
        &mut self,
        id: &str,
        challenge: &str,
        factor: Factor<'_>,
        now: Millis,
    ) -> Result<Payment, Refused> {
        let payment = self.payments.get_mut(id).ok_or(Refused::NotFound("payment"))?;
        let asked = payment.challenge.as_ref().is_some_and(|open| open.id == challenge);
        match payment.state {
            _ if !asked => return Err(Refused::NotFound("challenge")),
            state if state.is_paid() => return Ok(payment.clone()),
            PaymentState::MfaRequired => {}
            state => return Err(closed(state)),
        }
        let right = match factor {
            Factor::Pin(pin) => pin == DEMO_PIN,
            Factor::Attestation(verified) => verified,
        };
        if right {
            return self.pay(id, now);
        }
        payment.attempts_left = payment.attempts_left.saturating_sub(1);
        match payment.attempts_left {
            0 => {
                payment.state = PaymentState::Failed;
                Err(Refused::MfaLocked)
            }
            attempts_remaining => Err(Refused::MfaFailed { attempts_remaining }),
        }
    }

    /// The merchant gives back some of it, or without an amount all that is left.
    pub fn refund(
        &mut self,
        id: &str,
        merchant: &MiniAppId,
        amount: Option<Money>,
        now: Millis,
    ) -> Result<Refund, Refused> {
        let payment = self.find_sale(id, merchant)?.clone();
        if !payment.state.is_paid() {
            return Err(Refused::WrongState { what: "payment", state: payment.state.as_str() });
        }
        let left = payment.order.amount.minus(payment.refunded).unwrap_or_default();
        let amount = amount.unwrap_or(left);
        if amount <= Money::ZERO || amount > left {
            return Err(Refused::Invalid(format!("amount: {left} of this payment can be refunded.")));
        }
        let balance = self.merchant_balance(merchant);
        let rest = balance.minus(amount).ok_or(Refused::InsufficientFunds { available: balance, required: amount })?;
        let payer = self.account(&payment.order.payer, now)?;
        payer.available = payer.available.plus(amount).ok_or(Refused::Invalid("amount: too large.".to_owned()))?;
        self.merchants.insert(merchant.clone(), rest);
        let (refund_id, txn_id) = (self.sequence.id("rfd_"), self.sequence.id("txn_"));
        self.record(
            &payment.order.payer,
            Entry {
                from: Party::merchant(merchant.as_str()),
                to: Party::user(&payment.order.payer),
                ..entry(&payment, &txn_id, "refund", amount, now)
            },
        );
        let payment = self.payments.get_mut(id).ok_or(Refused::NotFound("payment"))?;
        payment.refunded = payment.refunded.plus(amount).unwrap_or(payment.order.amount);
        payment.state = if payment.refunded == payment.order.amount {
            PaymentState::Refunded
        } else {
            PaymentState::PartiallyRefunded
        };
        Ok(Refund { id: refund_id, txn_id, amount, payment: payment.clone() })
    }

    pub(super) fn expire_payment(&mut self, id: &str) {
        let waiting = [PaymentState::PendingAuthorization, PaymentState::MfaRequired];
        if let Some(payment) = self.payments.get_mut(id).filter(|payment| waiting.contains(&payment.state)) {
            payment.state = PaymentState::Expired;
        }
    }

    fn pay(&mut self, id: &str, now: Millis) -> Result<Payment, Refused> {
        let payment = self.payments.get(id).ok_or(Refused::NotFound("payment"))?;
        let (payer, merchant, amount) =
            (payment.order.payer.clone(), payment.order.merchant.clone(), payment.order.amount);
        let overflow = || Refused::Invalid("amount: too large.".to_owned());
        let credited = self.merchant_balance(&merchant).plus(amount).ok_or_else(overflow)?;
        self.hold(&payer, amount, now)?;
        if let Some(account) = self.accounts.get_mut(&payer) {
            account.held = account.held.minus(amount).unwrap_or_default();
        }
        self.merchants.insert(merchant, credited);
        let txn_id = self.sequence.id("txn_");
        let payment = self.payments.get_mut(id).ok_or(Refused::NotFound("payment"))?;
        (payment.state, payment.txn_id, payment.completed_at) =
            (PaymentState::Completed, Some(txn_id.clone()), Some(now));
        let payment = payment.clone();
        self.record(&payer, entry(&payment, &txn_id, "payment", amount, now));
        Ok(payment)
    }
}

fn entry(payment: &Payment, txn_id: &str, kind: &'static str, amount: Money, now: Millis) -> Entry {
    Entry {
        txn_id: txn_id.to_owned(),
        kind,
        amount,
        currency: payment.order.currency.clone(),
        from: Party::user(&payment.order.payer),
        to: Party::merchant(payment.order.merchant.as_str()),
        status: "completed",
        note: payment.order.description.clone(),
        timestamp: now,
        room_id: payment.order.room.as_ref().map(Into::into),
    }
}

fn closed(state: PaymentState) -> Refused {
    match state {
        PaymentState::Expired => Refused::PaymentExpired,
        PaymentState::Failed => Refused::MfaLocked,
        _ => Refused::WrongState { what: "payment", state: state.as_str() },
    }
}
