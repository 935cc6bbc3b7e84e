//! Which wallet the user has: `wallet_id` of the token answer and of the token (protocol sections 2 and 3).
//!
//! The wallet is asked when a grant with a scope of its kind first becomes tokens, and the grant remembers. Nobody is kept
//! from tokens by a wallet that is slow, away or not there: they say nothing of it then, and the next refresh asks again.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use serde::Deserialize;

use crate::model::ScopeSet;
use crate::model::oauth::Grant;
use crate::operations::Services;
use crate::upstream::forward::{Identity, Trace, caller_headers};

/// How long an answer with tokens waits for the wallet.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longest `wallet_id`, bytes: a token with a longer one would be refused.
const LONGEST: usize = 255;

#[derive(Deserialize)]
struct Resolved {
    wallet_id: String,
}

/// The grant with its user's wallet, where it may know and the wallet says so.
pub async fn named(services: &Services, trace: &Trace, grant: Grant) -> Grant {
    let Some(wallet) = &services.wallet else { return grant };
    if grant.wallet.is_some() || !grant.scopes.intersects(ScopeSet::WALLET) {
        return grant;
    }
    let value = |text: &str| HeaderValue::from_str(text).ok();
    let identity = Identity {
        user_id: value(grant.user.as_str()),
        app_id: value(grant.client.app.as_str()),
        scopes: value(&grant.scopes.to_string()),
        ..Identity::default()
    };
    let (wallet, user, headers) = (wallet.clone(), grant.user.clone(), caller_headers(&identity, trace, None));
    // In a task of its own, so that it ends as any call does when nobody waits any more: the breaker counts it, and a
    // wallet that hangs is not waited for each time.
    let asked = tokio::spawn(async move { wallet.resolve(&user, headers).await });
    let named = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(Ok(answer))) => wallet_id(&answer),
        Ok(Ok(Err(refusal))) => {
            log::debug!("tokens without wallet_id: {refusal}");
            None
        }
        Ok(Err(error)) => {
            log::error!("tokens without wallet_id: {error}");
            None
        }
        Err(_) => {
            log::debug!("tokens without wallet_id: the wallet takes its time");
            None
        }
    };
    Grant { wallet: named, ..grant }
}

fn wallet_id(answer: &Bytes) -> Option<String> {
    let Resolved { wallet_id } = serde_json::from_slice(answer).ok()?;
    let fits = (1..=LONGEST).contains(&wallet_id.len()) && wallet_id.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(wallet_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_could_not_carry_is_no_wallet() {
        let told = |text: &str| wallet_id(&Bytes::from(text.to_owned()));
        assert_eq!(told(r#"{"wallet_id":"tw_1","wallet_status":"active"}"#).as_deref(), Some("tw_1"));
        let long = format!(r#"{{"wallet_id":"{}"}}"#, "w".repeat(LONGEST + 1));
        for none in [r#"{"user_status":"pending"}"#, r#"{"wallet_id":null}"#, r#"{"wallet_id":7}"#, "[]", "", &long] {
            assert_eq!(told(none), None, "{none}");
        }
        for bad in ["", "a b", "a\tb", "\u{e9}"] {
            assert_eq!(told(&serde_json::json!({ "wallet_id": bad }).to_string()), None, "{bad}");
        }
    }
}
