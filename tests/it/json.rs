//! JSON as parsers disagree about it: what is malformed is refused with 400, what is well formed passes, nothing is 500.

use serde_json::json;

use crate::bodies::depot;
use crate::edge::{mark, shared};
use crate::wire::{Request, Wire};

/// Malformed, or refused because no two parsers read it alike.
const BAD: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"[1",
    b"[1,",
    b"[1,]",
    b"[,1]",
    b"[1,,2]",
    b"[1 2]",
    b"[1:2]",
    b"[]]",
    b"[1]x",
    b"[1] 2",
    b"1 2",
    b"{\"a\"}",
    b"{\"a\":}",
    b"{:1}",
    b"{\"a\":1,}",
    b"{,\"a\":1}",
    b"{\"a\":1,,\"b\":2}",
    b"{\"a\" 1}",
    b"{\"a\":1 \"b\":2}",
    b"{a:1}",
    b"{'a':1}",
    b"{1:1}",
    b"{\"a\":1}}",
    b"{\"a\":1}#",
    b"{\"a\":1}//",
    b"{\"a\":/*x*/1}",
    b"{\"a\":1}/**/",
    b"nul",
    b"tru",
    b"True",
    b"NULL",
    b"undefined",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"+1",
    b"01",
    b"-01",
    b"00",
    b".5",
    b"1.",
    b"1.e1",
    b"1e",
    b"1e+",
    b"1e1.5",
    b"0x10",
    b"1_000",
    b"--1",
    b"-",
    b"1a",
    b"0e",
    b"2.e3",
    b"\xef\xbc\x91",
    b"\"",
    b"\"a",
    b"a\"",
    b"'a'",
    b"\"\\\"",
    b"\"\\x41\"",
    b"\"\\u12\"",
    b"\"\\u123g\"",
    b"\"\\U0041\"",
    b"\"\\ \"",
    b"\"\\0\"",
    b"\"\n\"",
    b"\"\t\"",
    b"\"\x00\"",
    b"\"\x1f\"",
    b"\"\\\x00\"",
    b"\xff",
    b"\"\xff\"",
    b"\"\xc0\xaf\"",
    b"\"\xe0\x80\x80\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xe2\x82\"",
    b"\"\xf0\x9f\"",
    b"\xef\xbb\xbf{}",
    b"\xfe\xff\x00{\x00}",
    b"\"\\ud800\"",
    b"\"\\udc00\"",
    b"\"\\ud800\\u0041\"",
    b"\"\\ud800\\ud800\"",
    b"\"\\udfff\\ud800\"",
    b"\"\\ud800x\"",
    b"{\"a\":1,\"a\":2}",
    b"{\"a\":1,\"\\u0061\":2}",
    b"{\"x\":{\"a\":1,\"a\":1}}",
    b"[{\"\":1,\"\":2}]",
    b"{\"a\":{},\"b\":1,\"a\":[]}",
    b"\x0b1",
    b"\x0c1",
    b"\xc2\xa01",
    b"1\x00",
    b"\x00",
    b"{}\x00",
    b" ",
    b"\n\n",
    b"<a/>",
    b"a=1&b=2",
    b"---\na: 1",
    b"*",
    b"[\"a\", ~]",
    b"[1]\n[2]",
    b"{\"a\":1}{\"b\":2}",
    b"(1)",
    b"!1",
    b"@",
    b"[\"\\",
    // Further cases of the kinds that published suites have.
    b"[- 1]",
    b"[++1]",
    b"[1+2]",
    b"[0e+]",
    b"[0e+-1]",
    b"[1.0e-]",
    b"[1eE2]",
    b"[9.e+]",
    b"[.-1]",
    b"[-.123]",
    b"[0.e1]",
    b"[0.1.2]",
    b"[-2.]",
    b"[-1x]",
    b"[1.2a-3]",
    b"[1.8011670033376514H-308]",
    b"[-NaN]",
    b"[Inf]",
    b"[-foo]",
    b"[0xE]",
    b"[1 000.0]",
    b"[-1.0.]",
    b"[1e\xe5]",
    b"[0\xe5]",
    b"[\xe5]",
    b"[\xc3\xa5]",
    b"[a\xe5]",
    b"[x",
    b"[\"x\"",
    b"[\"x\", truth]",
    b"[\"\": 1]",
    b"[\"a\",\n4\n,1,",
    b"[1,\n1\n,1",
    b"[*]",
    b"[,]",
    b"[\"\",]",
    b"[3[4]]",
    b"[{}",
    b"[1}",
    b"{\"x\", null}",
    b"{\"x\"::\"b\"}",
    b"{[: \"x\"}",
    b"{\"a\":\"a\" 123}",
    b"{key: 'value'}",
    b"{null:null,null:null}",
    b"{9999E9999:1}",
    b"{\"id\":0,,,,,}",
    b"{\"a\":true} \"x\"",
    b"{\"a\":\"b\"}/**//",
    b"{\"a\":\"b\",,\"c\":\"d\"}",
    b"{\"asd\":\"asd\"",
    b"{\"a\":\"a",
    b"{\"",
    b"{]",
    b"[\"a\"",
    b"[\\n]",
    b"[\"\\\xf0\x9f\x8c\x80\"]",
    b"[\"\\a\"]",
    b"[\"\\\\\\\"]",
    b"[\"\\uqqqq\"]",
    b"[\"\\u00A\"]",
    b"[\"\\uD834\\uDd\"]",
    b"[\"\\uD800\\u\"]",
    b"[\"\\uD800\\u1\"]",
    b"[\"\\uD800\\u1x\"]",
    b"[\"\\u\xe5\"]",
    b"[\"\\\xe5\"]",
    b"[\"new\nline\"]",
    b"[\"a\x00a\"]",
    b"\"x\"x",
    b"[\\u0020\"asd\"]",
    b"[\xc3\x28]",
    b"\xe2\x81\xa0",
    b"\xe2\x8d\x82",
    b"[\x0c]",
    b"[\t",
    b"[\"\xe6\x97\xa5\xd1\x88\xfa\"]",
    b"[\"\xfc\x80\x80\x80\x80\x80\"]",
    b"[\"\x81\"]",
    b"\xff\xfe[\x00\"\x00\xe9\x00\"\x00]\x00",
    b"[\"\\uDADA\"]",
    b"[\"\\uD888\\u1234\"]",
    b"[\"\\uDd1ea\"]",
    b"<.>",
    b"[<null>]",
    b"[][]",
    b"[True]",
    b"[fals]",
    b"[nul]",
    b"# comment\n{}",
    b"{\"a\":1}\n#",
    b"[1],",
    b"1]",
    b"2@",
    // More than a 64-bit float holds: infinite to some, an error to others.
    b"1E400",
    b"[-1e99999]",
];

