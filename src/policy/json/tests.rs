use proptest::prelude::*;
use serde_json::Value as Tree;

use super::*;

/// The tree of a document, made from the index alone.
fn tree(value: Value<'_>) -> Tree {
    match value.kind() {
        Kind::Null => Tree::Null,
        Kind::Bool => Tree::from(value.raw() == "true"),
        Kind::Number => serde_json::from_str(value.raw()).unwrap(),
        Kind::String => Tree::from(value.string().unwrap()),
        Kind::Array => value.elements().map(tree).collect(),
        Kind::Object => {
            value.members().map(|(name, value)| (name.string().unwrap().into_owned(), tree(value))).collect()
        }
    }
}

fn refused(text: impl AsRef<[u8]>) -> Fault {
    let text = text.as_ref();
    let fault = check(text).expect_err(&format!("{:?} was taken", String::from_utf8_lossy(text)));
    assert_eq!(Document::read(text).unwrap_err(), fault);
    fault
}

const VALID: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "\"\"",
    "[]",
    "{}",
    " [] ",
    "\t\n\r [ ] \t\n\r",
    "[null]",
    "[1\n]",
    "[2] ",
    "\n[1]",
    "[\"a\"]",
    "[[]   ]",
    "[true]",
    "[\"\"]",
    "[\" \"]",
    "[0e+1]",
    "[0e1]",
    "[ 4]",
    "[123e65]",
    "[-0]",
    "[-1]",
    "[-123]",
    "[-0.0]",
    "[1E22]",
    "[1E-2]",
    "[1E+2]",
    "[123e45]",
    "[123.456e78]",
    "[1e-2]",
    "[1e+2]",
    "[123]",
    "[123.456789]",
    "[20e1]",
    "[1e-999]",
    "[-1e-999]",
    "[1.7976931348623157e308]",
    "[9007199254740993]",
    "[-0.000000000000000000000000000000000000000000000000000000000000000000000000000001]",
    "[123456789012345678901234567890]",
    "[1,null,null,null,2]",
    "{\"\":0}",
    "{\"a\":[]}",
    "{\"a\":\"b\"}",
    "{\"asd\":\"sdf\", \"dfg\":\"fgh\"}",
    "{\"foo\\u0000bar\": 42}",
    "{\n\"a\": \"b\"\n}",
    "{\"min\": -1.0e+28, \"max\": 1.0e+28}",
    "{\"a\":{\"a\":{\"a\":1}}}",
    "[{\"a\":1},{\"a\":1}]",
    "[\"\\u0060\\u012a\\u12AB\"]",
    "[\"\\uD801\\udc37\"]",
    "[\"\\ud83d\\ude39\\ud83d\\udc8d\"]",
    "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]",
    "[\"\\\\u0000\"]",
    "[\"\\\"\"]",
    "[\"a/*b*/c/*d//e\"]",
    "[\"\\\\a\"]",
    "[\"\\\\n\"]",
    "[\"\\u0012\"]",
    "[\"\\uFFFF\"]",
    "[\"\\uFDD0\"]",
    "[\"\\uDBFF\\uDFFF\"]",
    "[\"new\\u00A0line\"]",
    "[\"\u{10FFFF}\"]",
    "[\"\u{FFFF}\"]",
    "[\"\\u0000\"]",
    "[\"\u{2028}\u{2029}\"]",
    "[\"π\"]",
    "[\"\u{1BFFF}\"]",
    "[\"asd \"]",
    "[\"\\u0821\"]",
    "[\"\\u0123\"]",
    "[\"\\u200B\\u2064\\uFFFE\"]",
    "[\"€𝄞\"]",
    "[\"\u{7f}\"]",
    "[\"\\u0022\\u005C\"]",
    "[\"\u{FEFF}\"]",
];

#[test]
fn what_the_grammar_allows_is_read_as_it_stands() {
    for text in VALID {
        check(text.as_bytes()).unwrap_or_else(|fault| panic!("{text:?} was refused: {fault}"));
        let document = Document::read(text.as_bytes()).unwrap();
        assert_eq!(tree(document.root()), serde_json::from_str::<Tree>(text).unwrap(), "{text:?}");
    }
}

