//! Gifts (protocol section 5).

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::super::ledger::{Gift, GiftKind, GiftOrder, Refused, Share};
use super::super::money::Money;
use super::super::time::Millis;
use super::Wallet;
use super::p2p::{Nothing, recipient, room};

/// How long a gift may be opened, unless its giver says otherwise, and at most.
const OPEN_WITHIN_SECS: u64 = 24 * 3600;
const OPEN_AT_MOST_SECS: u64 = 30 * 24 * 3600;

#[derive(Serialize)]
struct Opened {
    user_id: String,
    amount: Money,
    opened_at: Millis,
}

impl From<&Share> for Opened {
    fn from(share: &Share) -> Opened {
        Opened { user_id: share.user.to_string(), amount: share.amount, opened_at: share.opened_at }
    }
}

/// POST gift/create: to one `recipient`, or to the first `count` people, `equal` or `random`.
pub async fn create(State(wallet): State<Wallet>, headers: HeaderMap, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Order {
        #[serde(alias = "total_amount")]
        amount: Money,
        currency: String,
        recipient: Option<String>,
        count: Option<u32>,
        #[serde(default)]
        distribution: Distribution,
        #[serde(alias = "note")]
        message: Option<String>,
        room_id: Option<String>,
        expires_in_seconds: Option<u64>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Distribution {
        Equal,
        #[default]
        Random,
    }
    #[derive(Serialize)]
    struct Created {
        gift_id: String,
        status: &'static str,
        #[serde(rename = "type")]
        kind: &'static str,
        total_amount: Money,
        currency: String,
        count: usize,
        remaining: usize,
        opened_by: Vec<Opened>,
        message: Option<String>,
        room_id: Option<String>,
        created_at: Millis,
        expires_at: Millis,
    }
    fn kind(order: &Order) -> Result<GiftKind, Refused> {
        match (&order.recipient, order.count) {
            (Some(user), None | Some(1)) => Ok(GiftKind::Individual(recipient(user)?)),
            (None, Some(count)) => Ok(match order.distribution {
                Distribution::Equal => GiftKind::Equal(count),
                Distribution::Random => GiftKind::Random(count),
            }),
            _ => Err(Refused::Invalid("Either recipient or count must be given.".to_owned())),
        }
    }
    wallet.act(&["gift_create"], &headers, &body, |ledger, caller, order: Order, now| {
        let expires_in_secs = order.expires_in_seconds.unwrap_or(OPEN_WITHIN_SECS);
        if !(60..=OPEN_AT_MOST_SECS).contains(&expires_in_secs) {
            let range = format!("expires_in_seconds: must be from 60 to {OPEN_AT_MOST_SECS}.");
            return Err(Refused::Invalid(range));
        }
        let order = GiftOrder {
            sender: caller.user()?.clone(),
            kind: kind(&order)?,
            total: order.amount,
            currency: order.currency,
            message: order.message,
            room: room(order.room_id)?,
            expires_in_secs,
        };
        let gift = ledger.give(order, now)?;
        Ok(Created {
            status: gift.status(),
            kind: if matches!(gift.order.kind, GiftKind::Individual(_)) { "individual" } else { "group" },
            total_amount: gift.order.total,
            count: gift.left.len(),
            remaining: gift.left.len(),
            opened_by: Vec::new(),
            created_at: gift.created_at,
            expires_at: gift.expires_at,
            gift_id: gift.id,
            currency: gift.order.currency,
            message: gift.order.message,
            room_id: gift.order.room.map(|room| room.to_string()),
        })
    })
}

/// POST gift/{gift_id}/open
pub async fn open(State(wallet): State<Wallet>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    #[derive(Serialize)]
    struct Answer {
        gift_id: String,
        status: &'static str,
        amount_received: Money,
        currency: String,
        message: Option<String>,
        sender: Sender,
        opened_at: Millis,
        stats: Stats,
    }
    #[derive(Serialize)]
    struct Sender {
        user_id: String,
        display_name: String,
    }
    #[derive(Serialize)]
    struct Stats {
        total_opened: usize,
        total_remaining: usize,
        /// Known only once nobody can be luckier.
        #[serde(skip_serializing_if = "Option::is_none")]
        best_luck_user: Option<String>,
        opened_by: Vec<Opened>,
    }
    fn luckiest(gift: &Gift) -> Option<String> {
        let best = gift.opened.iter().max_by_key(|share| share.amount)?;
        gift.left.is_empty().then(|| best.user.to_string())
    }
    wallet.act(&["gift_open", &id], &headers, &body, |ledger, caller, _: Nothing, now| {
        let (gift, share) = ledger.open_gift(&id, caller.user()?, now)?;
        Ok(Answer {
            status: gift.status(),
            amount_received: share.amount,
            sender: Sender {
                user_id: gift.order.sender.to_string(),
                display_name: super::p2p::display_name(&gift.order.sender),
            },
            opened_at: share.opened_at,
            stats: Stats {
                total_opened: gift.opened.len(),
                total_remaining: gift.left.len(),
                best_luck_user: luckiest(&gift),
                opened_by: gift.opened.iter().map(Opened::from).collect(),
            },
            gift_id: gift.id,
            currency: gift.order.currency,
            message: gift.order.message,
        })
    })
}
