//! `dev` and `sandbox`: everything in one process, to develop against.
//!
//! `dev` writes the config that it serves, so that every other command works on it, and `dev.json` for scripts. What it
//! writes is a real config with real keys: only the upstreams are stand-ins.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use std::io::Write;

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::{greeting, keys, load, run, start_logging};
use crate::clock::Clock;
use crate::model::{MiniAppId, Scope, ScopeSet, UserId};
use crate::policy::keyring::TokenRequest;
use crate::sandbox::{DEMO_PASSWORD, DEMO_PIN, Running, Sandbox, SandboxConfig, random};

/// The demo shop: a hybrid client, so that both a back end with its secret and an app on this machine can sign in as it.
pub(super) const APP: &str = "ma_shop_001";
/// A client that keeps no secret.
pub(super) const PUBLIC_APP: &str = "ma_demo_public";
const SERVER_NAME: &str = "tween.example";
/// Demo tokens live as long as the protocol lets any token live.
const TOKEN_TTL: u64 = 24 * 3600;

/// `tmcp-edge sandbox`.
pub fn sandbox(wallet: SocketAddr, homeserver: SocketAddr, miniapp: SocketAddr) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let config =
            SandboxConfig { wallet: Some(wallet), homeserver: Some(homeserver), miniapp: Some(miniapp), ..demo()? };
        let (hs_token, as_token) = (config.hs_token.clone(), config.as_token.clone());
        let running = Sandbox::start(config).await.map_err(|error| format!("the sandbox cannot start: {error}"))?;
        for (name, served) in
            [("wallet", &running.wallet), ("homeserver", &running.homeserver), ("mini-app", &running.miniapp)]
        {
            println!("{name:<11} {}", served.as_ref().map(|served| served.base_url()).unwrap_or_default());
        }
        println!("hs_token    {hs_token}\nas_token    {as_token}");
        for (user, token) in running.matrix_tokens() {
            println!("{user} (password {DEMO_PASSWORD}, PIN {DEMO_PIN}): Matrix token {token}");
        }
        println!(
            "What reached a server: GET /_sandbox/requests. To make it misbehave: POST /_sandbox/faults. Ctrl-C stops."
        );
        tokio::signal::ctrl_c().await.map_err(|error| error.to_string())?;
        running.shutdown().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// `tmcp-edge dev`.
pub fn dev(listen: SocketAddr, admin: SocketAddr, state: &Path) -> Result<ExitCode, String> {
    start_logging(log::LevelFilter::Warn);
    let (listen, admin) = (free_port(listen, "--listen")?, free_port(admin, "--admin")?);
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let demo = demo()?;
    let secrets = Secrets::new(&demo)?;
    let running =
        runtime.block_on(Sandbox::start(demo)).map_err(|error| format!("the sandbox cannot start: {error}"))?;
    running.edge_is_at(&format!("http://{listen}"));
    write_config(state, listen, admin, &secrets, &running).map_err(|error| format!("{}: {error}", state.display()))?;

    let path = state.join("edge.yaml");
    let config = load(&path)?;
    let users = users(&config, &running)?;
    let told = json!({
        "edge": format!("http://{listen}"),
        "admin": format!("http://{admin}"),
        "wallet": base_url(&running.wallet),
        "homeserver": base_url(&running.homeserver),
        "miniapp": base_url(&running.miniapp),
        "client_id": APP,
        "public_client_id": PUBLIC_APP,
        "client_secret": secrets.client_secret,
        "webhook_secret": secrets.webhook_secret,
        "hs_token": secrets.hs_token,
        "admin_token": secrets.admin_token,
        "users": users,
    });
    let text = serde_json::to_string_pretty(&told).map_err(|error| error.to_string())?;
    private(&state.join("dev.json"), &format!("{text}\n")).map_err(|error| error.to_string())?;
    let greeting = greeting::of(&told, state);
    let done = run::start(&path, config, false, move |_| {
        println!("{greeting}");
        Ok(())
    });
    runtime.block_on(running.shutdown());
    done
}

struct Secrets {
    client_secret: String,
    webhook_secret: String,
    hs_token: String,
    as_token: String,
    admin_token: String,
}

impl Secrets {
    fn new(demo: &SandboxConfig) -> Result<Secrets, String> {
        let token = |prefix: &str| random::token(prefix).map_err(|error| error.to_string());
        Ok(Secrets {
            client_secret: token("cs_")?,
            webhook_secret: demo.webhook_secret.clone(),
            hs_token: demo.hs_token.clone(),
            as_token: demo.as_token.clone(),
            admin_token: token("adm_")?,
        })
    }
}

fn demo() -> Result<SandboxConfig, String> {
    let clock = Clock::system();
    SandboxConfig::demo(Arc::new(move || clock.unix())).map_err(|error| error.to_string())
}

/// Port 0 becomes a port that is free now: the config names it, so it has to be known before anything listens.
fn free_port(address: SocketAddr, flag: &str) -> Result<SocketAddr, String> {
    let taken = |error| format!("{flag} {address}: {error}; choose another address, or port 0 for any free one");
    TcpListener::bind(address).and_then(|listener| listener.local_addr()).map_err(taken)
}

