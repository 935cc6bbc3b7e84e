//! Why the ledger does not do what it was asked (the wallet's part of protocol section 9).

use http::StatusCode;
use serde_json::{Value, json};

use super::super::money::Money;

/// A refusal. Nothing has changed in the ledger when one is returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The identity headers that the edge adds are missing or malformed.
    NoIdentity(&'static str),
    /// The user can have no wallet here: a malformed id, or another server's.
    NoWallet(String),
    /// The same of somebody who was to be paid.
    RecipientNoWallet(String),
    /// The wallet is suspended.
    WalletSuspended(String),
    /// The available balance does not cover the amount.
    InsufficientFunds {
        /// What there is.
        available: Money,
        /// What was asked for.
        required: Money,
    },
    /// A limit of the wallet would be passed.
    OverLimit {
        /// Which limit: `daily_limit` or `transaction_limit`.
        name: &'static str,
        /// The limit itself.
        limit: Money,
        /// What of it is used, the request included.
        asked: Money,
    },
    /// A field of the request is not acceptable.
    Invalid(String),
    /// No such object, or not the caller's.
    NotFound(&'static str),
    /// The object is in a state that does not allow this.
    WrongState {
        /// What it is.
        what: &'static str,
        /// The state it is in.
        state: &'static str,
    },
    /// The transfer was not accepted in time.
    TransferExpired,
    /// The gift was not opened in time.
    GiftExpired,
    /// The payment was not authorised in time.
    PaymentExpired,
    /// Every share of the gift is taken.
    GiftEmpty,
    /// The caller took a share of this gift before.
    AlreadyOpened,
    /// The device is not registered to the caller.
    DeviceNotRegistered(String),
    /// The signature does not verify, or its timestamp is too far off.
    InvalidSignature(&'static str),
    /// The second factor is wrong.
    MfaFailed {
        /// Tries left before the payment is locked.
        attempts_remaining: u32,
    },
    /// Too many wrong second factors: the money will not be moved.
    MfaLocked,
    /// The idempotency key was used with another body.
    Duplicate,
}

impl Refused {
    /// The protocol's code and status.
    pub fn code(&self) -> (&'static str, StatusCode) {
        match self {
            Refused::NoIdentity(_) => ("INVALID_TOKEN", StatusCode::UNAUTHORIZED),
            Refused::NoWallet(_) => ("NO_WALLET", StatusCode::NOT_FOUND),
            Refused::RecipientNoWallet(_) => ("RECIPIENT_NO_WALLET", StatusCode::NOT_FOUND),
            Refused::WalletSuspended(_) => ("WALLET_SUSPENDED", StatusCode::FORBIDDEN),
            Refused::InsufficientFunds { .. } => ("INSUFFICIENT_FUNDS", StatusCode::PAYMENT_REQUIRED),
            Refused::OverLimit { .. } | Refused::WrongState { .. } | Refused::PaymentExpired => {
                ("PAYMENT_FAILED", StatusCode::BAD_REQUEST)
            }
            Refused::Invalid(_) => ("VALIDATION_FAILED", StatusCode::BAD_REQUEST),
            Refused::NotFound(_) => ("NOT_FOUND", StatusCode::NOT_FOUND),
            Refused::TransferExpired => ("TRANSFER_EXPIRED", StatusCode::BAD_REQUEST),
            Refused::GiftExpired => ("GIFT_EXPIRED", StatusCode::BAD_REQUEST),
            Refused::GiftEmpty => ("GIFT_EMPTY", StatusCode::CONFLICT),
            Refused::AlreadyOpened => ("ALREADY_OPENED", StatusCode::CONFLICT),
            Refused::DeviceNotRegistered(_) => ("DEVICE_NOT_REGISTERED", StatusCode::BAD_REQUEST),
            Refused::InvalidSignature(_) => ("INVALID_SIGNATURE", StatusCode::UNAUTHORIZED),
            Refused::MfaFailed { .. } => ("MFA_FAILED", StatusCode::UNAUTHORIZED),
            Refused::MfaLocked => ("MFA_LOCKED", StatusCode::TOO_MANY_REQUESTS),
            Refused::Duplicate => ("DUPLICATE_TRANSACTION", StatusCode::CONFLICT),
        }
    }

    /// What the caller is told.
    pub fn message(&self) -> String {
        match self {
            Refused::NoIdentity(header) => format!("The header {header} is missing or malformed."),
            Refused::NoWallet(user) | Refused::RecipientNoWallet(user) => format!("{user} has no wallet here."),
            Refused::WalletSuspended(user) => format!("The wallet of {user} is suspended."),
            Refused::InsufficientFunds { available, required } => {
                format!("The balance of {available} does not cover {required}.")
            }
            Refused::OverLimit { name, limit, asked } => format!("The {name} is {limit}; this would make {asked}."),
            Refused::Invalid(message) => message.clone(),
            Refused::NotFound(what) => format!("There is no such {what}."),
            Refused::WrongState { what, state } => format!("The {what} is {state}."),
            Refused::TransferExpired => "The transfer was not accepted in time.".to_owned(),
            Refused::GiftExpired => "The gift was not opened in time.".to_owned(),
            Refused::PaymentExpired => "The payment was not authorised in time.".to_owned(),
            Refused::GiftEmpty => "Every share of the gift is taken.".to_owned(),
            Refused::AlreadyOpened => "You have opened this gift.".to_owned(),
            Refused::DeviceNotRegistered(device) => format!("The device {device} is not registered."),
            Refused::InvalidSignature(why) => (*why).to_owned(),
            Refused::MfaFailed { attempts_remaining } => {
                format!("The second factor is wrong; {attempts_remaining} attempts are left.")
            }
            Refused::MfaLocked => "Too many wrong second factors: no money will be moved.".to_owned(),
            Refused::Duplicate => "The idempotency key was used with another request.".to_owned(),
        }
    }

    /// The `details` object, where the code has one.
    pub fn details(&self) -> Option<Value> {
        match self {
            Refused::InsufficientFunds { available, required } => {
                Some(json!({"available": available.to_string(), "required": required.to_string()}))
            }
            Refused::OverLimit { name, limit, asked } => {
                Some(json!({"limit": name, "allowed": limit.to_string(), "asked": asked.to_string()}))
            }
            Refused::WrongState { what, state } => Some(json!({"object": what, "status": state})),
            Refused::MfaFailed { attempts_remaining } => Some(json!({"attempts_remaining": attempts_remaining})),
            _ => None,
        }
    }
}
