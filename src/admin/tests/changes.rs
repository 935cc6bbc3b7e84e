//! What operators change, against a real store.

use super::*;
use crate::config::{MiniApp, Problems, Registration};
use crate::model::oauth::{ClientId, Grant, Via};
use crate::model::{MiniAppId, ScopeSet, UserId};
use crate::store::oauth::{Credential, Kind};

const APP: &str = "ma_shop_001";

/// A grant of a user of its own, and its id.
pub(super) async fn grant(admin: &Running) -> String {
    let user = format!("@user{}:tween.example", crate::telemetry::random::next());
    grant_of(admin, &user, APP).await
}

async fn grant_of(admin: &Running, user: &str, app: &str) -> String {
    let refresh = Credential::first(Kind::Refresh).unwrap();
    let now = u64::try_from(admin.edge.records.clock.unix().as_millis()).unwrap();
    let grant = Grant::given(
        ClientId::of(MiniAppId::parse(app).unwrap()),
        UserId::parse(user).unwrap(),
        ScopeSet::from_list("user:read wallet:balance"),
        Via::Device,
        (now, 0),
    );
    let grant = grant.begun(refresh.hash(), now);
    admin.edge.records.grants().create(refresh.grant(), &grant, Duration::from_secs(60)).await.unwrap();
    refresh.grant().to_string()
}

/// A mini-app of its own in the store, switched off or not.
pub(super) async fn app(admin: &Running, suspended: bool) -> MiniAppId {
    let id = MiniAppId::parse(&format!("ma_{}", crate::telemetry::random::next())).unwrap();
    let registrar = admin.edge.records.registrar();
    let entry = Registration {
        id: id.to_string(),
        name: "Shop".to_owned(),
        client_type: Some("public".to_owned()),
        ..Registration::default()
    };
    let source = |complete: &mut dyn FnMut(&mut MiniApp)| -> Result<Vec<MiniApp>, Problems> {
        entry.read("command line", complete).map(|app| vec![app])
    };
    registrar.add(&source, false).await.unwrap();
    if suspended {
        registrar.suspend(&id, None).await.unwrap();
    }
    id
}

