use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::rows::{Body, ROWS};

fn schemas() -> Schemas {
    Schemas::compile().unwrap()
}

fn findings(schemas: &Schemas, name: &str, body: &str) -> Vec<Finding> {
    let document = Document::read(body.as_bytes()).unwrap();
    schemas.get(schemas.find(name).unwrap()).unwrap().check(&document).err().unwrap_or_default()
}

#[test]
fn rows_files_and_program_name_the_same_schemas() {
    let rows: BTreeSet<String> = ROWS
        .iter()
        .filter_map(|row| match row.body {
            Body::Json(name) => Some(name.to_owned()),
            _ => None,
        })
        .collect();
    let sources: BTreeSet<String> = SOURCES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/schemas");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|file| file.strip_suffix(".json").map(str::to_owned))
        .filter(|name| name != "common")
        .collect();
    assert_eq!(rows, sources);
    assert_eq!(rows, files);
}

#[test]
fn every_schema_says_what_it_is_for_and_every_field_what_it_takes() {
    fn fields(name: &str, place: &str, schema: &Value) {
        let keywords = schema.as_object().unwrap();
        for (field, inner) in keywords.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let place = format!("{place}/{field}");
            assert!(inner["description"].is_string(), "{name}: {place} has no description");
            fields(name, &place, inner);
        }
        if let Some(items) = keywords.get("items") {
            assert!(items["description"].is_string(), "{name}: {place}/items has no description");
            fields(name, &format!("{place}/items"), items);
        }
    }
    let schemas = schemas();
    for (name, source) in SOURCES {
        let source: Value = serde_json::from_str(source).unwrap();
        assert_eq!(source["title"], *name);
        assert!(source["description"].as_str().unwrap().ends_with('.'), "{name}");
        let schema = schemas.get(schemas.find(name).unwrap()).unwrap();
        fields(name, "", &schema.rules);
        assert!(!schema.rules.to_string().contains("$ref"), "{name}");
    }
}

