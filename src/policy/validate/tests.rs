use http::header::HeaderName;
use proptest::prelude::*;

use super::*;
use crate::model::operation::Operation;
use crate::model::rows::{Body, ROWS};

const CAP: usize = 4096;

fn validator() -> Validator {
    Validator::new(&Validation {
        max_request_size: CAP,
        max_header_size: 8192,
        allowed_content_types: vec![JSON.into(), FORM.into(), MULTIPART.into(), "text/csv".into()],
        sanitization: Sanitization { remove_html: true, trim_strings: true, normalize_unicode: true },
    })
    .unwrap()
}

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
}

fn head(rule: Body, method: Method, content_type: &str, length: Length) -> Result<BodyPlan, Refusal> {
    validator().head(rule, &method, &headers(&[(CONTENT_TYPE, content_type)]), length)
}

fn reading(plan: BodyPlan) -> Reading {
    match plan {
        BodyPlan::Read(reading) => reading,
        other => panic!("{other:?}"),
    }
}

const P2P: Body = Body::Json("p2p_initiate");
const SOME: Length = Length::Exactly(10);

#[test]
fn lengths() {
    let of = |version, pairs: &[(HeaderName, &str)]| {
        let mut all = HeaderMap::new();
        for (name, value) in pairs {
            all.append(name, HeaderValue::from_str(value).unwrap());
        }
        Length::of(version, &all)
    };
    let (one, two) = (Version::HTTP_11, Version::HTTP_2);
    assert_eq!(of(one, &[]).unwrap(), Length::Empty);
    assert_eq!(of(two, &[]).unwrap(), Length::Unknown);
    assert_eq!(of(one, &[(TRANSFER_ENCODING, "chunked")]).unwrap(), Length::Unknown);
    assert_eq!(of(one, &[(CONTENT_LENGTH, "0")]).unwrap(), Length::Empty);
    assert_eq!(of(two, &[(CONTENT_LENGTH, "7")]).unwrap(), Length::Exactly(7));
    assert_eq!(of(one, &[(CONTENT_LENGTH, "7"), (CONTENT_LENGTH, "7")]).unwrap(), Length::Exactly(7));
    for bad in ["", "+7", "-1", "7,7", "0x7", " 7 7", "99999999999999999999"] {
        let refusal = of(one, &[(CONTENT_LENGTH, bad)]).unwrap_err();
        assert!(refusal.code() == Code::ValidationFailed && refusal.closes(), "{bad:?}");
    }
    assert!(of(one, &[(CONTENT_LENGTH, "7"), (CONTENT_LENGTH, "8")]).is_err());
}

#[test]
fn content_types() {
    let code =
        |rule, content_type: &str| head(rule, Method::POST, content_type, SOME).err().map(|refusal| refusal.code());
    let wrong = Some(Code::UnsupportedMediaType);
    for good in [
        JSON,
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        "application/json ;",
    ] {
        assert_eq!(code(P2P, good), None, "{good}");
        assert_eq!(code(Body::AnyJson, good), None, "{good}");
    }
    for bad in [
        "",
        "json",
        "text/plain",
        "application/jsonp",
        "application/json, text/plain",
        "application/json; charset=utf-16",
        FORM,
        MULTIPART,
        "application/json; charset=utf-8; charset=utf-8",
        "application/json; v=1",
        "application/json charset=utf-8",
        "application /json",
        "application/json; charset=\"utf-8",
        "application/vnd.api+json",
    ] {
        assert_eq!(code(P2P, bad), wrong, "{bad}");
    }
    assert_eq!(code(Body::Form, FORM), None);
    assert_eq!(code(Body::Form, JSON), wrong);
    for good in [
        JSON,
        FORM,
        "text/csv; header=present",
        "multipart/form-data; boundary=----x_1",
        "multipart/form-data; boundary=\"a b\"",
    ] {
        assert_eq!(code(Body::Any, good), None, "{good}");
    }
    let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
    for bad in [
        MULTIPART,
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=a;boundary=b",
        &long,
        "text/html",
    ] {
        assert_eq!(code(Body::Any, bad), wrong, "{bad}");
    }

    let refusal = head(P2P, Method::POST, "text/plain", SOME).unwrap_err();
    assert!(refusal.message().ends_with("Accepted: application/json."), "{}", refusal.message());
    assert_eq!(refusal.details_value().unwrap()["accepted"], serde_json::json!([JSON]));
    let none = validator().head(P2P, &Method::POST, &HeaderMap::new(), SOME).unwrap_err();
    assert_eq!(none.code(), Code::UnsupportedMediaType);
    let mut two = headers(&[(CONTENT_TYPE, JSON)]);
    two.append(CONTENT_TYPE, HeaderValue::from_static(JSON));
    assert!(validator().head(P2P, &Method::POST, &two, SOME).is_err());
}

