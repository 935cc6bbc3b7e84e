//! Person-to-person transfers (protocol section 5): `INITIATED → PENDING_RECIPIENT_ACCEPTANCE → COMPLETED`, or given
//! back: `CANCELLED` by the sender, `REJECTED` by the recipient, `EXPIRED` after 24 hours.
//!
//! The money is held from the first moment, so a transfer that is accepted cannot fail. A transfer above the amount
//! that needs a second factor stays `INITIATED` until its sender confirms it.

use serde::Serialize;

use crate::model::{RoomId, UserId};

use super::super::money::Money;
use super::super::time::Millis;
use super::account::{Entry, Party};
use super::{Deadline, Ledger, MAX_ATTEMPTS, Refused};

/// How long a recipient may take.
const ACCEPT_WITHIN_SECS: u64 = 24 * 3600;

/// Where a transfer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the protocol's own states, section 5")]
pub enum TransferState {
    Initiated,
    PendingRecipientAcceptance,
    Completed,
    Cancelled,
    Rejected,
    Expired,
}

impl TransferState {
    /// The state as answers write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            TransferState::Initiated => "initiated",
            TransferState::PendingRecipientAcceptance => "pending_recipient_acceptance",
            TransferState::Completed => "completed",
            TransferState::Cancelled => "cancelled",
            TransferState::Rejected => "rejected",
            TransferState::Expired => "expired",
        }
    }

    /// Whether the money is still held.
    pub const fn is_open(self) -> bool {
        matches!(self, TransferState::Initiated | TransferState::PendingRecipientAcceptance)
    }
}

/// What a sender asks for.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the protocol's own field names, section 5")]
pub struct TransferOrder {
    pub sender: UserId,
    pub recipient: UserId,
    pub amount: Money,
    pub currency: String,
    pub note: Option<String>,
    pub room: Option<RoomId>,
}

/// A transfer.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Its id.
    pub id: String,
    /// What was asked for.
    pub order: TransferOrder,
    /// Where it stands.
    pub state: TransferState,
    /// How many wrong PINs its sender may still give.
    pub attempts_left: u32,
    /// The id under which it stands in both histories.
    pub txn_id: String,
    /// When it was asked for.
    pub created_at: Millis,
    /// When it ends by itself.
    pub expires_at: Millis,
    /// When its state changed last.
    pub changed_at: Millis,
}

impl Ledger {
    /// Holds the money and opens the transfer.
    pub fn transfer(&mut self, order: TransferOrder, now: Millis) -> Result<Transfer, Refused> {
        self.check_amount(order.amount, &order.currency)?;
        if order.sender == order.recipient {
            return Err(Refused::Invalid("recipient: must not be the sender.".to_owned()));
        }
        self.active_account(&order.sender, now)?;
        self.payee(&order.recipient, now)?;
        self.hold(&order.sender, order.amount, now)?;
        let state = if order.amount > self.rules.mfa_above {
            TransferState::Initiated
        } else {
            TransferState::PendingRecipientAcceptance
        };
        let transfer = Transfer {
            id: self.sequence.id("p2p_"),
            txn_id: self.sequence.id("txn_"),
            order,
            state,
            attempts_left: MAX_ATTEMPTS,
            created_at: now,
            expires_at: now.plus_secs(ACCEPT_WITHIN_SECS),
            changed_at: now,
        };
        self.deadlines.insert((transfer.expires_at, Deadline::Transfer(transfer.id.clone())));
        self.transfers.insert(transfer.id.clone(), transfer.clone());
        Ok(transfer)
    }

    /// The transfer, if the caller takes part in it.
    pub fn find_transfer(&self, id: &str, caller: &UserId) -> Result<&Transfer, Refused> {
        self.transfers
            .get(id)
            .filter(|transfer| transfer.order.sender == *caller || transfer.order.recipient == *caller)
            .ok_or(Refused::NotFound("transfer"))
    }

