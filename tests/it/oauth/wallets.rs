//! Which wallet a user has, in the answers with tokens (protocol section 3).

use tmcp_edge::sandbox::faults::Fault;

use super::*;
use crate::edge::{HYBRID_APP, eventually, fresh_user, user};

fn claims(token: &str) -> Value {
    let payload = token.trim_start_matches("tep.").split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// The wallet of these tokens, which both say the same.
fn wallet_of(tokens: &Value) -> Option<String> {
    let told = tokens["wallet_id"].as_str().map(str::to_owned);
    assert_eq!(claims(text(tokens, "access_token"))["wallet_id"].as_str(), told.as_deref());
    told
}

#[test]
fn whoever_may_see_the_wallet_is_told_which_it_is() {
    let edge = edge();
    let bob = fresh_user();
    let first = redeem(edge, &code(edge, &bob, &[])).json();
    let wallet = wallet_of(&first).unwrap();
    let shown = edge.send(Request::get("/api/v1/wallet/balance").bearer(text(&first, "access_token"))).json();
    assert_eq!(text(&shown, "wallet_id"), wallet);
    let asked =
        || edge.at_wallet("x-tmcp-user-id", bob.as_str()).iter().filter(|seen| seen.path.contains("/resolve/")).count();
    assert_eq!(asked(), 1);
    let second = refresh(edge, text(&first, "refresh_token")).json();
    assert_eq!((wallet_of(&second), asked()), (Some(wallet.clone()), 1), "the grant remembers");
    let balance = edge.at_wallet("x-tmcp-wallet-id", &wallet);
    assert_eq!(balance.len(), 1, "and the wallet is told");

    let narrow = redeem(edge, &code(edge, &fresh_user(), &[("scope", "user:read")])).json();
    assert_eq!(wallet_of(&narrow), None, "who may not see it is not told of it");
    let narrow =
        [("grant_type", "refresh_token"), ("scope", "user:read"), ("refresh_token", text(&second, "refresh_token"))];
    assert_eq!(wallet_of(&shop(edge, "/oauth2/token", &narrow).json()), None);

    let (device_code, user_code) = device(edge, HYBRID_APP);
    approve_device(edge, &user("alice"), &user_code, ScopeSet::from_list("wallet:balance"));
    let device = named(edge, HYBRID_APP, "/oauth2/token", &[DEVICE_GRANT, ("device_code", &device_code)]).json();
    assert!(wallet_of(&device).is_some());
}

/// Tokens do not hang on the wallet: without it they say nothing of it, and the next refresh asks again.
#[test]
fn a_wallet_that_fails_keeps_nobody_from_tokens() {
    let edge = Setup::default().start();
    let fault = |status, delay_ms| Fault {
        path: "/wallet/v1/resolve".to_owned(),
        status: Some(http::StatusCode::from_u16(status).unwrap()),
        body: None,
        delay_ms,
        drop: false,
        times: Some(1),
    };
    for fault in [fault(500, 0), fault(404, 0), fault(200, 60_000)] {
        edge.wallet().desk.faults.set(fault);
        let first = redeem(&edge, &code(&edge, &fresh_user(), &[])).json();
        assert_eq!(wallet_of(&first), None, "{first}");
        let second = refresh(&edge, text(&first, "refresh_token")).json();
        assert!(wallet_of(&second).is_some(), "{second}");
    }
}

/// One that hangs is found out by these questions as by any other, and then nobody waits for it.
#[test]
fn a_wallet_that_hangs_is_soon_not_asked() {
    let edge = Setup::default()
        .wallet("timeouts: { connect: 1s, read: 600ms }")
        .wallet("breaker: { window: 10, failures: 2, open: 60s }")
        .start();
    let path = "/wallet/v1/resolve".to_owned();
    let hangs = Fault { path, status: None, body: None, delay_ms: 60_000, drop: false, times: None };
    edge.wallet().desk.faults.set(hangs);
    eventually("the breaker to open", Duration::from_secs(60), || {
        let asked = edge.wallet().desk.recorder.all().len();
        let tokens = redeem(&edge, &code(&edge, &fresh_user(), &[])).json();
        assert_eq!(wallet_of(&tokens), None, "{tokens}");
        edge.wallet().desk.recorder.all().len() == asked
    });
    let asked = edge.wallet().desk.recorder.all().len();
    for _ in 0..3 {
        assert_eq!(wallet_of(&redeem(&edge, &code(&edge, &fresh_user(), &[])).json()), None);
    }
    assert_eq!(edge.wallet().desk.recorder.all().len(), asked);
}
