use axum::Router;
use axum::extract::Request;
use axum::routing::{get, post};
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::clock::Clock;
use crate::config::Secret;
use crate::metrics::Metrics;
use crate::upstream::egress::EgressPolicy;
use crate::upstream::testing::{build, refusing, serve, upstream};

fn rules() -> UserRules {
    let service = AppService {
        id: "tween".to_owned(),
        url: String::new(),
        as_token: None,
        hs_tokens: Vec::new(),
        sender_localpart: "_tmcp".to_owned(),
        users: vec![Namespace { exclusive: true, regex: "@ma_.*".to_owned() }],
        aliases: Vec::new(),
        query_token: false,
        file: "registration.yaml".into(),
    };
    UserRules::new("tween.example", Some(&service)).unwrap()
}

async fn asking_homeserver() -> Identities {
    let whoami = |request: Request| async move {
        let token = request.headers()[AUTHORIZATION].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
        match token.as_str() {
            "dead" => (StatusCode::UNAUTHORIZED, json!({"errcode": "M_UNKNOWN_TOKEN", "error": "…"}).to_string()),
            "sick" => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
            "guest" => (StatusCode::OK, json!({"user_id": "@7:tween.example", "is_guest": true}).to_string()),
            user => (StatusCode::OK, json!({"user_id": user, "device_id": "DEV"}).to_string()),
        }
    };
    let address = serve(Router::new().route("/_matrix/client/v3/account/whoami", get(whoami))).await.to_string();
    let backend = build(upstream(&[&address]), &Clock::system()).unwrap();
    Identities::of_homeserver(Homeserver::new(backend, None, Arc::new(Metrics::new(&[]).unwrap())), rules())
}

async fn asking_service(answer: Value) -> Identities {
    let introspect = move |request: Request| async move {
        // `shop edge:s%cret`, each part form-encoded.
        assert_eq!(request.headers()[AUTHORIZATION], format!("Basic {}", STANDARD.encode("shop+edge:s%25cret")));
        let body = axum::body::to_bytes(request.into_body(), 1000).await.unwrap();
        assert_eq!(body.as_ref(), b"token=mat_abc&token_type_hint=access_token");
        answer.to_string()
    };
    let address = serve(Router::new().route("/introspect", post(introspect))).await;
    service_at(&format!("http://{address}/introspect"))
}

fn service_at(url: &str) -> Identities {
    let service = MatrixAuthService {
        introspection_url: Url::parse(url).unwrap(),
        client_id: "shop edge".to_owned(),
        client_secret: Secret::new("s%cret"),
        host_clients: vec!["chat".to_owned()],
    };
    let egress = Arc::new(Egress::new(EgressPolicy::with_loopback()).unwrap());
    Identities::of_service(service, egress, rules())
}

async fn code(identities: &Identities, token: &str) -> Result<String, Code> {
    identities.whose(token).await.map(|whoami| whoami.user.to_string()).map_err(|refusal| refusal.code())
}

#[tokio::test]
async fn the_homeserver_is_asked_and_only_our_users_count() {
    let identities = asking_homeserver().await;
    for (token, answer) in [
        ("@alice:tween.example", Ok("@alice:tween.example".to_owned())),
        ("@alice:other.example", Err(Code::Forbidden)),
        ("@_tmcp:tween.example", Err(Code::Forbidden)),
        ("@ma_shop_001_bot:tween.example", Err(Code::Forbidden)),
        ("guest", Err(Code::Forbidden)),
        ("dead", Err(Code::InvalidToken)),
        ("", Err(Code::InvalidToken)),
        ("a b", Err(Code::InvalidToken)),
        ("tep.a.b.c", Err(Code::InvalidToken)),
        ("a.b.c", Err(Code::InvalidToken)),
        ("sick", Err(Code::ServiceUnavailable)),
    ] {
        assert_eq!(code(&identities, token).await, answer, "{token}");
    }
}

#[tokio::test]
async fn an_introspection_is_believed_only_of_listed_clients() {
    let api = "openid urn:matrix:org.matrix.msc2967.client:api:* urn:matrix:org.matrix.msc2967.client:device:DEV";
    let good = json!({"active": true, "client_id": "chat", "username": "alice", "sub": "01HX", "scope": api});
    let whoami = asking_service(good.clone()).await.whose("mat_abc").await.unwrap();
    assert_eq!((whoami.user.as_str(), whoami.device_id.as_deref()), ("@alice:tween.example", Some("DEV")));
    let with = |name: &str, value: Value| {
        let mut answer = good.clone();
        answer[name] = value;
        answer
    };
    let mut by_sub = with("sub", json!("@bob:tween.example"));
    by_sub.as_object_mut().unwrap().remove("username");
    let mut opaque = by_sub.clone();
    opaque["sub"] = json!("01HX");
    for (answer, expected) in [
        (by_sub, Ok("@bob:tween.example".to_owned())),
        (opaque, Err(Code::ServiceUnavailable)),
        (with("active", json!(false)), Err(Code::InvalidToken)),
        (with("client_id", json!("ma_shop_001")), Err(Code::Forbidden)),
        (with("client_id", Value::Null), Err(Code::Forbidden)),
        (with("scope", json!("openid email")), Err(Code::Forbidden)),
        (with("username", json!("ma_shop_001_bot")), Err(Code::Forbidden)),
        (with("username", json!("eve:other.example")), Err(Code::ServiceUnavailable)),
        (json!([]), Err(Code::ServiceUnavailable)),
    ] {
        assert_eq!(code(&asking_service(answer.clone()).await, "mat_abc").await, expected, "{answer}");
    }
    let nobody = service_at(&format!("http://{}/", refusing()));
    assert_eq!(code(&nobody, "mat_abc").await, Err(Code::ServiceUnavailable));
}
