//! Faults of `server`, `rate_limits` and `tmcp_endpoints`, word for word.

use super::*;
use crate::model::Role;

fn server(text: &str) -> Result<Config, Problems> {
    with_files(&format!("{BASE}server: {{ {text} }}\n"), &files())
}

#[test]
fn listeners_need_addresses_of_their_own() {
    for (text, told) in [
        ("listen: []", "server.listen: an empty list, expected a list of at least one listener"),
        (
            "listen: [{ address: 'localhost:80' }]",
            "server.listen[0].address: found \"localhost:80\", expected an address and port such as 0.0.0.0:8443 or [::]:8443",
        ),
        (
            "listen: [{ address: '127.0.0.1:99999' }]",
            "server.listen[0].address: found \"127.0.0.1:99999\", expected an address and port such as 0.0.0.0:8443 or [::]:8443",
        ),
        (
            "listen: [{ address: '127.0.0.1:80' }, { address: '127.0.0.1:80' }]",
            "server.listen[1]: 127.0.0.1:80 is taken by the listener 127.0.0.1:80, expected each address and port once",
        ),
        (
            "listen: [{ address: '0.0.0.0:80' }, { address: '127.0.0.1:80' }]",
            "server.listen[1]: 127.0.0.1:80 is taken by the listener 0.0.0.0:80, expected each address and port once",
        ),
        (
            "listen: [{ address: '0.0.0.0:9090' }]",
            "server.admin: 127.0.0.1:9090 is taken by the listener 0.0.0.0:9090, expected another address or port for the admin",
        ),
        (
            "listen: [{ address: '127.0.0.1:80', tls: true }]",
            "server.listen[0].tls: found true, expected a map with certificate and key, or false",
        ),
        (
            "listen: [{ address: '127.0.0.1:80', tls: { certificate: tls.crt } }]",
            "server.listen[0].tls.key: missing, expected a PEM file with the private key",
        ),
        (
            "listen: [{ address: '127.0.0.1:80', tls: { certificate: token, key: tls.key } }]",
            "server.listen[0].tls.certificate: c/token holds no PEM block CERTIFICATE, expected -----BEGIN CERTIFICATE-----",
        ),
    ] {
        let text = server(text).unwrap_err().to_string();
        assert!(text.ends_with(told), "{text}\n is not\n{told}");
    }
    let two = server(
        "listen: [{ address: '127.0.0.1:0' }, { address: '127.0.0.1:0', tls: { certificate: tls.crt, key: tls.key } }]",
    )
    .unwrap();
    assert_eq!(two.server.listen[1].tls.as_ref().unwrap().key, Path::new("c/tls.key"));
    assert!(two.files.contains(&"c/tls.crt".into()) && two.files.contains(&"c/tls.key".into()));
}

#[test]
fn egress_is_opened_to_ranges_and_never_to_everything() {
    assert_eq!(with("").unwrap().egress_allow, []);
    let allowed = with("egress: { allow: [10.20.0.0/16, 'fd00::/8', 192.168.1.7] }").unwrap().egress_allow;
    let texts: Vec<_> = allowed.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.20.0.0/16", "fd00::/8", "192.168.1.7/32"]);
    assert_eq!(
        problems("egress: { allow: [10.0.0.5/8, 0.0.0.0/0, '::ffff:10.0.0.0/104'] }"),
        "c/edge.yaml:4:19: egress.allow[0]: found \"10.0.0.5/8\", expected an address range such as 10.0.0.0/8 (no bits set behind the prefix), or one address\n\
         c/edge.yaml:4:31: egress.allow[1]: 0.0.0.0/0 would let mini-apps have us call anything, expected the networks that are meant\n\
         c/edge.yaml:4:42: egress.allow[2]: ::ffff:10.0.0.0/104 is IPv4 in IPv6 dress, expected the range as IPv4"
    );
    assert!(problems("egress: { alow: [] }").contains("did you mean allow?"));
}

