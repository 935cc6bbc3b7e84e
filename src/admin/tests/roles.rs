//! Every endpoint with every role. A new endpoint has to be added to [`SAMPLES`], or the test fails.

use super::*;

/// How to ask each endpoint so that it does what it is for: method and path as in the table, the path to ask, a body.
const SAMPLES: &[(&str, &str, &str, &str)] = &[
    ("GET", "/healthz", "/healthz", ""),
    ("GET", "/readyz", "/readyz", ""),
    ("GET", "/", "/", ""),
    ("GET", "/metrics", "/metrics", ""),
    ("GET", "/api/v1/status", "/api/v1/status", ""),
    ("GET", "/api/v1/routes", "/api/v1/routes", ""),
    ("GET", "/api/v1/upstreams", "/api/v1/upstreams", ""),
    ("GET", "/api/v1/breakers", "/api/v1/breakers", ""),
    ("POST", "/api/v1/reload", "/api/v1/reload", ""),
    ("GET", "/api/v1/cache", "/api/v1/cache", ""),
    ("DELETE", "/api/v1/cache", "/api/v1/cache?all=true", ""),
    ("POST", "/api/v1/cache/purge", "/api/v1/cache/purge", r#"{"all": true}"#),
    ("GET", "/api/v1/limits", "/api/v1/limits?app=ma_shop_001", ""),
    ("POST", "/api/v1/limits/reset", "/api/v1/limits/reset", r#"{"app": "ma_shop_001"}"#),
    ("GET", "/api/v1/lockouts", "/api/v1/lockouts?app=ma_shop_001", ""),
    ("POST", "/api/v1/lockouts/lift", "/api/v1/lockouts/lift", r#"{"app": "ma_shop_001"}"#),
    ("GET", "/api/v1/grants", "/api/v1/grants", ""),
    ("GET", "/api/v1/grants/{id}", "/api/v1/grants/GRANT", ""),
    ("DELETE", "/api/v1/grants/{id}", "/api/v1/grants/GRANT", ""),
    ("GET", "/api/v1/apps", "/api/v1/apps", ""),
    ("GET", "/api/v1/apps/{id}", "/api/v1/apps/ACTIVE", ""),
    ("POST", "/api/v1/apps/{id}/suspend", "/api/v1/apps/ACTIVE/suspend", r#"{"reason": "under review"}"#),
    ("POST", "/api/v1/apps/{id}/resume", "/api/v1/apps/SUSPENDED/resume", ""),
    ("GET", "/api/v1/revocations", "/api/v1/revocations", ""),
    ("POST", "/api/v1/revocations", "/api/v1/revocations", r#"{"user": "@mallory:tween.example"}"#),
    ("GET", "/api/v1/payments", "/api/v1/payments", ""),
    ("PUT", "/api/v1/payments", "/api/v1/payments", r#"{"payments": "off"}"#),
    ("GET", "/api/v1/audit", "/api/v1/audit", ""),
];

async fn ask(admin: &Running, endpoint: &Endpoint, token: Option<&str>) -> (u16, Value) {
    let sample =
        SAMPLES.iter().find(|(method, path, ..)| *method == endpoint.method.as_str() && *path == endpoint.path);
    let (_, _, path, body) = sample.unwrap_or_else(|| panic!("no sample asks {} {}", endpoint.method, endpoint.path));
    let path = match *path {
        path if path.contains("GRANT") => path.replace("GRANT", &changes::grant(admin).await),
        path if path.contains("ACTIVE") => path.replace("ACTIVE", changes::app(admin, false).await.as_str()),
        path if path.contains("SUSPENDED") => path.replace("SUSPENDED", changes::app(admin, true).await.as_str()),
        path => path.to_owned(),
    };
    let mut request = admin.client.request(endpoint.method.clone(), format!("http://{}{path}", admin.address));
    if !body.is_empty() {
        request = request.body(*body);
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let (status, body) = answer(request).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn every_endpoint_answers_the_roles_that_it_is_for_and_nobody_else() {
    for configured in ["127.0.0.1:9090", "0.0.0.0:9090"] {
        let admin = running(configured, Ok(8)).await;
        for endpoint in ENDPOINTS {
            let asked = format!("{} {} at {configured}", endpoint.method, endpoint.path);
            let alone = match endpoint.access {
                Access::Anybody => 200,
                Access::Look if admin.edge.access.address.ip().is_loopback() => 200,
                Access::Look | Access::Role(_) => 401,
            };
            assert_eq!(ask(&admin, endpoint, None).await.0, alone, "nobody: {asked}");
            let wrong = if alone == 401 { 401 } else { 200 };
            assert_eq!(ask(&admin, endpoint, Some("demo-of-nobody")).await.0, wrong, "a wrong token: {asked}");
            for (role, token) in [(Role::Viewer, VIEWER), (Role::Operator, OPERATOR), (Role::Admin, &admin.token)] {
                let needed = match endpoint.access {
                    Access::Anybody | Access::Look => Role::Viewer,
                    Access::Role(needed) => needed,
                };
                let (status, body) = ask(&admin, endpoint, Some(token)).await;
                if role >= needed {
                    assert_eq!(status, 200, "{role}: {asked}: {body}");
                    continue;
                }
                assert_eq!(status, 403, "{role}: {asked}: {body}");
                let error = &body["error"];
                assert_eq!(error["code"], "FORBIDDEN");
                assert_eq!(error["details"], json!({"needed": needed.as_str(), "held": role.as_str()}));
                let message = error["message"].as_str().unwrap();
                assert!(message.contains(needed.as_str()) && message.contains(role.as_str()), "{message}");
            }
        }
    }
}

#[test]
fn what_changes_something_takes_more_than_looking_and_has_a_name_in_the_audit() {
    for endpoint in ENDPOINTS {
        let changes = endpoint.method != "GET";
        let operator = matches!(endpoint.access, Access::Role(role) if role >= Role::Operator);
        assert_eq!((operator, endpoint.action.is_some()), (changes, changes), "{} {}", endpoint.method, endpoint.path);
    }
    assert_eq!(SAMPLES.len(), ENDPOINTS.len(), "a sample asks for what there is no longer");
}

#[tokio::test]
async fn every_change_leaves_a_line_before_it_is_answered() {
    let admin = local().await;
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.action.is_some()) {
        let asked = format!("{} {}", endpoint.method, endpoint.path);
        let (_, denied) = ask(&admin, endpoint, Some(VIEWER)).await;
        let line = changes::last_line(&admin).await;
        assert_eq!(
            (&line["outcome"], &line["request_id"]),
            (&json!("refused"), &denied["error"]["request_id"]),
            "{asked}"
        );
        assert_eq!(line["actor"]["name"], "watch", "{asked}");
        assert_eq!(
            (&line["actor"]["role"], &line["target"]["method"]),
            (&json!("viewer"), &json!(endpoint.method.as_str()))
        );
        assert_eq!(ask(&admin, endpoint, Some(&admin.token)).await.0, 200, "{asked}");
        let line = changes::last_line(&admin).await;
        assert_eq!((&line["outcome"], &line["actor"]["name"]), (&json!("done"), &json!("root")), "{asked}");

        admin.edge.failing.fail(&["audit"]);
        let (status, body) = ask(&admin, endpoint, Some(&admin.token)).await;
        let kill_switch = endpoint.path == "/api/v1/payments";
        assert_eq!(status, if kill_switch { 200 } else { 503 }, "{asked}: {body}");
        admin.edge.failing.fail(&[]);
    }
}

fn document() -> Value {
    serde_json::from_str(include_str!("../../../docs/admin-api.json")).unwrap()
}

#[test]
fn the_document_names_every_endpoint_with_its_role_and_no_other() {
    let document = document();
    let mut documented = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let of =
                |endpoint: &&Endpoint| endpoint.path == path && endpoint.method.as_str().eq_ignore_ascii_case(method);
            let endpoint = ENDPOINTS.iter().find(of).unwrap_or_else(|| panic!("there is no {method} {path}"));
            let role = match endpoint.access {
                Access::Anybody => "anybody",
                Access::Look => "look",
                Access::Role(role) => role.as_str(),
            };
            assert_eq!(operation["x-role"], role, "{method} {path}");
            documented += 1;
        }
    }
    assert_eq!(documented, ENDPOINTS.len(), "docs/admin-api.json leaves some out");
}

/// Holds an answer against what the document says of it.
fn holds(document: &Value, endpoint: &Endpoint, status: u16, body: &Value) {
    let operation = &document["paths"][endpoint.path][endpoint.method.as_str().to_lowercase()];
    let answer = &operation["responses"][status.to_string()];
    assert!(answer.is_object(), "{} {}: {status} is not documented", endpoint.method, endpoint.path);
    let Some(schema) = answer["content"].get("application/json").map(|content| &content["schema"]) else { return };
    let whole = json!({"allOf": [schema], "components": document["components"]});
    let validator = jsonschema::validator_for(&whole).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(body).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{} {} {status}: {faults:?}: {body}", endpoint.method, endpoint.path);
}

#[tokio::test]
async fn answers_are_as_documented() {
    let (admin, document) = (local().await, document());
    for endpoint in ENDPOINTS {
        for token in [Some(admin.token.as_str()), Some(VIEWER), None] {
            let (status, body) = ask(&admin, endpoint, token).await;
            holds(&document, endpoint, status, &body);
        }
    }
}