#[test]
fn what_the_config_leaves_out_is_accepted_nowhere() {
    let config = Validation {
        max_request_size: CAP,
        max_header_size: 8192,
        allowed_content_types: vec![FORM.into()],
        sanitization: Sanitization { remove_html: true, trim_strings: true, normalize_unicode: true },
    };
    let refusal =
        Validator::new(&config).unwrap().head(P2P, &Method::POST, &headers(&[(CONTENT_TYPE, JSON)]), SOME).unwrap_err();
    assert_eq!(refusal.code(), Code::UnsupportedMediaType);
    assert!(refusal.message().contains("configuration"), "{}", refusal.message());
}

#[test]
fn content_codings() {
    let with = |coding| {
        let headers = headers(&[(CONTENT_TYPE, JSON), (CONTENT_ENCODING, coding)]);
        validator().head(P2P, &Method::POST, &headers, SOME)
    };
    assert!(with("identity").is_ok() && with("Identity").is_ok());
    for coding in ["gzip", "br", "identity, gzip", "zstd", ""] {
        let refusal = with(coding).unwrap_err();
        assert_eq!((refusal.code(), refusal.headers().len()), (Code::UnsupportedMediaType, 1), "{coding:?}");
    }
}

#[test]
fn lengths_over_the_cap_are_refused_unread() {
    let plan = |length| head(P2P, Method::POST, JSON, Length::Exactly(length));
    assert_eq!(reading(plan(CAP as u64).unwrap()).cap, CAP);
    for length in [CAP as u64 + 1, u64::MAX] {
        let refusal = plan(length).unwrap_err();
        assert_eq!(refusal.code(), Code::PayloadTooLarge);
        assert_eq!(refusal.details_value().unwrap()["max_bytes"], CAP);
    }
    let chunked = reading(head(P2P, Method::POST, JSON, Length::Unknown).unwrap());
    assert_eq!((chunked.cap, chunked.over().code()), (CAP, Code::PayloadTooLarge));
    let over = validator().body(&chunked, &[], Bytes::from(vec![b' '; CAP + 1])).unwrap_err();
    assert_eq!(over.code(), Code::PayloadTooLarge);
}

#[test]
fn no_body_where_none_belongs() {
    let validator = validator();
    let none = HeaderMap::new();
    let plan = |rule, method: Method, length| validator.head(rule, &method, &none, length);
    for (rule, method) in
        [(Body::None, Method::POST), (P2P, Method::GET), (P2P, Method::DELETE), (Body::Form, Method::HEAD)]
    {
        assert_eq!(plan(rule, method.clone(), Length::Empty).unwrap(), BodyPlan::None);
        assert_eq!(plan(rule, method.clone(), SOME).unwrap_err().code(), Code::ValidationFailed);
        let unknown = reading(plan(rule, method, Length::Unknown).unwrap());
        assert_eq!((unknown.cap, unknown.over().code()), (0, Code::ValidationFailed));
        assert!(validator.body(&unknown, &[], Bytes::new()).is_ok());
        assert!(validator.body(&unknown, &[], Bytes::from_static(b"x")).is_err());
    }
}