#[test]
fn proxies_are_ranges_and_never_everybody() {
    let listen = "listen: [{ address: '127.0.0.1:80' }], trusted_proxies";
    assert!(server(&format!("{listen}: [10.0.0.0/8, '::1']")).is_ok());
    let told = server("listen: [{ address: '127.0.0.1:80', proxy_protocol: true }]").unwrap_err().to_string();
    assert_eq!(
        told,
        "c/edge.yaml:3:9: server: a listener asks for the PROXY protocol, and nobody is believed to speak it, \
         expected trusted_proxies: the addresses of your own proxies"
    );
    let told = server(&format!("{listen}: [10.0.0.5/8, 0.0.0.0/0]")).unwrap_err().to_string();
    assert_eq!(
        told,
        "c/edge.yaml:3:68: server.trusted_proxies[0]: found \"10.0.0.5/8\", expected an address range such as 10.0.0.0/8 (no bits set behind the prefix), or one address\n\
         c/edge.yaml:3:80: server.trusted_proxies[1]: 0.0.0.0/0 would believe every caller, expected the addresses of your own proxies"
    );
}

#[test]
fn an_open_admin_address_needs_tokens_to_run() {
    let open = |more: &str| {
        server(&format!("listen: [{{ address: '127.0.0.1:80' }}], admin: {{ address: '0.0.0.0:9090'{more} }}"))
    };
    let told = open("").unwrap().require_for_run().unwrap_err().to_string();
    assert!(told.contains("server.admin: the admin address 0.0.0.0:9090 can be reached from outside and asks for no token, expected tokens_file: <path>, or a loopback address"), "{told}");
    let config = open(", tokens_file: token, hosts: [admin.internal]").unwrap();
    assert_eq!(config.server.admin.tokens[0].name, "line 1");
    assert!(!config.require_for_run().unwrap_err().to_string().contains("admin"));
    assert_eq!(config.server.admin.tokens[0].role, Role::Admin);
    assert_eq!(config.server.admin.audit_retention, Duration::from_secs(400 * 86_400));
}

#[test]
fn admin_tokens_have_roles_and_bad_lines_are_told_of_where_they_stand() {
    let text =
        format!("{BASE}server: {{ listen: [{{ address: '127.0.0.1:80' }}], admin: {{ tokens_file: token }} }}\n");
    let read = |tokens: &str| with_files(&text, &files().with("c/token", tokens));
    let config = read("# tokens\nwatch:viewer:0123456789abcdef0\nduty : operator : 0123456789abcdef1\nroot:admin:0123456789abcdef2\nold:0123456789abcdef3\n\n0123456789abcdef4\n").unwrap();
    let read_back: Vec<(&str, Role)> =
        config.server.admin.tokens.iter().map(|token| (token.name.as_str(), token.role)).collect();
    let expected = [
        ("watch", Role::Viewer),
        ("duty", Role::Operator),
        ("root", Role::Admin),
        ("old", Role::Admin),
        ("line 7", Role::Admin),
    ];
    assert_eq!(read_back, expected);
    let told = read("ops:0123456789abcdef\nshort\nduty:opreator:0123456789abcdef1\n:viewer:0123456789abcdef2\nother:0123456789abcdef\na:b:c:d\nviewer:0123456789abcdef5\n")
        .unwrap_err()
        .to_string();
    let expected = "expected name:role:token, the role viewer, operator or admin (name:token is an admin's), the token of at least 16 printable ASCII characters without a colon";
    let lines = [
        (2, "no token at the end of the line"),
        (3, "no role between the two colons"),
        (4, "no name before the colon"),
        (5, "the same token as that of ops"),
        (6, "more than two colons"),
        (7, "viewer is a role, and no name stands before it"),
    ];
    let lines: Vec<String> =
        lines.iter().map(|(line, fault)| format!("c/token:{line}:1: {fault}, {expected}")).collect();
    assert_eq!(told, lines.join("\n"));
    assert!(read("# nothing\n").unwrap_err().to_string().contains("server.admin.tokens_file: no token in that file"));
}

