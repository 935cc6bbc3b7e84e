//! SIGHUP, and files that change.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::client::{Connection, Load, get};
use super::process::{ALICE, BOB, Setup, free_address};
use super::upstream::Upstream;
use super::{eventually, until};

const BALANCE: &str = "/api/v1/wallet/balance";
const VIEWER: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test(flavor = "multi_thread")]
async fn a_good_config_takes_effect_and_a_request_under_way_keeps_the_old_one() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    setup.edge["tmcp_endpoints"][0]["path"] = json!("/old/v1/*");
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let mut slow = Connection::open(edge.address).await;
    slow.send(get("/old/v1/held", &token)).await.unwrap();
    until("the slow request is under way", || partner.waiting() == 1).await;

    setup.edge["tmcp_endpoints"][0]["path"] = json!("/new/v1/*");
    setup.edge["rate_limits"]["default"] = json!({"requests_per_minute": 2, "burst": 0});
    setup.write();
    edge.reload().await;

    let mut connection = Connection::open(edge.address).await;
    let answer = connection.ask(&get("/new/v1/order", &token)).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-ratelimit-limit"), Some("2"));
    assert_eq!(connection.ask(&get("/old/v1/order", &token)).await.unwrap().status, 404);
    partner.open_gate();
    let answer = slow.answer().await.unwrap();
    assert_eq!((answer.status, &answer.json()["served_by"]), (200, &json!("partner")));
    assert_eq!(answer.header("x-ratelimit-limit"), Some("1000000"));
    // The same connection goes on under the new config.
    assert_eq!(slow.ask(&get("/old/v1/order", &token)).await.unwrap().status, 404);
}

