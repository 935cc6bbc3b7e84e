//! Whatever a person types is a code or is none, and a code has one spelling on the screen.
#![no_main]

use tmcp_edge::model::oauth::UserCode;

libfuzzer_sys::fuzz_target!(|typed: &str| {
    let Some(code) = UserCode::parse(typed) else { return };
    let shown = code.to_string();
    assert_eq!((shown.len(), shown.as_bytes()[4]), (9, b'-'));
    assert_eq!(UserCode::parse(&shown).as_ref(), Some(&code));
    assert_eq!(UserCode::parse(&shown.to_lowercase()), Some(code));
});