const INVALID: &[&str] = &[
    "",
    " ",
    "[",
    "]",
    "{",
    "}",
    "[1 true]",
    "[\"\": 1]",
    "[\"\"],",
    "[,1]",
    "[1,,2]",
    "[\"x\",,]",
    "[\"x\"]]",
    "[\"\",]",
    "[\"x\"",
    "[3[4]]",
    "[1:2]",
    "[,]",
    "[-]",
    "[   , \"\"]",
    "[\"a\",\n4\n,1,",
    "[1,]",
    "[1,\n1\n,1",
    "[*]",
    "[\"\"",
    "[1,",
    "[fals]",
    "[nul]",
    "[tru]",
    "[True]",
    "nullx",
    "[++1234]",
    "[+1]",
    "[+Inf]",
    "[-01]",
    "[-1.0.]",
    "[-2.]",
    "[-NaN]",
    "[.-1]",
    "[.2e-3]",
    "[0.1.2]",
    "[0.3e+]",
    "[0.3e]",
    "[0.e1]",
    "[0E+]",
    "[0E]",
    "[0e+]",
    "[0e]",
    "[1.0e+]",
    "[1.0e-]",
    "[1.0e]",
    "[1 000.0]",
    "[1eE2]",
    "[2.e+3]",
    "[2.e-3]",
    "[2.e3]",
    "[9.e+]",
    "[Inf]",
    "[NaN]",
    "[1+2]",
    "[0x1]",
    "[0x42]",
    "[Infinity]",
    "[0e+-1]",
    "[-123.123foo]",
    "[-Infinity]",
    "[-foo]",
    "[- 1]",
    "[-012]",
    "[-.123]",
    "[-1x]",
    "[1ea]",
    "[1.]",
    "[.123]",
    "[1.2a-3]",
    "[1.8011670033376514H-308]",
    "[012]",
    "[00]",
    "[1_000]",
    "[\"x\", truth]",
    "{[: \"x\"}\n",
    "{\"x\", null}",
    "{\"x\"::\"b\"}",
    "{\"a\":\"a\" 123}",
    "{key: 'value'}",
    "{\"a\" b}",
    "{:\"b\"}",
    "{\"a\" \"b\"}",
    "{\"a\":",
    "{\"a\"",
    "{1:1}",
    "{9999E9999:1}",
    "{null:null}",
    "{\"id\":0,,,,,}",
    "{'a':0}",
    "{\"id\":0,}",
    "{\"a\":\"b\"}/**/",
    "{\"a\":\"b\"}//",
    "{\"a\":\"b\"}/",
    "{\"a\":\"b\",,\"c\":\"d\"}",
    "{a: \"b\"}",
    "{\"a\":\"a",
    "{ \"foo\" : \"bar\", \"a\" }",
    "{\"a\":\"b\"}#",
    "{\"a\":\"b\"}}",
    "[\"\\uD800\\\"]",
    "[\"\\uD800\\u\"]",
    "[\"\\uD800\\u1\"]",
    "[\"\\uD800\\u1x\"]",
    "[é]",
    "[\"\\x00\"]",
    "[\"\\\\\\\"]",
    "[\"\\\t\"]",
    "[\"\\🌀\"]",
    "[\"\\\"]",
    "[\"\\u00A\"]",
    "[\"\\uD834\\uDd\"]",
    "[\"\\uD800\\uD800\\x\"]",
    "[\"\\a\"]",
    "[\"\\uqqqq\"]",
    "[\\u0020\"asd\"]",
    "[\\n]",
    "\"",
    "['single quote']",
    "abc",
    "[\"\\",
    "[\"a\0a\"]",
    "[\"new\nline\"]",
    "[\"\t\"]",
    "\"\\UA66D\"",
    "\"\"x",
    "<.>",
    "[<null>]",
    "[1]x",
    "[1]]",
    "[\"asd]",
    "aå",
    "{}}",
    "{\"\":",
    "{\"a\":/*comment*/\"b\"}",
    "{\"a\": true} \"x\"",
    "['",
    "[,",
    "[\"a",
    "[\"a\"",
    "{,",
    "{[",
    "{\"a",
    "{'a'",
    "[\"\\{[\"\\{[\"\\{[\"\\{",
    "*",
    "{\"a\":\"b\"}#{}",
    "[\\u000A\"\"]",
    "1]",
    "[1",
    "[ false, nul",
    "[ true, fals",
    "[ false, tru",
    "å",
    "[\u{2060}]",
    "[\u{c}]",
    "[\u{a0}1]",
    "[1]\0",
    "{\"asd\":\"asd\"",
    "\u{feff}",
    "\u{feff}{}",
    "[\"\\ud800\"]",
    "[\"\\uDFAA\"]",
    "[\"\\uD888\\u1234\"]",
    "[\"\\uD800abc\"]",
    "[\"\\uDd1e\\uD834\"]",
    "[\"\\ud800\\n\"]",
    "[\"\\uD800\\uD800\"]",
    "[1e999]",
    "[-1e999]",
    "[1.7976931348623159e308]",
    "[\"\\u+123\"]",
    "[\"\\u 123\"]",
    "{\"a\":1,\"a\":1}",
    "{\"a\":1,\"\\u0061\":2}",
    "{\"\\u0061\":1,\"a\":2}",
    "[{\"b\":{\"a\":1,\"c\":[{}],\"a\":2}}]",
    "{\"\":1,\"\":1}",
    "{\"\\ud83d\\ude00\":1,\"😀\":2}",
    "{\"/\":1,\"\\/\":2}",
];

