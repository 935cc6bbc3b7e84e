//! The three servers over HTTP, as the edge meets them.

mod desk;
mod homeserver;
mod miniapp;
mod wallet;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

use super::*;

const ALICE: &str = "@alice:tween.example";
const BOB: &str = "@bob:tween.example";
const SHOP: &str = "ma_shop_001";

/// A sandbox whose time is moved by hand.
struct Bench {
    running: Running,
    client: reqwest::Client,
    millis: Arc<AtomicU64>,
    webhook_secret: String,
    as_token: String,
    hs_token: String,
}

/// An answer, whole.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Answer {
    async fn of(request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {:?}", self.text))
    }

    /// The text of a field, by JSON pointer.
    fn at(&self, pointer: &str) -> String {
        let json = self.json();
        let value = json.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {json}"));
        value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
    }

    /// Status and error code.
    fn refusal(&self) -> (u16, String) {
        (self.status.as_u16(), self.at("/error/code"))
    }
}

impl Bench {
    async fn start() -> Bench {
        let millis = Arc::new(AtomicU64::new(1_700_000_000_000));
        let hand = millis.clone();
        let now: Now = Arc::new(move || Duration::from_millis(hand.load(Ordering::Relaxed)));
        let config = SandboxConfig::demo(now).unwrap();
        let (webhook_secret, as_token, hs_token) =
            (config.webhook_secret.clone(), config.as_token.clone(), config.hs_token.clone());
        let running = Sandbox::start(config).await.unwrap();
        Bench { running, client: reqwest::Client::new(), millis, webhook_secret, as_token, hs_token }
    }

    fn now(&self) -> u64 {
        self.millis.load(Ordering::Relaxed) / 1000
    }

    fn advance(&self, seconds: u64) {
        self.millis.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    fn wallet(&self, path: &str) -> String {
        format!("{}{path}", self.running.wallet.as_ref().unwrap().base_url())
    }

    fn homeserver(&self, path: &str) -> String {
        format!("{}{path}", self.running.homeserver.as_ref().unwrap().base_url())
    }

    fn miniapp(&self, path: &str) -> String {
        format!("{}{path}", self.running.miniapp.as_ref().unwrap().base_url())
    }

    /// A wallet call with the identity that the edge would add.
    async fn call(&self, method: Method, user: &str, path: &str, body: &str) -> Answer {
        let request = self.client.request(method, self.wallet(path));
        Answer::of(request.header("x-tmcp-user-id", user).header("x-tmcp-app-id", SHOP).body(body.to_owned())).await
    }

    async fn get(&self, user: &str, path: &str) -> Answer {
        self.call(Method::GET, user, path, "").await
    }

    async fn post(&self, user: &str, path: &str, body: &str) -> Answer {
        self.call(Method::POST, user, path, body).await
    }

    /// The available balance as the wallet writes it.
    async fn available(&self, user: &str) -> String {
        let text = self.get(user, "/wallet/v1/balance").await.text;
        let digits = text.split("\"available\":").nth(1).unwrap();
        digits.split(',').next().unwrap().to_owned()
    }
}