/// Well formed.
const GOOD: &[&[u8]] = &[
    b"{}",
    b"[]",
    b"0",
    b"-0",
    b"1",
    b"-1.5e+10",
    b"1e-400",
    b"123456789012345678901234567890",
    b"0.1e1",
    b"true",
    b"null",
    b"\"\"",
    b"\" \"",
    b"\"\\u0000\"",
    b"\"\\ud83d\\ude00\"",
    b"\"\xf0\x9f\x98\x80\"",
    b"\"\\/\\b\\f\\n\\r\\t\\\"\\\\\"",
    b" \t\r\n{ } \t\r\n",
    b"{\"\":0}",
    b"{\"a\":1,\"A\":2}",
    b"{\"a\":{\"a\":{\"a\":1}}}",
    b"[[],{},[[]]]",
    b"\"\x7f\"",
    b"\"\xe2\x80\xa8\"",
    b"[1,\"a\",null,true,{\"b\":[]}]",
    b"{\"__proto__\":1,\"constructor\":2}",
    b"[1E22]",
    b"[1E+2]",
    b"[1e-2]",
    b"[123.456e78]",
    b"[-0.000000000000000000000000000000000000000000000000000000000000000000000000000001]",
    b"[-1]",
    b"[-0.0]",
    b"[ 4]",
    b"[]\n",
    b" []",
    b"[1\n]",
    b"[2] ",
    b"[1,null,null,null,2]",
    b"[\"\\u0012\"]",
    b"[\"\\u0022\"]",
    b"[\"\\u005C\"]",
    b"[\"\\u200B\"]",
    b"[\"\\u2064\"]",
    b"[\"\\uFFFF\"]",
    b"[\"\\uFDD0\"]",
    b"[\"\\uDBFF\\uDFFE\"]",
    b"[\"\\uD801\\udc37\"]",
    b"[\"\\uA66D\"]",
    b"[\"\\\\u0000\"]",
    b"[\"a/*b*/c/*d//e\"]",
    b"[\"\xe2\x82\xac\xf0\x9d\x84\x9e\"]",
    b"[\"\xf4\x8f\xbf\xbf\"]",
    b"[\"\xef\xbf\xbf\"]",
    b"\"\xe2\x80\xa9\"",
    b"{\"foo\\u0000bar\":42}",
    b"{\"a\":\"b\",\"b\":\"b\"}",
    b"{\"min\":-1.0e+28,\"max\":1.0e+28}",
    b"{\n\"a\": \"b\"\n}",
    b"42",
    b"-0.1",
    b"false",
];

