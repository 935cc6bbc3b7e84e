//! One user's wallet: what is available, what is held for something under way, what was sent today.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use crate::model::{RoomId, UserId};

use super::super::money::Money;
use super::super::time::Millis;
use super::{Ledger, Refused};

/// How many entries of history a wallet keeps.
const HISTORY: usize = 10_000;

/// A wallet.
#[derive(Clone, Debug)]
pub struct Account {
    /// The wallet's id.
    pub wallet_id: String,
    /// When the wallet was opened.
    pub created_at: Millis,
    /// What can be spent.
    pub available: Money,
    /// What is set aside for transfers and gifts that are under way.
    pub held: Money,
    /// The day of the latest sending and what was sent on it.
    sent: (u64, Money),
    /// Newest first.
    pub history: VecDeque<Entry>,
    /// Registered devices by id.
    pub devices: HashMap<String, Device>,
}

/// Whether a wallet may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It may.
    Active,
    /// It may not. A demo user is suspended when its localpart starts with `suspended`.
    Suspended,
}

/// One line of history (protocol section 4).
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the protocol's own field names, section 4")]
pub struct Entry {
    pub txn_id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub amount: Money,
    pub currency: String,
    pub from: Party,
    pub to: Party,
    pub status: &'static str,
    pub note: Option<String>,
    pub timestamp: Millis,
    pub room_id: Option<RoomText>,
}

/// A room id in an answer.
#[derive(Clone, Debug, Serialize)]
pub struct RoomText(pub String);

impl From<&RoomId> for RoomText {
    fn from(room: &RoomId) -> RoomText {
        RoomText(room.as_str().to_owned())
    }
}

/// Who an entry is with: a user or a merchant.
#[derive(Clone, Debug, Serialize)]
pub struct Party {
    /// The user's Matrix id, or the mini-app's id.
    pub user_id: String,
    /// The name for people.
    pub display_name: String,
}

impl Party {
    /// A user; a demo user's display name is its localpart.
    pub fn user(user: &UserId) -> Party {
        Party { user_id: user.as_str().to_owned(), display_name: display_name(user) }
    }

    /// A merchant, by its mini-app's id.
    pub fn merchant(id: &str) -> Party {
        Party { user_id: id.to_owned(), display_name: id.to_owned() }
    }
}

/// The name that the wallet shows for a user: the localpart with a capital.
pub fn display_name(user: &UserId) -> String {
    let mut letters = user.localpart().chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A registered device and its public key.
#[derive(Clone, Debug)]
pub struct Device {
    /// `ECDSA_P256`, `RSA_2048`, `RSA_3072` or `RSA_4096`.
    pub algorithm: String,
    /// The key as SubjectPublicKeyInfo in DER.
    pub spki: Vec<u8>,
    /// When it was registered.
    pub registered_at: Millis,
}

impl Account {
    /// What was sent on the day of `now`.
    pub fn sent_today(&self, now: Millis) -> Money {
        if self.sent.0 == now.day() { self.sent.1 } else { Money::ZERO }
    }

    pub(super) fn note(&mut self, entry: Entry) {
        self.history.push_front(entry);
        self.history.truncate(HISTORY);
    }
}

impl Ledger {
    /// Whether that user could use a wallet.
    pub fn standing(user: &UserId) -> Standing {
        if user.localpart().starts_with("suspended") { Standing::Suspended } else { Standing::Active }
    }

    /// The user's wallet, opened at first sight. Users of other servers have none.
    pub fn account(&mut self, user: &UserId, now: Millis) -> Result<&mut Account, Refused> {
        if user.server() != self.rules.server_name {
            return Err(Refused::NoWallet(user.to_string()));
        }
        let (opening, sequence) = (self.rules.opening_balance, &mut self.sequence);
        Ok(self.accounts.entry(user.clone()).or_insert_with(|| Account {
            wallet_id: sequence.id("tw_"),
            created_at: now,
            available: opening,
            held: Money::ZERO,
            sent: (now.day(), Money::ZERO),
            history: VecDeque::new(),
            devices: HashMap::new(),
        }))
    }

    /// The user's wallet if it may be used.
    pub fn active_account(&mut self, user: &UserId, now: Millis) -> Result<&mut Account, Refused> {
        match Ledger::standing(user) {
            Standing::Active => self.account(user, now),
            Standing::Suspended => Err(Refused::WalletSuspended(user.to_string())),
        }
    }

    /// The same of somebody who is to be paid.
    pub(super) fn payee(&mut self, user: &UserId, now: Millis) -> Result<&mut Account, Refused> {
        self.active_account(user, now).map_err(|refused| match refused {
            Refused::NoWallet(user) => Refused::RecipientNoWallet(user),
            other => other,
        })
    }

    /// Sets `amount` aside and counts it against today's limit.
    pub(super) fn hold(&mut self, user: &UserId, amount: Money, now: Millis) -> Result<(), Refused> {
        let limit = self.rules.daily_limit;
        let account = self.active_account(user, now)?;
        let overflow = || Refused::Invalid("amount: too large.".to_owned());
        let sent = account.sent_today(now).plus(amount).ok_or_else(overflow)?;
        if sent > limit {
            return Err(Refused::OverLimit { name: "daily_limit", limit, asked: sent });
        }
        let available = account
            .available
            .minus(amount)
            .ok_or(Refused::InsufficientFunds { available: account.available, required: amount })?;
        let held = account.held.plus(amount).ok_or_else(overflow)?;
        (account.available, account.held, account.sent) = (available, held, (now.day(), sent));
        Ok(())
    }

    /// Gives held money back, and today's limit with it if it was held today.
    pub(super) fn release(&mut self, user: &UserId, amount: Money, held_at: Millis) {
        let Some(account) = self.accounts.get_mut(user) else { return };
        let moved = account.held.minus(amount).zip(account.available.plus(amount));
        debug_assert!(moved.is_some(), "released more than was held");
        if let Some(after) = moved {
            (account.held, account.available) = after;
            if account.sent.0 == held_at.day() {
                account.sent.1 = account.sent.1.minus(amount).unwrap_or_default();
            }
        }
    }

    /// Moves held money to another user's available money.
    pub(super) fn pay_from_hold(
        &mut self,
        from: &UserId,
        to: &UserId,
        amount: Money,
        now: Millis,
    ) -> Result<(), Refused> {
        let credited = self.payee(to, now)?.available.plus(amount);
        let debited = self.accounts.get(from).and_then(|account| account.held.minus(amount));
        let (Some(available), Some(held)) = (credited, debited) else {
            return Err(Refused::Invalid("amount: too large.".to_owned()));
        };
        // Two steps, because a gift may be opened by the one who gave it.
        if let Some(account) = self.accounts.get_mut(from) {
            account.held = held;
        }
        if let Some(account) = self.accounts.get_mut(to) {
            account.available = available;
        }
        Ok(())
    }

    /// Writes a line into a user's history.
    pub(super) fn record(&mut self, user: &UserId, entry: Entry) {
        if let Some(account) = self.accounts.get_mut(user) {
            account.note(entry);
        }
    }
}