#[test]
fn one_whole_body_has_to_fit() {
    let told =
        server("listen: [{ address: '127.0.0.1:80' }], limits: { buffered_bodies: 1MB }").unwrap_err().to_string();
    assert!(told.contains("server.limits.buffered_bodies is less than validation_rules.max_request_size"), "{told}");
}

#[test]
fn a_policy_keeps_what_it_does_not_say() {
    let config = with("rate_limits: { payment_operations: { burst: 1 }, partner: { requests_per_hour: 60 } }").unwrap();
    let payment = &config.rate_limits["payment_operations"];
    assert_eq!((payment.requests, payment.burst, payment.on_store_failure), (30, 1, OnStoreFailure::Closed));
    assert_eq!(
        (config.rate_limits["partner"].per, config.rate_limits["partner"].burst),
        (Duration::from_secs(3600), 0)
    );
}

#[test]
fn policies_that_make_no_sense() {
    for (text, told) in [
        (
            "rate_limits: { none: { requests_per_minute: 1 } }",
            "rate_limits.none: `none` is reserved for the homeserver's own traffic, expected another name",
        ),
        (
            "rate_limits: { My Limit: { requests_per_minute: 1 } }",
            "rate_limits.My Limit: not a policy's name, expected lower-case letters, digits and `_`",
        ),
        (
            "rate_limits: { partner: { burst: 1 } }",
            "rate_limits.partner: no rate, expected requests_per_minute, requests_per_hour or requests_per_day",
        ),
        (
            "rate_limits: { default: { requests_per_minute: 1, requests_per_day: 1 } }",
            "rate_limits.default.requests_per_day: a second rate, expected one of the rates, not several",
        ),
        (
            "rate_limits: { default: { requests_per_minute: 0 } }",
            "rate_limits.default.requests_per_minute: found 0, expected a whole number from 1 to 10000000",
        ),
        (
            "rate_limits: { paymant_operations: { requests_per_minute: 1 } }",
            "rate_limits.paymant_operations: nothing uses this policy (did you mean payment_operations?), expected a row that names it",
        ),
        (
            "rate_limits: { default: { algorithm: leaky_bucket } }",
            "rate_limits.default.algorithm: found \"leaky_bucket\", expected token_bucket or sliding_window",
        ),
        (
            "rate_limits: { default: { on_store_failure: close } }",
            "rate_limits.default.on_store_failure: found \"close\" (did you mean closed?), expected one of: local, closed, open",
        ),
        (
            "rate_limit_overrides: [{ app: ma_x, policy: defualt, requests_per_minute: 1 }]",
            "rate_limit_overrides[0].policy: there is no limit policy \"defualt\" (did you mean default?), expected one of: default, introspection, oauth_endpoints, payment_operations, registration, registry, storage, wallet_resolution",
        ),
        (
            "rate_limit_overrides: [{ app: shop, policy: default, requests_per_minute: 1 }]",
            "rate_limit_overrides[0].app: found \"shop\", expected a mini-app id such as ma_shop_001",
        ),
        (
            "rate_limit_overrides: [{ app: ma_x, policy: registration, requests_per_minute: 1 }]",
            "rate_limit_overrides[0]: counts in another unit than the policy, expected requests_per_day",
        ),
        (
            "rate_limit_overrides: [{ app: ma_x, policy: default, requests_per_minute: 1 }, { app: ma_x, policy: default, requests_per_minute: 2 }]",
            "rate_limit_overrides[1]: ma_x has an override of default already, expected one for each pair",
        ),
    ] {
        let text = problems(text);
        assert!(text.ends_with(told) && text.lines().count() == 1, "{text}\n is not\n{told}");
    }
}

fn row_problems(row: &str) -> String {
    problems(&format!("upstreams: u\ntmcp_endpoints:\n{row}"))
}

