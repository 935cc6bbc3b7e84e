use axum::Router;
use axum::extract::{Path, Request};
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::clock::Clock;
use crate::upstream::testing;

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"))])
}

fn refusal(status: u16, body: &str) -> Refusal {
    error_of_answer("wallet", StatusCode::from_u16(status).unwrap(), &json_headers(), body.as_bytes())
}

#[test]
fn the_table_says_the_status_of_a_code_it_lists() {
    for (status, code, expected) in [
        (400, "INSUFFICIENT_FUNDS", 402),
        (500, "INSUFFICIENT_FUNDS", 402),
        (404, "NO_WALLET", 404),
        (200, "MFA_REQUIRED", 428),
        (403, "WALLET_SUSPENDED", 403),
        (409, "CARD_EXPIRED", 409),
        (418, "TEAPOT_2", 418),
    ] {
        let refusal = refusal(status, &json!({"error": {"code": code, "message": "m"}}).to_string());
        assert_eq!((refusal.code_text(), refusal.status().as_u16(), refusal.message()), (code, expected, "m"));
    }
}

#[test]
fn what_is_not_in_the_shape_is_not_shown() {
    let secret = "SQLSTATE[42P01] at 10.0.1.7";
    for (status, body) in [
        (500, secret.to_owned()),
        (500, json!({"error": secret}).to_string()),
        (500, json!({"error": {"message": secret}}).to_string()),
        (500, json!({"error": {"code": 42, "message": secret}}).to_string()),
        (500, json!({"error": {"code": "", "message": secret}}).to_string()),
        (500, json!({"error": {"code": "lower_case", "message": secret}}).to_string()),
        (500, json!({"error": {"code": "X".repeat(65), "message": secret}}).to_string()),
        // A code of its own with a status that is no 4xx says nothing that a client could act on.
        (500, json!({"error": {"code": "DB_DOWN", "message": secret}}).to_string()),
        (302, json!({"error": {"code": "MOVED", "message": secret}}).to_string()),
        (404, json!([{"error": {"code": "NO_WALLET"}}]).to_string()),
        (404, format!("{{\"error\":{{\"code\":\"NO_WALLET\"}}}} {secret}")),
        (400, String::new()),
        (500, "[".repeat(5000)),
    ] {
        let refusal = refusal(status, &body);
        assert_eq!(refusal.code(), Code::UpstreamError, "{body}");
        assert!(!refusal.to_string().contains("SQLSTATE"), "{refusal}");
        assert!(refusal.inside_message().is_some());
    }
    assert_eq!(refusal(504, "<html>").code(), Code::UpstreamTimeout);
}

#[test]
fn a_page_that_happens_to_parse_is_no_wallet_error() {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/html"))]);
    let body = br#"{"error":{"code":"NO_WALLET","message":"m"}}"#;
    assert_eq!(WalletError::parse(StatusCode::NOT_FOUND, &headers, body), None);
    assert!(WalletError::parse(StatusCode::NOT_FOUND, &HeaderMap::new(), body).is_some());
    let long = format!("{{\"error\":{{\"code\":\"NO_WALLET\"}}}}{}", " ".repeat(ERROR_CAP));
    assert_eq!(WalletError::parse(StatusCode::NOT_FOUND, &HeaderMap::new(), long.as_bytes()), None);
}

#[test]
fn details_and_known_fields_go_along() {
    let refusal = refusal(
        401,
        &json!({"error": {
            "code": "MFA_FAILED", "message": "Wrong\u{0} PIN", "attempts_remaining": 2, "stack": "at line 3",
            "details": {"challenge_id": "c_1"}, "retry_after": 7, "request_id": "theirs", "timestamp": "theirs",
        }})
        .to_string(),
    );
    assert_eq!(refusal.message(), "Wrong PIN");
    assert_eq!(refusal.fields(), [("attempts_remaining", json!(2))]);
    assert_eq!(refusal.details_value(), Some(&json!({"challenge_id": "c_1"})));
    assert_eq!((refusal.retry_after_seconds(), refusal.challenge_kind()), (Some(7), Some(Challenge::Bearer)));
}

#[test]
fn retry_after_may_stand_in_the_header() {
    let mut headers = json_headers();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("12"));
    let body = json!({"error": {"code": "RATE_LIMIT_EXCEEDED"}}).to_string();
    let refusal = error_of_answer("wallet", StatusCode::TOO_MANY_REQUESTS, &headers, body.as_bytes());
    assert_eq!((refusal.status().as_u16(), refusal.retry_after_seconds()), (429, Some(12)));
    assert!(!refusal.message().is_empty());
}

#[tokio::test]
async fn resolves_with_the_callers_identity() {
    let router = Router::new()
        .route(
            "/wallet/v1/resolve/{user}",
            get(|Path(user): Path<String>, request: Request| async move {
                let (status, body) = match user.as_str() {
                    "@bob/x:tween.example" => {
                        let caller = request.headers().get("x-tmcp-user-id").unwrap().to_str().unwrap();
                        (StatusCode::OK, json!({"user_id": user, "for": caller, "n": 1}).to_string())
                    }
                    "@broken:tween.example" => (StatusCode::OK, "ok".to_owned()),
                    _ => {
                        (StatusCode::NOT_FOUND, json!({"error": {"code": "NO_WALLET", "message": "none"}}).to_string())
                    }
                };
                (status, json_headers(), body)
            }),
        )
        .route("/wallet/v1/resolve/batch", post(|body: String| async move { format!("{{\"got\":{body}}}") }));
    let address = testing::serve(router).await.to_string();
    let wallet = Wallet::new(testing::build(testing::upstream(&[&address]), &Clock::system()).unwrap());
    let user = |id: &str| UserId::parse(id).unwrap();
    let headers = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-tmcp-user-id"),
        HeaderValue::from_static("@alice:tween.example"),
    )]);

    let body = wallet.resolve(&user("@bob/x:tween.example"), headers.clone()).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["for"], "@alice:tween.example");
    let refusal = wallet.resolve(&user("@zoe:tween.example"), headers.clone()).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.message()), (Code::NoWallet, "none"));
    let refusal = wallet.resolve(&user("@broken:tween.example"), headers.clone()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::UpstreamError);
    let body = wallet.resolve_batch(&[user("@a:x"), user("@b:x")], headers).await.unwrap();
    assert_eq!(body, r#"{"got":{"user_ids":["@a:x","@b:x"]}}"#);
}

proptest! {
    #[test]
    fn no_body_upsets_it(status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..300)) {
        let status = StatusCode::from_u16(status).unwrap();
        let refusal = error_of_answer("wallet", status, &HeaderMap::new(), &body);
        prop_assert!(refusal.status().is_client_error() || refusal.status().is_server_error());
    }

    #[test]
    fn nor_does_any_json(code in "[A-Z_]{0,70}", message in any::<String>(), status in 400u16..600) {
        let status = StatusCode::from_u16(status).unwrap();
        let body = json!({"error": {"code": code, "message": message}}).to_string();
        let refusal = error_of_answer("wallet", status, &json_headers(), body.as_bytes());
        prop_assert!(refusal.status().is_client_error() || refusal.status().is_server_error());
        prop_assert!(!refusal.message().chars().any(char::is_control));
    }
}