#[test]
fn what_the_grammar_forbids_is_refused_and_so_is_what_parsers_read_differently() {
    for text in INVALID {
        refused(text);
    }
    let bytes: &[&[u8]] = &[
        b"[\"\xff\"]",
        b"[\"\xed\xa0\x80\"]",
        b"[\"\xc0\xaf\"]",
        b"[\"\xe0\xff\"]",
        b"[\"\xf4\xbf\xbf\xbf\"]",
        b"[\xe5]",
        b"\xe5",
        b"[\"a\xe5",
        b"{\"\xb9\":1}",
        b"\xff\xfe[\0\"\0\xe9\0\"\0]\0",
        b"\0[\0\"\0\xe9\0\"\0]",
        b"\xef\xbb",
        b"[123\xe5]",
        b"[1e1\xe5]",
        b"[0\xe5]",
        b"[1]\xe5",
        b"[\"\x81\"]",
        b"[\"\xfc\x80\x80\x80\x80\x80\"]",
    ];
    for text in bytes {
        assert_eq!(refused(text).rule, "utf8");
    }
}

#[test]
fn faults_say_where_what_and_in_which_value() {
    let fault = refused("{\n  \"items\": [{\"n\": 1}, {\"é/~\": 01}]\n}");
    assert_eq!((fault.rule, fault.line, fault.column, fault.offset), ("syntax", 2, 32, 34));
    assert_eq!(fault.pointer, "/items/1/é~1~0");
    assert_eq!(fault.to_string(), "expected no zero before the other digits of a number at line 2 column 32 (byte 34)");

    let fault = refused("{\"a\":1,\"b\":{\"c\":1,\"\\u0063\":2}}");
    assert_eq!((fault.rule, fault.pointer.as_str(), fault.offset), ("duplicate_name", "/b/c", 18));
    assert_eq!(refused("{\"a\": \"secret\", b").pointer, "");
    assert_eq!(refused("[1, 2, \"\\ud800\"]").pointer, "/2");
    assert_eq!(refused("[1] 2").rule, "trailing_bytes");
    assert_eq!(refused("\u{feff}1").rule, "byte_order_mark");
    assert_eq!(refused("[1e309]").rule, "number_range");
    let long = format!("{{\"{}\":x}}", "n".repeat(5000));
    assert!(refused(long).pointer.len() < 300);
}

#[test]
fn sixty_four_levels_and_no_more() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    check(nested(64).as_bytes()).unwrap();
    assert_eq!(refused(nested(65)).rule, "depth");
    assert_eq!(refused("[".repeat(1_000_000)).rule, "depth");
    assert_eq!(refused("{\"a\":".repeat(1_000_000)).rule, "depth");
    let members = "{\"a\":".repeat(64) + "1" + &"}".repeat(64);
    check(members.as_bytes()).unwrap();
}

#[test]
fn numbers_are_bounded_in_length_and_kept_as_written() {
    let long = |digits: usize| format!("0.{}", "1".repeat(digits - 2));
    check(long(MAX_NUMBER).as_bytes()).unwrap();
    assert_eq!(refused(long(MAX_NUMBER + 1)).rule, "number_length");
    assert_eq!(refused("9".repeat(400)).rule, "number_range");
    let document = Document::read(b"{\"amount\": 5000.00}").unwrap();
    assert_eq!(document.root().member("amount").unwrap().raw(), "5000.00");
}

#[test]
fn many_names_are_told_apart_and_doubles_among_them_found() {
    let object =
        |names: &[String]| format!("{{{}}}", names.iter().map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(","));
    for count in [15, 16, 17, 18, 100_000] {
        let mut names: Vec<String> = (0..count).map(|n| format!("name{n}")).collect();
        check(object(&names).as_bytes()).unwrap();
        for double in [0, count / 2, count - 1] {
            names.push(format!("\\u006eame{double}"));
            let fault = refused(object(&names));
            assert_eq!((fault.rule, fault.pointer), ("duplicate_name", format!("/name{double}")));
            names.pop();
        }
    }
    // The outer object's names are still known after an inner one with many.
    let inner: Vec<String> = (0..40).map(|n| format!("i{n}")).collect();
    assert_eq!(refused(format!("{{\"a\":{},\"a\":1}}", object(&inner))).pointer, "/a");
}

