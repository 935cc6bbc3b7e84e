//! A form is refused or read as every other reader would read it, with each name once.
#![no_main]

use std::collections::HashSet;

use tmcp_edge::policy::Form;
use url::form_urlencoded::{self, Serializer};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(form) = Form::parse(bytes) else { return };
    let mut names = HashSet::new();
    let pairs: Vec<_> = form_urlencoded::parse(bytes).collect();
    for (name, value) in &pairs {
        assert!(names.insert(name), "{name} stands twice");
        // One without a value counts as left out.
        assert_eq!(form.get(name).unwrap_or_default(), value);
    }
    let written = Serializer::new(String::new()).extend_pairs(&pairs).finish();
    let again = Form::parse(written.as_bytes()).unwrap();
    assert!(pairs.iter().all(|(name, _)| again.get(name) == form.get(name)));
});
