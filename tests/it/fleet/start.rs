//! An edge on a Redis that will not do says what is wrong, and ends.

use std::fs;

use serde_json::{Value, json};

use super::edges::single;
use super::servers::{Certificates, Server};
use crate::life::process::Setup;

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:9";

fn setup(store: Value) -> Setup {
    let mut setup = Setup::new(NOBODY.parse().unwrap());
    setup.edge["store"] = store;
    setup
}

/// What an edge says that does not start.
async fn refused(setup: &Setup) -> String {
    setup.write();
    let mut edge = setup.spawn(&[]);
    let status = edge.ended().await;
    assert_eq!(status.code(), Some(1), "{}", edge.log());
    let log = edge.log();
    assert!(!log.contains("panicked"), "{log}");
    log.split_once("tmcp-edge: ").unwrap_or_else(|| panic!("{log}")).1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgets_is_named_with_its_setting() {
    let server = Server::start(&[]);
    let mut setup = setup(single(server.port));
    for (setting, value, wanted) in [
        ("appendfsync", "everysec", "always"),
        ("appendonly", "no", "yes"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
    ] {
        server.ask::<()>(&format!("CONFIG SET {setting} {value}"));
        let told = refused(&setup).await;
        let place = format!("127.0.0.1:{}: {setting} is {value}: set `{setting} {wanted}`", server.port);
        assert!(told.contains(&place), "{told}");
        server.ask::<()>(&format!("CONFIG SET {setting} {wanted}"));
    }
    server.ask::<()>("CONFIG SET appendonly no");
    setup.edge["store"]["require_durability"] = json!(false);
    let edge = setup.start().await;
    assert!(edge.log().contains("set `appendonly yes`"), "it warns: {}", edge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_redis_does_not_let_in() {
    let server = Server::start(&["user default off", "user edge on >right ~* &* +@all"]);
    let mut setup = setup(single(server.port));
    let told = refused(&setup).await;
    assert!(told.contains("Redis refuses this user") && told.contains("store.password_file"), "{told}");
    setup.edge["store"]["username"] = json!("edge");
    setup.edge["store"]["password_file"] = json!("redis-password");
    for (password, told) in [("wrong", true), ("right", false)] {
        fs::write(setup.folder().join("redis-password"), password).unwrap();
        if told {
            let told = refused(&setup).await;
            assert!(told.contains("Redis refuses this user") && told.contains("store.password_file"), "{told}");
            assert!(!told.contains("wrong"), "no password in it: {told}");
        } else {
            setup.start().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_not_there_or_not_the_one() {
    let mut store = json!({"kind": "redis", "nodes": [format!("redis://{NOBODY}")]});
    let told = refused(&setup(store.clone())).await;
    assert!(told.contains("store.nodes: Redis cannot be reached") && told.contains(NOBODY), "{told}");

    let (own, other) = (Certificates::new(), Certificates::new());
    let mut lines = own.lines();
    lines.push("tls-auth-clients no".to_owned());
    let server = Server::start(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    store["nodes"] = json!([server.tls_url()]);
    store["tls"] = json!({"ca": other.ca()});
    let told = refused(&setup(store.clone())).await;
    assert!(told.contains("store.nodes: Redis cannot be reached") && told.contains("certificate"), "{told}");
    store["nodes"] = json!([server.tls_url().replace("rediss", "redis")]);
    store["tls"] = json!(false);
    let told = refused(&setup(store.clone())).await;
    assert!(told.contains("store.nodes: Redis cannot be reached"), "plain words to a server that wants TLS: {told}");
    store["nodes"] = json!([server.tls_url()]);
    store["tls"] = json!({"ca": own.ca()});
    setup(store).start().await;
}

/// An operator says what holds meanwhile, and is not told to wait until it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_works_while_redis_is_away() {
    let mut server = Server::start(&[]);
    let mut store = single(server.port);
    store["timeouts"]["total"] = json!("300ms");
    let mut setup = setup(store);
    let edge = setup.start().await;
    crate::life::until("the edge serves", || edge.logged("serving on") == 1).await;
    server.kill();
    setup.edge["rate_limits"] =
        json!({"default": {"requests_per_minute": 100, "burst": 20, "on_store_failure": "open"}});
    setup.write();
    edge.reload().await;
    assert!(edge.log().contains("the keys in memory stay in use"), "{}", edge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_not_replaced_under_its_edges() {
    let server = Server::start(&[]);
    let setup = setup(single(server.port));
    let edge = setup.start().await;
    crate::life::until("the edge serves", || edge.logged("serving on") == 1).await;
    let file = setup.folder().join("edge.backup");
    let file = file.to_str().unwrap();
    let run = |words: &[&str]| tokio::task::block_in_place(|| setup.command(words));
    let done = run(&["store", "backup", file]);
    assert!(done.status.success(), "{done:?}");
    let refused = run(&["store", "restore", "--force", file]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && told.contains("served from this Redis") && told.contains("--stopped"),
        "{told}"
    );
    drop(edge);
    let done = run(&["store", "restore", "--force", "--stopped", file]);
    assert!(done.status.success(), "{done:?}");
}