#[test]
fn a_missing_body() {
    let validator = validator();
    let none = HeaderMap::new();
    for (rule, needed) in
        [(P2P, true), (Body::Json("gift_open"), false), (Body::AnyJson, false), (Body::Form, false), (Body::Any, false)]
    {
        let refused = validator.head(rule, &Method::POST, &none, Length::Empty).err().map(|refusal| refusal.code());
        assert_eq!(refused, needed.then_some(Code::ValidationFailed), "{rule:?}");
        // The same when only reading shows that nothing comes.
        let untyped = reading(validator.head(rule, &Method::POST, &none, Length::Unknown).unwrap());
        assert_eq!(validator.body(&untyped, &[], Bytes::new()).is_err(), needed, "{rule:?}");
        let came = validator.body(&untyped, &[], Bytes::from_static(b"{}")).unwrap_err();
        assert_eq!(came.code(), Code::UnsupportedMediaType, "{rule:?}");
    }
    let typed = reading(head(Body::Json("gift_open"), Method::POST, JSON, Length::Unknown).unwrap());
    assert!(validator.body(&typed, &[], Bytes::new()).is_ok());
    let typed = reading(head(Body::AnyJson, Method::DELETE, JSON, Length::Unknown).unwrap());
    assert!(validator.body(&typed, &["note"], Bytes::new()).is_ok());
    let typed = reading(head(P2P, Method::POST, JSON, Length::Unknown).unwrap());
    assert_eq!(validator.body(&typed, &[], Bytes::new()).unwrap_err().code(), Code::ValidationFailed);
}

#[test]
fn raw_and_homeserver_rows_are_exempt() {
    let validator = validator();
    let odd = headers(&[(CONTENT_TYPE, "nonsense"), (CONTENT_ENCODING, "gzip")]);
    let huge = Length::Exactly(u64::MAX);
    assert_eq!(validator.head(Body::Raw, &Method::GET, &odd, huge).unwrap(), BodyPlan::Stream);
    let plan = validator.head(Body::Homeserver, &Method::PUT, &odd, Length::Exactly(HOMESERVER_CAP as u64)).unwrap();
    assert_eq!(reading(plan).cap, HOMESERVER_CAP);
    let body = Bytes::from_static(b"not json");
    assert_eq!(validator.body(&reading(plan), &["x"], body.clone()).unwrap(), body);
    assert_eq!(validator.head(Body::Homeserver, &Method::PUT, &odd, huge).unwrap_err().code(), Code::PayloadTooLarge);
}

#[test]
fn an_unchanged_body_is_the_same_bytes() {
    let validator = validator();
    let plan = reading(head(P2P, Method::POST, JSON, Length::Unknown).unwrap());
    let text = r#" {"recipient":"@bob:tween.example","amount":5000.00,"currency":"USD","note":"I <3 \u0079ou","idempotency_key":"k"} "#;
    let before = Bytes::copy_from_slice(text.as_bytes());
    let after = validator.body(&plan, &["note"], before.clone()).unwrap();
    assert_eq!((after.as_ptr(), after.len()), (before.as_ptr(), before.len()));
}