#[test]
fn the_number_of_values_is_bounded() {
    let array = |values: usize| format!("[{}1]", "1,".repeat(values - 2));
    check(array(MAX_VALUES).as_bytes()).unwrap();
    assert_eq!(refused(array(MAX_VALUES + 1)).rule, "value_count");
}

#[test]
fn the_index_is_walked_like_the_text() {
    let text = r#"{"a":[1,[2,{"x":"y"}],"s\n"],"\u0062":{"c":null},"d":true}"#;
    let document = Document::read(text.as_bytes()).unwrap();
    let root = document.root();
    assert_eq!((root.kind(), root.len()), (Kind::Object, 3));
    assert_eq!(root.member("b").unwrap().member("c").unwrap().kind(), Kind::Null);
    let last = root.member("a").unwrap().elements().last().unwrap();
    assert_eq!(last.string().unwrap(), "s\n");
    assert_eq!(&text[last.literal().unwrap()], r#""s\n""#);
    assert!(root.member("x").is_none());
    assert!(root.elements().next().is_none() && last.members().next().is_none());
}

#[test]
fn quoting_escapes_what_has_to_be() {
    let all: String = (0..=0x7f_u8).map(char::from).chain("é\u{2028}😀".chars()).collect();
    let mut quoted = Vec::new();
    quote(&all, &mut quoted);
    assert_eq!(serde_json::from_slice::<String>(&quoted).unwrap(), all);
    check(&quoted).unwrap();
}

/// JSON text with white space, escapes and the odd mistake.
fn texts() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "a",
        "b",
        "\\u0061",
        "",
        "\\n",
        "é",
        "long name of a member",
        "\\ud83d\\ude00",
        "\\ud83d",
    ]);
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?[0-9]{1,3}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{1,3})?",
        any::<f64>().prop_map(|number| number.to_string()),
        "\"([a-z<>/ é😀]|\\\\[\"nrtbf/u]|\\\\u[0-9a-fA-F]{4}){0,12}\"",
    ];
    let space = || prop::sample::select(vec!["", " ", "\n", "\t\r "]);
    scalar.prop_recursive(5, 60, 8, move |inner| {
        let member = (space(), name.clone(), space(), inner.clone());
        let member =
            member.prop_map(|(before, name, after, value)| format!("{before}\"{name}\"{after}:{value}{after}"));
        prop_oneof![
            (prop::collection::vec(inner, 0..8), space())
                .prop_map(|(e, s)| format!("[{s}{}{s}]", e.join(&format!("{s},{s}")))),
            (prop::collection::vec(member, 0..5), space())
                .prop_map(|(m, s)| format!("{{{s}{}{s}}}", m.join(&format!("{s},")))),
        ]
    })
}

/// What we accept, another strict parser accepts and reads alike; what only we refuse, we refuse by a rule of ours.
fn agrees(bytes: &[u8]) {
    let theirs = serde_json::from_slice::<Tree>(bytes);
    match Document::read(bytes) {
        Ok(document) => assert_eq!(tree(document.root()), theirs.expect("only we take it")),
        Err(fault) if theirs.is_ok() => {
            let ours = ["duplicate_name", "depth", "number_length", "value_count"];
            assert!(ours.contains(&fault.rule), "only we refuse {:?}: {fault}", String::from_utf8_lossy(bytes));
        }
        Err(fault) => assert!(fault.offset <= bytes.len()),
    }
    assert_eq!(check(bytes).err(), Document::read(bytes).err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        agrees(&bytes);
    }

    #[test]
    fn generated_texts_are_read_as_another_parser_reads_them(text in texts()) {
        agrees(text.as_bytes());
    }

    #[test]
    fn so_are_texts_with_a_byte_changed(text in texts(), at in any::<prop::sample::Index>(), byte in prop::sample::select(b"\"\\{}[],:0-.eE \x00\x80u+tn".to_vec())) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        agrees(&bytes);
        bytes.truncate(at);
        agrees(&bytes);
    }

    #[test]
    fn any_text_survives_quoting(text in any::<String>()) {
        let mut quoted = Vec::new();
        quote(&text, &mut quoted);
        let document = Document::read(&quoted).unwrap();
        prop_assert_eq!(document.root().string().unwrap(), text);
    }
}