/// The newest line of the audit; null: there is none.
pub(super) async fn last_line(admin: &Running) -> Value {
    let (status, mut body) = answer(admin.get("/api/v1/audit?limit=1").bearer_auth(VIEWER)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body.pointer_mut("/lines/0").map_or(Value::Null, Value::take)
}

impl Running {
    async fn see(&self, path: &str) -> (u16, Value) {
        let (status, body) = answer(self.get(path).bearer_auth(VIEWER)).await;
        (status.as_u16(), body)
    }

    async fn revoke(&self, body: Value) -> (u16, Value) {
        let (status, body) = answer(self.post("/api/v1/revocations").bearer_auth(OPERATOR).json(&body)).await;
        (status.as_u16(), body)
    }

    async fn switch(&self, body: &'static str) -> (u16, Value) {
        let request = self.client.put(format!("http://{}/api/v1/payments", self.address));
        let (status, body) = answer(request.bearer_auth(&self.token).body(body)).await;
        (status.as_u16(), body)
    }
}

#[tokio::test]
async fn grants_are_listed_looked_at_and_ended() {
    let admin = local().await;
    let alice = "@alice:tween.example";
    let shop = grant_of(&admin, alice, APP).await;
    let notes = grant_of(&admin, alice, "ma_notes_001").await;
    let bobs = grant_of(&admin, "@bob:tween.example", APP).await;

    let (_, one) = admin.see(&format!("/api/v1/grants/{shop}")).await;
    assert_eq!((&one["user"], &one["app"], &one["client"]), (&json!(alice), &json!(APP), &json!(APP)));
    assert_eq!((&one["kind"], &one["scopes"]), (&json!("device"), &json!(["user:read", "wallet:balance"])));
    assert_eq!((&one["withdrawn"], &one["ends_at"]), (&json!(false), &Value::Null));
    assert!(one["since"].as_str().unwrap().ends_with('Z') && one["last_refreshed"] == one["since"], "{one}");

    let ids = |body: &Value| {
        let mut ids: Vec<String> =
            body["grants"].as_array().unwrap().iter().map(|grant| grant["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    let sorted = |mut ids: Vec<&str>| {
        ids.sort_unstable();
        ids.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let (_, of_alice) = admin.see("/api/v1/grants?user=@alice:tween.example").await;
    assert_eq!(ids(&of_alice), sorted(vec![&shop, &notes]));
    let (_, first) = admin.see("/api/v1/grants?user=@alice:tween.example&limit=1").await;
    let next = first["next_cursor"].as_str().unwrap();
    let (_, second) = admin.see(&format!("/api/v1/grants?user=@alice:tween.example&limit=1&cursor={next}")).await;
    assert_eq!(sorted(vec![&shop, &notes]), {
        let mut both = [ids(&first), ids(&second)].concat();
        both.sort();
        both
    });
    let (_, of_shop) = admin.see(&format!("/api/v1/grants?app={APP}")).await;
    assert_eq!(ids(&of_shop), sorted(vec![&shop, &bobs]));

    let delete = |id: &str| admin.delete(&format!("/api/v1/grants/{id}")).bearer_auth(OPERATOR);
    let (status, ended) = answer(delete(&shop)).await;
    assert_eq!((status, &ended["id"], &ended["withdrawn"]), (StatusCode::OK, &json!(shop), &json!(true)));
    assert_eq!(code(delete(&shop)).await, (404, "NOT_FOUND".to_owned()));
    let line = last_line(&admin).await;
    assert_eq!((&line["action"], &line["outcome"]), (&json!("grant.end"), &json!("failed")));
    assert_eq!((&line["target"]["grant"], &line["actor"]["name"]), (&json!(shop), &json!("duty")));
    assert_eq!(admin.see(&format!("/api/v1/grants/{shop}")).await.0, 404);
    let (_, revocations) = admin.see("/api/v1/revocations").await;
    assert_eq!(revocations["revocations"][0]["what"], json!({"grant": shop}));
    let (_, of_alice) = admin.see("/api/v1/grants?user=@alice:tween.example").await;
    assert_eq!(ids(&of_alice), [notes]);

    assert_eq!(admin.revoke(json!({"user": "@bob:tween.example"})).await.0, 200);
    assert_eq!(admin.see(&format!("/api/v1/grants/{bobs}")).await.1["withdrawn"], true);
}

#[tokio::test]
async fn questions_that_make_no_sense_are_answered_so() {
    let admin = local().await;
    for bad in [
        "/api/v1/grants?user=alice",
        "/api/v1/grants?app=shop",
        "/api/v1/grants?limit=0",
        "/api/v1/grants?limit=201",
        "/api/v1/grants?limit=many",
        "/api/v1/grants?cursor=x",
        "/api/v1/grants?cursor=c3h4",
        "/api/v1/grants?users=x",
        "/api/v1/grants/x",
        "/api/v1/grants/%ff",
        "/api/v1/apps?cursor=shop",
        "/api/v1/apps/shop",
        "/api/v1/apps/%ff",
        "/api/v1/revocations?cursor=x",
        "/api/v1/revocations?limit=-1",
        "/api/v1/audit?since=yesterday",
        "/api/v1/audit?cursor=x",
        "/api/v1/audit?limit=1000",
    ] {
        assert_eq!(code(admin.get(bad).bearer_auth(VIEWER)).await, (400, "VALIDATION_FAILED".to_owned()), "{bad}");
    }
    for bad in
        [json!({}), json!({"user": "@a:b.c", "grant": "x"}), json!({"app": "shop"}), json!({"jti": "x"}), json!([])]
    {
        assert_eq!(admin.revoke(bad.clone()).await.0, 400, "{bad}");
    }
    for bad in ["", "{}", r#"{"payments": true}"#, r#"{"payments": "OFF"}"#, r#"{"payments": "off", "for": "1h"}"#] {
        assert_eq!(admin.switch(bad).await.0, 400, "{bad}");
    }
    assert_eq!(admin.see("/api/v1/audit").await.1, json!({"lines": [], "next_cursor": null}), "nothing was tried");
}

#[tokio::test]
async fn mini_apps_are_switched_off_and_on_again() {
    let admin = local().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(app(&admin, false).await.to_string());
    }
    ids.sort();
    let listed = |body: &Value| {
        let apps = body["apps"].as_array().unwrap().clone();
        apps.iter()
            .map(|app| (app["id"].as_str().unwrap().to_owned(), app["state"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let (_, first) = admin.see("/api/v1/apps?limit=2").await;
    let (_, second) =
        admin.see(&format!("/api/v1/apps?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    let active: Vec<_> = ids.iter().map(|id| (id.clone(), "active".to_owned())).collect();
    assert_eq!([listed(&first), listed(&second)].concat(), active);
    assert_eq!(second["next_cursor"], Value::Null);

    let post = |path: String, body: &'static str| answer(admin.post(&path).bearer_auth(OPERATOR).body(body));
    let id = &ids[1];
    let (status, off) = post(format!("/api/v1/apps/{id}/suspend"), r#"{"reason": "under review"}"#).await;
    assert_eq!(
        (status, &off["state"], &off["suspended"]["reason"]),
        (StatusCode::OK, &json!("suspended"), &json!("under review"))
    );
    assert_eq!(admin.see(&format!("/api/v1/apps/{id}")).await.1, off);
    let line = last_line(&admin).await;
    assert_eq!(
        (&line["action"], &line["target"]),
        (&json!("app.suspend"), &json!({"app": id, "reason": "under review"}))
    );
    let (_, revocations) = admin.see("/api/v1/revocations").await;
    assert_eq!(revocations["revocations"][0]["what"], json!({"app": id}));

    assert_eq!(post(format!("/api/v1/apps/{id}/resume"), "").await.1["state"], "active");
    let (status, error) = post(format!("/api/v1/apps/{id}/resume"), "").await;
    assert_eq!((status.as_u16(), &error["error"]["code"]), (400, &json!("VALIDATION_FAILED")), "{error}");
    assert_eq!(post(format!("/api/v1/apps/{id}/suspend"), "").await.0, StatusCode::OK, "a reason is no must");
    for bad in [r#"{"why": "x"}"#, r#"{"reason": "two\nlines"}"#, "x"] {
        assert_eq!(post(format!("/api/v1/apps/{id}/suspend"), bad).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    let (status, error) = post("/api/v1/apps/ma_nobody/suspend".to_owned(), "").await;
    assert_eq!((status.as_u16(), &error["error"]["code"]), (404, &json!("MINIAPP_NOT_FOUND")));
    assert_eq!(admin.see("/api/v1/apps/ma_nobody").await.0, 404);
}

#[tokio::test]
async fn tokens_and_keys_are_revoked() {
    let admin = local().await;
    for what in [
        json!({"app": APP}),
        json!({"user": "@alice:tween.example", "app": APP}),
        json!({"token": "jti-1"}),
        json!({"key": "k1", "issuer": "https://id.example"}),
    ] {
        let (status, body) = admin.revoke(what.clone()).await;
        assert_eq!((status, &body["what"]), (200, &what), "{body}");
        let line = last_line(&admin).await;
        assert_eq!((&line["action"], &line["target"], &line["outcome"]), (&json!("revoke"), &what, &json!("done")));
    }
    let (_, all) = admin.see("/api/v1/revocations?limit=4").await;
    assert_eq!((all["revocations"].as_array().unwrap().len(), &all["next_cursor"]), (4, &Value::Null));
    let (_, audit) = admin.see("/api/v1/audit?limit=4").await;
    assert_eq!((audit["lines"].as_array().unwrap().len(), &audit["next_cursor"]), (4, &Value::Null));
    let (_, first) = admin.see("/api/v1/revocations?limit=3").await;
    let next = first["next_cursor"].as_str().unwrap();
    let (_, rest) = admin.see(&format!("/api/v1/revocations?limit=3&cursor={next}")).await;
    assert_eq!((rest["revocations"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
    assert_eq!(rest["revocations"][0]["kind"], "key");

    let keyring = admin.edge.records.keyring.clone();
    let kids = || {
        keyring.list(0).unwrap().into_iter().map(|line| (line.kid, line.state.unwrap().as_str())).collect::<Vec<_>>()
    };
    let old = kids()[0].0.clone();
    assert_eq!(kids(), [(old.clone(), "signing")]);
    let (status, body) = admin.revoke(json!({"key": old, "issuer": ISSUER})).await;
    let new = body["signs_now"].as_str().unwrap().to_owned();
    assert_eq!((status, kids()), (200, vec![(old, "revoked"), (new, "signing")]));
    assert_eq!(last_line(&admin).await["action"], "key.revoke");
    assert_eq!(admin.revoke(json!({"key": "nonsense"})).await.0, 404);
}

#[tokio::test]
async fn payments_are_called_off_whatever_the_store_does() {
    let admin = local().await;
    let shown = |body: &Value| (body["payments"].as_str().unwrap().to_owned(), body["since"].is_string());
    let (_, body) = admin.see("/api/v1/payments").await;
    assert_eq!(shown(&body), ("on".to_owned(), false));
    assert!(body["log_age_ms"].is_u64(), "{body}");
    assert_eq!(shown(&admin.switch(r#"{"payments": "off"}"#).await.1), ("off".to_owned(), true));
    assert_eq!(last_line(&admin).await["action"], "payments.off");
    assert_eq!(shown(&admin.switch(r#"{"payments": "on"}"#).await.1), ("on".to_owned(), true));
    assert_eq!(last_line(&admin).await["action"], "payments.on");

    admin.edge.failing.fail(&["audit"]);
    assert_eq!(admin.switch(r#"{"payments": "off"}"#).await.0, 200);
    let (status, body) = admin.switch(r#"{"payments": "on"}"#).await;
    assert_eq!((status, &body["error"]["retry_after"]), (503, &json!(5)), "{body}");
    assert_eq!(shown(&admin.see("/api/v1/payments").await.1).0, "off");

    admin.edge.failing.fail(&[]);
    assert_eq!(admin.switch(r#"{"payments": "on"}"#).await.0, 200);
    admin.edge.failing.fail(&["audit", "revocations"]);
    let (status, body) = admin.switch(r#"{"payments": "off"}"#).await;
    assert_eq!((status, &body["error"]["details"]), (503, &json!({"payments_here": "off"})));
    assert_eq!(shown(&admin.see("/api/v1/payments").await.1).0, "off", "here at least");
    admin.edge.failing.fail(&[]);
    assert_eq!(shown(&admin.switch(r#"{"payments": "on"}"#).await.1).0, "on");
}

#[tokio::test]
async fn no_token_stands_in_an_audit_line() {
    let admin = local().await;
    admin
        .post(&format!("/api/v1/cache/purge?token={}", admin.token))
        .bearer_auth(&admin.token)
        .body(r#"{"all": true}"#)
        .send()
        .await
        .unwrap();
    admin.post("/api/v1/reload").bearer_auth(VIEWER).send().await.unwrap();
    let (_, body) = admin.see("/api/v1/audit").await;
    let text = body.to_string();
    assert_eq!(body["lines"].as_array().unwrap().len(), 2, "{text}");
    for secret in [admin.token.as_str(), OPERATOR, VIEWER] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn the_page_shows_the_switch_and_the_last_changes_but_not_about_whom() {
    let admin = local().await;
    admin.switch(r#"{"payments": "off"}"#).await;
    admin.revoke(json!({"user": "@alice:tween.example"})).await;
    let page = admin.get("/").send().await.unwrap().text().await.unwrap();
    for part in ["off since 20", "seen ", "payments.off", "revoke", "duty", "operator", "root"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("alice"), "{page}");
}

#[tokio::test]
async fn a_change_is_finished_when_its_asker_has_gone() {
    let admin = local().await;
    let outcome_is = async |expected: &str| {
        while last_line(&admin).await["outcome"] != expected {
            tokio::task::yield_now().await;
        }
    };
    let closed = admin.edge.gate.lock().await;
    let asking = tokio::spawn(admin.post("/api/v1/reload").bearer_auth(&admin.token).send());
    outcome_is("begun").await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    drop(closed);
    outcome_is("done").await;
}
