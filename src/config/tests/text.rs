//! Faults of the text, of types and of secrets, word for word.

use super::*;

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_text() {
    assert_eq!(
        problems(
            "rate_limits:\n  default: { brust: 3, burst: \"x\" }\nvalidation_rules:\n  max_request_size: big\nlog: { level: loud }\n"
        ),
        "c/edge.yaml:5:14: rate_limits.default.brust: unknown key (did you mean burst?), expected one of: requests_per_minute, \
         requests_per_hour, requests_per_day, burst, algorithm, on_store_failure, report_only\n\
         c/edge.yaml:5:31: rate_limits.default.burst: found \"x\", expected a whole number from 0 to 10000000, without quotes\n\
         c/edge.yaml:7:21: validation_rules.max_request_size: found \"big\", expected a size such as 10MB, 8KB or plain bytes, from 1KB to 1GB\n\
         c/edge.yaml:8:15: log.level: found \"loud\", expected one of: off, error, warn, info, debug, trace"
    );
}

#[test]
fn an_empty_file_lacks_what_is_required() {
    assert_eq!(
        with_files("", &files()).unwrap_err().to_string(),
        "c/edge.yaml:1:1: found nothing, expected a map with public_url, server_name, server …"
    );
    assert_eq!(
        with_files("log: {}\n", &files()).unwrap_err().to_string(),
        "c/edge.yaml:1:1: public_url: missing, expected the https URL that clients reach this edge at\n\
         c/edge.yaml:1:1: server.listen: missing, expected a list of at least one listener\n\
         c/edge.yaml:1:1: server_name: missing, expected the homeserver's name"
    );
}

#[test]
fn a_file_that_is_missing_or_no_text_is_named() {
    let absent = load(Path::new("/nonexistent/edge.yaml"), &env).unwrap_err().to_string();
    assert_eq!(absent, "/nonexistent/edge.yaml: cannot be read: No such file or directory (os error 2)");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.yaml");
    std::fs::write(&file, b"a: \xff").unwrap();
    let text = load(&file, &env).unwrap_err().to_string();
    assert!(text.ends_with("edge.yaml: not UTF-8 text: byte 4 is no part of a character"), "{text}");
}

#[test]
fn a_key_stands_once() {
    assert_eq!(
        problems("cors: {}\ncors: {}\n"),
        "c/edge.yaml:5:1: cors: stands twice (first in line 4), expected each key once"
    );
}

#[test]
fn wrong_types_are_told_with_what_was_found() {
    for (text, told) in [
        ("cors: []", "c/edge.yaml:4:7: cors: found a list, expected a map"),
        ("cors: { origins: 5 }", "c/edge.yaml:4:18: cors.origins: found 5, expected a list of origins"),
        ("tmcp_endpoints: {}", "c/edge.yaml:4:17: tmcp_endpoints: found a map, expected a list of rows"),
        ("tmcp_endpoints:", "c/edge.yaml:4:15: tmcp_endpoints: found nothing, expected a list of rows"),
        (
            "rate_limits: { default: 5 }",
            "c/edge.yaml:4:25: rate_limits.default: found 5, expected a map with requests_per_minute and burst",
        ),
        (
            "rate_limits: { default: { report_only: yes } }",
            "c/edge.yaml:4:40: rate_limits.default.report_only: found \"yes\", expected true or false",
        ),
        (
            "rate_limits: { default: { report_only: 'true' } }",
            "c/edge.yaml:4:40: rate_limits.default.report_only: found \"true\", expected true or false, without quotes",
        ),
        (
            "rate_limits: { default: { burst: 1.5 } }",
            "c/edge.yaml:4:34: rate_limits.default.burst: found 1.5, expected a whole number from 0 to 10000000",
        ),
        (
            "rate_limits: { default: { burst: -1 } }",
            "c/edge.yaml:4:34: rate_limits.default.burst: found -1, expected a whole number from 0 to 10000000",
        ),
        (
            "cache: { auth_cache: { ttl: 2w } }",
            "c/edge.yaml:4:29: cache.auth_cache.ttl: found \"2w\", expected a duration such as 10s, 5m or plain seconds, from 1s to 1d",
        ),
        (
            "log: { access: 12 }",
            "c/edge.yaml:4:16: log.access: found 12, expected a path, relative to this file or absolute (a number meant as text has to be quoted)",
        ),
        (
            "tokens: { access_ttl: 25h }",
            "c/edge.yaml:4:23: tokens.access_ttl: found \"25h\", expected a duration such as 10s, 5m or plain seconds, from 1m to 1d",
        ),
        (
            "tokens: { access_ttl: 2h, refresh_ttl: 1h }",
            "c/edge.yaml:4:40: tokens.refresh_ttl: shorter than access_ttl, expected a refresh token to outlive its access token",
        ),
        (
            "stoer: {}",
            "c/edge.yaml:4:1: stoer: unknown key (did you mean store?), expected one of: public_url, server_name, server, store, keys, upstreams, miniapps, tokens, oauth, rate_limits, rate_limit_overrides, lockouts, tmcp_endpoints, validation_rules, cache, appservice, cors, egress, log, telemetry",
        ),
    ] {
        assert_eq!(problems(text), told);
    }
}

