//! Faults of issuers, mini-apps, registrations and upstreams, word for word.

use super::*;

#[test]
fn issuers_are_confined() {
    let issuer = |text: &str| with(&format!("tokens: {{ issuers: [{{ {text} }}] }}"));
    let rest = "apps: [ma_x], scopes: ['wallet:balance'], server_names: [tween.example]";
    let config = issuer(&format!("issuer: 'https://id.example', jwks_url: 'http://127.0.0.1:1/jwks', {rest}")).unwrap();
    assert_eq!(config.tokens.issuers[0].algorithms, [Algorithm::Rs256]);
    for (text, told) in [
        (format!("issuer: 'https://id.example', jwks_url: 'http://id.example/jwks', {rest}"), "tokens.issuers[0].jwks_url: found \"http://id.example/jwks\", unprotected, expected the https URL of its keys (http is for loopback addresses only)"),
        (format!("issuer: 'https://id.example', jwks_url: 'https://id.example/jwks', algorithms: [HS256], {rest}"), "tokens.issuers[0].algorithms[0]: found \"HS256\" (did you mean ES256?), expected one of: RS256, PS256, ES256"),
        (format!("issuer: 'https://id.example', jwks_url: 'https://id.example/jwks', algorithms: [], {rest}"), "tokens.issuers[0].algorithms: an empty list, expected a list of at least one signature algorithm"),
        (format!("issuer: 'https://tmcp.example.com/', jwks_url: 'https://id.example/jwks', {rest}"), "tokens.issuers[0]: the issuer https://tmcp.example.com/ is trusted already, expected each issuer once, and not our own"),
        ("issuer: 'https://id.example', jwks_url: 'https://id.example/jwks', scopes: ['wallet:balance'], server_names: [a]".into(), "tokens.issuers[0].apps: missing, expected the mini-apps that it may speak for"),
    ] {
        let text = issuer(&text).unwrap_err().to_string();
        assert!(text.ends_with(told) && text.lines().count() == 1, "{text}\n is not\n{told}");
    }
}