    /// The sender has confirmed a transfer of a large amount. Confirming twice changes nothing.
    pub fn confirm_transfer(&mut self, id: &str, caller: &UserId, now: Millis) -> Result<Transfer, Refused> {
        let transfer = self.find_transfer(id, caller)?;
        if transfer.order.sender != *caller {
            return Err(Refused::NotFound("transfer"));
        }
        match transfer.state {
            TransferState::Initiated => self.move_transfer(id, TransferState::PendingRecipientAcceptance, now),
            TransferState::PendingRecipientAcceptance | TransferState::Completed => Ok(transfer.clone()),
            state => Err(closed(state)),
        }
    }

    /// The sender gave a wrong PIN: says how many attempts are left, and takes the transfer back after the last.
    pub fn wrong_pin(&mut self, id: &str, now: Millis) -> Refused {
        let Some(transfer) = self.transfers.get_mut(id) else { return Refused::NotFound("transfer") };
        transfer.attempts_left = transfer.attempts_left.saturating_sub(1);
        match transfer.attempts_left {
            0 => {
                (transfer.state, transfer.changed_at) = (TransferState::Cancelled, now);
                let (sender, amount, held_at) =
                    (transfer.order.sender.clone(), transfer.order.amount, transfer.created_at);
                self.release(&sender, amount, held_at);
                Refused::MfaLocked
            }
            attempts_remaining => Refused::MfaFailed { attempts_remaining },
        }
    }

    /// The recipient takes the money. Accepting twice changes nothing.
    pub fn accept_transfer(&mut self, id: &str, caller: &UserId, now: Millis) -> Result<Transfer, Refused> {
        let transfer = self.find_transfer(id, caller)?.clone();
        if transfer.order.recipient != *caller {
            return Err(Refused::NotFound("transfer"));
        }
        match transfer.state {
            TransferState::PendingRecipientAcceptance => {}
            TransferState::Completed => return Ok(transfer),
            state => return Err(closed(state)),
        }
        let TransferOrder { sender, recipient, amount, note, room, .. } = &transfer.order;
        self.pay_from_hold(sender, recipient, *amount, now)?;
        let entry = |kind| Entry {
            txn_id: transfer.txn_id.clone(),
            kind,
            amount: *amount,
            currency: transfer.order.currency.clone(),
            from: Party::user(sender),
            to: Party::user(recipient),
            status: "completed",
            note: note.clone(),
            timestamp: now,
            room_id: room.as_ref().map(Into::into),
        };
        self.record(sender, entry("p2p_sent"));
        self.record(recipient, entry("p2p_received"));
        self.move_transfer(id, TransferState::Completed, now)
    }

    /// The recipient turns it down, or the sender takes it back: the money is the sender's again at once.
    pub fn reject_transfer(&mut self, id: &str, caller: &UserId, now: Millis) -> Result<Transfer, Refused> {
        let transfer = self.find_transfer(id, caller)?.clone();
        let end = if transfer.order.sender == *caller { TransferState::Cancelled } else { TransferState::Rejected };
        if transfer.state == end {
            return Ok(transfer);
        }
        if !transfer.state.is_open() {
            return Err(closed(transfer.state));
        }
        self.release(&transfer.order.sender, transfer.order.amount, transfer.created_at);
        self.move_transfer(id, end, now)
    }

    pub(super) fn expire_transfer(&mut self, id: &str, now: Millis) {
        let Some(transfer) = self.transfers.get_mut(id).filter(|transfer| transfer.state.is_open()) else { return };
        (transfer.state, transfer.changed_at) = (TransferState::Expired, now);
        let (sender, amount, held_at) = (transfer.order.sender.clone(), transfer.order.amount, transfer.created_at);
        self.release(&sender, amount, held_at);
    }

    fn move_transfer(&mut self, id: &str, state: TransferState, now: Millis) -> Result<Transfer, Refused> {
        let transfer = self.transfers.get_mut(id).ok_or(Refused::NotFound("transfer"))?;
        (transfer.state, transfer.changed_at) = (state, now);
        Ok(transfer.clone())
    }
}

fn closed(state: TransferState) -> Refused {
    match state {
        TransferState::Expired => Refused::TransferExpired,
        _ => Refused::WrongState { what: "transfer", state: state.as_str() },
    }
}