#[test]
fn variables_are_filled_in_and_never_shown() {
    let text = BASE.to_owned() + "log: { level: \"${LEVEL}\" }\nserver:\n  listen: [{ address: '${HOST}:${PORT}' }]\n";
    let threads = with_files(&format!("{text}  threads: ${{PORT}}\n"), &files()).unwrap_err();
    assert_eq!(
        threads.to_string(),
        "c/edge.yaml:6:12: server.threads: found \"${PORT}\", expected a whole number from 0 to 1024"
    );
    let config = with_files(&format!("{text}  limits:\n    connections: ${{PORT}}\n"), &files()).unwrap();
    assert_eq!(config.server.limits.connections, 8081);
    assert_eq!(config.server.listen[0].address.to_string(), "127.0.0.1:8081");
    assert_eq!(config.log.level, log::LevelFilter::Debug);
    assert_eq!(
        problems("log: { access: \"${NOT_THERE}/x\" }"),
        "c/edge.yaml:4:16: log.access: environment variable NOT_THERE is not set, expected a value for it"
    );
    assert_eq!(
        problems("log: { access: \"${NO\" }"),
        "c/edge.yaml:4:16: log.access: `${` without a variable's name, expected ${NAME}, or $${ for these two characters"
    );
    assert_eq!(with("log: { access: 'a$${b}' }").unwrap().log.access, AccessLog::File("c/a${b}".into()));
}

#[test]
fn secrets_come_from_files_or_variables() {
    let key = |text: &str| with(&format!("keys: {{ {text} }}"));
    assert!(key("master_key: '${SECRET}'").is_err_and(|e| e.to_string().contains("the master key is not 32 bytes")));
    let hex = files().with("c/master.key", format!("{}\r\n", "ab".repeat(32)));
    let config = with_files(&format!("{BASE}{LISTEN}keys: {{ master_key_file: master.key }}"), &hex).unwrap();
    assert_eq!(config.master_key.unwrap().expose(), "ab".repeat(32));
    let written = key("master_key: hunter2hunter2").unwrap_err().to_string();
    assert_eq!(
        written,
        "c/edge.yaml:4:21: keys.master_key: a secret is written out here, expected master_key_file: <path>, or ${NAME} to take it from the environment"
    );
    assert_eq!(
        key("master_key: '${EMPTY}'").unwrap_err().to_string(),
        "c/edge.yaml:4:21: keys.master_key: the environment variable is empty, expected master_key_file: <path>, or ${NAME} to take it from the environment"
    );
    assert_eq!(
        key("master_key: '${SECRET}', master_key_file: token").unwrap_err().to_string(),
        "c/edge.yaml:4:21: keys.master_key: stands beside master_key_file, expected one of the two"
    );
    assert_eq!(
        key("master_key_file: nowhere").unwrap_err().to_string(),
        "c/edge.yaml:4:26: keys.master_key_file: c/nowhere cannot be read: entity not found, expected a file that can be read"
    );
}

#[test]
fn addresses_on_the_web_are_protected() {
    let with_url = |url: &str| with_files(&format!("public_url: {url}\nserver_name: a.example\n{LISTEN}"), &files());
    let expected = "expected the https URL that clients reach this edge at, such as https://tmcp.example.com";
    assert!(
        with_url("http://127.0.0.1:8080").is_ok()
            && with_url("http://localhost:1").is_ok()
            && with_url("http://[::1]").is_ok()
    );
    for (url, told) in [
        (
            "http://tmcp.example.com",
            format!("found \"http://tmcp.example.com\", unprotected, {expected} (http is for loopback addresses only)"),
        ),
        ("https://a:b@c.example", format!("found a URL with a user, password or fragment, {expected}")),
        ("https://a.example/x", format!("found \"https://a.example/x\", with a path or query, {expected}")),
        ("ftp://a.example", format!("found \"ftp://a.example\", {expected}")),
        ("tmcp.example.com", format!("found \"tmcp.example.com\", {expected}")),
    ] {
        assert_eq!(with_url(url).unwrap_err().to_string(), format!("c/edge.yaml:1:13: public_url: {told}"));
    }
    assert!(
        problems("telemetry: { otlp: http://collector:4318 }")
            .contains("telemetry.otlp: found \"http://collector:4318\", unprotected")
    );
}
