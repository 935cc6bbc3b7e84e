//! Gifts (protocol section 5): money held at once and split into shares, one for each who opens it;
//! `ACTIVE → PARTIALLY_OPENED → FULLY_OPENED`, or `EXPIRED`, which gives the rest back.

use crate::model::{RoomId, UserId};

use super::super::money::Money;
use super::super::random::Sequence;
use super::super::time::Millis;
use super::account::{Entry, Party};
use super::{Deadline, Ledger, Refused};

/// Who may open a gift, and what each gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GiftKind {
    /// One person, everything.
    Individual(UserId),
    /// The first so many people, the same for each.
    Equal(u32),
    /// The first so many people, by luck.
    Random(u32),
}

/// What a giver asks for.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the protocol's own field names, section 5")]
pub struct GiftOrder {
    pub sender: UserId,
    pub kind: GiftKind,
    pub total: Money,
    pub currency: String,
    pub message: Option<String>,
    pub room: Option<RoomId>,
    pub expires_in_secs: u64,
}

/// A share that somebody took.
#[derive(Clone, Debug)]
pub struct Share {
    /// Who took it.
    pub user: UserId,
    /// How much it was.
    pub amount: Money,
    /// When.
    pub opened_at: Millis,
}

/// A gift.
#[derive(Clone, Debug)]
pub struct Gift {
    /// Its id.
    pub id: String,
    /// What was asked for.
    pub order: GiftOrder,
    /// Shares that nobody has taken yet; the next one is the last.
    pub left: Vec<Money>,
    /// Shares that were taken, in order.
    pub opened: Vec<Share>,
    /// Whether it ran out of time.
    pub expired: bool,
    /// When it was made.
    pub created_at: Millis,
    /// When it ends by itself.
    pub expires_at: Millis,
}

impl Gift {
    /// The state as answers write it.
    pub fn status(&self) -> &'static str {
        match (self.expired, self.left.is_empty(), self.opened.is_empty()) {
            (_, true, _) => "fully_opened",
            (true, false, _) => "expired",
            (false, false, true) => "active",
            (false, false, false) => "partially_opened",
        }
    }
}

/// The most people one gift may be for.
const MOST_SHARES: u32 = 1000;

impl Ledger {
    /// Holds the money and splits it.
    pub fn give(&mut self, order: GiftOrder, now: Millis) -> Result<Gift, Refused> {
        self.check_amount(order.total, &order.currency)?;
        let left = match &order.kind {
            GiftKind::Individual(recipient) if *recipient == order.sender => {
                return Err(Refused::Invalid("recipient: must not be the sender.".to_owned()));
            }
            GiftKind::Individual(recipient) => {
                self.payee(recipient, now)?;
                vec![order.total]
            }
            GiftKind::Equal(count) | GiftKind::Random(count) => {
                let most = order.total.as_minor().min(MOST_SHARES.into());
                if *count == 0 || i64::from(*count) > most {
                    return Err(Refused::Invalid(format!("count: must be from 1 to {most} for this amount.")));
                }
                let by_luck = matches!(order.kind, GiftKind::Random(_));
                split(order.total, *count, by_luck.then_some(&mut self.sequence))
            }
        };
        self.hold(&order.sender, order.total, now)?;
        let gift = Gift {
            id: self.sequence.id("gift_"),
            left,
            opened: Vec::new(),
            expired: false,
            created_at: now,
            expires_at: now.plus_secs(order.expires_in_secs),
            order,
        };
        self.deadlines.insert((gift.expires_at, Deadline::Gift(gift.id.clone())));
        self.gifts.insert(gift.id.clone(), gift.clone());
        Ok(gift)
    }

    /// Takes a share for the caller.
    pub fn open_gift(&mut self, id: &str, caller: &UserId, now: Millis) -> Result<(Gift, Share), Refused> {
        let gift = self.gifts.get(id).ok_or(Refused::NotFound("gift"))?.clone();
        if matches!(&gift.order.kind, GiftKind::Individual(recipient) if recipient != caller) {
            return Err(Refused::NotFound("gift"));
        }
        if gift.opened.iter().any(|share| share.user == *caller) {
            return Err(Refused::AlreadyOpened);
        }
        let amount = *gift.left.last().ok_or(Refused::GiftEmpty)?;
        if gift.expired {
            return Err(Refused::GiftExpired);
        }
        let GiftOrder { sender, currency, message, room, .. } = &gift.order;
        self.pay_from_hold(sender, caller, amount, now)?;
        let txn_id = self.sequence.id("txn_");
        let entry = |kind| Entry {
            txn_id: txn_id.clone(),
            kind,
            amount,
            currency: currency.clone(),
            from: Party::user(sender),
            to: Party::user(caller),
            status: "completed",
            note: message.clone(),
            timestamp: now,
            room_id: room.as_ref().map(Into::into),
        };
        self.record(sender, entry("gift_sent"));
        self.record(caller, entry("gift_received"));
        let share = Share { user: caller.clone(), amount, opened_at: now };
        let gift = self.gifts.get_mut(id).ok_or(Refused::NotFound("gift"))?;
        gift.left.pop();
        gift.opened.push(share.clone());
        Ok((gift.clone(), share))
    }

    pub(super) fn expire_gift(&mut self, id: &str, _now: Millis) {
        let Some(gift) = self.gifts.get_mut(id) else { return };
        gift.expired = true;
        let rest = gift.left.iter().copied().sum();
        let (sender, held_at) = (gift.order.sender.clone(), gift.created_at);
        self.release(&sender, rest, held_at);
    }
}

/// Splits `total` into `count` shares of at least one minor unit each that add up to it exactly: evenly, or by luck
/// (each share is drawn from what leaves the others twice their average at most).
fn split(total: Money, count: u32, luck: Option<&mut Sequence>) -> Vec<Money> {
    let mut rest = total.as_minor();
    let mut luck = luck;
    let shares = (1..=i64::from(count)).rev().map(|people| {
        let share = match &mut luck {
            _ if people == 1 => rest,
            None => rest / people,
            Some(sequence) => {
                // At least one unit stays for everybody else, because `rest >= people` holds before and after.
                let most = (rest / people * 2).min(rest - (people - 1)).max(1);
                1 + i64::try_from(sequence.draw() % most.unsigned_abs()).unwrap_or_default()
            }
        };
        rest -= share;
        Money::minor(share)
    });
    shares.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_add_up_and_nobody_gets_nothing(count in 1u32..200, extra in 0i64..1_000_000, seed: u64, luck: bool) {
            let total = Money::minor(i64::from(count) + extra);
            let mut sequence = Sequence::seeded(seed);
            let shares = split(total, count, luck.then_some(&mut sequence));
            prop_assert_eq!(shares.len(), count as usize);
            prop_assert!(shares.iter().all(|share| *share > Money::ZERO));
            prop_assert_eq!(shares.into_iter().sum::<Money>(), total);
        }
    }
}
