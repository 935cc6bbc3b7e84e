//! The wallet, one test per group of paths.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;

/// A device that is registered to alice.
struct Phone(EcdsaKeyPair);

impl Phone {
    async fn registered(bench: &Bench) -> Phone {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let key = json!({"algorithm": "ECDSA_P256", "format": "SPKI", "key_data": STANDARD.encode(spki.as_ref())});
        let body = json!({"device_id": "phone", "device_name": "Phone", "platform": "android", "public_key": key});
        let answer = bench.post(ALICE, "/wallet/v1/devices/register", &body.to_string()).await;
        assert_eq!(answer.at("/status"), "registered");
        Phone(pair)
    }

    fn sign(&self, message: &str) -> String {
        STANDARD.encode(self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap())
    }

    fn authorization(&self, bench: &Bench, payment: &str, amount: &str) -> String {
        let timestamp = bench.now();
        let signature = self.sign(&format!("{payment}:{amount}:USD:{timestamp}"));
        json!({"device_id": "phone", "signature": signature, "timestamp": timestamp}).to_string()
    }
}

#[tokio::test]
async fn a_balance_has_the_documented_fields_and_digits() {
    let bench = Bench::start().await;
    for prefix in ["/wallet/v1", "/api/v1/wallet", "/api/v1/tmcp/wallet"] {
        let answer = bench.get(ALICE, &format!("{prefix}/balance")).await;
        assert_eq!((answer.at("/user_id"), answer.at("/status")), (ALICE.into(), "active".into()));
        assert!(answer.text.contains(r#""balance":{"available":250000.00,"pending":0.00,"currency":"USD"}"#));
        assert!(
            answer
                .text
                .contains(r#""limits":{"daily_limit":100000.00,"daily_used":0.00,"transaction_limit":50000.00}"#)
        );
    }
}

#[tokio::test]
async fn nobody_is_served_without_identity_and_strangers_have_no_wallet() {
    let bench = Bench::start().await;
    let anonymous = Answer::of(bench.client.get(bench.wallet("/wallet/v1/balance"))).await;
    assert_eq!(anonymous.refusal(), (401, "INVALID_TOKEN".into()));
    assert_eq!(bench.get("alice", "/wallet/v1/balance").await.refusal(), (401, "INVALID_TOKEN".into()));
    assert_eq!(bench.get("@x:elsewhere.example", "/wallet/v1/balance").await.refusal(), (404, "NO_WALLET".into()));
    assert_eq!(bench.get(ALICE, "/wallet/v1/nothing").await.refusal(), (404, "NOT_FOUND".into()));
    assert_eq!(bench.post(ALICE, "/wallet/v1/balance", "").await.refusal(), (405, "METHOD_NOT_ALLOWED".into()));
    let traced = bench.client.get(bench.wallet("/wallet/v1/balance")).header("x-request-id", "req_1");
    let traced = Answer::of(traced).await;
    assert_eq!(
        (traced.at("/error/request_id"), traced.at("/error/timestamp")),
        ("req_1".into(), "2023-11-14T22:13:20.000Z".into())
    );
}

#[tokio::test]
async fn users_are_resolved_one_by_one_and_in_a_batch() {
    let bench = Bench::start().await;
    let bob = bench.get(ALICE, "/wallet/v1/resolve/%40bob%3Atween.example?room_id=%21chat%3Atween.example").await;
    assert_eq!(
        (bob.at("/user_id"), bob.at("/display_name"), bob.at("/payment_enabled")),
        (BOB.into(), "Bob".into(), "true".into())
    );
    assert_eq!(bench.get(ALICE, "/wallet/v1/resolve/bob").await.refusal(), (404, "NO_WALLET".into()));
    let suspended = bench.get(ALICE, "/wallet/v1/resolve/@suspended:tween.example").await;
    assert_eq!(suspended.refusal(), (403, "WALLET_SUSPENDED".into()));

    let ids = json!({"user_ids": [BOB, "@x:elsewhere.example", "nobody"]}).to_string();
    let batch = bench.post(ALICE, "/wallet/v1/resolve/batch", &ids).await;
    assert_eq!((batch.at("/resolved_count"), batch.at("/total_count")), ("1".into(), "3".into()));
    assert_eq!((batch.at("/results/0/user_id"), batch.at("/results/1/error/code")), (BOB.into(), "NO_WALLET".into()));
}

#[tokio::test]
async fn wallets_are_registered_verified_and_active() {
    let bench = Bench::start().await;
    let registered = bench.post(ALICE, "/wallet/v1/register", "{}").await;
    let balance = bench.get(ALICE, "/wallet/v1/balance").await;
    assert_eq!(registered.at("/wallet_id"), balance.at("/wallet_id"));
    assert_eq!(bench.get(ALICE, "/wallet/v1/verification").await.at("/level"), "2");
    assert_eq!(bench.post(ALICE, "/wallet/v1/activate", "{}").await.at("/wallet_status"), "active");
    let bad = r#"{"device_id": "x", "public_key": {"algorithm": "ECDSA_P256", "key_data": "AAAA"}}"#;
    assert_eq!(bench.post(ALICE, "/wallet/v1/devices/register", bad).await.refusal().0, 400);
}

#[tokio::test]
async fn a_transfer_moves_money_and_stands_in_both_histories() {
    let bench = Bench::start().await;
    let order = r#"{"recipient": "@bob:tween.example", "amount": 50.5, "currency": "USD", "note": "lunch", "room_id": "!chat:tween.example"}"#;
    let initiated = bench.post(ALICE, "/wallet/v1/p2p/initiate", order).await;
    assert_eq!(initiated.at("/status"), "pending_recipient_acceptance");
    assert!(initiated.text.contains(r#""amount":50.50,"currency":"USD""#), "{}", initiated.text);
    assert_eq!((bench.available(ALICE).await, bench.available(BOB).await), ("249949.50".into(), "250000.00".into()));

    let path = format!("/wallet/v1/p2p/{}", initiated.at("/transfer_id"));
    assert_eq!(bench.post("@carol:tween.example", &format!("{path}/accept"), "").await.refusal().0, 404);
    assert_eq!(bench.post(BOB, &format!("{path}/accept"), "").await.at("/status"), "completed");
    assert_eq!((bench.available(ALICE).await, bench.available(BOB).await), ("249949.50".into(), "250050.50".into()));
    assert_eq!(bench.get(ALICE, &path).await.at("/status"), "completed");
    assert_eq!(bench.post(BOB, &format!("{path}/reject"), "").await.refusal(), (400, "PAYMENT_FAILED".into()));
    for (user, kind) in [(ALICE, "p2p_sent"), (BOB, "p2p_received")] {
        let history = bench.get(user, "/wallet/v1/transactions?limit=1&offset=0").await;
        assert_eq!(
            (history.at("/transactions/0/type"), history.at("/transactions/0/note")),
            (kind.into(), "lunch".into())
        );
        assert_eq!(history.json()["pagination"], json!({"total": 1, "limit": 1, "offset": 0, "has_more": false}));
    }
    assert_eq!(bench.get(ALICE, "/wallet/v1/transactions?limit=0").await.refusal(), (400, "VALIDATION_FAILED".into()));
}

#[tokio::test]
async fn a_rejected_transfer_comes_back_and_a_large_one_waits_for_the_pin() {
    let bench = Bench::start().await;
    let order = |amount: &str| format!(r#"{{"recipient": "{BOB}", "amount": {amount}, "currency": "USD"}}"#);
    let small = bench.post(ALICE, "/wallet/v1/p2p/initiate", &order("10")).await.at("/transfer_id");
    assert_eq!(bench.post(BOB, &format!("/wallet/v1/p2p/{small}/reject"), "{}").await.at("/status"), "rejected");
    assert_eq!(bench.available(ALICE).await, "250000.00");

    let large = bench.post(ALICE, "/wallet/v1/p2p/initiate", &order("10000.01")).await;
    assert_eq!((large.at("/status"), large.at("/authorization_required")), ("initiated".into(), "true".into()));
    let path = format!("/wallet/v1/p2p/{}", large.at("/transfer_id"));
    let wrong = bench.post(ALICE, &format!("{path}/confirm"), r#"{"credentials": {"pin": "0000"}}"#).await;
    assert_eq!(
        (wrong.refusal(), wrong.at("/error/details/attempts_remaining")),
        ((401, "MFA_FAILED".into()), "2".into())
    );
    let right = bench.post(ALICE, &format!("{path}/confirm"), r#"{"credentials": {"pin": "1234"}}"#).await;
    assert_eq!(right.at("/status"), "pending_recipient_acceptance");
    bench.advance(24 * 3600);
    assert_eq!(bench.post(BOB, &format!("{path}/accept"), "").await.refusal(), (400, "TRANSFER_EXPIRED".into()));
    assert_eq!(bench.available(ALICE).await, "250000.00");
}

#[tokio::test]
async fn bad_orders_are_refused_in_the_protocols_words() {
    let bench = Bench::start().await;
    let cases = [
        (r#"{"recipient": "@b:elsewhere.example", "amount": 1, "currency": "USD"}"#, 404, "RECIPIENT_NO_WALLET"),
        (r#"{"recipient": "@bob:tween.example", "amount": 50000.01, "currency": "USD"}"#, 400, "PAYMENT_FAILED"),
        (r#"{"recipient": "@bob:tween.example", "amount": 0.001, "currency": "USD"}"#, 400, "VALIDATION_FAILED"),
        (r#"{"recipient": "@bob:tween.example", "amount": "1", "currency": "USD"}"#, 400, "VALIDATION_FAILED"),
        (r#"{"recipient": "@bob:tween.example", "amount": -1, "currency": "USD"}"#, 400, "VALIDATION_FAILED"),
        (r#"{"recipient": "@bob:tween.example", "amount": 1, "currency": "XXX"}"#, 400, "VALIDATION_FAILED"),
        (r#"{"recipient": "@alice:tween.example", "amount": 1, "currency": "USD"}"#, 400, "VALIDATION_FAILED"),
        ("not json", 400, "VALIDATION_FAILED"),
    ];
    for (order, status, code) in cases {
        let refused = bench.post(ALICE, "/wallet/v1/p2p/initiate", order).await;
        assert_eq!(refused.refusal(), (status, code.into()), "{order}");
    }
    assert_eq!(bench.available(ALICE).await, "250000.00");
}

#[tokio::test]
async fn an_idempotency_key_moves_money_once() {
    let bench = Bench::start().await;
    let order = |amount: u32| {
        format!(r#"{{"recipient": "{BOB}", "amount": {amount}, "currency": "USD", "idempotency_key": "k1"}}"#)
    };
    let path = "/wallet/v1/p2p/initiate";
    let first = bench.post(ALICE, path, &order(10)).await;
    let again = bench.post(ALICE, path, &order(10)).await;
    assert_eq!((&again.text, again.headers["idempotent-replayed"].as_bytes()), (&first.text, b"true".as_slice()));
    assert_eq!(bench.post(ALICE, path, &order(11)).await.refusal(), (409, "DUPLICATE_TRANSACTION".into()));
    assert_eq!(bench.available(ALICE).await, "249990.00");
    bench.advance(24 * 3600 + 1);
    let later = bench.post(ALICE, path, &order(10)).await;
    assert_ne!(later.at("/transfer_id"), first.at("/transfer_id"));
}

#[tokio::test]
async fn a_gift_is_shared_until_it_is_empty() {
    let bench = Bench::start().await;
    let order = r#"{"total_amount": 10.00, "currency": "USD", "count": 2, "distribution": "equal", "message": "hi"}"#;
    let gift = bench.post(ALICE, "/wallet/v1/gift/create", order).await;
    assert_eq!((gift.at("/status"), gift.at("/remaining")), ("active".into(), "2".into()));
    let path = format!("/wallet/v1/gift/{}/open", gift.at("/gift_id"));
    let first = bench.post(BOB, &path, "").await;
    assert!(first.text.contains(r#""amount_received":5.00"#), "{}", first.text);
    assert_eq!(bench.post(BOB, &path, "").await.refusal(), (409, "ALREADY_OPENED".into()));
    assert_eq!(bench.post("@carol:tween.example", &path, "").await.at("/status"), "fully_opened");
    assert_eq!(bench.post("@dave:tween.example", &path, "").await.refusal(), (409, "GIFT_EMPTY".into()));
    assert_eq!((bench.available(ALICE).await, bench.available(BOB).await), ("249990.00".into(), "250005.00".into()));

    let own = format!(r#"{{"amount": 1, "currency": "USD", "recipient": "{BOB}", "expires_in_seconds": 60}}"#);
    let own = bench.post(ALICE, "/wallet/v1/gift/create", &own).await.at("/gift_id");
    let path = format!("/wallet/v1/gift/{own}/open");
    assert_eq!(bench.post("@carol:tween.example", &path, "").await.refusal(), (404, "NOT_FOUND".into()));
    bench.advance(60);
    assert_eq!(bench.post(BOB, &path, "").await.refusal(), (400, "GIFT_EXPIRED".into()));
}

#[tokio::test]
async fn a_payment_is_requested_signed_paid_and_refunded() {
    let bench = Bench::start().await;
    let phone = Phone::registered(&bench).await;
    let order = r#"{"amount": 5000.00, "currency": "USD", "description": "shoes", "merchant_order_id": "o1", "idempotency_key": "k"}"#;
    for prefix in ["/api/v1/payments", "/api/v1/tmcp/payments", "/wallet/v1/payments"] {
        let requested =
            bench.post(ALICE, &format!("{prefix}/request"), &order.replace("\"k\"", &format!("{prefix:?}"))).await;
        assert_eq!(
            (requested.at("/status"), requested.at("/merchant/name")),
            ("pending_authorization".into(), "Demo Shop".into())
        );
        assert!(requested.text.contains(r#""amount":5000.00"#));
        let id = requested.at("/payment_id");
        let path = format!("{prefix}/{id}");
        assert_eq!(
            bench
                .post(BOB, &format!("{path}/authorize"), &phone.authorization(&bench, &id, "5000.00"))
                .await
                .refusal()
                .0,
            404
        );
        let paid = bench.post(ALICE, &format!("{path}/authorize"), &phone.authorization(&bench, &id, "5000")).await;
        assert_eq!((paid.at("/status"), paid.at("/payer/user_id")), ("completed".into(), ALICE.into()));
        assert_eq!(bench.get(ALICE, &path).await.at("/txn_id"), paid.at("/txn_id"));

        let merchant = |method: Method, path: String, body: &'static str| {
            let request = bench.client.request(method, bench.wallet(&path)).header("x-tmcp-app-id", SHOP);
            Answer::of(request.body(body))
        };
        assert_eq!(merchant(Method::GET, path.clone(), "").await.at("/status"), "completed");
        let part =
            merchant(Method::POST, format!("{path}/refund"), r#"{"amount": 1000.00, "reason": "scratch"}"#).await;
        assert_eq!(part.at("/status"), "partially_refunded");
        assert_eq!(merchant(Method::POST, format!("{path}/refund"), "{}").await.at("/status"), "refunded");
        assert_eq!(bench.available(ALICE).await, "250000.00");
    }
}

#[tokio::test]
async fn a_signature_must_be_a_fresh_one_of_a_registered_device() {
    let bench = Bench::start().await;
    let order = r#"{"amount": 5000.00, "currency": "USD"}"#;
    let id = bench.post(ALICE, "/api/v1/payments/request", order).await.at("/payment_id");
    let path = format!("/api/v1/payments/{id}/authorize");
    let unknown = r#"{"device_id": "phone", "signature": "AAAA", "timestamp": 1700000000}"#;
    assert_eq!(bench.post(ALICE, &path, unknown).await.refusal(), (400, "DEVICE_NOT_REGISTERED".into()));
    let phone = Phone::registered(&bench).await;
    let other_amount = phone.authorization(&bench, &id, "1.00");
    assert_eq!(bench.post(ALICE, &path, &other_amount).await.refusal(), (401, "INVALID_SIGNATURE".into()));
    let stale = phone.authorization(&bench, &id, "5000.00");
    bench.advance(301);
    let id = bench.post(ALICE, "/api/v1/payments/request", order).await.at("/payment_id");
    let path = format!("/api/v1/payments/{id}/authorize");
    assert_eq!(bench.post(ALICE, &path, &stale).await.refusal(), (401, "INVALID_SIGNATURE".into()));
    bench.advance(300);
    let late = phone.authorization(&bench, &id, "5000.00");
    assert_eq!(bench.post(ALICE, &path, &late).await.refusal(), (400, "PAYMENT_FAILED".into()));
}

#[tokio::test]
async fn a_large_payment_asks_for_a_second_factor() {
    let bench = Bench::start().await;
    let phone = Phone::registered(&bench).await;
    for biometric in [false, true] {
        let order = r#"{"amount": 10000.01, "currency": "USD"}"#;
        let id = bench.post(ALICE, "/api/v1/payments/request", order).await.at("/payment_id");
        let path = format!("/api/v1/payments/{id}");
        assert_eq!(
            bench.post(ALICE, &format!("{path}/mfa/challenge"), "").await.refusal(),
            (400, "PAYMENT_FAILED".into())
        );
        let asked =
            bench.post(ALICE, &format!("{path}/authorize"), &phone.authorization(&bench, &id, "10000.01")).await;
        assert_eq!((asked.status.as_u16(), asked.at("/status")), (200, "mfa_required".into()));
        let challenge = asked.at("/mfa_challenge/challenge_id");
        let again = bench.post(ALICE, &format!("{path}/mfa/challenge"), "").await;
        assert_eq!(again.at("/mfa_challenge/challenge_id"), challenge);

        let pin = |pin: &str| {
            json!({"challenge_id": challenge, "method": "transaction_pin", "credentials": {"pin": pin}}).to_string()
        };
        let wrong = bench.post(ALICE, &format!("{path}/mfa/verify"), &pin("9999")).await;
        assert_eq!(
            (wrong.refusal(), wrong.at("/error/details/attempts_remaining")),
            ((401, "MFA_FAILED".into()), "2".into())
        );
        let right = if biometric {
            let attestation = phone.sign(&format!("{id}:{challenge}:{}", bench.now()));
            json!({"challenge_id": challenge, "method": "biometric", "credentials": {"attestation": attestation},
                "device_id": "phone", "timestamp": bench.now().to_string()})
            .to_string()
        } else {
            pin(DEMO_PIN)
        };
        let verified = bench.post(ALICE, &format!("{path}/mfa/verify"), &right).await;
        assert_eq!((verified.at("/status"), verified.at("/proceed_to_processing")), ("verified".into(), "true".into()));
        assert_eq!(bench.get(ALICE, &path).await.at("/status"), "completed");
    }
    assert_eq!(bench.available(ALICE).await, "229999.98");
}
