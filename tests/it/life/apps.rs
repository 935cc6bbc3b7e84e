//! Mini-apps that commands register while an edge runs: from nothing to a balance, and back.

use std::fs;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tmcp_edge::clock::Clock;
use tmcp_edge::config::Store;
use tmcp_edge::metrics::Metrics;
use tmcp_edge::model::{MiniAppId, UserId};
use tmcp_edge::store::Backend;
use tmcp_edge::store::apps::AppStore;
use tmcp_edge::store::oauth::{Credential, Kind, Questions};
use tmcp_edge::store::revocations::RevocationLog;
use tmcp_edge::store::seal::sha256;

use super::client::{Connection, get};
use super::process::{ALICE, APP, Edge, Setup};
use super::upstream::Upstream;
use super::{eventually, until};

const ID: &str = "ma_new_001";
const REDIRECT: &str = "https://new.example/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const SCOPE: &str = "user:read wallet:balance";
const BALANCE: &str = "/api/v1/wallet/balance";
const MINUTE: Duration = Duration::from_secs(60);

fn setup(wallet: &Upstream) -> Setup {
    let mut setup = Setup::new(wallet.address);
    setup.edge["rate_limits"]["oauth_endpoints"] = json!({"requests_per_minute": 100_000, "burst": 10_000});
    setup
}

