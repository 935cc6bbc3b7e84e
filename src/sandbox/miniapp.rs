//! The sandbox mini-app: takes webhooks at any path, and shows the OAuth code that a consent ends with.

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::signature;

/// Every path of the mini-app. A webhook whose signature is wrong is answered 401, as a real receiver would.
pub fn routes(webhook_secret: &str) -> Router {
    async fn webhook(State(secret): State<String>, headers: HeaderMap, body: Bytes) -> Response {
        let verdict = signature::inspect(&secret, &headers, &body);
        let status = if verdict.is_refused() { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
        (status, axum::Json(json!({"received": !verdict.is_refused(), "webhook": verdict}))).into_response()
    }
    Router::new().route("/callback", get(callback)).fallback(webhook).with_state(webhook_secret.to_owned())
}

#[derive(Deserialize)]
struct Callback {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// GET /callback: where a consent redirects to.
async fn callback(Query(callback): Query<Callback>) -> Html<String> {
    let fields = [
        ("code", callback.code),
        ("state", callback.state),
        ("error", callback.error),
        ("error_description", callback.error_description),
    ];
    let rows: String = fields
        .into_iter()
        .filter_map(|(name, value)| Some(format!("<dt>{name}</dt><dd><code>{}</code></dd>\n", escape(&value?))))
        .collect();
    Html(format!(
        "<!doctype html>\n<title>Sandbox mini-app</title>\n<h1>Back at the mini-app</h1>\n<dl>\n{rows}</dl>\n"
    ))
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, letter| {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
        safe
    })
}
