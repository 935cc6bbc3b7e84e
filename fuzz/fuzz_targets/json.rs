//! What the structure check takes, another strict parser takes too.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let read = tmcp_edge::policy::json::Document::read(bytes);
    assert_eq!(read.as_ref().err(), tmcp_edge::policy::json::check(bytes).err().as_ref());
    if read.is_ok() {
        assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok());
    }
});
