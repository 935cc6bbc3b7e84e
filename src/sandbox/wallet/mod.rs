//! The sandbox wallet: the wallet service's side of protocol sections 4 and 5, over the books of
//! [`Ledger`](super::ledger::Ledger).
//!
//! | file | paths |
//! |---|---|
//! | `account.rs` | balance, transactions, resolve, register, verification, activate |
//! | `device.rs` | devices/register, and the signatures that registered devices make |
//! | `p2p.rs` | p2p/… |
//! | `gift.rs` | gift/… |
//! | `payment.rs` | payments/… |
//! | `desk.rs` | who calls, idempotency, and the two shapes of an answer |
//!
//! Each path is answered under the protocol's prefix and under the wallet service's own names (`/api/v1/tmcp/…`).
//! A wallet's caller is whom the edge says it is: `X-TMCP-User-Id` and `X-TMCP-App-Id`, without which it answers 401.

mod account;
mod desk;
mod device;
mod gift;
mod p2p;
mod payment;

use axum::Router;
use axum::routing::{get, post};

pub use desk::Wallet;

/// Every path of the wallet.
pub fn routes(wallet: Wallet) -> Router {
    let accounts = Router::new()
        .route("/balance", get(account::balance))
        .route("/transactions", get(account::transactions))
        .route("/resolve/{user_id}", get(account::resolve))
        .route("/resolve/batch", post(account::resolve_batch))
        .route("/register", post(account::register))
        .route("/devices/register", post(device::register))
        .route("/verification", get(account::verification))
        .route("/activate", post(account::activate))
        .route("/p2p/initiate", post(p2p::initiate))
        .route("/p2p/{transfer_id}", get(p2p::status))
        .route("/p2p/{transfer_id}/confirm", post(p2p::confirm))
        .route("/p2p/{transfer_id}/accept", post(p2p::accept))
        .route("/p2p/{transfer_id}/reject", post(p2p::reject))
        .route("/gift/create", post(gift::create))
        .route("/gift/{gift_id}/open", post(gift::open));
    let payments = Router::new()
        .route("/request", post(payment::request))
        .route("/{payment_id}", get(payment::status))
        .route("/{payment_id}/authorize", post(payment::authorize))
        .route("/{payment_id}/mfa/challenge", post(payment::mfa_challenge))
        .route("/{payment_id}/mfa/verify", post(payment::mfa_verify))
        .route("/{payment_id}/refund", post(payment::refund));
    // The wallet service's own names for the same, which the edge's preset `tween` uses.
    let service = Router::new()
        .route("/wallets/balance", get(account::balance))
        .route("/users/resolve/{user_id}", get(account::resolve))
        .route("/users/resolve/batch", post(account::resolve_batch))
        .route("/wallets/register", post(account::register))
        .route("/wallets/devices/register", post(device::register))
        .route("/wallets/verification", get(account::verification))
        .route("/wallets/activate", post(account::activate))
        .route("/transfers/p2p/initiate", post(p2p::initiate))
        .route("/transfers/p2p/{transfer_id}", get(p2p::status))
        .route("/transfers/p2p/{transfer_id}/confirm", post(p2p::confirm))
        .route("/transfers/p2p/{transfer_id}/accept", post(p2p::accept))
        .route("/transfers/p2p/{transfer_id}/reject", post(p2p::reject))
        .route("/gifts/create", post(gift::create))
        .route("/gifts/{gift_id}/open", post(gift::open));
    Router::new()
        .nest("/api/v1/tmcp", service)
        .route("/health", get(|| async { axum::Json(serde_json::json!({"status": "ok"})) }))
        .nest("/wallet/v1", accounts.clone())
        .nest("/api/v1/wallet", accounts.clone())
        .nest("/api/v1/tmcp/wallet", accounts)
        .nest("/wallet/v1/payments", payments.clone())
        .nest("/api/v1/payments", payments.clone())
        .nest("/api/v1/tmcp/payments", payments)
        .fallback(desk::nowhere)
        .method_not_allowed_fallback(desk::wrong_method)
        .with_state(wallet)
}
