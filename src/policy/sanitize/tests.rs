use std::cell::Cell;

use lol_html::{RewriteStrSettings, doctype, element, rewrite_str};
use proptest::prelude::*;
use serde_json::Value as Tree;

use super::*;

const ALL: Sanitization = Sanitization { remove_html: true, trim_strings: true, normalize_unicode: true };

fn clean(before: &str) -> String {
    text(before, ALL).into_owned()
}

#[test]
fn text_that_is_no_markup_stays() {
    for same in [
        "",
        "I <3 you",
        "a < b",
        "a<1",
        "1 < 2 > 0",
        "I </3 you -> me",
        "x <= y && y >= z",
        "<",
        "<<",
        "<>",
        "< b>",
        "</",
        "<!",
        "<?",
        "<!-",
        "&lt;b&gt;",
        "&#60;script&#62;",
        "a > b",
        "\"quotes\" 'and' \\",
        "é",
        "日本",
        "👩‍👩‍👧",
        "a\nb",
        "a\u{0}b",
        "->",
        "-->",
        "<é>",
    ] {
        assert!(matches!(text(same, ALL), Cow::Borrowed(after) if after == same), "{same:?} became {:?}", clean(same));
    }
}

#[test]
fn markup_goes_and_its_text_stays() {
    let table = [
        ("<b>bold</b>", "bold"),
        ("a <b>b</b> c", "a b c"),
        ("<a href=\"x>y\" title='>'>link</a>", "link"),
        ("<a title=x>y", "y"),
        ("<br/>", ""),
        ("a<br />b", "ab"),
        ("<IMG SRC=x ONERROR=alert(1)>", ""),
        ("<svg/onload=alert(1)>", ""),
        ("<script>alert(1)</script>hi", "hi"),
        ("<ScRiPt src=x>alert('<b>')</sCrIpT >hi", "hi"),
        ("<script>never ended", ""),
        ("<style>p { color: red }</style>hi", "hi"),
        ("<scripted>hi</scripted>", "hi"),
        ("a<!-- b -->c", "ac"),
        ("a<!-->b", "ab"),
        ("a<!--->b-->c", "ab-->c"),
        ("a<!-- b --!>c", "ac"),
        ("<!DOCTYPE html>a", "a"),
        ("<![CDATA[a]]>b", "b"),
        ("<?php echo 1 ?>a", "a"),
        ("<textarea><b></textarea>", ""),
        ("<love>you</love>", "you"),
        ("<custom-tag onclick=x>a", "a"),
        ("</b>", ""),
        ("a</b x=\">\">c", "ac"),
        ("<b\u{0}>a", "a"),
        ("  <b> padded </b>  ", "padded"),
        ("<a =\">b", "b"),
        ("<a b = '>' c>d", "d"),
        ("<a/=\"x>y", "y"),
    ];
    for (before, after) in table {
        assert_eq!(clean(before), after, "{before:?}");
    }
}

#[test]
fn what_could_become_markup_is_disarmed() {
    let table = [
        ("x <y", "x < y"),
        ("<img src=x onerror=alert(1) ", "< img src=x onerror=alert(1)"),
        ("<!-- a", "< !-- a"),
        ("</a", "< /a"),
        ("<a title=\">", "< a title=\">"),
        ("<<b>script>alert(1)<</b>/script>", "< script>alert(1)< /script>"),
        ("<<<b>b>b>", "<< b>b>"),
        ("<</b>b>", "< b>"),
        ("</<b>b>", "</ b>"),
        ("<!<b>-- x", "<! -- x"),
        ("<!-<b>- x", "<!- - x"),
        ("<scr<script>x</script>ipt>alert(1)</script>", "xipt>alert(1)"),
    ];
    for (before, after) in table {
        assert_eq!(clean(before), after, "{before:?}");
    }
}

#[test]
fn normalising_cannot_smuggle_markup_in() {
    // U+212A is the Kelvin sign, which normalises to the letter K.
    assert_eq!(clean("<\u{212a}bd onclick=x>a"), "a");
    assert_eq!(clean("e<b></b>\u{301}"), "é");
    assert_eq!(clean("<\u{338}b>"), "≮b>");
}

#[test]
fn white_space_and_normal_form() {
    assert_eq!(clean("\u{a0}\u{2003} a  b\t\n\u{3000}"), "a  b");
    assert_eq!(clean("e\u{301}"), "é");
    assert_eq!(clean("\u{2126}"), "Ω");
    assert_eq!(clean("ﬁ"), "ﬁ", "compatibility forms are not folded");
}

#[test]
fn each_step_can_be_switched_off() {
    let before = " <b>e\u{301}</b> ";
    let off = Sanitization { remove_html: false, trim_strings: false, normalize_unicode: false };
    assert!(matches!(text(before, off), Cow::Borrowed(_)));
    assert_eq!(text(before, Sanitization { remove_html: true, ..off }), " e\u{301} ");
    assert_eq!(text(before, Sanitization { trim_strings: true, ..off }), "<b>e\u{301}</b>");
    assert_eq!(text(before, Sanitization { normalize_unicode: true, ..off }), " <b>é</b> ");
}

#[test]
fn nested_and_unclosed_tags_take_linear_time() {
    let size = 200_000;
    for nasty in [
        "<".repeat(size) + &"b>".repeat(size),
        "<b ".repeat(size),
        "<b ".repeat(size) + "x=\">",
        "<!--".repeat(size),
        "<!-- - ->".repeat(size),
        "<script></".repeat(size),
        "<a b='\">".repeat(size),
        "</".repeat(size),
        "e\u{301}".repeat(size),
    ] {
        let once = clean(&nasty);
        assert_eq!(clean(&once), once);
    }
}

