//! The brief's own blocks, byte for byte.

use super::*;

#[test]
fn the_blocks_of_the_brief_stand_as_they_are() {
    let blocks = [
        include_str!("../../../tests/fixtures/brief/rate_limits.yaml"),
        include_str!("../../../tests/fixtures/brief/tmcp_endpoints.yaml"),
        include_str!("../../../tests/fixtures/brief/cache.yaml"),
    ];
    let json = include_str!("../../../tests/fixtures/brief/validation_rules.json");
    let files = files()
        .with("c/reg.yaml", include_str!("../../../tests/fixtures/brief/registration.yaml"))
        .with("c/validation_rules.json", json);
    let more = "validation_rules: validation_rules.json\nappservice: { registration: reg.yaml }\nupstreams: u\n";
    let config = with_files(&format!("{BASE}{LISTEN}{more}{}", blocks.concat()), &files).unwrap();

    assert_eq!((config.rate_limits["oauth_endpoints"].requests, config.rate_limits["oauth_endpoints"].burst), (10, 5));
    let wallet = &config.endpoints[1];
    assert_eq!((wallet.path.as_str(), wallet.auth_required), ("/api/v1/wallet/*", true));
    assert_eq!(wallet.scopes, ScopeSet::of(&[Scope::WalletBalance, Scope::WalletPay]));
    assert_eq!(config.endpoints[0].label.as_deref(), Some("OAuth 2.0 flows (Section 4.2)"));
    assert!(!config.endpoints[0].auth_required && config.endpoints.len() == 4);
    assert_eq!(config.validation.max_header_size, 8192);
    assert_eq!(config.cache.response, CacheSize { ttl: Duration::from_secs(300), max_size: 100 << 20 });
    assert_eq!(config.cache.rate_limit, CacheSize { ttl: Duration::from_secs(3600), max_size: 200 << 20 });
    let appservice = config.appservice.as_ref().unwrap();
    assert_eq!((appservice.id.as_str(), appservice.sender_localpart.as_str()), ("tween-miniapps", "_tmcp"));
    assert!(appservice.hs_tokens.is_empty() && appservice.as_token.is_none() && appservice.users[1].exclusive);
    assert_eq!(
        config.require_for_run().unwrap_err().to_string(),
        "c/edge.yaml:1:1: keys: no master key: signing keys and secrets in the store could not be sealed, \
         expected keys: { master_key_file: <path> } (openssl rand -hex 32 makes one)\n\
         c/reg.yaml:3:11: as_token: not set: the placeholder \"<APPLICATION_SERVICE_TOKEN>\" still stands here, expected the token itself\n\
         c/reg.yaml:4:11: hs_token: not set: the placeholder \"<HOMESERVER_TOKEN>\" still stands here, expected the token itself"
    );
}

#[test]
fn each_block_of_the_brief_may_stand_in_a_file_of_its_own() {
    let files = files()
        .with("c/a.yaml", include_str!("../../../tests/fixtures/brief/rate_limits.yaml"))
        .with("c/b.yaml", include_str!("../../../tests/fixtures/brief/tmcp_endpoints.yaml"))
        .with("c/c.yaml", include_str!("../../../tests/fixtures/brief/cache.yaml"));
    let more = "rate_limits: a.yaml\ntmcp_endpoints: b.yaml\ncache: c.yaml\n";
    let config = with_files(&format!("{BASE}{LISTEN}{more}"), &files).unwrap();
    assert_eq!((config.endpoints.len(), config.endpoints[0].place.as_str()), (4, "c/b.yaml:2"));
    let names: Vec<_> = config.files.iter().map(|file| file.to_str().unwrap()).collect();
    assert_eq!(names, ["c/edge.yaml", "c/a.yaml", "c/b.yaml", "c/c.yaml"]);
}

#[test]
fn a_whole_config_may_be_json() {
    let json = include_str!("../../../tests/fixtures/brief/validation_rules.json");
    let head = "{\"public_url\": \"https://a.example\", \"server_name\": \"a.example\", \"server\": {\"listen\": [{\"address\": \"127.0.0.1:1\"}]},";
    let config = with_files(&json.replacen('{', head, 1), &files()).unwrap();
    assert!(config.validation.sanitization.remove_html);
}
