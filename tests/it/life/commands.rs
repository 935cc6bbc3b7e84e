//! The other commands, on a config that is being served and on bad ones.

use std::fs;
use std::process::Output;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::client::{Connection, get};
use super::process::{ALICE, APP, Edge, Setup, free_address};
use super::upstream::Upstream;
use super::{eventually, until};

const BALANCE: &str = "/api/v1/wallet/balance";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn good(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

#[track_caller]
fn bad(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    text(&output.stderr)
}

async fn status(edge: &Edge, token: &str) -> u16 {
    Connection::open(edge.address).await.ask(&get(BALANCE, token)).await.unwrap().status
}

async fn published(edge: &Edge) -> Vec<String> {
    let jwks = reqwest::get(edge.url("/oauth2/jwks.json")).await.unwrap().json::<Value>().await.unwrap();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn mint(setup: &Setup) -> String {
    let arguments = ["token", "--user", ALICE, "--app", APP, "--scope", "wallet:balance user:read", "--ttl", "600"];
    let token = good(setup.command(&arguments));
    assert!(token.starts_with("tep.") && token.lines().count() == 1, "{token}");
    token.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_changed_and_withdrawn_while_the_edge_runs() {
    let wallet = Upstream::start("wallet");
    let setup = Setup::new(wallet.address);
    let edge = setup.start().await;
    let old_token = mint(&setup);
    assert_eq!(status(&edge, &old_token).await, 200);
    let [old] = published(&edge).await.try_into().unwrap();

    // Published before it signs.
    let said = good(setup.command(&["keys", "new"]));
    let new = said.split(' ').next().unwrap().to_owned();
    eventually("the new key is published", || published(&edge), |keys| keys.contains(&new)).await;
    let listed = good(setup.command(&["keys", "list"]));
    let state = |listed: &str, kid: &str| {
        let line = listed.lines().find(|line| line.starts_with(kid)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!((state(&listed, &old), state(&listed, &new)), ("signing".into(), "announced".into()));

    let said = good(setup.command(&["keys", "rotate"]));
    assert!(said.contains(&format!("{new} signs now")) && said.contains(&old), "{said}");
    let new_token = mint(&setup);
    assert_eq!(status(&edge, &new_token).await, 200);
    assert_eq!(status(&edge, &old_token).await, 200);
    assert_eq!(published(&edge).await.len(), 2);

    let revoked = tokio::time::Instant::now();
    good(setup.command(&["keys", "revoke", &old]));
    // A token's id is base64url, which may begin like an option.
    assert!(good(setup.command(&["revoke", "--token", "-3tRSAXoQ4UTeOIZUuEGnA"])).contains("-3tRSAXoQ4UTeOIZUuEGnA"));
    eventually("its tokens are refused", || status(&edge, &old_token), |status| *status == 401).await;
    println!("a revoked key's tokens were refused after {} ms", revoked.elapsed().as_millis());
    assert_eq!(status(&edge, &new_token).await, 200);
    assert_eq!(published(&edge).await, std::slice::from_ref(&new));
    assert_eq!(state(&good(setup.command(&["keys", "list"])), &old), "revoked");

    // The one that signs: another takes its place, and no token is left.
    good(setup.command(&["keys", "revoke", &new]));
    eventually("its tokens are refused", || status(&edge, &new_token), |status| *status == 401).await;
    assert_eq!(status(&edge, &mint(&setup)).await, 200);
    assert!(bad(setup.command(&["keys", "revoke", "nonsense"])).contains("nonsense"));
    assert!(bad(setup.command(&["keys", "rotate"])).contains("keys new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_cannot_be_is_said() {
    let wallet = Upstream::start("wallet");
    let setup = Setup::new(wallet.address);
    setup.write();
    for (user, app, scope, ttl, said) in [
        ("alice", APP, "wallet:balance", "60", "--user alice"),
        (ALICE, "shop/1", "wallet:balance", "60", "--app shop/1"),
        (ALICE, APP, "wallet:everything", "60", "wallet:everything"),
        (ALICE, APP, "wallet:balance", "90000", "24 h"),
        (ALICE, APP, "wallet:balance", "0", "24 h"),
    ] {
        let arguments = ["token", "--user", user, "--app", app, "--scope", scope, "--ttl", ttl];
        let error = bad(setup.command(&arguments));
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_every_fault_at_once_and_run_refuses() {
    let wallet = Upstream::start("wallet");
    let setup = Setup::new(wallet.address);
    setup.write();
    assert!(good(setup.command(&["check"])).contains("ok"));
    let faulty = "public_url: http://tmcp.example.com\nserver_name: tween.example\nserver:\n  listen:\n    - address: here\n  \
                  drian: 3s\nrate_limits:\n  default: { requests_per_minute: lots }\nupstreams: upstreams\ntmcp_endpoints:\n  \
                  - { path: \"/a/v1/*\", methods: [GET], scopes: [\"wallet:balence\"], upstream: nobody }\n";
    fs::write(setup.file(), faulty).unwrap();
    let error = bad(setup.command(&["check"]));
    for (line, told) in [(5, "here"), (6, "drian"), (8, "lots"), (11, "wallet:balence"), (11, "nobody")] {
        let place = format!("edge.yaml:{line}:");
        assert!(error.lines().any(|at| at.contains(&place) && at.contains(told)), "{place} {told}: {error}");
    }
    let mut refused = setup.spawn(&[]);
    assert_eq!(refused.ended().await.code(), Some(1));
    assert!(refused.log().contains("drian") && refused.log().contains("wallet:balence"), "{}", refused.log());
    fs::remove_file(setup.file()).unwrap();
    assert!(bad(setup.command(&["check"])).contains("edge.yaml"));
    assert!(bad(setup.command(&["routes"])).contains("edge.yaml"));
}

#[tokio::test(flavor = "multi_thread")]
async fn placeholders_are_read_but_not_served() {
    let wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address);
    setup.registration["hs_token"] = json!("<HOMESERVER_TOKEN>");
    setup.registration["as_token"] = json!("<APPLICATION_SERVICE_TOKEN>");
    setup.edge["keys"] = json!({});
    setup.write();
    let said = good(setup.command(&["check"]));
    for missing in ["hs_token", "as_token", "master_key_file"] {
        assert!(said.contains(missing), "{missing}: {said}");
    }
    let mut refused = setup.spawn(&[]);
    assert_eq!(refused.ended().await.code(), Some(1));
    for missing in ["hs_token", "as_token", "master_key_file"] {
        assert!(refused.log().contains(missing), "{missing}: {}", refused.log());
    }
    assert!(!refused.log().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_why() {
    let wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address);
    let first = setup.start().await;
    let mut second = setup.spawn(&[]);
    assert_eq!(second.ended().await.code(), Some(1));
    let log = second.log();
    assert!(log.contains("another edge serves from this folder") && log.contains("--upgrade"), "{log}");
    // With a folder of its own it still has no address of its own.
    setup.edge["store"]["path"] = json!("another-store");
    setup.write();
    let mut third = setup.spawn(&[]);
    assert_eq!(third.ended().await.code(), Some(1));
    assert!(third.log().contains("cannot listen on") && third.log().contains("--upgrade"), "{}", third.log());
    setup.edge["store"]["path"] = json!("store");
    assert_eq!(status(&first, &setup.token(ALICE)).await, 200);

    let mut setup = Setup::new(wallet.address);
    setup.token(ALICE);
    fs::write(setup.folder().join("master.key"), "00".repeat(32)).unwrap();
    setup.write();
    let mut other_key = setup.spawn(&[]);
    assert_eq!(other_key.ended().await.code(), Some(1));
    assert!(other_key.log().contains("master"), "{}", other_key.log());

    setup.edge["server"]["upgrade_socket"] = Value::Null;
    setup.edge["server"]["listen"][0]["address"] = json!(free_address().to_string());
    setup.write();
    let mut lonely = setup.spawn(&["--upgrade"]);
    assert_eq!(lonely.ended().await.code(), Some(1));
    assert!(!lonely.log().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_and_registration_are_printed_without_secrets() {
    let wallet = Upstream::start("wallet");
    let setup = Setup::new(wallet.address).with_partner(&[wallet.address]);
    setup.write();
    let routes = good(setup.command(&["routes"]));
    for (path, words) in [
        ("/api/v1/wallet/balance", &["GET,HEAD", "wallet_balance", "TEP", "wallet:balance", "default", "wallet"][..]),
        ("/wallet/v1/balance", &["wallet_balance"]),
        ("/partner/v1/*", &["GET,POST,HEAD", "Partner", "user:read", "partner"]),
        ("/_matrix/app/v1/transactions/{txn_id}", &["PUT", "matrix_transaction"]),
    ] {
        let line = routes
            .lines()
            .find(|line| line.contains(&format!(" {path} ")))
            .unwrap_or_else(|| panic!("{path}: {routes}"));
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
    let registration = good(setup.command(&["registration"]));
    for part in ["id: tween-miniapps", "sender_localpart: _tmcp", "@_tmcp_.*"] {
        assert!(registration.contains(part), "{registration}");
    }
    assert!(!registration.contains("-token-of-a-test"), "{registration}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_prints_what_works_and_its_folder_serves_the_other_commands() {
    let folder = tempfile::tempdir().unwrap();
    let (listen, admin) = (free_address().to_string(), free_address().to_string());
    let mut dev = std::process::Command::new(super::process::binary())
        .args(["dev", "--listen", &listen, "--admin", &admin, "--state"])
        .arg(folder.path())
        .stdout(fs::File::create(folder.path().join("out")).unwrap())
        .stderr(fs::File::create(folder.path().join("err")).unwrap())
        .spawn()
        .unwrap();
    let out = || fs::read_to_string(folder.path().join("out")).unwrap();
    until("it said what there is", || {
        assert!(dev.try_wait().unwrap().is_none(), "{}", fs::read_to_string(folder.path().join("err")).unwrap());
        out().contains("Ctrl-C")
    })
    .await;
    let told: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("dev.json")).unwrap()).unwrap();
    assert_eq!(told["edge"], format!("http://{listen}"));
    let client = reqwest::Client::new();
    let token = told["users"][ALICE]["tep_token"].as_str().unwrap();
    assert!(out().contains(token));
    let answer = client.get(format!("http://{listen}{BALANCE}")).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.json::<Value>().await.unwrap()["balance"]["available"].is_number());
    let on_it = |arguments: &[&str]| {
        let config = folder.path().join("edge.yaml");
        std::process::Command::new(super::process::binary())
            .args(arguments)
            .arg("--config")
            .arg(config)
            .output()
            .unwrap()
    };
    good(on_it(&["check"]));
    let minted = good(on_it(&["token", "--user", ALICE, "--app", APP, "--scope", "wallet:balance"]));
    let answer = client.get(format!("http://{listen}{BALANCE}")).bearer_auth(minted.trim()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    rustix::process::kill_process(rustix::process::Pid::from_child(&dev), Signal::INT).unwrap();
    let mut ended = None;
    until("Ctrl-C ends it", || {
        ended = dev.try_wait().unwrap();
        ended.is_some()
    })
    .await;
    assert!(ended.unwrap().success());
}