fn rewritten(body_text: &str, fields: &[&str]) -> Option<String> {
    let document = Document::read(body_text.as_bytes()).unwrap();
    body(&document, body_text.as_bytes(), fields, ALL).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn only_the_changed_string_changes() {
    let before = "{ \"amount\" : 5000.00,\n\t\"n\\u006fte\": \" <b>hi</b>\\n\" , \"title\":\"<b>\", \"exp\":1E2,\"\\u0065\":\"\\u00e9\\/\"}";
    let after = "{ \"amount\" : 5000.00,\n\t\"n\\u006fte\": \"hi\" , \"title\":\"<b>\", \"exp\":1E2,\"\\u0065\":\"\\u00e9\\/\"}";
    assert_eq!(rewritten(before, &["note"]).unwrap(), after);
    assert_eq!(rewritten(before, &["note", "note"]).unwrap(), after);
    assert_eq!(
        rewritten(before, &["e", "missing", "amount", "amount.x", "note[]"]),
        None,
        "escapes of an unchanged string stay"
    );
}

#[test]
fn paths_lead_into_arrays_and_objects() {
    let before =
        r#"{"items":[{"name":" a "},{"name":"b"},{},{"name":1},7,{"name":"<i>c\"\u0001</i>"}],"a":{"b":" c "}}"#;
    let after = r#"{"items":[{"name":"a"},{"name":"b"},{},{"name":1},7,{"name":"c\"\u0001"}],"a":{"b":"c"}}"#;
    assert_eq!(rewritten(before, &["a.b", "items[].name"]).unwrap(), after);
    assert_eq!(
        rewritten(r#"{"tags":[[" a "],[]],"name":[" b "]}"#, &["tags[][]", "name"]).unwrap(),
        r#"{"tags":[["a"],[]],"name":[" b "]}"#
    );
    assert_eq!(rewritten(r#"[" a "]"#, &["note"]), None);
}

/// Whether an HTML parser finds a tag or a declaration in it.
fn is_html(text: &str) -> bool {
    let found = Cell::new(false);
    let settings = RewriteStrSettings::new()
        .append_element_content_handler(element!("*", |_| {
            found.set(true);
            Ok(())
        }))
        .append_document_content_handler(doctype!(|_| {
            found.set(true);
            Ok(())
        }))
        .with_strict(false);
    rewrite_str(text, settings).unwrap();
    found.get()
}

fn markup_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "<",
        ">",
        "</",
        "/>",
        "<!--",
        "-->",
        "--!>",
        "-",
        "!",
        "<!",
        "?",
        "<?",
        "b",
        "a ",
        "script",
        "style",
        "<script>",
        "</script>",
        "=",
        "\"",
        "'",
        " ",
        "\n",
        "\u{212a}",
        "\u{301}",
        "\u{338}",
        "e",
        "é",
        "3",
        "textarea",
        "<svg>",
        "[CDATA[",
        "]]>",
        "&lt;",
        "\u{0}",
        "\u{2003}",
        "/",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn steps() -> impl Strategy<Value = Sanitization> {
    any::<[bool; 3]>().prop_map(|[remove_html, trim_strings, normalize_unicode]| Sanitization {
        remove_html,
        trim_strings,
        normalize_unicode,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_clean_stays_as_it_is(before in prop_oneof![markup_like(), any::<String>()], steps in steps()) {
        let once = text(&before, steps).into_owned();
        prop_assert!(matches!(text(&once, steps), Cow::Borrowed(twice) if twice == once), "{:?} became {:?} and then {:?}", before, once, text(&once, steps));
    }

    #[test]
    fn an_html_parser_finds_nothing_in_what_is_clean(before in prop_oneof![markup_like(), any::<String>()]) {
        let after = clean(&before);
        prop_assert!(!is_html(&after), "{:?} became {:?}", before, after);
        // Nor once a page puts something behind it.
        for behind in [">", "\">", "'>", " -->", "b>"] {
            let trimmed_end = after.ends_with(['<', '/']) && behind == "b>";
            prop_assert!(trimmed_end || !is_html(&format!("{after}{behind}")), "{:?} became {:?}", before, after);
        }
    }

    #[test]
    fn text_without_angle_brackets_only_loses_its_margins(before in "[ a-zA-Z0-9&;.,\"'/!?=-]{0,40}") {
        prop_assert_eq!(clean(&before), before.trim());
    }

    #[test]
    fn a_body_keeps_everything_else(note in prop_oneof![markup_like(), any::<String>()], other in any::<String>(), names in prop::collection::vec(markup_like(), 0..4)) {
        let items: Vec<Tree> = names.iter().map(|name| serde_json::json!({ "name": name, "id": name })).collect();
        let mut before = serde_json::json!({ "note": note, "other": other, "amount": 1.5, "items": items });
        let sent = before.to_string();
        let got = rewritten(&sent, &["note", "items[].name"]).unwrap_or_else(|| sent.clone());
        before["note"] = Tree::from(clean(&note));
        for (item, name) in before["items"].as_array_mut().unwrap().iter_mut().zip(&names) {
            item["name"] = Tree::from(clean(name));
        }
        prop_assert_eq!(serde_json::from_str::<Tree>(&got).unwrap(), before);
        prop_assert_eq!(rewritten(&got, &["note", "items[].name"]), None);
    }
}
