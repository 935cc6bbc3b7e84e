//! Payments to merchants (protocol section 5). The merchant is the mini-app that asks, the payer its user.

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::model::MiniAppId;

use super::super::ledger::{
    Authorized, Challenge, Factor, Ledger, MAX_ATTEMPTS, Payment, PaymentOrder, PaymentState, Refused,
};
use super::super::money::Money;
use super::super::time::Millis;
use super::Wallet;
use super::desk::Caller;
use super::device::Signed;
use super::p2p::{Nothing, display_name, room};

#[derive(Serialize)]
struct Merchant {
    miniapp_id: String,
    name: String,
    wallet_id: String,
}

impl Merchant {
    fn of(wallet: &Wallet, app: &MiniAppId) -> Merchant {
        Merchant { miniapp_id: app.to_string(), name: wallet.merchant_name(app), wallet_id: format!("tw_{app}") }
    }
}

#[derive(Serialize)]
struct Payer {
    user_id: String,
    wallet_id: String,
    display_name: String,
}

impl Payer {
    fn of(ledger: &mut Ledger, payment: &Payment, now: Millis) -> Result<Payer, Refused> {
        let user = &payment.order.payer;
        let wallet_id = ledger.account(user, now)?.wallet_id.clone();
        Ok(Payer { user_id: user.to_string(), wallet_id, display_name: display_name(user) })
    }
}

/// POST payments/request
pub async fn request(State(wallet): State<Wallet>, headers: HeaderMap, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Order {
        amount: Money,
        currency: String,
        description: Option<String>,
        merchant_order_id: Option<String>,
        items: Option<Box<RawValue>>,
        room_id: Option<String>,
    }
    #[derive(Serialize)]
    struct Requested {
        payment_id: String,
        status: PaymentState,
        amount: Money,
        currency: String,
        merchant: Merchant,
        authorization_required: bool,
        expires_at: Millis,
        created_at: Millis,
    }
    wallet.act(&["payment_request"], &headers, &body, |ledger, caller, order: Order, now| {
        let order = PaymentOrder {
            payer: caller.user()?.clone(),
            merchant: caller.app()?.clone(),
            amount: order.amount,
            currency: order.currency,
            description: order.description,
            merchant_order_id: order.merchant_order_id,
            items: order.items,
            room: room(order.room_id)?,
        };
        let payment = ledger.request_payment(order, now)?;
        Ok(Requested {
            merchant: Merchant::of(&wallet, &payment.order.merchant),
            status: payment.state,
            amount: payment.order.amount,
            authorization_required: true,
            expires_at: payment.expires_at,
            created_at: payment.created_at,
            payment_id: payment.id,
            currency: payment.order.currency,
        })
    })
}

#[derive(Serialize)]
struct Completed {
    payment_id: String,
    status: PaymentState,
    txn_id: Option<String>,
    amount: Money,
    currency: String,
    payer: Payer,
    merchant: Merchant,
    completed_at: Option<Millis>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Completed(Completed),
    Challenged { payment_id: String, status: &'static str, mfa_challenge: Value },
}

/// POST payments/{payment_id}/authorize: paid, or 200 `mfa_required` above the amount that needs a second factor.
pub async fn authorize(
    State(wallet): State<Wallet>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    wallet.act(&["payment_authorize", &id], &headers, &body, |ledger, caller, signed: Signed<'_>, now| {
        let order = find(ledger, caller, &id)?.order.clone();
        signed.check_amount(ledger, caller, &id, (order.amount, &order.currency), now)?;
        match ledger.authorize(&id, now)? {
            Authorized::Challenged(payment, challenge) => Ok(Outcome::Challenged {
                mfa_challenge: challenge_view(&challenge, payment.attempts_left),
                status: "mfa_required",
                payment_id: payment.id,
            }),
            Authorized::Paid(payment) => Ok(Outcome::Completed(Completed {
                payer: Payer::of(ledger, &payment, now)?,
                merchant: Merchant::of(&wallet, &payment.order.merchant),
                status: payment.state,
                amount: payment.order.amount,
                completed_at: payment.completed_at,
                payment_id: payment.id,
                txn_id: payment.txn_id,
                currency: payment.order.currency,
            })),
        }
    })
}

fn find<'a>(ledger: &'a Ledger, caller: &Caller, id: &str) -> Result<&'a Payment, Refused> {
    ledger.find_payment(id, caller.user()?, caller.app()?)
}

fn challenge_view(challenge: &Challenge, attempts_left: u32) -> Value {
    json!({
        "challenge_id": challenge.id,
        "methods": [
            {"type": "transaction_pin", "enabled": true, "display_name": "Transaction PIN"},
            {"type": "biometric", "enabled": true, "display_name": "Biometric", "biometric_types": ["fingerprint", "face_recognition"]},
            {"type": "totp", "enabled": false, "display_name": "Authenticator code"},
        ],
        "required_method": "any",
        "expires_at": challenge.expires_at,
        "max_attempts": MAX_ATTEMPTS,
        "attempts_remaining": attempts_left,
    })
}

