//! A path is refused or read, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|raw: &str| {
    let _ = tmcp_edge::policy::path::PathView::parse(raw);
});