/// A reload does not move the admin address, so it must not change either who may look without a token: with a socket on
/// every interface and `127.0.0.1` in the new config, everybody could.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_look_depends_on_where_the_admin_address_is_and_not_on_where_it_is_to_be() {
    let mut setup = Setup::new(Upstream::start("wallet").address);
    let edge = setup.start().await;
    let looked = async || reqwest::get(edge.admin_url("/api/v1/status")).await.unwrap().status().as_u16();
    assert_eq!(looked().await, 200);
    std::fs::write(setup.folder().join("admin-tokens"), "duty:admin:0123456789abcdef").unwrap();
    setup.edge["server"]["admin"] = json!({"address": "192.0.2.1:9090", "tokens_file": "admin-tokens"});
    setup.write();
    edge.reload().await;
    assert_eq!(looked().await, 200, "it is still on loopback");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_config_changes_nothing_and_is_told_of() {
    let wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address);
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let good = setup.edge.clone();
    let mut connection = Connection::open(edge.address).await;
    let mut broken = Vec::new();
    setup.edge["rate_limits"]["default"]["requests_per_minute"] = json!("many");
    setup.edge["server"]["limits"]["in_flight_per_ip"] = json!(0);
    broken.push((setup.edge.clone(), ["rate_limits.default.requests_per_minute", "server.limits.in_flight_per_ip"]));
    // What only shows when everything is built, with numbers beside it that could have been taken over before.
    setup.edge = good.clone();
    setup.edge["rate_limits"]["default"]["requests_per_minute"] = json!(7);
    setup.edge["server"]["limits"]["per_ip"] = json!(1);
    std::fs::write(
        setup.folder().join("not-a-ca.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    setup.upstreams.insert(
        "other".into(),
        json!({"name": "other", "addresses": ["127.0.0.1:1"], "tls": {"server_name": "a.test", "ca": "../not-a-ca.pem"}}),
    );
    broken.push((setup.edge.clone(), ["upstream other", "not-a-ca.pem"]));
    for (before, (config, told)) in broken.into_iter().enumerate() {
        setup.edge = config;
        setup.write();
        edge.signal(Signal::HUP);
        until("the reload was refused", || edge.logged("reload failed") == before + 1).await;
        let log = edge.log();
        assert!(told.iter().all(|told| log.contains(told)), "{log}");
        // Twice, on a connection that stands and on a new one.
        for connection in [&mut connection, &mut Connection::open(edge.address).await] {
            let answer = connection.ask(&get(BALANCE, &token)).await.unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header("x-ratelimit-limit"), Some("1000000"));
        }
    }
    setup.edge = good;
    setup.edge["rate_limits"]["default"]["requests_per_minute"] = json!(7);
    setup.upstreams.remove("other");
    std::fs::remove_file(setup.folder().join("upstreams/other.yaml")).unwrap();
    setup.write();
    edge.signal(Signal::HUP);
    until("the repaired config is in force", || edge.logged("is in force") == 1).await;
    let answer = connection.ask(&get(BALANCE, &token)).await.unwrap();
    assert_eq!(answer.header("x-ratelimit-limit"), Some("7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_that_changes_is_read() {
    let wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address);
    setup.edge["server"]["watch"] = json!(true);
    std::fs::write(setup.folder().join("admin-tokens"), format!("watch:viewer:{VIEWER}")).unwrap();
    setup.edge["server"]["admin"]["tokens_file"] = json!("admin-tokens");
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    // In a file that the main one names.
    setup.miniapps["miniapps"][0]["suspended"] = json!(true);
    setup.write();
    until("the change was noticed", || edge.logged("is in force") == 1).await;
    let mut connection = Connection::open(edge.address).await;
    assert_eq!(connection.ask(&get(BALANCE, &token)).await.unwrap().status, 403);
    setup.miniapps["miniapps"] = json!("none");
    setup.write();
    until("the broken one was noticed", || edge.logged("reload failed") == 1).await;
    setup.miniapps = json!({"miniapps": [{
        "id": "ma_shop_001", "name": "Shop", "classification": "community", "scopes": ["wallet:balance"],
    }]});
    setup.write();
    until("the repaired one was noticed", || edge.logged("is in force") == 2).await;
    assert_eq!(connection.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
    edge.signal(Signal::HUP);
    until("the signal was followed", || edge.logged("is in force") == 3).await;

    let lines = async || {
        let asked = reqwest::Client::new().get(edge.admin_url("/api/v1/audit")).bearer_auth(VIEWER);
        asked.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let told = |lines: &Value| -> Vec<Value> {
        let lines = lines["lines"].as_array().unwrap().iter();
        lines.map(|line| json!([line["action"], line["actor"]["role"], line["outcome"]])).collect()
    };
    let (done, failed) = (json!(["reload", "file", "done"]), json!(["reload", "file", "failed"]));
    let newest_first = [json!(["reload", "signal", "done"]), done.clone(), failed, done];
    eventually("each has its line", lines, |lines| told(lines) == newest_first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_have_used_up_stays_used_up() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    setup.edge["rate_limits"]["default"] = json!({"requests_per_hour": 3, "burst": 0});
    setup.edge["rate_limits"]["slow"] = json!({"requests_per_hour": 2, "burst": 0});
    setup.edge["tmcp_endpoints"][0]["rate_limit"] = json!("slow");
    let edge = setup.start().await;
    let (alice, bob) = (setup.token(ALICE), setup.token(BOB));
    let mut connection = Connection::open(edge.address).await;
    let mut status = async |path: &str, token: &str| connection.ask(&get(path, token)).await.unwrap().status;
    let mut drained = Vec::new();
    for _ in 0..4 {
        drained.push(status(BALANCE, &alice).await);
    }
    assert_eq!(drained, [200, 200, 200, 429]);
    assert_eq!(status("/partner/v1/a", &alice).await, 200);

    // Nothing changes, then another policy, another row, the server's own numbers, a mini-app's entry.
    edge.reload().await;
    assert_eq!(status(BALANCE, &alice).await, 429);
    setup.edge["rate_limits"]["oauth_endpoints"] = json!({"requests_per_minute": 3, "burst": 1});
    setup.edge["tmcp_endpoints"][0]["operation"] = json!("Other name");
    setup.edge["server"]["limits"]["keepalive"] = json!("20s");
    setup.edge["cache"] = json!({"response_cache": {"ttl": 10, "max_size": "1MB"}});
    setup.miniapps["miniapps"][0]["name"] = json!("Other name");
    setup.write();
    edge.reload().await;
    assert_eq!(status(BALANCE, &alice).await, 429);
    assert_eq!(status("/partner/v1/a", &alice).await, 200);
    assert_eq!(status("/partner/v1/a", &alice).await, 429);
    assert_eq!(status(BALANCE, &bob).await, 200);

    // Alice's and Bob's token have each been verified once.
    assert_eq!(edge.metric(r#"token_validations_total{result="valid"}"#).await, 2.0);

    // Its own numbers: then everybody begins anew under that policy, and under no other.
    setup.edge["rate_limits"]["default"]["burst"] = json!(1);
    setup.write();
    edge.reload().await;
    assert_eq!(status(BALANCE, &alice).await, 200);
    assert_eq!(status("/partner/v1/a", &alice).await, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_that_is_open_stays_open() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    setup.upstreams.get_mut("wallet").unwrap()["breaker"] = json!({"window": 4, "failures": 2, "open": "1h"});
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let mut connection = Connection::open(edge.address).await;
    let mut ask = async || connection.ask(&get(BALANCE, &token)).await.unwrap();
    wallet.answers(http::StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!((ask().await.status, ask().await.status), (502, 502));
    wallet.answers(http::StatusCode::OK);
    let open = ask().await;
    assert_eq!((open.status, &open.json()["error"]["circuit_state"]), (503, &json!("OPEN")));
    edge.reload().await;
    assert_eq!(ask().await.status, 503);
    // Its time-outs and another upstream change, not its own numbers.
    setup.upstreams.get_mut("wallet").unwrap()["timeouts"]["read"] = json!("19s");
    setup.upstreams.get_mut("partner").unwrap()["breaker"] = json!({"window": 4, "failures": 2, "open": "1m"});
    setup.write();
    edge.reload().await;
    assert_eq!(ask().await.status, 503);
    setup.upstreams.get_mut("wallet").unwrap()["breaker"]["window"] = json!(5);
    setup.write();
    edge.reload().await;
    assert_eq!(ask().await.status, 200);
    assert_eq!(wallet.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reload_cannot_change_is_told() {
    let wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address);
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    setup.edge["server"]["listen"][0]["address"] = json!(free_address().to_string());
    setup.edge["server"]["threads"] = json!(1);
    setup.edge["log"]["access"] = json!("other.log");
    setup.edge["store"]["path"] = json!("other-store");
    setup.edge["telemetry"] = json!({"otlp": "http://127.0.0.1:9/v1/traces"});
    setup.edge["cache"] = json!({"auth_cache": {"ttl": 1, "max_size": "1MB"}});
    setup.write();
    edge.reload().await;
    let log = edge.log();
    let line = log.lines().find(|line| line.contains("only in force after a restart or an upgrade")).unwrap_or(&log);
    for name in ["server.listen", "server.threads", "log.access", "store", "telemetry.otlp", "cache.auth_cache"] {
        assert!(line.contains(name), "{name}: {line}");
    }
    assert!(!line.contains("server.admin"), "{line}");
    let answer = Connection::open(edge.address).await.ask(&get(BALANCE, &token)).await.unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_reloads_under_load_fail_no_request() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let load = Load::start(edge.address, &get(BALANCE, &token), 6, 2);
    for round in 0..20 {
        setup.edge["rate_limits"]["default"]["burst"] = json!(1_000_000 - round);
        setup.upstreams.get_mut("wallet").unwrap()["timeouts"]["read"] = json!(format!("{}s", 30 + round));
        setup.edge["tmcp_endpoints"][0]["path"] = json!(format!("/partner/v{round}/*"));
        setup.write();
        edge.reload().await;
        load.more(100).await;
    }
    let (done, failed) = load.stop().await;
    assert!(failed.is_empty(), "{} of {done} failed: {:?}", failed.len(), failed.first());
    println!("{done} requests through 20 reloads, none failed");
}