#[track_caller]
fn good(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn bad(output: Output) -> String {
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[track_caller]
fn said(output: Output) -> Value {
    serde_json::from_str(&good(output)).unwrap()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name}: {value}"))
}

/// Registers the mini-app of these tests, with the secret that it is given.
fn register(setup: &Setup) -> String {
    let arguments = [
        "app",
        "add",
        "--json",
        "--id",
        ID,
        "--name",
        "New",
        "--type",
        "confidential",
        "--redirect-uri",
        REDIRECT,
        "--scope",
        SCOPE,
    ];
    text(&said(setup.command(&arguments))[0], "client_secret").to_owned()
}

/// Puts another entry in its place; what the command says.
fn replace(setup: &Setup, kind: &str, redirect: &str, scope: &str) -> String {
    let entry = ["--id", ID, "--name", "New", "--type", kind, "--redirect-uri", redirect, "--scope", scope];
    good(setup.command(&[&["app", "add", "--replace"], &entry[..]].concat()))
}

fn open(setup: &Setup) -> Arc<dyn Backend> {
    let at = Store::Embedded { path: setup.folder().join("store") };
    tmcp_edge::store::open(&at, &Clock::system(), &Arc::new(Metrics::new(&[]).unwrap())).unwrap().store
}

fn client() -> Client {
    Client::builder().redirect(Policy::none()).build().unwrap()
}

async fn authorize(edge: &Edge) -> Response {
    let challenge = URL_SAFE_NO_PAD.encode(sha256(VERIFIER.as_bytes()));
    let query = [
        ("response_type", "code"),
        ("client_id", ID),
        ("redirect_uri", REDIRECT),
        ("scope", SCOPE),
        ("state", "1"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let mut address = url::Url::parse(&edge.url("/oauth2/authorize")).unwrap();
    address.query_pairs_mut().extend_pairs(query);
    client().get(address).send().await.unwrap()
}

/// Alice's yes, put into the store as the consent page does; the code that comes of it.
async fn code(setup: &Setup, edge: &Edge) -> String {
    let answer = authorize(edge).await;
    assert_eq!(answer.status(), 303);
    let address = url::Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
    let session = address.query_pairs().find(|(name, _)| name == "session").unwrap().1.into_owned();
    let session = Credential::parse(Kind::Consent, &session).unwrap();
    let questions = Questions::new(open(setup));
    let held = questions.get(&session).await.unwrap().unwrap();
    let alice = UserId::parse(ALICE).unwrap();
    let held = questions.identify(&session, held, alice, MINUTE).await.unwrap().unwrap();
    let (scopes, now) = (held.value.scopes, u64::try_from(Clock::system().unix().as_millis()).unwrap());
    let known = RevocationLog::new(open(setup), Clock::system()).number().await.unwrap();
    let code = Credential::another(Kind::Code, session.grant()).unwrap();
    let granted = (scopes, &code);
    assert!(questions.approve(&session, held, granted, Default::default(), (now, known), MINUTE).await.unwrap());
    code.expose().to_owned()
}

async fn post(edge: &Edge, path: &str, secret: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let asked = client().post(edge.url(path)).basic_auth(ID, Some(secret)).body(body);
    let answer = asked.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn redeem(edge: &Edge, secret: &str, code: &str) -> (u16, Value) {
    let form =
        [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", REDIRECT), ("code_verifier", VERIFIER)];
    post(edge, "/oauth2/token", secret, &form).await
}

/// The whole flow: code and PKCE, then tokens.
async fn sign_in(setup: &Setup, edge: &Edge, secret: &str) -> Value {
    let (status, tokens) = redeem(edge, secret, &code(setup, edge).await).await;
    assert_eq!(status, 200, "{tokens}");
    tokens
}

async fn refresh(edge: &Edge, secret: &str, tokens: &Value) -> (u16, String) {
    let form = [("grant_type", "refresh_token"), ("refresh_token", text(tokens, "refresh_token"))];
    let (status, answer) = post(edge, "/oauth2/token", secret, &form).await;
    (status, answer["error"].as_str().unwrap_or_default().to_owned())
}

async fn balance(edge: &Edge, tokens: &Value) -> (u16, String) {
    let token = text(tokens, "access_token");
    let answer = Connection::open(edge.address).await.ask(&get(BALANCE, token)).await.unwrap();
    let code = if answer.status == 200 { String::new() } else { text(&answer.json()["error"], "code").to_owned() };
    (answer.status, code)
}

/// Whether the secret is the client's: asked in a way that changes nothing.
async fn is_known(edge: &Edge, secret: &str) -> bool {
    match post(edge, "/oauth2/introspect", secret, &[("token", "nonsense")]).await {
        (200, _) => true,
        (401, answer) => {
            assert_eq!(answer["error"], "invalid_client");
            false
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registered_while_the_edge_runs_it_gets_to_a_balance() {
    let wallet = Upstream::start("wallet");
    let setup = setup(&wallet);
    let edge = setup.start().await;
    assert_eq!(authorize(&edge).await.status(), 400, "nobody has heard of it");
    let registered = tokio::time::Instant::now();
    let secret = register(&setup);
    eventually("the edge knows it", || is_known(&edge, &secret), |known| *known).await;
    println!("a mini-app was known {} ms after the command began", registered.elapsed().as_millis());
    let tokens = sign_in(&setup, &edge, &secret).await;
    assert_eq!((text(&tokens, "scope"), balance(&edge, &tokens).await.0), (SCOPE, 200));
    assert_eq!(edge.metric(r#"miniapps{source="store"}"#).await, 1.0);
    assert_eq!(edge.metric(r#"miniapps{source="config"}"#).await, 1.0);
    edge.reload().await;
    assert_eq!(balance(&edge, &tokens).await.0, 200, "a reload keeps it");

    // What it gives up, its tokens lose.
    let told = replace(&setup, "confidential", REDIRECT, "user:read");
    assert!(told.contains("good for wallet:balance no longer") && !told.contains("secret"), "{told}");
    let refused = eventually("the scope is gone", || balance(&edge, &tokens), |(status, _)| *status != 200).await;
    assert_eq!(refused, (403, "INVALID_SCOPE".to_owned()));
    let form = [("token", text(&tokens, "refresh_token"))];
    let (_, about) = post(&edge, "/oauth2/introspect", &secret, &form).await;
    assert_eq!((&about["active"], text(&about, "scope")), (&json!(true), "user:read"));
    assert!(is_known(&edge, &secret).await);

    good(setup.command(&["app", "remove", ID]));
    eventually("it is gone", || is_known(&edge, &secret), |known| !known).await;
    assert_eq!(balance(&edge, &tokens).await.0, 401);
}

/// What was fetched with a secret is worth nothing without it, also once the mini-app has a part that keeps none.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_type_lets_nobody_do_without_the_secret() {
    let wallet = Upstream::start("wallet");
    let setup = setup(&wallet);
    let edge = setup.start().await;
    let secret = register(&setup);
    eventually("the edge knows it", || is_known(&edge, &secret), |known| *known).await;
    let tokens = sign_in(&setup, &edge, &secret).await;
    replace(&setup, "hybrid", REDIRECT, SCOPE);
    let form = [("client_id", ID), ("grant_type", "refresh_token"), ("refresh_token", text(&tokens, "refresh_token"))];
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let without = async || {
        let asked = client().post(edge.url("/oauth2/token")).body(body.clone());
        let answer = asked.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
        text(&answer.json::<Value>().await.unwrap(), "error").to_owned()
    };
    // As long as it is confidential, it has to authenticate.
    let refused = eventually("the edge knows of the change", without, |error| error != "invalid_client").await;
    assert_eq!(refused, "invalid_grant");
    assert_eq!(refresh(&edge, &secret, &tokens).await.0, 200);
}

/// A code that was sent to an address which is no longer the mini-app's is worth nothing: whoever listens there may be why.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_uri_that_is_given_up_takes_its_codes_along() {
    let wallet = Upstream::start("wallet");
    let setup = setup(&wallet);
    let edge = setup.start().await;
    let secret = register(&setup);
    eventually("the edge knows it", || is_known(&edge, &secret), |known| *known).await;
    let sent = code(&setup, &edge).await;
    let elsewhere = "https://new.example/elsewhere";
    replace(&setup, "confidential", elsewhere, SCOPE);
    eventually("nobody is sent there any more", || async { authorize(&edge).await.status() }, |told| *told == 400)
        .await;
    let (status, refused) = redeem(&edge, &secret, &sent).await;
    assert_eq!((status, text(&refused, "error")), (400, "invalid_grant"));
    // The code itself is not what was wrong with it.
    replace(&setup, "confidential", REDIRECT, SCOPE);
    eventually("it is back", || async { authorize(&edge).await.status() }, |told| *told == 303).await;
    assert_eq!(redeem(&edge, &secret, &sent).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_replaced_with_both_good_for_a_while() {
    let wallet = Upstream::start("wallet");
    let setup = setup(&wallet);
    let edge = setup.start().await;
    let first = register(&setup);
    eventually("the edge knows it", || is_known(&edge, &first), |known| *known).await;
    let rotated = said(setup.command(&["app", "rotate-secret", ID, "--json"]));
    let second = text(&rotated, "client_secret");
    assert!(rotated["old_valid_until"].is_string());
    eventually("the new one is good", || is_known(&edge, second), |known| *known).await;
    assert!(is_known(&edge, &first).await, "and so is the old one");
    let rotated = said(setup.command(&["app", "rotate-secret", ID, "--json", "--old-valid-for", "0"]));
    let third = text(&rotated, "client_secret");
    eventually("the newest is good", || is_known(&edge, third), |known| *known).await;
    assert!(!is_known(&edge, &first).await && !is_known(&edge, second).await);
    // One that ends by itself.
    let rotated = said(setup.command(&["app", "rotate-secret", ID, "--json", "--old-valid-for", "1s"]));
    eventually("the old one has ended", || is_known(&edge, third), |known| !known).await;
    assert!(is_known(&edge, text(&rotated, "client_secret")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_one_is_refused_until_it_is_back_and_its_tokens_for_good() {
    let wallet = Upstream::start("wallet");
    let setup = setup(&wallet);
    let edge = setup.start().await;
    let secret = register(&setup);
    eventually("the edge knows it", || is_known(&edge, &secret), |known| *known).await;
    let tokens = sign_in(&setup, &edge, &secret).await;
    let unused = code(&setup, &edge).await;
    good(setup.command(&["app", "suspend", ID, "--reason", "complaints"]));
    let refused = eventually("it is off", || balance(&edge, &tokens), |(_, code)| code == "ACCOUNT_SUSPENDED").await;
    assert_eq!(refused.0, 403);
    assert_eq!(refresh(&edge, &secret, &tokens).await, (400, "unauthorized_client".to_owned()));
    let page = authorize(&edge).await;
    assert_eq!(page.status(), 400);
    assert!(page.text().await.unwrap().contains("suspended"));
    assert!(good(setup.command(&["app", "show", ID])).contains("complaints"));

    good(setup.command(&["app", "resume", ID]));
    eventually("it is back", || is_back(&edge), |back| *back).await;
    assert_eq!(balance(&edge, &tokens).await, (401, "INVALID_TOKEN".to_owned()));
    assert_eq!(refresh(&edge, &secret, &tokens).await, (400, "invalid_grant".to_owned()));
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &unused),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    let (_, answer) = post(&edge, "/oauth2/token", &secret, &form).await;
    assert_eq!(answer["error"], "invalid_grant", "a code of before");
    let tokens = sign_in(&setup, &edge, &secret).await;
    assert_eq!(balance(&edge, &tokens).await.0, 200);
}

async fn is_back(edge: &Edge) -> bool {
    authorize(edge).await.status() == 303
}

#[tokio::test(flavor = "multi_thread")]
async fn the_config_wins_and_the_log_says_so() {
    let wallet = Upstream::start("wallet");
    let mut setup = setup(&wallet);
    let edge = setup.start().await;
    let secret = register(&setup);
    eventually("the edge knows it", || is_known(&edge, &secret), |known| *known).await;
    setup.miniapps["miniapps"].as_array_mut().unwrap().push(json!({"id": ID, "name": "Config's"}));
    setup.write();
    edge.reload().await;
    assert!(!is_known(&edge, &secret).await, "the config's is public");
    until("the log says so", || edge.logged(&format!("mini-app {ID} is in the config and in the store")) == 1).await;
    edge.reload().await;
    assert_eq!(edge.logged("is in the config and in the store"), 1);
    let listed = said(setup.command(&["app", "list", "--json"]));
    let states = |id: &str| -> Vec<(String, String)> {
        let lines = listed.as_array().unwrap().iter().filter(|line| line["id"] == id);
        lines.map(|line| (text(line, "source").to_owned(), text(line, "state").to_owned())).collect()
    };
    let pair = |source: &str, state: &str| (source.to_owned(), state.to_owned());
    assert_eq!(states(ID), [pair("config", "active"), pair("store", "overridden")]);
    assert_eq!(states(APP), [pair("config", "active")]);
    let told = bad(setup.command(&["app", "suspend", ID]));
    assert!(told.contains("stands in the config") && told.contains("miniapps.yaml"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_registered_is_told() {
    let wallet = Upstream::start("wallet");
    let setup = setup(&wallet);
    setup.write();
    register(&setup);
    let public = ["app", "add", "--id", "ma_other", "--name", "Other"];
    for (more, told) in [
        (&["--redirect-uri", "https://a.example/#x"][..], "has no fragment"),
        (&["--redirect-uri", "http://a.example/"], "loopback literals"),
        (&["--scope", "wallet:balence"], "did you mean wallet:balance?"),
        (&["--preapproved-scope", "user:read", "--classification", "official"], "user:read is not registered"),
        (&["--webhook-url", "http://a.example/"], "http is for loopback addresses only"),
        (&["--type", "privat"], "one of: public, confidential, hybrid"),
        (&["--classification", "best"], "one of: official, verified, community, beta"),
    ] {
        let error = bad(setup.command(&[&public[..], more].concat()));
        assert!(error.contains("command line: ") && error.contains(told), "{told}: {error}");
    }
    let file = setup.folder().join("app.yaml");
    let hash = "ab".repeat(32);
    fs::write(
        &file,
        format!("miniapps: [{{ id: ma_other, name: O, type: public, client_secret_hashes: ['{hash}'] }}]"),
    )
    .unwrap();
    for (arguments, told) in [
        (&["app", "add"][..], "--file"),
        (&["app", "add", "--id", ID, "--name", "Again"], "--replace"),
        (&["app", "add", "--id", APP, "--name", "Again", "--replace"], "miniapps.yaml"),
        (
            &["app", "add", "--file", file.to_str().unwrap()],
            "app.yaml:1:73: miniapps[0].client_secret_hashes: a public client",
        ),
        (&["app", "add", "--file", "/nowhere.yaml"], "/nowhere.yaml: "),
        (&["app", "show", "ma_none"], "app list"),
        (&["app", "suspend", "none"], "a mini-app id such as ma_shop_001"),
        (&["app", "resume", ID], "is not suspended"),
        (&["app", "rotate-secret", ID, "--old-valid-for", "soon"], "24h or 30m"),
        (&["app", "rotate-secret", ID, "--webhook"], "--webhook-url"),
    ] {
        let error = bad(setup.command(arguments));
        assert!(error.contains(told), "{told}: {error}");
    }
    assert_eq!(said(setup.command(&["app", "list", "--json"])).as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_audit_names_the_mini_apps_of_a_file_and_whether_they_replace_others() {
    let setup = Setup::new("127.0.0.1:9".parse().unwrap());
    setup.write();
    let file = setup.folder().join("apps.yaml");
    fs::write(&file, "miniapps: [{ id: ma_one, name: One }, { id: ma_two, name: Two }]").unwrap();
    let add = ["app", "add", "--file", file.to_str().unwrap()];
    let line = |more: &[&str]| {
        let output = setup.command(&[&add[..], more].concat());
        assert!(output.status.success(), "{output:?}");
        let log = String::from_utf8(output.stderr).unwrap();
        let line = log.lines().find_map(|line| line.split_once(" audit] "));
        serde_json::from_str::<Value>(line.unwrap_or_else(|| panic!("no line: {log}")).1).unwrap()
    };
    let target = |mut more: Value| {
        (more["apps"], more["file"]) = (json!("ma_one ma_two"), json!(file));
        more
    };
    assert_eq!(line(&[])["target"], target(json!({})));
    assert_eq!(line(&["--replace"])["target"], target(json!({"replace": "true"})));
}

#[tokio::test(flavor = "multi_thread")]
async fn mini_apps_are_in_backups_and_move_to_another_master_key() {
    let wallet = Upstream::start("wallet");
    let mut setup = setup(&wallet);
    setup.write();
    let hooked = ["app", "add", "--json", "--id", ID, "--name", "New", "--webhook-url", "https://new.example/hook"];
    let secret = text(&said(setup.command(&hooked))[0], "webhook_secret").to_owned();
    fs::write(setup.folder().join("old.key"), fs::read(setup.folder().join("master.key")).unwrap()).unwrap();
    fs::write(setup.folder().join("master.key"), "5b".repeat(32)).unwrap();
    let shown = async |setup: &Setup| {
        let keyring = setup.edge["keys"].clone();
        let read =
            |name: &str| keyring[name].as_str().map(|file| fs::read_to_string(setup.folder().join(file)).unwrap());
        let master = tmcp_edge::config::Secret::new(read("master_key_file").unwrap());
        let sealer = tmcp_edge::store::seal::Sealer::new(&master).unwrap();
        let records = AppStore::new(open(setup)).all().await.unwrap();
        let record = records[&MiniAppId::parse(ID).unwrap()].as_ref().unwrap();
        let opened = record.open_webhook_secret(&sealer);
        opened.map(|secret| secret.map(|secret| secret.expose().to_owned()))
    };
    assert!(shown(&setup).await.is_err());
    setup.edge["keys"]["previous_master_key_file"] = json!("old.key");
    setup.write();
    good(setup.command(&["keys", "reseal"]));
    assert_eq!(shown(&setup).await.unwrap().as_ref(), Some(&secret));

    let file = setup.folder().join("edge.backup");
    good(setup.command(&["store", "backup", file.to_str().unwrap()]));
    good(setup.command(&["app", "remove", ID]));
    good(setup.command(&["store", "restore", "--force", file.to_str().unwrap()]));
    assert_eq!(shown(&setup).await.unwrap().as_ref(), Some(&secret));
    let mut there = Setup::new(wallet.address);
    there.edge["store"]["path"] = json!(there.folder().join("store"));
    there.write();
    good(setup.command(&["store", "copy", "--to", there.file().to_str().unwrap()]));
    let records = AppStore::new(open(&there)).all().await.unwrap();
    assert!(records.contains_key(&MiniAppId::parse(ID).unwrap()));
}