/// A body that each schema takes, with every field that it knows.
const GOOD: &[(&str, &str)] = &[
    (
        "auth_revoke",
        r#"{"miniapp_id":"ma_shop_001","scopes":["wallet:pay","storage:read","user:read:extended"],"reason":"done"}"#,
    ),
    ("auth_revoke", "{}"),
    ("client_bootstrap", r#"{"anything":[1]}"#),
    ("client_check_updates", r#"{"apps":[{"id":"ma_x","version":"1.0"}]}"#),
    (
        "gift_create",
        r#"{"type":"individual","recipient":"@bob:tween.example","amount":50.00,"currency":"USD","message":"for you","idempotency_key":"k"}"#,
    ),
    (
        "gift_create",
        r#"{"type":"group","room_id":"!chat:tween.example","total_amount":100,"count":10,"distribution":"random","currency":"USD","expires_in_seconds":86400,"idempotency_key":"k"}"#,
    ),
    ("gift_create", r#"{"amount":5,"currency":"USD","idempotency_key":"k"}"#),
    ("gift_open", r#"{"device_id":"d1","timestamp":"2026-01-31T12:00:00Z"}"#),
    ("miniapp_appeal", r#"{"reason":"It is fixed."}"#),
    (
        "miniapp_register",
        r#"{"name":"Shop","miniapp_id":"ma_shop_001","description":"","scopes":[],"redirect_uris":["https://shop.example/cb","com.example.shop:/cb"],"webhook_url":"https://shop.example/hook"}"#,
    ),
    ("miniapp_submit", r#"{"notes":"please"}"#),
    ("miniapp_update", r#"{"name":"Shop"}"#),
    (
        "p2p_initiate",
        r#"{"recipient":"@bob:tween.example","amount":5000.00,"currency":"USD","note":"lunch","room_id":"!chat:tween.example","idempotency_key":"6f1c"}"#,
    ),
    (
        "p2p_initiate",
        r#"{"recipient":"@b/o=b:[::1]:8448","amount":0.00000001,"currency":"EUR","idempotency_key":"6f1c","extra":{"is":"fine"}}"#,
    ),
    ("p2p_confirm", r#"{"auth_proof":{"method":"pin"}}"#),
    ("p2p_accept", r#"{"device_id":"d1","timestamp":1769860800}"#),
    ("p2p_reject", r#"{"reason":"user_declined","message":"no, thanks"}"#),
    (
        "payment_authorize",
        r#"{"signature":"MEUCIQDx+/==","device_id":"d1","timestamp":"2026-01-31T12:00:00.123+01:00"}"#,
    ),
    (
        "payment_initiate",
        r#"{"amount":15000.5,"currency":"USD","description":"Order","merchant_order_id":"o-1","items":[{"item_id":"i1","name":"Tea","quantity":2,"unit_price":0.0}],"callback_url":"https://shop.example/cb","idempotency_key":"k"}"#,
    ),
    ("payment_mfa_challenge", r#"{"method":"totp"}"#),
    (
        "payment_mfa_verify",
        r#"{"challenge_id":"c1","method":"transaction_pin","credentials":{"pin":"123456"},"device_id":"d1","timestamp":"2026-01-31T12:00:00Z"}"#,
    ),
    (
        "payment_mfa_verify",
        r#"{"challenge_id":"c1","method":"biometric","credentials":{"attestation":"abc","biometric_type":"face","platform":"ios"}}"#,
    ),
    ("payment_mfa_verify", r#"{"challenge_id":"c1","method":"totp","credentials":{"code":"123456"}}"#),
    ("payment_refund", r#"{"amount":1.50,"reason":"returned","idempotency_key":"k"}"#),
    ("rpc", r#"{"jsonrpc":"2.0","method":"tween.wallet.getBalance","id":1}"#),
    ("rpc", r#"[{"jsonrpc":"2.0","method":"x","id":1}]"#),
    ("storage_batch_get", r#"{"keys":["a","b"]}"#),
    ("storage_batch_set", r#"{"items":[{"key":"a","value":null},{"key":"b","value":{"x":[1]},"ttl":60}]}"#),
    ("storage_set", r#"{"value":"<b>stays</b>","ttl":2592000,"metadata":{},"client_timestamp":1769860800123}"#),
    ("store_install", "{}"),
    ("wallet_activate", "{}"),
    (
        "wallet_callback",
        r#"{"event":"payment.completed","transaction_id":"t1","amount":1.00,"currency":"USD","sender":"@a:x","recipient":{"user_id":"@b:x"},"room_id":"!r","note":"n","timestamp":"2026-01-31T12:00:00Z"}"#,
    ),
    (
        "wallet_device_register",
        r#"{"device_id":"d1","device_name":"Phone","platform":"ios","public_key":{"algorithm":"ECDSA_P256","format":"SPKI","key_data":"MFkw"},"biometric_capabilities":["face"]}"#,
    ),
    ("wallet_register", r#"{"display_name":"Alice","currency":"USD"}"#),
    (
        "wallet_resolve_batch",
        r#"{"user_ids":["@alice:tween.example","@bob:tween.example"],"room_id":"!chat:tween.example"}"#,
    ),
    ("webhook_redeliver", "{}"),
    (
        "webhook_subscriptions",
        r#"{"url":"https://shop.example/hook","events":["payment.*"],"room_ids":["!chat:tween.example"]}"#,
    ),
    ("webhook_test", r#"{"event":"payment.completed"}"#),
];

#[test]
fn every_schema_takes_what_the_protocol_shows() {
    let schemas = schemas();
    for (name, body) in GOOD {
        assert_eq!(findings(&schemas, name, body), [], "{name}: {body}");
    }
    let tried: BTreeSet<&str> = GOOD.iter().map(|(name, _)| *name).collect();
    assert_eq!(tried.len(), SOURCES.len(), "some schema has no good body in the table");
}

#[test]
fn no_schema_takes_a_scalar() {
    let schemas = schemas();
    for (name, _) in SOURCES {
        for body in ["null", "1", "\"text\"", "true"] {
            let found = findings(&schemas, name, body);
            assert!(
                found.iter().any(|one| one.pointer.is_empty() && one.rule == "type"),
                "{name} took {body}: {found:?}"
            );
        }
        if *name != "rpc" {
            assert!(!findings(&schemas, name, "[]").is_empty(), "{name} took an array");
        }
    }
}

#[test]
fn wrong_fields_are_found_by_pointer_and_rule() {
    let p2p = |field: &str, value: &str| {
        let mut body: Value = serde_json::from_str(
            r#"{"recipient":"@bob:tween.example","amount":1,"currency":"USD","idempotency_key":"k"}"#,
        )
        .unwrap();
        body[field] = Value::from("\u{1}");
        ("p2p_initiate", body.to_string().replace("\"\\u0001\"", value))
    };
    let long = |length: usize| format!("\"{}\"", "x".repeat(length));
    let table: Vec<((&str, String), &str, &str)> = vec![
        (p2p("amount", "0"), "/amount", "exclusiveMinimum"),
        (p2p("amount", "-1"), "/amount", "exclusiveMinimum"),
        (p2p("amount", "-0.0"), "/amount", "exclusiveMinimum"),
        (p2p("amount", "\"10\""), "/amount", "type"),
        (p2p("amount", "null"), "/amount", "type"),
        (p2p("amount", "1e3"), "/amount", "decimal"),
        (p2p("amount", "1E-2"), "/amount", "decimal"),
        (p2p("amount", "0.000000001"), "/amount", "decimal"),
        (p2p("amount", "1234567890123456"), "/amount", "decimal"),
        (p2p("amount", "12345678901234.56"), "/amount", "decimal"),
        (p2p("amount", "1e-400"), "/amount", "exclusiveMinimum"),
        (p2p("currency", "\"usd\""), "/currency", "pattern"),
        (p2p("currency", "\"USDT\""), "/currency", "pattern"),
        (p2p("currency", "\"USD\\n\""), "/currency", "pattern"),
        (p2p("recipient", "\"bob\""), "/recipient", "pattern"),
        (p2p("recipient", "\"@bob\""), "/recipient", "pattern"),
        (p2p("recipient", "\"@bob:x/../y\""), "/recipient", "pattern"),
        (p2p("recipient", "\"@b ob:x\""), "/recipient", "pattern"),
        (p2p("recipient", "{\"user_id\":\"@b:x\"}"), "/recipient", "type"),
        (p2p("note", &long(1001)), "/note", "maxLength"),
        (p2p("note", "7"), "/note", "type"),
        (p2p("room_id", "\"#chat:x\""), "/room_id", "pattern"),
        (p2p("idempotency_key", "\"\""), "/idempotency_key", "pattern"),
        (p2p("idempotency_key", &long(256)), "/idempotency_key", "maxLength"),
        (
            ("gift_create", r#"{"type":"group","currency":"USD","idempotency_key":"k"}"#.into()),
            "/total_amount",
            "required",
        ),
        (("gift_create", r#"{"currency":"USD","idempotency_key":"k"}"#.into()), "/amount", "required"),
        (
            ("gift_create", r#"{"amount":1,"currency":"USD","idempotency_key":"k","count":0}"#.into()),
            "/count",
            "minimum",
        ),
        (
            ("payment_authorize", r#"{"signature":"not base64!","device_id":"d","timestamp":0}"#.into()),
            "/signature",
            "pattern",
        ),
        (
            ("payment_authorize", r#"{"signature":"aa","device_id":"d","timestamp":"yesterday"}"#.into()),
            "/timestamp",
            "pattern",
        ),
        (("payment_authorize", r#"{"signature":"aa","device_id":"d","timestamp":1.5}"#.into()), "/timestamp", "type"),
        (
            (
                "payment_initiate",
                r#"{"amount":1,"currency":"USD","idempotency_key":"k","items":[{},{"quantity":0}]}"#.into(),
            ),
            "/items/1/quantity",
            "minimum",
        ),
        (
            (
                "payment_initiate",
                r#"{"amount":1,"currency":"USD","idempotency_key":"k","items":[{"unit_price":-1}]}"#.into(),
            ),
            "/items/0/unit_price",
            "minimum",
        ),
        (
            (
                "payment_initiate",
                r#"{"amount":1,"currency":"USD","idempotency_key":"k","callback_url":"file:///etc/passwd"}"#.into(),
            ),
            "/callback_url",
            "pattern",
        ),
        (
            ("payment_mfa_verify", r#"{"challenge_id":"c","method":"totp","credentials":{"pin":"1234"}}"#.into()),
            "/credentials/code",
            "required",
        ),
        (
            (
                "payment_mfa_verify",
                r#"{"challenge_id":"c","method":"totp","credentials":{"code":"123456","pin":"1234"}}"#.into(),
            ),
            "/credentials",
            "oneOf",
        ),
        (
            ("payment_mfa_verify", r#"{"challenge_id":"c","method":"sms","credentials":{"code":"123456"}}"#.into()),
            "/method",
            "enum",
        ),
        (("storage_set", r#"{"value":1,"ttl":59}"#.into()), "/ttl", "minimum"),
        (("storage_set", r#"{}"#.into()), "/value", "required"),
        (("storage_batch_get", format!(r#"{{"keys":["{}"]}}"#, "é".repeat(129))), "/keys/0", "maxBytes"),
        (("storage_batch_set", r#"{"items":[{"key":"a"}]}"#.into()), "/items/0/value", "required"),
        (("wallet_resolve_batch", r#"{"user_ids":[]}"#.into()), "/user_ids", "minItems"),
        (("wallet_resolve_batch", r#"{"user_ids":["@a:x","@\u0061:x"]}"#.into()), "/user_ids", "uniqueItems"),
        (("wallet_resolve_batch", r#"{"user_ids":[1,1.0]}"#.into()), "/user_ids", "uniqueItems"),
        (
            ("wallet_resolve_batch", format!(r#"{{"user_ids":[{}]}}"#, vec!["\"@a:x\""; 101].join(","))),
            "/user_ids",
            "maxItems",
        ),
        (
            ("wallet_device_register", r#"{"device_id":"d","public_key":{"algorithm":"ECDSA_P256"}}"#.into()),
            "/public_key/key_data",
            "required",
        ),
        (
            (
                "wallet_device_register",
                r#"{"device_id":"d","public_key":{"algorithm":"A","key_data":"k","format":"PEM"}}"#.into(),
            ),
            "/public_key/format",
            "const",
        ),
        (("auth_revoke", r#"{"scopes":["Wallet:Pay"]}"#.into()), "/scopes/0", "pattern"),
        (("webhook_subscriptions", r#"{"url":"javascript:alert(1)"}"#.into()), "/url", "pattern"),
        (("miniapp_update", "{}".into()), "", "minProperties"),
        (("rpc", "{}".into()), "", "minProperties"),
    ];
    let schemas = schemas();
    for ((name, body), pointer, rule) in table {
        let found = findings(&schemas, name, &body);
        assert!(found.iter().any(|one| one.pointer == pointer && one.rule == rule), "{name} {body}: {found:?}");
    }
}

#[test]
fn every_failing_field_is_listed_with_words_and_without_values() {
    let schemas = schemas();
    let found = findings(&schemas, "p2p_initiate", r#"{"recipient":"secret recipient","amount":-5000,"note":1}"#);
    let listed: BTreeSet<&str> = found.iter().map(|one| one.pointer.as_str()).collect();
    assert_eq!(listed, BTreeSet::from(["/amount", "/currency", "/idempotency_key", "/note", "/recipient"]));
    let amount = found.iter().find(|one| one.pointer == "/amount").unwrap();
    assert_eq!(
        amount.message,
        "must be greater than 0; expected an amount above 0 as a JSON number in plain decimals, at most 15 digits, 8 of them after the point"
    );
    let currency = found.iter().find(|one| one.pointer == "/currency").unwrap();
    assert_eq!(currency.message, "is required; expected a currency code of three capital letters, such as USD");

    let verify =
        r#"{"challenge_id":7777,"method":"4242","credentials":{"pin":"135x79","code":"9a7531"},"timestamp":"8642"}"#;
    let said = format!("{:?}", findings(&schemas, "payment_mfa_verify", verify));
    for value in ["7777", "4242", "135x79", "9a7531", "8642"] {
        assert!(!said.contains(value), "{said}");
    }
}

#[test]
fn findings_are_few_however_much_is_wrong() {
    let schemas = schemas();
    let wrong = |count: usize| format!(r#"{{"user_ids":[{}]}}"#, vec!["1"; count].join(","));
    assert_eq!(findings(&schemas, "wallet_resolve_batch", &wrong(200_000)).len(), MOST);
    // The only wrong element stands behind those that the listing looks at.
    let keys = format!(r#"{{"url":"https://a.example","room_ids":[{}1]}}"#, "\"!r\",".repeat(5000));
    assert!(!findings(&schemas, "webhook_subscriptions", &keys).is_empty());
    let events: Vec<String> = (0..2000).map(|n| format!("\"name{n}\":1")).collect();
    let found = findings(&schemas, "webhook_test", &format!(r#"{{{},"event":1}}"#, events.join(",")));
    assert_eq!((found.len(), found[0].pointer.as_str()), (1, "/event"));
}

#[test]
fn a_body_may_be_left_away_where_the_path_says_all() {
    let schemas = schemas();
    let optional = |name| schemas.get(schemas.find(name).unwrap()).unwrap().is_optional();
    for name in [
        "gift_open",
        "p2p_accept",
        "p2p_reject",
        "miniapp_submit",
        "webhook_redeliver",
        "payment_refund",
        "auth_revoke",
    ] {
        assert!(optional(name), "{name}");
    }
    for name in [
        "p2p_initiate",
        "payment_initiate",
        "payment_authorize",
        "payment_mfa_verify",
        "storage_set",
        "rpc",
        "miniapp_update",
    ] {
        assert!(!optional(name), "{name}");
    }
    assert!(schemas.find("no_such_schema").is_none());
}

/// Values that fit some field of some schema, and values that almost do.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "@bob:tween.example",
            "!chat:tween.example",
            "USD",
            "usd",
            "k",
            "",
            "group",
            "individual",
            "2026-01-31T12:00:00Z",
            "ma_shop_001",
            "https://shop.example/",
            "transaction_pin",
            "totp",
            "1234",
            "123456",
            "é",
            "SPKI",
            "wallet:pay",
        ])
        .prop_map(Value::from),
        prop::sample::select(vec![0_i64, 1, -1, 60, 1000, 1769860800]).prop_map(Value::from),
        prop::sample::select(vec![0.5, 1.0, -0.0, 5000.25]).prop_map(Value::from),
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(NAMES.to_vec()), inner, 0..10)
                .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

const NAMES: &[&str] = &[
    "recipient",
    "amount",
    "currency",
    "note",
    "room_id",
    "idempotency_key",
    "type",
    "total_amount",
    "count",
    "items",
    "key",
    "keys",
    "value",
    "ttl",
    "user_ids",
    "credentials",
    "pin",
    "code",
    "attestation",
    "method",
    "challenge_id",
    "device_id",
    "timestamp",
    "signature",
    "url",
    "public_key",
    "algorithm",
    "key_data",
    "format",
    "quantity",
    "unit_price",
    "name",
    "scopes",
    "event",
];

proptest! {
    /// The index shown as JSON is judged like a tree of the same text.
    #[test]
    fn the_index_is_judged_like_a_tree(members in prop::collection::btree_map(prop::sample::select(NAMES.to_vec()), values(), 0..12)) {
        thread_local! {
            static BOTH: (Schemas, Vec<jsonschema::Validator>) = {
                let schemas = schemas();
                let stock = schemas.all.iter().map(|schema| jsonschema::options().offline().build(&schema.rules).unwrap()).collect();
                (schemas, stock)
            };
        }
        let body: Value = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let text = body.to_string();
        let document = Document::read(text.as_bytes()).unwrap();
        BOTH.with(|(schemas, stock)| {
            for (schema, stock) in schemas.all.iter().zip(stock) {
                let found = schema.check(&document).err().unwrap_or_default();
                assert_eq!(found.is_empty(), stock.is_valid(&body), "{}: {text}: {found:?}", schema.rules["title"]);
            }
        });
    }
}
