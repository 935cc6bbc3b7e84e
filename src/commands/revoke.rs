//! `revoke`: takes tokens back, or calls payments off. It writes to the store; running edges follow within a second.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::load;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Code;
use crate::metrics::Metrics;
use crate::model::{MiniAppId, Revocation, Revoked, UserId};
use crate::policy::authn::verifier::MAX_LIFETIME;
use crate::store::revocations::RevocationLog;
use crate::store::{self, Opened};

/// What `tmcp-edge revoke` was told to revoke, as it was typed.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// `--app`.
    pub app: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--grant`.
    pub grant: Option<String>,
    /// `--token`.
    pub token: Option<String>,
    /// `--payments`: whether they are to be let through.
    pub payments: Option<bool>,
}

/// `tmcp-edge revoke`.
pub fn revoke(path: &Path, asked: &Asked) -> Result<ExitCode, String> {
    let config = load(path)?;
    let clock = Clock::system();
    let what = what(asked, clock.unix_secs())?;
    let log = open(&config, &clock)?;
    let Revocation { what, .. } = store::blocking(log.append(what)).map_err(|error| error.to_string())?;
    println!("{}. Running edges follow within a second.", told(&what));
    Ok(ExitCode::SUCCESS)
}

/// The log of the config's store.
pub(super) fn open(config: &Config, clock: &Clock) -> Result<RevocationLog, String> {
    let metrics = Arc::new(Metrics::new(Code::NAMES).map_err(|error| error.to_string())?);
    let Opened { store, .. } = store::open(&config.store, clock, &metrics)?;
    Ok(RevocationLog::new(store, clock.clone()))
}

fn what(asked: &Asked, now: u64) -> Result<Revoked, String> {
    let app = |text: &String| MiniAppId::parse(text).map_err(|error| format!("--app {text}: {error}"));
    let user = |text: &String| UserId::parse(text).map_err(|error| format!("--user {text}: {error}"));
    match asked {
        Asked { app: Some(a), user: Some(u), grant: None, token: None, payments: None } => {
            Ok(Revoked::Pair(user(u)?, app(a)?))
        }
        Asked { app: Some(a), user: None, grant: None, token: None, payments: None } => Ok(Revoked::App(app(a)?)),
        Asked { app: None, user: Some(u), grant: None, token: None, payments: None } => Ok(Revoked::User(user(u)?)),
        Asked { app: None, user: None, grant: Some(grant), token: None, payments: None } => {
            Ok(Revoked::Grant(grant.clone()))
        }
        // No token lives longer than that, so nothing needs to be remembered beyond.
        Asked { app: None, user: None, grant: None, token: Some(jti), payments: None } => {
            Ok(Revoked::Token { jti: jti.clone(), expires_at: now + MAX_LIFETIME })
        }
        Asked { app: None, user: None, grant: None, token: None, payments: Some(on) } => {
            Ok(Revoked::Payments { off: !on })
        }
        _ => Err("say one of --app, --user, --app with --user, --grant, --token and --payments".to_owned()),
    }
}

fn told(what: &Revoked) -> String {
    match what {
        Revoked::Grant(grant) => format!("The tokens of grant {grant} are revoked"),
        Revoked::Pair(user, app) => format!("What {user} allowed {app} is revoked"),
        Revoked::User(user) => format!("Every token of {user} is revoked"),
        Revoked::App(app) => format!("Every token of {app} is revoked"),
        Revoked::Key { kid, .. } => format!("Every token signed with {kid} is revoked"),
        Revoked::Token { jti, .. } => format!("The token {jti} is revoked"),
        Revoked::Payments { off: true } => "Payments are switched off".to_owned(),
        Revoked::Payments { off: false } => "Payments are let through again".to_owned(),
    }
}
