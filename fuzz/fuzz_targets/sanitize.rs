//! Sanitising twice is sanitising once.
#![no_main]

use tmcp_edge::config::types::Sanitization;
use tmcp_edge::policy::sanitize::text;

libfuzzer_sys::fuzz_target!(|before: &str| {
    let steps = Sanitization { remove_html: true, trim_strings: true, normalize_unicode: true };
    let once = text(before, steps);
    assert_eq!(text(&once, steps), once);
});
