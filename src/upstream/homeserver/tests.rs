use axum::Router;
use axum::extract::{Path, Request};
use axum::routing::get;
use serde_json::{Value, json};

use super::*;
use crate::clock::Clock;
use crate::config;
use crate::error::Code;
use crate::metrics::Metrics;
use crate::upstream::testing::{build, refusing, serve, upstream};

/// A homeserver that answers by what the token says; its answers are those of a real one.
fn whoami_router() -> Router {
    let handler = |request: Request| async move {
        let token = request.headers()[header::AUTHORIZATION].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
        let (status, body) = match token.as_str() {
            "good" => (200, json!({"user_id": "@alice:tween.example", "device_id": "DEV", "is_guest": false})),
            "admin" => (200, json!({"user_id": "@admin:tween.example"})),
            "expired" => (401, json!({"errcode": "M_UNKNOWN_TOKEN", "error": "…", "soft_logout": true})),
            "locked" => (401, json!({"errcode": "M_USER_LOCKED", "error": "…", "soft_logout": true})),
            "unknown" => (401, json!({"errcode": "M_UNKNOWN_TOKEN", "error": "…", "soft_logout": false})),
            "limited" => (429, json!({"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 2001})),
            "sick" => (500, json!({"errcode": "M_UNKNOWN"})),
            "proxy" => (401, json!("a reverse proxy's own 401")),
            "absent" => (404, json!({"errcode": "M_UNRECOGNIZED"})),
            "odd" => (200, json!({"user_id": "alice"})),
            _ => (200, json!([])),
        };
        (StatusCode::from_u16(status).unwrap(), body.to_string())
    };
    Router::new().route("/_matrix/client/v3/account/whoami", get(handler))
}

async fn homeserver(router: Router, admin: Option<&str>) -> Homeserver {
    let address = serve(router).await.to_string();
    let admin_api = admin.map(|token| config::AdminApi { token: Secret::new(token) });
    let backend = build(config::Upstream { admin_api, ..upstream(&[&address]) }, &Clock::system()).unwrap();
    Homeserver::new(backend, Some(Secret::new("as_demo")), Arc::new(Metrics::new(&[]).unwrap()))
}

#[tokio::test]
async fn whose_token_it_is() {
    let homeserver = homeserver(whoami_router(), None).await;
    let alice = homeserver.whoami("good").await.unwrap();
    assert_eq!(
        (alice.user.as_str(), alice.device_id.as_deref(), alice.is_guest),
        ("@alice:tween.example", Some("DEV"), false)
    );
    assert_eq!(homeserver.whoami("admin").await.unwrap().device_id, None);
    for (token, soft) in [("expired", true), ("locked", true), ("unknown", false)] {
        match homeserver.whoami(token).await {
            Err(WhoamiError::Rejected { soft_logout }) => assert_eq!(soft_logout, soft, "{token}"),
            other => panic!("{token}: {other:?}"),
        }
    }
    for (token, code, wait) in [
        ("limited", Code::ServiceUnavailable, Some(3)),
        ("sick", Code::ServiceUnavailable, Some(5)),
        ("proxy", Code::ServiceUnavailable, Some(5)),
        ("absent", Code::ServiceUnavailable, Some(5)),
        ("odd", Code::UpstreamError, None),
        ("nonsense", Code::UpstreamError, None),
    ] {
        match homeserver.whoami(token).await {
            Err(WhoamiError::Unavailable(refusal)) => {
                assert_eq!((refusal.code(), refusal.retry_after_seconds()), (code, wait), "{token}");
            }
            other => panic!("{token}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_a_token_is_not_asked_about() {
    let backend = build(upstream(&[&refusing().to_string()]), &Clock::system()).unwrap();
    let homeserver = Homeserver::new(backend, None, Arc::new(Metrics::new(&[]).unwrap()));
    for token in ["", "é", "a b", "a\r\nX-Evil: 1", "a\u{0}"] {
        let answer = homeserver.whoami(token).await;
        assert!(matches!(answer, Err(WhoamiError::Rejected { soft_logout: false })), "{token:?}: {answer:?}");
    }
    assert!(matches!(homeserver.whoami("ascii").await, Err(WhoamiError::Unavailable(_))));
}

fn user(name: &str) -> UserId {
    UserId::parse(&format!("@{name}:tween.example")).unwrap()
}

#[tokio::test]
async fn the_members_of_a_room() {
    let members = |Path(room): Path<String>, request: Request| async move {
        assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer as_demo");
        let (status, body): (u16, Value) = match room.as_str() {
            "!chat:tween.example" => (
                200,
                json!({"joined": {
                    "@alice:tween.example": {"display_name": "A", "avatar_url": null}, "@bob:tween.example": {},
                }}),
            ),
            "!empty:tween.example" => (200, json!({"joined": {}})),
            "!odd:tween.example" => (200, json!({"members": []})),
            "!sick:tween.example" => (502, json!("bad gateway")),
            _ => (403, json!({"errcode": "M_FORBIDDEN"})),
        };
        (StatusCode::from_u16(status).unwrap(), body.to_string())
    };
    let router = Router::new().route("/_matrix/client/v3/rooms/{room}/joined_members", get(members));
    let homeserver = homeserver(router, None).await;
    let ask = async |room: &str, a: &str, b: &str| {
        homeserver.share_room(&RoomId::parse(room).unwrap(), &user(a), &user(b)).await
    };
    assert!(ask("!chat:tween.example", "alice", "bob").await.unwrap());
    assert!(!ask("!chat:tween.example", "alice", "carol").await.unwrap());
    assert!(!ask("!empty:tween.example", "alice", "bob").await.unwrap());
    assert!(matches!(ask("!other:tween.example", "alice", "bob").await, Err(RoomError::NotAskable)));
    assert!(matches!(ask("!odd:tween.example", "alice", "bob").await, Err(RoomError::Unavailable(_))));
    assert!(matches!(ask("!sick:tween.example", "alice", "bob").await, Err(RoomError::Unavailable(_))));
    assert!(matches!(homeserver.share_any_room(&user("alice"), &user("bob")).await, Err(RoomError::NotAskable)));
}

#[tokio::test]
async fn without_a_token_nobody_is_asked() {
    let backend = build(upstream(&[&refusing().to_string()]), &Clock::system()).unwrap();
    let answer = Homeserver::new(backend, None, Arc::new(Metrics::new(&[]).unwrap()))
        .share_room(&RoomId::parse("!chat:tween.example").unwrap(), &user("alice"), &user("bob"))
        .await;
    assert!(matches!(answer, Err(RoomError::NotAskable)));
}

#[tokio::test]
async fn any_room_at_all() {
    let rooms = |Path(user): Path<String>, request: Request| async move {
        assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer admin_demo");
        let (status, body): (u16, Value) = match user.as_str() {
            "@alice:tween.example" => (200, json!({"joined_rooms": ["!a", "!b"], "total": 2})),
            "@bob:tween.example" => (200, json!({"joined_rooms": ["!b", "!c"], "total": 2})),
            "@carol:tween.example" => (200, json!({"joined_rooms": ["!c"], "total": 1})),
            "@hermit:tween.example" => (200, json!({"joined_rooms": [], "total": 0})),
            "@forbidden:tween.example" => (403, json!({"errcode": "M_FORBIDDEN"})),
            _ => (404, json!({"errcode": "M_NOT_FOUND"})),
        };
        (StatusCode::from_u16(status).unwrap(), body.to_string())
    };
    let router = Router::new().route("/_synapse/admin/v1/users/{user}/joined_rooms", get(rooms));
    let homeserver = homeserver(router, Some("admin_demo")).await;
    for (a, b, expected) in [
        ("alice", "bob", true),
        ("alice", "carol", false),
        ("alice", "hermit", false),
        ("hermit", "alice", false),
        ("alice", "nobody", false),
        ("alice", "alice", true),
        ("hermit", "hermit", false),
    ] {
        assert_eq!(homeserver.share_any_room(&user(a), &user(b)).await.unwrap(), expected, "{a} {b}");
    }
    let answer = homeserver.share_any_room(&user("forbidden"), &user("bob")).await;
    assert!(matches!(answer, Err(RoomError::Unavailable(_))));
}

#[tokio::test]
async fn a_sign_in_leaves_no_session_behind() {
    let open = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (opened, closed) = (open.clone(), open.clone());
    let login = move |headers: HeaderMap, body: axum::body::Bytes| async move {
        assert_eq!(headers["x-forwarded-for"], "2001:db8::7");
        let said: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (said["type"].as_str(), said["identifier"]["type"].as_str()),
            (Some("m.login.password"), Some("m.id.user"))
        );
        match (said["identifier"]["user"].as_str().unwrap(), said["password"].as_str().unwrap()) {
            ("alice", "pass") => {
                opened.lock().unwrap().push("syt_1".to_owned());
                (StatusCode::OK, json!({"user_id": "@alice:tween.example", "access_token": "syt_1", "device_id": "D"}))
            }
            ("busy", _) => {
                (StatusCode::TOO_MANY_REQUESTS, json!({"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 2001}))
            }
            _ => (StatusCode::FORBIDDEN, json!({"errcode": "M_FORBIDDEN", "error": "…"})),
        }
    };
    let login = move |headers, body| async move {
        let (status, body) = login(headers, body).await;
        (status, body.to_string())
    };
    let logout = move |request: Request| async move {
        let token = request.headers()[header::AUTHORIZATION].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
        closed.lock().unwrap().retain(|open| *open != token);
        "{}"
    };
    let router = Router::new()
        .route("/_matrix/client/v3/login", axum::routing::post(login))
        .route("/_matrix/client/v3/logout", axum::routing::post(logout));
    let homeserver = homeserver(router, None).await;
    let client = "2001:db8::7".parse().unwrap();
    let alice = homeserver.sign_in("alice", "pass", client).await.unwrap().unwrap();
    assert_eq!(alice.user.as_str(), "@alice:tween.example");
    assert!(open.lock().unwrap().is_empty());
    assert!(homeserver.sign_in("alice", "wrong", client).await.unwrap().is_none());
    let busy = homeserver.sign_in("busy", "pass", client).await.unwrap_err();
    assert_eq!((busy.code(), busy.retry_after_seconds()), (Code::ServiceUnavailable, Some(3)));
}

/// The homeserver has said whose they are; that it then fails does not make them wrong.
#[tokio::test]
async fn a_session_that_cannot_be_closed_keeps_nobody_out() {
    let login =
        || async { json!({"user_id": "@alice:tween.example", "access_token": "t", "device_id": "D"}).to_string() };
    let router = Router::new()
        .route("/_matrix/client/v3/login", axum::routing::post(login))
        .route("/_matrix/client/v3/logout", axum::routing::post(|| async { StatusCode::INTERNAL_SERVER_ERROR }));
    let homeserver = homeserver(router, None).await;
    let alice = homeserver.sign_in("alice", "pass", [127, 0, 0, 1].into()).await.unwrap().unwrap();
    assert_eq!(alice.user.as_str(), "@alice:tween.example");
}
