//! Person-to-person transfers (protocol section 5).

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::{RoomId, UserId};

use super::super::ledger::{DEMO_PIN, Ledger, Refused, Transfer, TransferOrder, TransferState};
use super::super::money::Money;
use super::super::time::Millis;
use super::Wallet;
use super::desk::Caller;
use super::device::Signed;

pub use super::super::ledger::display_name;

/// A transfer as answers show it.
#[derive(Serialize)]
struct View {
    transfer_id: String,
    status: TransferState,
    amount: Money,
    currency: String,
    sender: Side,
    recipient: Side,
    note: Option<String>,
    room_id: Option<String>,
    authorization_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    txn_id: Option<String>,
    created_at: Millis,
    updated_at: Millis,
    expires_at: Millis,
}

#[derive(Serialize)]
struct Side {
    user_id: String,
    wallet_id: String,
    display_name: String,
}

fn view(ledger: &mut Ledger, transfer: Transfer, now: Millis) -> Result<View, Refused> {
    let TransferOrder { sender, recipient, amount, currency, note, room } = transfer.order;
    let mut side = |user: &UserId| {
        let wallet_id = ledger.account(user, now)?.wallet_id.clone();
        Ok(Side { user_id: user.to_string(), wallet_id, display_name: display_name(user) })
    };
    Ok(View {
        sender: side(&sender)?,
        recipient: side(&recipient)?,
        transfer_id: transfer.id,
        status: transfer.state,
        amount,
        currency,
        note,
        room_id: room.map(|room| room.to_string()),
        authorization_required: transfer.state == TransferState::Initiated,
        txn_id: (transfer.state == TransferState::Completed).then_some(transfer.txn_id),
        created_at: transfer.created_at,
        updated_at: transfer.changed_at,
        expires_at: transfer.expires_at,
    })
}

/// A room id of a request.
pub fn room(text: Option<String>) -> Result<Option<RoomId>, Refused> {
    let parsed = text.map(|text| RoomId::parse(&text)).transpose();
    parsed.map_err(|malformed| Refused::Invalid(format!("room_id: {malformed}.")))
}

/// A user id of a request who is to be paid.
pub fn recipient(text: &str) -> Result<UserId, Refused> {
    UserId::parse(text).map_err(|_| Refused::RecipientNoWallet(text.to_owned()))
}

/// POST p2p/initiate
pub async fn initiate(State(wallet): State<Wallet>, headers: HeaderMap, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Order {
        #[serde(alias = "recipient_id", alias = "recipient_user_id")]
        recipient: String,
        amount: Money,
        currency: String,
        note: Option<String>,
        room_id: Option<String>,
    }
    wallet.act(&["p2p_initiate"], &headers, &body, |ledger, caller, order: Order, now| {
        let order = TransferOrder {
            sender: caller.user()?.clone(),
            recipient: recipient(&order.recipient)?,
            amount: order.amount,
            currency: order.currency,
            note: order.note,
            room: room(order.room_id)?,
        };
        let transfer = ledger.transfer(order, now)?;
        view(ledger, transfer, now)
    })
}

/// POST p2p/{transfer_id}/confirm: the sender proves a large transfer by the PIN, or by a device's signature over
/// `transfer_id:amount:currency:timestamp`.
pub async fn confirm(
    State(wallet): State<Wallet>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    #[derive(Deserialize)]
    struct Confirmation<'a> {
        credentials: Option<Credentials>,
        device_id: Option<String>,
        signature: Option<String>,
        #[serde(borrow)]
        timestamp: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Credentials {
        pin: Option<String>,
    }
    fn prove(
        ledger: &mut Ledger,
        caller: &Caller,
        id: &str,
        given: Confirmation<'_>,
        now: Millis,
    ) -> Result<(), Refused> {
        let order = ledger.find_transfer(id, caller.user()?)?.order.clone();
        if let Some(pin) = given.credentials.and_then(|credentials| credentials.pin) {
            return if pin == DEMO_PIN { Ok(()) } else { Err(ledger.wrong_pin(id, now)) };
        }
        match (given.device_id, given.signature, given.timestamp) {
            (Some(device), Some(signature), Some(timestamp)) => Signed::new(&device, &signature, timestamp)
                .check_amount(ledger, caller, id, (order.amount, &order.currency), now),
            _ => Err(Refused::Invalid(
                "credentials.pin, or device_id, signature and timestamp, must be given.".to_owned(),
            )),
        }
    }
    wallet.act(&["p2p_confirm", &id], &headers, &body, |ledger, caller, given: Confirmation<'_>, now| {
        if ledger.find_transfer(&id, caller.user()?)?.state == TransferState::Initiated {
            prove(ledger, caller, &id, given, now)?;
        }
        let transfer = ledger.confirm_transfer(&id, caller.user()?, now)?;
        view(ledger, transfer, now)
    })
}

/// POST p2p/{transfer_id}/accept
pub async fn accept(State(wallet): State<Wallet>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    wallet.act(&["p2p_accept", &id], &headers, &body, |ledger, caller, _: Nothing, now| {
        let transfer = ledger.accept_transfer(&id, caller.user()?, now)?;
        view(ledger, transfer, now)
    })
}

/// POST p2p/{transfer_id}/reject
pub async fn reject(State(wallet): State<Wallet>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    wallet.act(&["p2p_reject", &id], &headers, &body, |ledger, caller, _: Nothing, now| {
        let transfer = ledger.reject_transfer(&id, caller.user()?, now)?;
        view(ledger, transfer, now)
    })
}

/// GET p2p/{transfer_id}
pub async fn status(State(wallet): State<Wallet>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    wallet.read(&headers, |ledger, caller, now| {
        let transfer = ledger.find_transfer(&id, caller.user()?)?.clone();
        view(ledger, transfer, now)
    })
}

/// A body whose fields this wallet has no use for; it must be an object all the same.
#[derive(Deserialize)]
pub struct Nothing {}
