//! From a user to a wallet, between people who share a room (protocol section 4).

use serde_json::{Value, json};
use tmcp_edge::sandbox::faults::Fault;

use crate::edge::{APP, ROOM, Setup, TestEdge, fresh_user, ordinary, user};
use crate::wire::{Answer, Request, Wire};

/// What the homeserver has been asked about rooms, and the wallet about users.
fn questions(edge: &TestEdge) -> (usize, usize) {
    let asked = |paths: Vec<String>, part: &str| paths.iter().filter(|path| path.contains(part)).count();
    let paths = |served: &tmcp_edge::sandbox::Served| {
        served.desk.recorder.all().iter().map(|request| request.path.clone()).collect()
    };
    (asked(paths(edge.homeserver()), "/joined_"), asked(paths(edge.wallet()), "/resolve/"))
}

fn token(edge: &TestEdge, localpart: &str) -> String {
    edge.token_of(&user(localpart), APP, ordinary())
}

fn resolve(edge: &TestEdge, token: &str, whom: &str, room: Option<&str>) -> Answer {
    let query = room.map(|room| format!("?room_id={room}")).unwrap_or_default();
    edge.send(Request::get(&format!("/api/v1/wallet/resolve/{whom}{query}")).bearer(token))
}

fn batch(edge: &TestEdge, token: &str, whom: &[&str], room: Option<&str>) -> Answer {
    let mut body = json!({ "user_ids": whom });
    if let Some(room) = room {
        body["room_id"] = room.into();
    }
    edge.send(Request::post("/api/v1/wallet/resolve/batch", body.to_string()).bearer(token))
}

/// Makes a room, with the bot in it, or changes who is.
fn room(edge: &TestEdge, id: &str, joined: &[&str]) {
    let mut wire = Wire::to(edge.homeserver().address());
    let body = json!({"joined": joined.iter().chain(&["@_tmcp:tween.example"]).collect::<Vec<_>>()});
    let request = Request::new("PUT", &format!("/_sandbox/rooms/{id}"))
        .header("content-type", "application/json")
        .body(body.to_string());
    wire.write([request.head_bytes(), request.body_bytes()].concat()).unwrap();
    let answer = wire.answer().unwrap();
    assert!((200..300).contains(&answer.status), "{}", answer.text());
}

#[test]
fn only_people_in_the_same_room_are_resolved() {
    let edge = Setup::default().start();
    let alice = token(&edge, "alice");
    let stranger = edge.token_of(&fresh_user(), APP, ordinary());

    let answer = resolve(&edge, &alice, "@bob:tween.example", Some(ROOM));
    assert_eq!((answer.status, &answer.json()["user_id"]), (200, &json!("@bob:tween.example")), "{}", answer.text());
    assert!(answer.json()["wallet_id"].is_string());
    crate::headers::check_standing(&answer);
    assert_eq!(resolve(&edge, &alice, "%40bob%3Atween.example", Some("%21chat:tween.example")).status, 200);
    assert_eq!(resolve(&edge, &alice, "@alice:tween.example", None).status, 200, "oneself");

    let (_, asked) = questions(&edge);
    for (who, whom, room, why) in [
        (&alice, "@carol:tween.example", Some(ROOM), "not in the room"),
        (&stranger, "@bob:tween.example", Some(ROOM), "the caller is not in the room"),
        (&alice, "@bob:tween.example", Some("!elsewhere:tween.example"), "no such room"),
        (&alice, "@bob:tween.example", None, "no room, and nobody to ask about all of them"),
    ] {
        let answer = resolve(&edge, who, whom, room);
        assert_eq!(answer.verdict(), (403, "FORBIDDEN".into()), "{why}: {}", answer.text());
    }
    for (whom, room) in [
        ("bob", Some(ROOM)),
        ("@bob", Some(ROOM)),
        ("@b%20b:tween.example", Some(ROOM)),
        ("@bob:tween.example", Some("chat")),
        ("@bob:tween.example", Some("")),
    ] {
        let answer = resolve(&edge, &alice, whom, room);
        assert_eq!(answer.verdict(), (400, "VALIDATION_FAILED".into()), "{whom} {room:?}: {}", answer.text());
    }
    assert_eq!(questions(&edge).1, asked, "the wallet was asked about somebody whom the caller may not know");
}

#[test]
fn what_was_resolved_is_kept_and_who_may_know_is_not() {
    let edge = Setup::default().start();
    let alice = token(&edge, "alice");
    room(&edge, "!dinner:tween.example", &["@alice:tween.example", "@dave:tween.example"]);
    let ask = |token: &str| resolve(&edge, token, "@dave:tween.example", Some("!dinner:tween.example"));
    let first = ask(&alice);
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(ask(&alice).body, first.body);
    assert_eq!(ask(&alice).body, first.body);
    assert_eq!(questions(&edge), (3, 1), "three room checks, one resolution");

    // Another caller's answer is its own.
    room(&edge, "!dinner:tween.example", &["@alice:tween.example", "@dave:tween.example", "@bob:tween.example"]);
    assert_eq!(ask(&token(&edge, "bob")).status, 200);
    assert_eq!(questions(&edge).1, 2);

    room(&edge, "!dinner:tween.example", &["@alice:tween.example"]);
    assert_eq!(ask(&alice).verdict(), (403, "FORBIDDEN".into()), "whoever has left is not resolved from memory");
}

