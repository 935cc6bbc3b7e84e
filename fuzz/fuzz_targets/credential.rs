//! Codes, refresh tokens, device codes and consent sessions: a text is of one kind at most, and has one spelling. The same
//! for what PKCE sends.
#![no_main]

use tmcp_edge::model::oauth::{Challenge, Digest, Verifier};
use tmcp_edge::store::oauth::{Credential, Kind};

const KINDS: [Kind; 4] = [Kind::Consent, Kind::Code, Kind::Refresh, Kind::Device];

libfuzzer_sys::fuzz_target!(|text: &str| {
    let read: Vec<Credential> = KINDS.iter().filter_map(|kind| Credential::parse(*kind, text)).collect();
    assert!(read.len() <= 1);
    assert!(read.iter().all(|credential| credential.expose() == text));
    // Behind its prefix, so that more than the prefix is tried.
    for kind in KINDS {
        let whole = format!("{}{text}", kind.prefix());
        if let Some(credential) = Credential::parse(kind, &whole) {
            let other = Credential::another(kind, credential.grant()).unwrap();
            // The grant's id is 16 bytes: its first 21 characters are the id's alone.
            assert_eq!(other.expose()[..kind.prefix().len() + 21], whole[..kind.prefix().len() + 21]);
        }
    }
    if let Ok(digest) = Digest::try_from(text.to_owned()) {
        assert_eq!(digest.to_string(), text, "a hash has one spelling");
        assert!(Challenge::parse(text).unwrap().answered_by(digest));
    }
    assert!(Verifier::parse(text).is_none_or(|verifier| verifier.as_bytes() == text.as_bytes()));
});