/// POST payments/{payment_id}/mfa/challenge: the open challenge again.
pub async fn mfa_challenge(
    State(wallet): State<Wallet>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    wallet.act(&["payment_mfa_challenge", &id], &headers, &body, |ledger, caller, _: Nothing, _| {
        find(ledger, caller, &id)?;
        let (payment, challenge) = ledger.challenge(&id)?;
        let mfa_challenge = challenge_view(challenge, payment.attempts_left);
        Ok(json!({"payment_id": payment.id, "status": "mfa_required", "mfa_challenge": mfa_challenge}))
    })
}

/// POST payments/{payment_id}/mfa/verify: the right factor pays at once.
pub async fn mfa_verify(
    State(wallet): State<Wallet>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    #[derive(Deserialize)]
    struct Verify<'a> {
        challenge_id: String,
        method: String,
        credentials: Credentials,
        device_id: Option<String>,
        #[serde(borrow)]
        timestamp: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Credentials {
        pin: Option<String>,
        attestation: Option<String>,
    }
    wallet.act(&["payment_mfa_verify", &id], &headers, &body, |ledger, caller, given: Verify<'_>, now| {
        find(ledger, caller, &id)?;
        let factor = match (given.method.as_str(), &given.credentials) {
            ("transaction_pin", Credentials { pin: Some(pin), .. }) => Factor::Pin(pin),
            ("biometric", Credentials { attestation: Some(attestation), .. }) => {
                let (Some(device), Some(timestamp)) = (&given.device_id, given.timestamp) else {
                    return Err(Refused::Invalid("device_id and timestamp must be given.".to_owned()));
                };
                let message = format!("{id}:{}", given.challenge_id);
                let checked = Signed::new(device, attestation, timestamp).check(ledger, caller, &[message], 30, now);
                match checked {
                    Ok(()) => Factor::Attestation(true),
                    Err(Refused::InvalidSignature(_)) => Factor::Attestation(false),
                    Err(refused) => return Err(refused),
                }
            }
            _ => {
                let expected =
                    "method: must be transaction_pin with credentials.pin, or biometric with credentials.attestation.";
                return Err(Refused::Invalid(expected.to_owned()));
            }
        };
        let payment = ledger.verify_factor(&id, &given.challenge_id, factor, now)?;
        Ok(json!({
            "payment_id": payment.id,
            "challenge_id": given.challenge_id,
            "status": "verified",
            "proceed_to_processing": true,
        }))
    })
}

/// POST payments/{payment_id}/refund: by the merchant, all of it or `amount`.
pub async fn refund(State(wallet): State<Wallet>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Order {
        amount: Option<Money>,
        reason: Option<String>,
    }
    #[derive(Serialize)]
    struct Refunded {
        refund_id: String,
        payment_id: String,
        status: PaymentState,
        amount: Money,
        refunded_amount: Money,
        currency: String,
        txn_id: String,
        reason: Option<String>,
        refunded_at: Millis,
    }
    wallet.act(&["payment_refund", &id], &headers, &body, |ledger, caller, order: Order, now| {
        let refund = ledger.refund(&id, caller.app()?, order.amount, now)?;
        Ok(Refunded {
            refund_id: refund.id,
            status: refund.payment.state,
            amount: refund.amount,
            refunded_amount: refund.payment.refunded,
            txn_id: refund.txn_id,
            reason: order.reason,
            refunded_at: now,
            payment_id: refund.payment.id,
            currency: refund.payment.order.currency,
        })
    })
}

/// GET payments/{payment_id}: by the payer, or by the merchant's own client.
pub async fn status(State(wallet): State<Wallet>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    #[derive(Serialize)]
    struct Status {
        #[serde(rename = "payment_id")]
        id: String,
        status: PaymentState,
        amount: Money,
        currency: String,
        description: Option<String>,
        merchant_order_id: Option<String>,
        items: Option<Box<RawValue>>,
        payer: Payer,
        merchant: Merchant,
        txn_id: Option<String>,
        refunded_amount: Money,
        created_at: Millis,
        expires_at: Millis,
        completed_at: Option<Millis>,
    }
    wallet.read(&headers, |ledger, caller, now| {
        let payment = match caller.maybe_user() {
            Some(_) => find(ledger, caller, &id)?.clone(),
            None => ledger.find_sale(&id, caller.app()?)?.clone(),
        };
        Ok(Status {
            payer: Payer::of(ledger, &payment, now)?,
            merchant: Merchant::of(&wallet, &payment.order.merchant),
            status: payment.state,
            amount: payment.order.amount,
            refunded_amount: payment.refunded,
            created_at: payment.created_at,
            expires_at: payment.expires_at,
            completed_at: payment.completed_at,
            id: payment.id,
            currency: payment.order.currency,
            description: payment.order.description,
            merchant_order_id: payment.order.merchant_order_id,
            items: payment.order.items,
            txn_id: payment.txn_id,
        })
    })
}