#[test]
fn mini_apps_that_make_no_sense() {
    let hash = "ab".repeat(32);
    for (text, told) in [
        (
            "miniapps: [{ id: shop, name: S }]".to_owned(),
            "miniapps[0].id: found \"shop\", expected a mini-app id such as ma_shop_001",
        ),
        (
            "miniapps: [{ id: ma_a, name: S }, { id: ma_a, name: T }]".into(),
            "miniapps[1]: ma_a stands twice, expected each mini-app once",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, scopes: ['wallet:admin'] }]".into(),
            "miniapps[0].scopes: wallet:admin is for official mini-apps only, expected classification: official",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, client_secret_hashes: [hunter2] }]".into(),
            "miniapps[0].client_secret_hashes[0]: not a hash, expected the SHA-256 of a client secret, 64 hex digits (printf %s SECRET | sha256sum), in quotes",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, webhook_url: 'http://shop.example' }]".into(),
            "miniapps[0].webhook_url: found \"http://shop.example\", unprotected, expected the https URL that its webhooks go to (http is for loopback addresses only)",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, webhook_secret: whsec_x }]".into(),
            "miniapps[0].webhook_secret: a secret is written out here, expected webhook_secret_file: <path>, or ${NAME} to take it from the environment",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, webhook_secret_file: token }]".into(),
            "miniapps[0]: the webhook secret is malformed, expected whsec_ and then base64 of 24 bytes or more",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, client_secret: x }]".into(),
            "miniapps[0].client_secret: unknown key, expected one of: id, name, developer, icon_url, classification, scopes, preapproved_scopes, type, redirect_uris, client_secret_hashes, webhook_url, webhook_secret, webhook_secret_file, suspended",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, type: secret }]".into(),
            "miniapps[0].type: found \"secret\", expected one of: public, confidential, hybrid",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, type: hybrid }]".into(),
            "miniapps[0].type: hybrid without a client secret, expected client_secret_hashes with one hash or two, or type: public",
        ),
        (
            format!("miniapps: [{{ id: ma_a, name: S, type: public, client_secret_hashes: ['{hash}'] }}]"),
            "miniapps[0].client_secret_hashes: a public client keeps no secret, expected no secrets, or type: confidential or hybrid",
        ),
        (
            format!("miniapps: [{{ id: ma_a, name: S, client_secret_hashes: ['{hash}', '{hash}', '{hash}'] }}]"),
            "miniapps[0].client_secret_hashes: 3 secrets, expected one, or two while one is being replaced",
        ),
        (
            format!("miniapps: [{{ id: ma_a, name: S, client_secret_hashes: ['{hash}'], redirect_uris: ['http://127.0.0.1/cb'] }}]"),
            "miniapps[0].redirect_uris: http://127.0.0.1/cb lies on the user's own device, expected https, or type: public or hybrid",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, redirect_uris: ['http://localhost/cb'] }]".into(),
            "miniapps[0].redirect_uris[0]: http is for the loopback literals 127.0.0.1 and [::1] only (RFC 8252 section 7.3), expected a redirect URI such as https://shop.example.com/callback",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, scopes: ['user:read'], preapproved_scopes: ['user:read'] }]".into(),
            "miniapps[0].preapproved_scopes: users of this mini-app approve every scope, expected classification: official",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, classification: official, preapproved_scopes: ['user:read'] }]".into(),
            "miniapps[0].preapproved_scopes: user:read is not registered, expected scopes that also stand under scopes",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, classification: official, scopes: ['wallet:pay'], preapproved_scopes: ['wallet:pay'] }]".into(),
            "miniapps[0].preapproved_scopes: wallet:pay is critical: users are asked for it in any case, expected scopes of another sensitivity",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, developer: \"A\\nB\" }]".into(),
            "miniapps[0].developer: too long, or not one line of plain text, expected who makes it, for people, at most 100 characters",
        ),
        (
            "miniapps: [{ id: ma_a, name: S, icon_url: 'http://shop.example/i.png' }]".into(),
            "miniapps[0].icon_url: found \"http://shop.example/i.png\", unprotected, expected the https URL of its picture (http is for loopback addresses only)",
        ),
    ] {
        let text = miniapps(&text, "").unwrap_err().to_string();
        assert!(text.ends_with(told) && text.starts_with("c/apps.yaml:1:"), "{text}\n is not\n{told}");
    }
    let config = miniapps(&format!("miniapps: [{{ id: ma_a, name: S, classification: official, scopes: ['wallet:admin'], client_secret_hashes: ['{hash}'] }}]"), "").unwrap();
    let app = config.miniapps.values().next().unwrap();
    assert!(
        app.official()
            && app.verified()
            && app.client_type == ClientType::Confidential
            && app.secret_hashes == [[0xab; 32]]
    );
}

#[test]
fn mini_apps_that_are_mentioned_and_not_listed_are_noted() {
    let apps = "miniapps: [{ id: ma_shop, name: S }]";
    let more = "rate_limit_overrides: [{ app: ma_shpo, policy: default, requests_per_minute: 1 }]";
    let unlisted = miniapps(apps, more).unwrap().unlisted;
    assert_eq!(
        unlisted.iter().map(|unlisted| unlisted.place.to_string()).collect::<Vec<_>>(),
        [
            "c/edge.yaml:5:31: rate_limit_overrides[0].app: the file under `miniapps` lists no ma_shpo (did you mean ma_shop?), expected a mini-app in the store, then"
        ]
    );
    let broken = miniapps("miniapps: [{ id: ma_shop }]", more).unwrap_err().to_string();
    assert_eq!(broken, "c/apps.yaml:1:12: miniapps[0].name: missing, expected a name for people");
}

