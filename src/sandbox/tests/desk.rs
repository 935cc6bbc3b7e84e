//! Recording and faults.

use serde_json::json;

use super::*;

#[tokio::test]
async fn what_arrives_is_shown_oldest_first_until_it_is_deleted() {
    let bench = Bench::start().await;
    bench.get(ALICE, "/wallet/v1/balance?x=%2F").await;
    bench.post(ALICE, "/nowhere", r#"{"amount": 5000.00}"#).await;
    let url = bench.wallet("/_sandbox/requests");
    let recorded = Answer::of(bench.client.get(&url)).await;
    assert_eq!(recorded.json().as_array().unwrap().len(), 2);
    assert_eq!(recorded.at("/0/path"), "/wallet/v1/balance?x=%2F");
    assert_eq!(recorded.at("/0/headers/x-tmcp-user-id"), ALICE);
    assert_eq!((recorded.at("/1/method"), recorded.at("/1/body")), ("POST".into(), r#"{"amount": 5000.00}"#.into()));
    assert_eq!(Answer::of(bench.client.delete(&url)).await.status, StatusCode::NO_CONTENT);
    assert_eq!(Answer::of(bench.client.get(&url)).await.text, "[]");
}

#[tokio::test]
async fn a_fault_answers_instead_as_often_as_it_says() {
    let bench = Bench::start().await;
    let faults = bench.wallet("/_sandbox/faults");
    let fault = json!({"path": "/wallet", "status": 500, "times": 1});
    assert_eq!(Answer::of(bench.client.post(&faults).json(&fault)).await.status, StatusCode::NO_CONTENT);
    assert_eq!(bench.get(ALICE, "/health").await.status, StatusCode::OK);
    assert_eq!(bench.get(ALICE, "/wallet/v1/balance").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(bench.get(ALICE, "/wallet/v1/balance").await.status, StatusCode::OK);
    let bad = Answer::of(bench.client.post(&faults).body("{}")).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    assert!(bad.text.contains("missing field `path`"), "{}", bad.text);
}

#[tokio::test]
async fn a_dropped_connection_has_no_answer_and_the_request_is_recorded() {
    let bench = Bench::start().await;
    let faults = bench.wallet("/_sandbox/faults");
    Answer::of(bench.client.post(&faults).json(&json!({"path": "/wallet", "drop": true}))).await;
    for version in [reqwest::Version::HTTP_11, reqwest::Version::HTTP_2] {
        let client = match version {
            reqwest::Version::HTTP_2 => reqwest::Client::builder().http2_prior_knowledge().build().unwrap(),
            _ => bench.client.clone(),
        };
        let error = client.get(bench.wallet("/wallet/v1/balance")).send().await.unwrap_err();
        assert!(error.status().is_none(), "{error}");
    }
    Answer::of(bench.client.delete(&faults)).await;
    assert_eq!(bench.get(ALICE, "/wallet/v1/balance").await.status, StatusCode::OK);
    assert_eq!(bench.running.wallet.as_ref().unwrap().desk.recorder.all().len(), 3);
}

#[tokio::test]
async fn nothing_comes_back_from_a_dropped_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let bench = Bench::start().await;
    let wallet = bench.running.wallet.as_ref().unwrap();
    wallet.desk.faults.set(serde_json::from_value(json!({"path": "/", "drop": true})).unwrap());
    let mut socket = tokio::net::TcpStream::connect(wallet.address()).await.unwrap();
    socket.write_all(b"GET /health HTTP/1.1\r\nHost: wallet\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The connection may end in order or by a reset; either way without a byte.
    let _ = socket.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let bench = Bench::start().await;
    let taken = bench.running.wallet.as_ref().unwrap().address();
    let now: Now = Arc::new(|| Duration::ZERO);
    let config = SandboxConfig { wallet: Some(taken), ..SandboxConfig::demo(now).unwrap() };
    let Err(error) = Sandbox::start(config).await else { panic!("two servers share {taken}") };
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
}

#[tokio::test]
async fn a_part_starts_alone_and_stops() {
    let now: Now = Arc::new(|| Duration::ZERO);
    let config = SandboxConfig { homeserver: None, miniapp: None, ..SandboxConfig::demo(now).unwrap() };
    let running = Sandbox::start(config).await.unwrap();
    assert!(running.homeserver.is_none() && running.miniapp.is_none());
    let url = format!("{}/health", running.wallet.as_ref().unwrap().base_url());
    assert_eq!(reqwest::get(&url).await.unwrap().status(), StatusCode::OK);
    running.shutdown().await;
    assert!(reqwest::Client::new().get(&url).send().await.unwrap_err().is_connect());
}
