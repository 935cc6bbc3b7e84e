//! Whatever comes: no panic, no secret shown.

use proptest::prelude::*;

use super::explained::MAIN;
use super::*;

/// YAML that looks like a config, with wrong things in wrong places.
fn yaml() -> impl Strategy<Value = String> {
    let keys = prop::sample::select(vec![
        "public_url",
        "server",
        "listen",
        "address",
        "tls",
        "rate_limits",
        "default",
        "burst",
        "tmcp_endpoints",
        "path",
        "methods",
        "scopes",
        "upstreams",
        "miniapps",
        "file",
        "cache",
        "ttl",
        "keys",
        "master_key_file",
        "appservice",
        "registration",
        "tokens",
        "issuers",
    ]);
    let scalars = prop_oneof![
        Just("~".to_owned()),
        Just("true".into()),
        Just("-7".into()),
        Just("10s".into()),
        Just("'${SECRET}'".into()),
        Just("'${'".into()),
        Just("u".into()),
        Just("token".into()),
        Just("'/a/{b}/*'".into()),
        Just("&x 1".into()),
        "[ -~]{0,12}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
    ];
    scalars.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|entries| {
                let entries: Vec<_> = entries.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_structure_is_too_much(text in yaml()) {
        if let Err(problems) = with_files(&text, &files()) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|problem| !problem.to_string().contains("defect")), "{}", problems);
            prop_assert!(!problems.to_string().contains("0123456789abcdef"), "a secret was shown: {}", problems);
        }
    }

    #[test]
    fn no_text_is_too_much(text in "\\PC*") {
        let _ = with_files(&text, &files());
    }

    #[test]
    fn no_yaml_like_text_is_too_much(text in "([a-z&*!|>%@`\\-?:,\\[\\]{}#'\"\\\\ ~\n\t0-9]|: |- |\r\n|\u{feff}|\u{85}){0,200}") {
        let _ = with_files(&text, &files());
    }

    #[test]
    fn no_bytes_are_too_much(bytes: Vec<u8>) {
        let files = files().with("c/u/wallet.yaml", bytes.clone()).with("c/apps.yaml", bytes.clone()).with("c/reg.yaml", bytes);
        let more = "upstreams: u\nminiapps: { file: apps.yaml }\nappservice: { registration: reg.yaml }\nserver: { admin: { tokens_file: reg.yaml } }\n";
        let _ = with_files(&format!("{BASE}{more}"), &files);
    }

    #[test]
    fn every_cut_of_the_explanation_is_answered(at in 0..MAIN.len()) {
        let at = (at..).find(|at| MAIN.is_char_boundary(*at)).unwrap();
        let _ = with_files(&MAIN[..at], &files());
    }
}