fn nested(depth: usize) -> Vec<u8> {
    [vec![b'['; depth], vec![b']'; depth]].concat()
}

fn passes(wire: &mut Wire, body: &[u8]) -> bool {
    let edge = depot();
    let mark = mark();
    let request = Request::post("/plain/v1/json", body).bearer(&edge.full_token()).header("x-mark", &mark);
    let answer = edge.send_on(wire, request);
    let place = format!("{:?}: {} {}", String::from_utf8_lossy(body), answer.status, answer.text());
    let arrived = edge.at_wallet("x-mark", &mark);
    if arrived.is_empty() {
        assert_eq!(answer.verdict(), (400, "VALIDATION_FAILED".into()), "{place}");
        let errors = answer.json()["error"]["details"]["errors"].clone();
        assert!(errors[0]["rule"].is_string(), "{place}");
    } else {
        assert_eq!(answer.status, 404, "{place}");
        assert!(arrived[0].body.as_bytes() == body, "{place}");
    }
    !arrived.is_empty()
}

#[test]
fn malformed_json_is_400_and_well_formed_json_passes() {
    let mut wire = depot().wire();
    for bad in BAD {
        assert!(!passes(&mut wire, bad), "{:?} was taken", String::from_utf8_lossy(bad));
    }
    for good in GOOD {
        assert!(passes(&mut wire, good), "{:?} was refused", String::from_utf8_lossy(good));
    }
    assert!(passes(&mut wire, &nested(64)));
    for deep in [65, 1000, 500_000] {
        assert!(!passes(&mut wire, &nested(deep)), "{deep} deep");
        assert!(!passes(&mut wire, &vec![b'['; deep]), "{deep} deep, open");
        assert!(!passes(&mut wire, "{\"a\":".repeat(deep).as_bytes()), "{deep} deep objects, open");
    }
}

#[test]
fn no_body_makes_an_operation_fail() {
    let edge = shared();
    let mut wire = edge.wire();
    let token = || edge.full_token();
    for body in BAD.iter().chain(GOOD) {
        for path in ["/api/v1/wallet/p2p/initiate", "/api/v1/rpc"] {
            let answer = edge.send_on(&mut wire, Request::post(path, *body).bearer(&token()));
            let place = format!("{path} {:?}: {} {}", String::from_utf8_lossy(body), answer.status, answer.text());
            assert!(answer.status == 400 || (answer.status == 501 && path.ends_with("rpc")), "{place}");
        }
    }
    // Each field in turn holds each kind of value.
    let whole = json!({
        "recipient": "@bob:tween.example", "amount": 1.5, "currency": "USD", "note": "x", "idempotency_key": "k",
        "room_id": crate::edge::ROOM,
    });
    for field in ["recipient", "amount", "currency", "note", "idempotency_key", "room_id"] {
        for value in [
            json!(null),
            json!(true),
            json!([]),
            json!({}),
            json!(-1),
            json!(1e300),
            json!("\u{0}"),
            json!(""),
            json!("x".repeat(3000)),
        ] {
            let mut body = whole.clone();
            body[field] = value.clone();
            let answer = edge
                .send_on(&mut wire, Request::post("/api/v1/wallet/p2p/initiate", body.to_string()).bearer(&token()));
            let place = format!("{field}: {value}: {} {}", answer.status, answer.text());
            assert!(answer.status < 500, "{place}");
            if answer.status == 400 && answer.code() == "VALIDATION_FAILED" {
                assert!(answer.text().contains(&format!("/{field}")), "{place}");
            }
        }
    }
}