#[test]
fn registrations() {
    let brief = include_str!("../../../tests/fixtures/brief/registration.yaml");
    let real =
        brief.replace("<APPLICATION_SERVICE_TOKEN>", "as-token-demo").replace("<HOMESERVER_TOKEN>", "hs-token-demo");
    let config =
        registration(&format!("{real}de.sorunome.msc2409.push_ephemeral: true\nrate_limited: false\n")).unwrap();
    assert!(config.appservice.unwrap().hs_tokens[0].matches(b"hs-token-demo"));
    for (text, told) in [
        (
            real.replace("hs-token-demo", "as-token-demo"),
            "c/reg.yaml:1:1: as_token and hs_token are the same, expected two tokens: each side proves itself with its own",
        ),
        (
            real.replace("@ma_.*", "@ma_(.*"),
            "c/reg.yaml:11:14: namespaces.users[1].regex: the pattern \"@ma_(.*\" does not compile: Parsing error at position 7: Opening parenthesis without closing parenthesis, expected a regular expression",
        ),
        (
            real.replace("sender_localpart: _tmcp\n", ""),
            "c/reg.yaml:1:1: sender_localpart: missing, expected the localpart of the service's own user",
        ),
        (
            format!("{real}protocls: []\n"),
            "c/reg.yaml:15:1: protocls: unknown key (did you mean protocols?), expected one of: id, url, as_token, hs_token, sender_localpart, namespaces, rate_limited, receive_ephemeral, protocols",
        ),
        (
            real.replace("hs-token-demo", "\"two words\""),
            "c/reg.yaml:4:11: hs_token: found what no header can carry, expected a token of printable ASCII characters without spaces",
        ),
    ] {
        assert_eq!(registration(&text).unwrap_err().to_string(), told);
    }
}

#[test]
fn a_second_token_of_the_homeserver_while_it_is_changed() {
    let brief = include_str!("../../../tests/fixtures/brief/registration.yaml");
    let files = files().with("c/reg.yaml", brief.replace("<HOMESERVER_TOKEN>", "new"));
    let more = "appservice: { registration: reg.yaml, previous_hs_token_file: token, query_token: true }\n";
    let appservice = with_files(&format!("{BASE}{LISTEN}{more}"), &files).unwrap().appservice.unwrap();
    assert_eq!(
        appservice.hs_tokens.iter().map(Secret::expose).collect::<Vec<_>>(),
        ["new", "0123456789abcdef0123456789abcdef"]
    );
    assert!(appservice.query_token);
}

#[test]
fn upstreams_that_make_no_sense() {
    for (more, told) in [
        (
            "breaker: { window: 5, failures: 6 }",
            "breaker.failures: 6 failures can never be among 5 calls, expected at most `window`",
        ),
        ("breaker: { failures: 0 }", "breaker.failures: found 0, expected a whole number from 1 to 1000"),
        ("health: { path: health }", "health.path: found \"health\", expected a path such as /health"),
        (
            "health: { path: /h, unhealthy_after: 0 }",
            "health.unhealthy_after: found 0, expected a whole number from 1 to 100",
        ),
        ("health: {}", "health.path: missing, expected a path such as /health"),
        ("retries: 3", "retries: found 3, expected a whole number from 0 to 1"),
        (
            "timeouts: { read: 0 }",
            "timeouts.read: found 0, expected a duration such as 10s, 5m or plain seconds, from 10ms to 1h",
        ),
        ("paths: tweet", "paths: found \"tweet\" (did you mean tween?), expected one of: protocol, tween, as_sent"),
        (
            "paths: { wallet_balence: /b }",
            "paths.wallet_balence: there is no operation of that name (did you mean wallet_balance?), expected an operation that the wallet answers",
        ),
        (
            "paths: { storage_get: /b }",
            "paths.storage_get: this operation is not forwarded to a wallet, expected an operation that the wallet answers",
        ),
        (
            "paths: { wallet_resolve: '/r/{user}' }",
            "paths.wallet_resolve: wallet_resolve has no parameter {user}, expected only {user_id}",
        ),
        (
            "paths: { wallet_balance: '/r//b' }",
            "paths.wallet_balance: the template \"/r//b\" has an empty segment, expected a path with {name} for parameters",
        ),
        (
            "forward_client_api: true",
            "forward_client_api: not for this upstream, expected it with the upstream named homeserver",
        ),
        (
            "admin_api: { token: hunter2 }",
            "admin_api.token: a secret is written out here, expected token_file: <path>, or ${NAME} to take it from the environment",
        ),
        (
            "pol: 5",
            "pol: unknown key (did you mean pool?), expected one of: name, addresses, tls, http2, timeouts, pool, retries, breaker, health, paths, forward_client_api, admin_api",
        ),
    ] {
        let text = upstream_problems(more);
        assert!(text.contains(told) && text.starts_with("c/u/wallet.yaml:4:"), "{text}\n is not\n{told}");
    }
    let expected = "expected host:port, the host a name, an IPv4 or a bracketed IPv6 address";
    for (addresses, told) in [
        ("[]", "addresses: an empty list, expected a list of at least one host:port".to_owned()),
        ("[wallet]", format!("addresses[0]: found \"wallet\", {expected}")),
        ("['wallet:0']", format!("addresses[0]: found \"wallet:0\", {expected}")),
        ("['https://w:1']", format!("addresses[0]: found \"https://w:1\", {expected}")),
        ("['w:1', 'w:1']", "addresses[1]: stands twice, expected each address once".into()),
    ] {
        let text = upstream(&format!("name: wallet\naddresses: {addresses}\ntls: false\n")).unwrap_err().to_string();
        assert!(text.ends_with(&told), "{text}\n is not\n{told}");
    }
}

