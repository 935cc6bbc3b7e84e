//! Looking at wallets and opening them (protocol section 4).

use axum::extract::{Path, Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::UserId;

use super::super::ledger::{Entry, Ledger, Refused, Standing};
use super::super::money::Money;
use super::super::time::Millis;
use super::Wallet;

/// GET balance
pub async fn balance(State(wallet): State<Wallet>, headers: HeaderMap) -> Response {
    #[derive(Serialize)]
    struct Balance {
        wallet_id: String,
        user_id: String,
        balance: Amounts,
        limits: Limits,
        verification: Value,
        status: Standing,
    }
    #[derive(Serialize)]
    struct Amounts {
        available: Money,
        pending: Money,
        currency: String,
    }
    #[derive(Serialize)]
    struct Limits {
        daily_limit: Money,
        daily_used: Money,
        transaction_limit: Money,
    }
    wallet.read(&headers, |ledger, caller, now| {
        let user = caller.user()?;
        let rules = ledger.rules().clone();
        let account = ledger.account(user, now)?;
        Ok(Balance {
            wallet_id: account.wallet_id.clone(),
            user_id: user.to_string(),
            balance: Amounts { available: account.available, pending: account.held, currency: rules.currency },
            limits: Limits {
                daily_limit: rules.daily_limit,
                daily_used: account.sent_today(now),
                transaction_limit: rules.transaction_limit,
            },
            verification: verification_level(),
            status: Ledger::standing(user),
        })
    })
}

/// What the wallet knows of a demo user: every one of them has shown an identity document.
fn verification_level() -> Value {
    json!({
        "level": 2,
        "level_name": "identity_verified",
        "features": ["standard_transactions", "p2p_transfers", "gifts", "merchant_payments"],
        "can_upgrade": true,
        "next_level": 3,
        "upgrade_requirements": ["address_proof", "enhanced_id"],
    })
}

/// GET transactions?limit&offset
pub async fn transactions(State(wallet): State<Wallet>, Query(page): Query<Page>, headers: HeaderMap) -> Response {
    #[derive(Serialize)]
    struct Transactions {
        transactions: Vec<Entry>,
        pagination: Value,
    }
    wallet.read(&headers, |ledger, caller, now| {
        let (limit, offset) = page.checked()?;
        let account = ledger.account(caller.user()?, now)?;
        let total = account.history.len();
        let transactions: Vec<_> = account.history.iter().skip(offset).take(limit).cloned().collect();
        let has_more = offset.saturating_add(transactions.len()) < total;
        let pagination = json!({"total": total, "limit": limit, "offset": offset, "has_more": has_more});
        Ok(Transactions { transactions, pagination })
    })
}

/// The query of a paged list, as text: what is wrong with it is said in the protocol's shape.
#[derive(Deserialize)]
pub struct Page {
    limit: Option<String>,
    offset: Option<String>,
}

impl Page {
    fn checked(&self) -> Result<(usize, usize), Refused> {
        let number = |text: &Option<String>, default| text.as_deref().map_or(Some(default), |text| text.parse().ok());
        let limit = number(&self.limit, 20).filter(|limit| (1..=100).contains(limit));
        let limit = limit.ok_or_else(|| Refused::Invalid("limit: must be a number from 1 to 100.".to_owned()))?;
        let offset = number(&self.offset, 0);
        Ok((limit, offset.ok_or_else(|| Refused::Invalid("offset: must be a number from 0.".to_owned()))?))
    }
}

#[derive(Serialize)]
struct Resolved {
    user_id: String,
    wallet_id: String,
    wallet_status: Standing,
    display_name: String,
    avatar_url: Option<String>,
    payment_enabled: bool,
    created_at: Millis,
}

fn resolve_one(ledger: &mut Ledger, text: &str, now: Millis) -> Result<Resolved, Refused> {
    let user = UserId::parse(text).map_err(|_| Refused::NoWallet(text.to_owned()))?;
    let account = ledger.active_account(&user, now)?;
    Ok(Resolved {
        wallet_id: account.wallet_id.clone(),
        wallet_status: Standing::Active,
        display_name: super::p2p::display_name(&user),
        avatar_url: None,
        payment_enabled: true,
        created_at: account.created_at,
        user_id: user.to_string(),
    })
}

/// GET resolve/{user_id}
pub async fn resolve(State(wallet): State<Wallet>, Path(user): Path<String>, headers: HeaderMap) -> Response {
    wallet.read(&headers, |ledger, caller, now| {
        caller.user()?;
        resolve_one(ledger, &user, now)
    })
}

/// POST resolve/batch
pub async fn resolve_batch(State(wallet): State<Wallet>, headers: HeaderMap, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Batch {
        user_ids: Vec<String>,
    }
    #[derive(Serialize)]
    #[serde(untagged)]
    enum One {
        Found(Resolved),
        Refused { user_id: String, error: Value },
    }
    #[derive(Serialize)]
    struct Answer {
        results: Vec<One>,
        resolved_count: usize,
        total_count: usize,
    }
    wallet.act(&["resolve_batch"], &headers, &body, |ledger, caller, batch: Batch, now| {
        caller.user()?;
        if batch.user_ids.is_empty() || batch.user_ids.len() > 100 {
            return Err(Refused::Invalid("user_ids: must hold from 1 to 100 ids.".to_owned()));
        }
        let results: Vec<One> = batch
            .user_ids
            .into_iter()
            .map(|user_id| match resolve_one(ledger, &user_id, now) {
                Ok(resolved) => One::Found(resolved),
                Err(refused) => {
                    let error = json!({"code": refused.code().0, "message": refused.message()});
                    One::Refused { user_id, error }
                }
            })
            .collect();
        let resolved_count = results.iter().filter(|one| matches!(one, One::Found(_))).count();
        Ok(Answer { resolved_count, total_count: results.len(), results })
    })
}

/// POST register: the wallet is there already; this tells which one it is.
pub async fn register(State(wallet): State<Wallet>, headers: HeaderMap, body: Bytes) -> Response {
    wallet.act(&["register"], &headers, &body, |ledger, caller, _: Value, now| {
        let user = caller.user()?;
        let currency = ledger.rules().currency.clone();
        let account = ledger.active_account(user, now)?;
        Ok(json!({
            "wallet_id": account.wallet_id,
            "user_id": user.as_str(),
            "wallet_status": "active",
            "currency": currency,
            "created_at": account.created_at,
        }))
    })
}

/// GET verification
pub async fn verification(State(wallet): State<Wallet>, headers: HeaderMap) -> Response {
    wallet.read(&headers, |ledger, caller, now| {
        let user = caller.user()?;
        let account = ledger.account(user, now)?;
        let mut answer = verification_level();
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("wallet_id".to_owned(), account.wallet_id.clone().into());
            fields.insert("user_id".to_owned(), user.as_str().into());
            fields.insert("verified_at".to_owned(), account.created_at.to_string().into());
        }
        Ok(answer)
    })
}

/// POST activate: wallets are active from the first moment; a suspended one stays suspended.
pub async fn activate(State(wallet): State<Wallet>, headers: HeaderMap, body: Bytes) -> Response {
    wallet.act(&["activate"], &headers, &body, |ledger, caller, _: Value, now| {
        let user = caller.user()?;
        let account = ledger.active_account(user, now)?;
        Ok(json!({
            "wallet_id": account.wallet_id,
            "user_id": user.as_str(),
            "wallet_status": "active",
            "activated_at": account.created_at,
        }))
    })
}