#[test]
fn rows_that_make_no_sense() {
    for (row, told) in [
        (
            "  - { path: partner, methods: [GET], upstream: wallet }",
            "tmcp_endpoints[0].path: the pattern \"partner\" does not begin with `/`, expected literals, {name} and a * at the end",
        ),
        (
            "  - { path: '/a/*/b', methods: [GET], upstream: wallet }",
            "tmcp_endpoints[0].path: the pattern \"/a/*/b\" has * before its end, expected literals, {name} and a * at the end",
        ),
        (
            "  - { path: /p, methods: [get], upstream: wallet }",
            "tmcp_endpoints[0].methods[0]: found \"get\", expected one of: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        ),
        (
            "  - { path: /p, methods: [], upstream: wallet }",
            "tmcp_endpoints[0].methods: an empty list, expected a list of at least one method (no `methods` at all means every one)",
        ),
        (
            "  - { path: /p, upstream: wallet }",
            "tmcp_endpoints[0]: a new row without methods, expected methods: [GET, …]; only a row over built-in rows may leave them out",
        ),
        (
            "  - { path: /p, methods: [GET], upstream: walet }",
            "tmcp_endpoints[0].upstream: there is no upstream \"walet\" (did you mean wallet?), expected wallet",
        ),
        (
            "  - { path: /p, methods: [GET], upstream: wallet, rate_limit: fast }",
            "tmcp_endpoints[0].rate_limit: there is no limit policy \"fast\", expected one of: default, introspection, oauth_endpoints, payment_operations, registration, registry, storage, wallet_resolution",
        ),
        (
            "  - { path: /p, methods: [GET], upstream: wallet, rate_limit: none }",
            "tmcp_endpoints[0].rate_limit: `none` is reserved for the homeserver's own traffic, expected the name of a limit policy",
        ),
        (
            "  - { path: /p, methods: [GET], upstream: wallet, auth_required: false, scopes: ['user:read'] }",
            "tmcp_endpoints[0].scopes: scopes without a token to hold them, expected auth_required: true, or no scopes",
        ),
        (
            "  - { path: /p, methods: [POST], upstream: wallet, cacheable: true }",
            "tmcp_endpoints[0].cacheable: only answers to GET and HEAD can be cached, expected GET among the methods, or false",
        ),
        (
            "  - { path: /p, methods: [GET] }",
            "tmcp_endpoints[0]: nothing answers /p: no built-in row lies under it and it names no upstream, expected upstream: <name>, or a path that covers built-in rows",
        ),
        (
            "  - { path: '/oauth2/*', methods: [DELETE] }",
            "tmcp_endpoints[0]: nothing answers /oauth2/*: no built-in row lies under it and it names no upstream, expected upstream: <name>, or a path that covers built-in rows",
        ),
        (
            "  - { path: '/wallet/v1/*', methods: [GET], upstream: wallet }",
            "tmcp_endpoints[0]: /wallet/v1/* would send the built-in operation wallet_balance to wallet, expected a path that no built-in row has, or no `upstream`",
        ),
        (
            "  - { path: '/api/v1/payments/*', rate_limit: default }",
            "tmcp_endpoints[0]: the limit default is wider than payment_operations, which payment_initiate has, expected a narrower limit: a row over built-in rows may only tighten them (change the policy itself under rate_limits)",
        ),
    ] {
        let text = row_problems(row);
        assert!(text.ends_with(told) && text.lines().count() == 1, "{text}\n is not\n{told}");
    }
    let unknown = row_problems("  - { path: '/api/v1/wallet/*', scopes: ['wallet:balence'] }");
    assert!(unknown.contains("tmcp_endpoints[0].scopes[0]: there is no scope \"wallet:balence\" (did you mean wallet:balance?), expected one of: user:read, "));
}

#[test]
fn the_same_row_twice() {
    let row = "methods: [GET, POST], upstream: wallet }\n";
    assert_eq!(
        row_problems(&format!(
            "  - {{ path: '/p/{{a}}/*', {row}  - {{ path: '/p/{{b}}/{{rest...}}', methods: [POST], upstream: wallet }}\n"
        )),
        "c/edge.yaml:7:5: tmcp_endpoints[1]: POST /p/{b}/{rest...} has a row already, in line 6, expected one row for each method and path"
    );
    let other = format!("upstreams: u\ntmcp_endpoints:\n  - {{ path: '/p/{{a}}', {row}  - {{ path: /p/a, {row}");
    assert_eq!(with(&other).unwrap().endpoints.len(), 2, "a literal is another row than a parameter");
    let all = "  - { path: '/oauth2/*' }\n  - { path: '/oauth2/*', methods: [POST] }\n";
    assert!(row_problems(all).contains("POST /oauth2/* has a row already, in line 6"));
}

#[test]
fn a_row_may_tighten_the_limit_of_built_in_rows() {
    let config = with("tmcp_endpoints: [{ path: '/api/v1/wallet/balance', rate_limit: payment_operations }]").unwrap();
    assert_eq!(config.endpoints[0].rate_limit.as_deref(), Some("payment_operations"));
}

#[test]
fn the_oauth_server_is_told_whom_to_believe() {
    let service = "introspection_url: 'https://auth.example/introspect', client_id: edge, client_secret_file: token";
    let read = with(&format!(
        "oauth: {{ sign_in: homeserver, matrix_auth_service: {{ {service}, host_clients: [chat] }} }}\n"
    ))
    .unwrap();
    assert_eq!(read.oauth.sign_in, SignIn::Homeserver);
    assert_eq!(read.oauth.matrix_auth_service.unwrap().host_clients, ["chat"]);
    assert_eq!(with("").unwrap().oauth.code_ttl, Duration::from_secs(60));
    for (text, told) in [
        ("code_ttl: 2m", "oauth.code_ttl: "),
        ("sign_in: always", "oauth.sign_in: "),
        ("consent_url: 'https://chat.example/consent'", "oauth.consent_url: "),
        ("consent_url: 'http://chat.example/{session}'", "oauth.consent_url: "),
        (&format!("matrix_auth_service: {{ {service} }}"), "oauth.matrix_auth_service.host_clients: missing"),
        (
            &format!("matrix_auth_service: {{ {service}, host_clients: [] }}"),
            "oauth.matrix_auth_service.host_clients: ",
        ),
        (
            "matrix_auth_service: { introspection_url: 'https://a.example/', client_id: e, host_clients: [c] }",
            "no client secret",
        ),
        ("resource_servers: [{ id: ma_shop, secret_hashes: ['00'] }]", "oauth.resource_servers[0].id: "),
        ("resource_servers: [{ id: wallet, secret_hashes: [secret] }]", "oauth.resource_servers[0].secret_hashes[0]: "),
    ] {
        let text = problems(&format!("oauth: {{ {text} }}\n"));
        assert!(text.contains(told), "{text}\n lacks\n{told}");
    }
}

fn store(text: &str) -> Result<Config, Problems> {
    let files = files().with("c/redis-password", "secret\n").with("c/ca.pem", PEM);
    with_files(&format!("{BASE}{LISTEN}store: {{ kind: redis, {text} }}\n"), &files)
}

#[test]
fn a_redis_is_read() {
    let one = |text: &str| match store(text).unwrap_or_else(|problems| panic!("{problems}")).store {
        Store::Redis(redis) => *redis,
        other @ Store::Embedded { .. } => panic!("{other:?}"),
    };
    let single = one("nodes: ['redis://10.0.0.5']");
    assert_eq!((single.nodes[0].to_string(), single.mode), ("10.0.0.5:6379".to_owned(), RedisMode::Single));
    assert!(single.tls.is_none() && single.require_durability && !single.replica_reads);
    let sentinel =
        one("mode: sentinel, sentinel_master: tmcp, nodes: ['rediss://a.example:26379', 'rediss://[::1]:2'], \
         username: edge, password_file: redis-password, tls: { ca: ca.pem }");
    assert_eq!(sentinel.mode, RedisMode::Sentinel { master: "tmcp".to_owned() });
    assert_eq!(sentinel.nodes[1].to_string(), "[::1]:2");
    assert!(sentinel.tls.unwrap().ca.is_some() && sentinel.password.unwrap().matches(b"secret"));
    assert!(one("nodes: ['rediss://a.example']").tls.is_some(), "rediss:// asks for TLS by itself");
    let waits = |text: &str| one(text).replicas_to_wait_for();
    assert_eq!(waits("nodes: ['redis://a']"), 0);
    assert_eq!(waits("nodes: ['redis://a'], mode: cluster"), 1);
    assert_eq!(waits("nodes: ['redis://a'], mode: cluster, wait_replicas: 0"), 0);
}

#[test]
fn faults_of_a_redis() {
    let node = "expected the address of a server such as redis://10.0.0.5:6379 (rediss:// with TLS)";
    for (text, told) in [
        ("mode: single", "store.nodes: missing, expected a list of addresses such as redis://10.0.0.5:6379".to_owned()),
        (
            "nodes: []",
            "store.nodes: an empty list, expected a list of addresses such as redis://10.0.0.5:6379".to_owned(),
        ),
        ("nodes: ['10.0.0.5:6379']", format!("store.nodes[0]: found \"10.0.0.5:6379\", {node}")),
        ("nodes: ['http://a']", format!("store.nodes[0]: found \"http://a\", {node}")),
        ("nodes: ['redis://a/1']", format!("store.nodes[0]: found \"redis://a/1\", {node}, without a path or query")),
        (
            "nodes: ['redis://u:p@a']",
            "store.nodes[0]: found a URL with a user or password, expected username and password_file beside nodes"
                .to_owned(),
        ),
        (
            "nodes: ['redis://a', 'redis://b']",
            "store.nodes: 2 servers, where the mode single has one, expected one address, or mode: sentinel or cluster"
                .to_owned(),
        ),
        (
            "mode: cluster, nodes: ['redis://a', 'rediss://b']",
            "store.nodes: some are redis:// and some rediss://, expected the same for all".to_owned(),
        ),
        (
            "mode: sentinel, nodes: ['redis://a']",
            "store.sentinel_master: missing, expected the name that the sentinels know the primary by".to_owned(),
        ),
        (
            "nodes: ['redis://a'], sentinel_master: tmcp",
            "store.sentinel_master: there are no sentinels to use it with, expected it with mode: sentinel".to_owned(),
        ),
        (
            "mode: clustr, nodes: ['redis://a']",
            "store.mode: found \"clustr\" (did you mean cluster?), expected one of: single, sentinel, cluster"
                .to_owned(),
        ),
        (
            "nodes: ['redis://a'], username: edge",
            "store: username without a password, expected password_file: <path>".to_owned(),
        ),
    ] {
        let problems = store(text).expect_err(text).to_string();
        assert!(problems.contains(&told), "{text}: {problems}");
    }
}

#[test]
fn lockouts_are_off_unless_written_and_then_the_protocols() {
    assert_eq!(with("").unwrap().lockouts, Lockouts::default());
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let on = with("lockouts: { account_suspension: {}, payment_lock: { failures: 3, within: 30m } }").unwrap().lockouts;
    let suspension = Lockout { strikes: 10, within: minutes(60), lasts: minutes(60) };
    let lock = Lockout { strikes: 3, within: minutes(30), lasts: minutes(30) };
    assert_eq!(on, Lockouts { account_suspension: Some(suspension), payment_lock: Some(lock) });
    for (text, told) in [
        (
            "account_suspension: true",
            "lockouts.account_suspension: found true, expected a map with violations, within and lasts",
        ),
        (
            "account_suspension: { violations: 0 }",
            "lockouts.account_suspension.violations: found 0, expected a whole number from 1 to 100",
        ),
        (
            "payment_lock: { lasts: 1m }",
            "lockouts.payment_lock: ends after 1m, while strikes of the last 5m still count, expected lasts to be at least within",
        ),
        (
            "payment_lock: { violations: 3 }",
            "lockouts.payment_lock.violations: unknown key, expected one of: failures, within, lasts",
        ),
        ("suspension: {}", "lockouts.suspension: unknown key, expected account_suspension or payment_lock"),
    ] {
        let text = problems(&format!("lockouts: {{ {text} }}\n"));
        assert!(text.ends_with(told), "{text}\n is not\n{told}");
    }
}