fn write_config(
    state: &Path,
    listen: SocketAddr,
    admin: SocketAddr,
    secrets: &Secrets,
    running: &Running,
) -> std::io::Result<()> {
    fs::create_dir_all(state.join("upstreams"))?;
    let master_key = state.join("master.key");
    if !master_key.exists() {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| std::io::Error::other("no randomness"))?;
        private(&master_key, &BASE64_STANDARD.encode(key))?;
    }
    private(&state.join("admin-tokens"), &format!("dev:admin:{}\n", secrets.admin_token))?;
    private(&state.join("webhook.secret"), &secrets.webhook_secret)?;
    let hash: String = digest::digest(&digest::SHA256, secrets.client_secret.as_bytes())
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let scopes: Vec<&str> = ordinary_scopes().iter().map(|scope| scope.as_str()).collect();
    let redirects = "\"http://127.0.0.1/callback\", \"http://[::1]/callback\"";
    let place = |served: &Option<crate::sandbox::Served>| {
        served.as_ref().map_or_else(String::new, |served| served.address().to_string())
    };
    private(
        &state.join("edge.yaml"),
        &format!(
            "# Written by `tmcp-edge dev`, anew at each start. Learn from conf/edge.yaml what else there is.\n\
             public_url: http://{listen}\n\
             server_name: {SERVER_NAME}\n\
             server:\n  listen:\n    - address: {listen}\n  admin: {{ address: \"{admin}\", tokens_file: admin-tokens }}\n  \
             limits: {{ connections: 1000 }}\n  drain: 2s\n\
             store: {{ kind: embedded, path: store }}\n\
             keys: {{ master_key_file: master.key }}\n\
             oauth: {{ sign_in: homeserver }}\n\
             appservice: {{ registration: registration.yaml }}\n\
             upstreams: upstreams\n\
             miniapps: {{ file: miniapps.yaml }}\n\
             log: {{ level: warn, access: access.log }}\n"
        ),
    )?;
    private(
        &state.join("registration.yaml"),
        &format!(
            "id: tween-miniapps\nurl: http://{listen}\nas_token: {}\nhs_token: {}\nsender_localpart: _tmcp\nnamespaces:\n  users:\n    \
             - exclusive: true\n      regex: \"@_tmcp_.*\"\n    - exclusive: true\n      regex: \"@ma_.*\"\n  aliases:\n    \
             - exclusive: true\n      regex: \"#_tmcp_.*\"\n",
            secrets.as_token, secrets.hs_token
        ),
    )?;
    private(
        &state.join("miniapps.yaml"),
        &format!(
            "miniapps:\n  - id: {APP}\n    name: Demo Shop\n    developer: Tween\n    classification: community\n    scopes: [{}]\n    \
             type: hybrid\n    client_secret_hashes: [{hash}]\n    redirect_uris: [{redirects}]\n    webhook_url: {}/webhook\n    \
             webhook_secret_file: webhook.secret\n  - id: {PUBLIC_APP}\n    name: Demo App\n    developer: Tween\n    \
             classification: community\n    scopes: [{}]\n    type: public\n    redirect_uris: [{redirects}]\n",
            scopes.join(", "),
            base_url(&running.miniapp),
            scopes.join(", "),
        ),
    )?;
    let upstream = |name: &str, address: String| {
        let file = state.join("upstreams").join(format!("{name}.yaml"));
        private(&file, &format!("name: {name}\naddresses: [\"{address}\"]\ntls: false\nhttp2: false\n"))
    };
    upstream("wallet", place(&running.wallet))?;
    upstream("homeserver", place(&running.homeserver))
}

/// Every scope that a mini-app may have without being official.
fn ordinary_scopes() -> Vec<Scope> {
    Scope::ALL.iter().copied().filter(|scope| !scope.official_only()).collect()
}

fn users(config: &crate::config::Config, running: &Running) -> Result<serde_json::Value, String> {
    let app = MiniAppId::parse(APP).map_err(|error| error.to_string())?;
    let scopes: ScopeSet = ordinary_scopes().into_iter().collect();
    let entry = |(user, matrix_token): (UserId, String)| -> Result<_, String> {
        let request = TokenRequest {
            wallet_id: Some(format!("tw_{}", user.localpart())),
            session_id: Some("dev".to_owned()),
            ..TokenRequest::new(user.clone(), app.clone(), scopes, TOKEN_TTL)
        };
        let tep_token = keys::mint(config, &request)?;
        Ok((user.to_string(), json!({"matrix_token": matrix_token, "tep_token": tep_token})))
    };
    running.matrix_tokens().into_iter().map(entry).collect::<Result<serde_json::Map<_, _>, _>>().map(Into::into)
}

fn base_url(served: &Option<crate::sandbox::Served>) -> String {
    served.as_ref().map(|served| served.base_url()).unwrap_or_default()
}

/// Writes a file that only its owner may read.
fn private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