#[test]
fn the_schema_judges_what_will_be_sent() {
    let validator = validator();
    let note = |note: &str| {
        let plan = reading(head(P2P, Method::POST, JSON, Length::Unknown).unwrap());
        let body = format!(
            r#"{{"recipient":"@b:x","amount":5000.00,"currency":"USD","idempotency_key":"k","note":"{note}"}}"#
        );
        validator.body(&plan, &["note"], Bytes::from(body)).map(|body| String::from_utf8(body.to_vec()).unwrap())
    };
    assert!(
        note("<b>hi</b> ")
            .unwrap()
            .ends_with(r#""amount":5000.00,"currency":"USD","idempotency_key":"k","note":"hi"}"#)
    );
    assert!(note(&format!("{}{}", "x".repeat(1000), " ".repeat(500))).is_ok());
    assert!(note(&"<x".repeat(400)).is_err(), "1200 characters once disarmed");
    // A name that sanitising empties is refused by its schema.
    let plan = reading(head(Body::Json("wallet_register"), Method::POST, JSON, Length::Unknown).unwrap());
    let refusal =
        validator.body(&plan, &["display_name"], Bytes::from_static(br#"{"display_name":"<b></b>"}"#)).unwrap_err();
    assert_eq!(refusal.details_value().unwrap()["errors"][0]["pointer"], "/display_name");
}

#[test]
fn refusals_list_errors() {
    let validator = validator();
    let plan = reading(head(P2P, Method::POST, JSON, Length::Unknown).unwrap());
    let refusal =
        validator.body(&plan, &["note"], Bytes::from_static(b"{\"pin\":\"1234\",\n \"pin\":\"5678\"}")).unwrap_err();
    assert_eq!(refusal.code(), Code::ValidationFailed);
    let error = &refusal.details_value().unwrap()["errors"][0];
    assert_eq!(
        (&error["pointer"], &error["rule"], &error["line"], &error["column"]),
        (&"/pin".into(), &"duplicate_name".into(), &2.into(), &2.into())
    );
    assert!(!format!("{refusal:?}").contains("1234"));

    let refusal = validator.body(&plan, &[], Bytes::from_static(b"{\"amount\":0}")).unwrap_err();
    let errors = refusal.details_value().unwrap()["errors"].as_array().unwrap().len();
    assert_eq!(errors, 4, "{:?}", refusal.details_value());
}

#[test]
fn any_json_is_checked_for_structure_and_cleaned_where_asked() {
    let validator = validator();
    let plan = reading(head(Body::AnyJson, Method::POST, JSON, Length::Unknown).unwrap());
    let body = |text: &'static str, fields: &[&str]| validator.body(&plan, fields, Bytes::from_static(text.as_bytes()));
    assert_eq!(body("[1, 2]", &[]).unwrap(), "[1, 2]");
    assert_eq!(body(r#"{"a":" b "}"#, &["a"]).unwrap(), r#"{"a":"b"}"#);
    assert!(body("{\"a\":1,\"a\":2}", &[]).is_err() && body("[1,]", &["a"]).is_err());
}

#[test]
fn forms() {
    let validator = validator();
    let plan = reading(head(Body::Form, Method::POST, FORM, Length::Unknown).unwrap());
    let rule = |text: &str| {
        let refusal = validator.body(&plan, &[], Bytes::copy_from_slice(text.as_bytes())).err()?;
        assert_eq!(refusal.code(), Code::ValidationFailed);
        Some(refusal.details_value().unwrap()["errors"][0]["rule"].as_str().unwrap().to_owned())
    };
    let hundred = (0..100).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
    for good in [
        "",
        "a=1",
        "a=1&b=2&",
        "&&a",
        "a=%C3%A9+x&b=%2F",
        "a==&b==",
        "grant_type=authorization_code&code=x%20y",
        &hundred,
        "é=ü",
    ] {
        assert_eq!(rule(good), None, "{good}");
    }
    for (bad, broken) in [
        ("a=%", "encoding"),
        ("a=%4", "encoding"),
        ("a=%zz", "encoding"),
        ("a=%+1", "encoding"),
        ("%ff=1", "encoding"),
        ("a=%C3", "encoding"),
        ("a=1\r\nb=2", "encoding"),
        ("a=1&a=2", "duplicate_name"),
        ("a=1&%61=2", "duplicate_name"),
        ("a&a", "duplicate_name"),
        ("a+b=1&a%20b=2", "duplicate_name"),
        (&format!("{hundred}&more=1"), "maxProperties"),
    ] {
        assert_eq!(rule(bad).as_deref(), Some(broken), "{bad}");
    }
}

#[test]
fn every_row_can_be_planned() {
    let validator = validator();
    for row in ROWS {
        for verb in row.methods {
            let method = Method::from_bytes(verb.as_str().as_bytes()).unwrap();
            let content_type = if row.body == Body::Form { FORM } else { JSON };
            let plan =
                validator.head(row.body, &method, &headers(&[(CONTENT_TYPE, content_type)]), Length::Unknown).unwrap();
            let streams = row.operation == Operation::MatrixClient;
            assert_eq!(plan == BodyPlan::Stream, streams, "{}", row.operation);
        }
    }
}

proptest! {
    #[test]
    fn nothing_panics(content_type in "[ -~]{0,40}|application/json[ ;a-z=\"\\\\-]{0,12}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        thread_local!(static VALIDATOR: Validator = validator());
        VALIDATOR.with(|validator| {
            for rule in [P2P, Body::Any, Body::Form, Body::AnyJson] {
                let length = Length::Exactly(bytes.len() as u64 + 1);
                if let Ok(BodyPlan::Read(reading)) = validator.head(rule, &Method::POST, &headers(&[(CONTENT_TYPE, &content_type)]), length) {
                    let _ = validator.body(&reading, &["note"], Bytes::from(bytes.clone()));
                }
            }
            for kind in [Kind::AnyJson, Kind::Form] {
                let _ = validator.body(&Reading { cap: 1000, kind }, &["a[].b"], Bytes::from(bytes.clone()));
            }
        });
    }
}