#[test]
fn tls_towards_an_upstream_names_whom_to_expect() {
    let tls = |tls: &str| upstream(&format!("name: wallet\naddresses: ['w:1']\ntls: {tls}\n"));
    let why = "expected the name in its certificate (an empty one would switch verification off)";
    assert_eq!(
        tls("{ server_name: '' }").unwrap_err().to_string(),
        format!("c/u/wallet.yaml:3:21: tls.server_name: found \"\", {why}")
    );
    assert_eq!(tls("{}").unwrap_err().to_string(), format!("c/u/wallet.yaml:3:6: tls.server_name: missing, {why}"));
    assert_eq!(
        tls("true").unwrap_err().to_string(),
        "c/u/wallet.yaml:3:6: tls: found true, expected false, or a map with server_name"
    );
    assert_eq!(
        tls("{ server_name: w, client_key: ../tls.key }").unwrap_err().to_string(),
        "c/u/wallet.yaml:3:6: tls.client_certificate: missing, expected a PEM file with the certificate chain\n\
         c/u/wallet.yaml:3:36: tls.client_key: c/u/../tls.key cannot be read: entity not found, expected a file that can be read"
    );
    assert_eq!(tls("{ server_name: w }").unwrap().upstreams["wallet"].tls.as_ref().unwrap().server_name, "w");
}

#[test]
fn the_folder_of_upstreams() {
    assert_eq!(
        problems("upstreams: nowhere\n"),
        "c/edge.yaml:4:12: upstreams: c/nowhere cannot be listed: entity not found, expected a folder with a file per upstream"
    );
    let two = files().with("c/u/z.yaml", WALLET).with("c/u/.wallet.yaml.swp", "x").with("c/u/notes.txt", "x");
    assert_eq!(
        with_files(&format!("{BASE}{LISTEN}upstreams: u\n"), &two).unwrap_err().to_string(),
        "c/u/z.yaml:1:7: name: another file has the name wallet, expected each name once"
    );
    // A row that names an upstream whose file has faults is not at fault itself.
    let broken = files().with("c/u/wallet.yaml", format!("{WALLET}pool: x\n"));
    let more = "upstreams: u\ntmcp_endpoints: [{ path: /p, methods: [GET], upstream: wallet }]\n";
    let told = with_files(&format!("{BASE}{LISTEN}{more}"), &broken).unwrap_err();
    assert_eq!(told.to_string(), "c/u/wallet.yaml:4:7: pool: found \"x\", expected a whole number from 0 to 65536");
    let table = upstream(&format!("{WALLET}paths: {{ wallet_balance: /b }}\n")).unwrap();
    let Paths::Table(table) = &table.upstreams["wallet"].paths else { panic!("no table") };
    assert_eq!(table[&Operation::WalletBalance], "/b");
}

#[test]
fn origins_stand_as_browsers_send_them() {
    assert_eq!(
        with("cors: { origins: ['https://a.example', 'http://127.0.0.1:5173'] }").unwrap().cors_origins.len(),
        2
    );
    for bad in [
        "*",
        "a.example",
        "https://a.example/",
        "https://A.example",
        "https://a.example:443",
        "https://",
        "https://u@a.example",
        "null",
        "data:x",
    ] {
        let text = problems(&format!("cors: {{ origins: ['{bad}'] }}"));
        assert!(
            text.contains(&format!("cors.origins[0]: found \"{bad}\", expected an origin as browsers send it")),
            "{text}"
        );
    }
}
