//! The mini-app.

use super::*;

#[tokio::test]
async fn a_webhook_is_checked_and_the_recording_says_so() {
    let bench = Bench::start().await;
    let body = r#"{"event":"payment.completed"}"#;
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, bench.webhook_secret.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, body.as_bytes());
    let good: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    for (signature, status) in [(good.as_str(), 200), ("00", 401)] {
        let request = bench.client.post(bench.miniapp("/webhooks/tmcp")).body(body);
        let answer = Answer::of(request.header("x-webhook-signature", format!("sha256={signature}"))).await;
        assert_eq!(answer.status.as_u16(), status);
    }
    let recorded = Answer::of(bench.client.get(bench.miniapp("/_sandbox/requests"))).await;
    assert_eq!(
        (recorded.at("/0/webhook/protocol"), recorded.at("/0/webhook/standard")),
        ("valid".into(), "absent".into())
    );
    assert_eq!(recorded.at("/1/webhook/protocol"), "invalid");
}

#[tokio::test]
async fn the_callback_shows_the_code_as_text() {
    let bench = Bench::start().await;
    let page = Answer::of(bench.client.get(bench.miniapp("/callback?code=abc&state=%3Cscript%3E"))).await;
    assert!(page.text.contains("<code>abc</code>") && page.text.contains("&lt;script&gt;"), "{}", page.text);
}