#[test]
fn the_wallet_is_told_who_asks_and_its_no_passes() {
    let edge = Setup::default().start();
    let alice = token(&edge, "alice");
    room(&edge, "!dinner:tween.example", &["@alice:tween.example", "@suspended1:tween.example"]);
    let request = Request::get("/wallet/v1/resolve/@suspended1:tween.example?room_id=!dinner:tween.example")
        .bearer(&alice)
        .header("x-tmcp-user-id", "@evil:tween.example");
    let answer = edge.send(request);
    assert_eq!(answer.verdict(), (403, "WALLET_SUSPENDED".into()), "{}", answer.text());
    let seen = edge.at_wallet("x-tmcp-user-id", "@alice:tween.example");
    assert_eq!(seen[0].path, "/wallet/v1/resolve/%40suspended1%3Atween.example");
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {alice}"));
    assert_eq!(seen[0].headers["x-trace-id"], answer.header("x-trace-id").unwrap());
}

#[test]
fn a_homeserver_in_trouble_is_no_yes() {
    let edge = Setup::default().start();
    let alice = token(&edge, "alice");
    assert_eq!(resolve(&edge, &alice, "@bob:tween.example", Some(ROOM)).status, 200);
    for (status, drop) in [(Some(http::StatusCode::INTERNAL_SERVER_ERROR), false), (None, true)] {
        let fault = Fault { path: "/_matrix".into(), status, body: None, delay_ms: 0, drop, times: Some(2) };
        edge.homeserver().desk.faults.set(fault);
        let answer = resolve(&edge, &alice, "@bob:tween.example", Some(ROOM));
        assert!(matches!(answer.status, 502 | 503), "{}", answer.text());
        edge.homeserver().desk.faults.clear();
    }
    assert_eq!(resolve(&edge, &alice, "@bob:tween.example", Some(ROOM)).status, 200);
}

#[test]
fn with_the_admin_api_any_shared_room_will_do() {
    let edge = Setup::default().with_admin_api().start();
    let alice = token(&edge, "alice");
    assert_eq!(resolve(&edge, &alice, "@bob:tween.example", None).status, 200);
    assert_eq!(resolve(&edge, &alice, "@carol:tween.example", None).verdict(), (403, "FORBIDDEN".into()));
    room(&edge, "!dinner:tween.example", &["@alice:tween.example", "@carol:tween.example"]);
    assert_eq!(resolve(&edge, &alice, "@carol:tween.example", None).status, 200);
}

#[test]
fn a_batch_answers_for_each_in_the_order_asked() {
    let edge = Setup::default().start();
    let alice = token(&edge, "alice");
    let joined = ["@alice:tween.example", "@dave:tween.example", "@erin:tween.example", "@suspended2:tween.example"];
    room(&edge, "!dinner:tween.example", &joined);
    // One is known already when the batch comes.
    assert_eq!(resolve(&edge, &alice, "@erin:tween.example", Some("!dinner:tween.example")).status, 200);
    let asked = [
        "@dave:tween.example",
        "@stranger:tween.example",
        "@erin:tween.example",
        "@suspended2:tween.example",
        "@alice:tween.example",
    ];
    let answer = batch(&edge, &alice, &asked, Some("!dinner:tween.example"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    let results = body["results"].as_array().unwrap();
    let told: Vec<(&str, &str)> = results
        .iter()
        .map(|one| {
            let code = one.pointer("/error/code").and_then(Value::as_str).unwrap_or("found");
            (one["user_id"].as_str().unwrap(), code)
        })
        .collect();
    let expected = ["found", "FORBIDDEN", "found", "WALLET_SUSPENDED", "found"];
    assert_eq!(told, asked.into_iter().zip(expected).collect::<Vec<_>>());
    assert_eq!((&body["resolved_count"], &body["total_count"]), (&json!(3), &json!(5)));

    let many: Vec<String> = (0..101).map(|id| format!("@u{id}:tween.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for bad in [&many[..], &[], &["bob"]] {
        let answer = batch(&edge, &alice, bad, Some(ROOM));
        assert_eq!(answer.verdict(), (400, "VALIDATION_FAILED".into()), "{} ids: {}", bad.len(), answer.text());
    }
    let twice = batch(&edge, &alice, &["@bob:tween.example", "@bob:tween.example"], Some(ROOM));
    assert!(matches!(twice.status, 200 | 400), "{}", twice.text());
    if twice.status == 200 {
        assert_eq!(twice.json()["results"].as_array().unwrap().len(), 2, "{}", twice.text());
    }
}
