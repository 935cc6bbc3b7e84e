//! The sandbox wallet's books: accounts, holds, limits, and what moves money between them. No I/O, no clock.
//!
//! Money is only ever moved, never made: an account opens with the opening balance, and from then on the sum over
//! accounts, merchants, holds and gift shares stays what was opened ([`Ledger::total`], a property test). Every
//! operation checks first and changes afterwards, so a refusal leaves no trace.
//!
//! | file | what it moves |
//! |---|---|
//! | `account.rs` | one user's available and held money, daily limit, history, devices |
//! | `transfer.rs` | person to person: held at once, paid when accepted, given back otherwise |
//! | `gift.rs` | held at once, split into shares, paid share by share, the rest given back |
//! | `payment.rs` | to a merchant, authorised by a signature, above an amount by a second factor too |

mod account;
mod gift;
mod payment;
mod refused;
mod transfer;

use std::collections::{BTreeSet, HashMap};

use crate::model::{MiniAppId, UserId};

use super::money::Money;
use super::random::Sequence;
use super::time::Millis;

pub use account::{Account, Device, Entry, Standing, display_name};
pub use gift::{Gift, GiftKind, GiftOrder, Share};
pub use payment::{Authorized, Challenge, Factor, MAX_ATTEMPTS, Payment, PaymentOrder, PaymentState, Refund};
pub use refused::Refused;
pub use transfer::{Transfer, TransferOrder, TransferState};

/// The demo PIN that the sandbox wallet takes as a second factor. It guards play money only.
pub const DEMO_PIN: &str = "1234";

/// What the wallet allows and starts with.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whose users have wallets.
    pub server_name: String,
    /// The one currency, as ISO 4217 writes it.
    pub currency: String,
    /// What a new wallet holds.
    pub opening_balance: Money,
    /// What a user may send in one UTC day.
    pub daily_limit: Money,
    /// What a user may send at once.
    pub transaction_limit: Money,
    /// Above this amount a payment needs a second factor, and a transfer a confirmation.
    pub mfa_above: Money,
}

impl Rules {
    /// Demo rules for the users of that server: 250,000.00 to begin with, a second factor above 10,000.00.
    pub fn demo(server_name: &str) -> Rules {
        Rules {
            server_name: server_name.to_owned(),
            currency: "USD".to_owned(),
            opening_balance: Money::whole(250_000),
            daily_limit: Money::whole(100_000),
            transaction_limit: Money::whole(50_000),
            mfa_above: Money::whole(10_000),
        }
    }
}

/// Something that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    Transfer(String),
    Gift(String),
    Payment(String),
}

/// The books.
#[derive(Debug)]
pub struct Ledger {
    rules: Rules,
    accounts: HashMap<UserId, Account>,
    merchants: HashMap<MiniAppId, Money>,
    transfers: HashMap<String, Transfer>,
    gifts: HashMap<String, Gift>,
    payments: HashMap<String, Payment>,
    deadlines: BTreeSet<(Millis, Deadline)>,
    sequence: Sequence,
}

impl Ledger {
    /// Empty books.
    pub fn new(rules: Rules, sequence: Sequence) -> Ledger {
        Ledger {
            rules,
            accounts: HashMap::new(),
            merchants: HashMap::new(),
            transfers: HashMap::new(),
            gifts: HashMap::new(),
            payments: HashMap::new(),
            deadlines: BTreeSet::new(),
            sequence,
        }
    }

    /// The rules that the books are kept by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Ends what has run out of time by `now` and gives its money back. Every call into the wallet does this first.
    pub fn settle_deadlines(&mut self, now: Millis) {
        while let Some((due, deadline)) = self.deadlines.first().cloned() {
            if due > now {
                break;
            }
            self.deadlines.pop_first();
            match deadline {
                Deadline::Transfer(id) => self.expire_transfer(&id, now),
                Deadline::Gift(id) => self.expire_gift(&id, now),
                Deadline::Payment(id) => self.expire_payment(&id),
            }
        }
    }

    /// All money there is: available, held and at merchants. Equal to [`Ledger::opened`] at all times.
    pub fn total(&self) -> Money {
        let users =
            self.accounts.values().map(|account| Money::minor(account.available.as_minor() + account.held.as_minor()));
        users.chain(self.merchants.values().copied()).sum()
    }

    /// All money that was given out as opening balances.
    pub fn opened(&self) -> Money {
        self.accounts.values().map(|_| self.rules.opening_balance).sum()
    }

    /// What a merchant has been paid and not paid back.
    pub fn merchant_balance(&self, app: &MiniAppId) -> Money {
        self.merchants.get(app).copied().unwrap_or_default()
    }

    /// Refuses an amount that nobody may send, whoever sends it.
    fn check_amount(&self, amount: Money, currency: &str) -> Result<(), Refused> {
        if currency != self.rules.currency {
            return Err(Refused::Invalid(format!("currency: this wallet holds {} only.", self.rules.currency)));
        }
        if amount <= Money::ZERO {
            return Err(Refused::Invalid("amount: must be above zero.".to_owned()));
        }
        if amount > self.rules.transaction_limit {
            let limit = self.rules.transaction_limit;
            return Err(Refused::OverLimit { name: "transaction_limit", limit, asked: amount });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
