//! `keys` and `token`: the signing keys, and a token signed with them.

use std::path::Path;
use std::process::ExitCode;

use super::{app, audit, load, open_store};
use crate::clock::{Clock, rfc3339};
use crate::config::{Config, MiniApp};
use crate::live;
use crate::model::audit::{AuditAction, AuditTarget};
use crate::model::{MiniAppId, Scope, ScopeSet, UserId};
use crate::policy::authn::Generation;
use crate::policy::keyring::{Keyring, KeyringError, TokenRequest, issuer_of};
use crate::store;
use crate::store::apps::AppStore;
use crate::store::revocations::RevocationLog;

/// `tmcp-edge keys new`.
pub fn new(path: &Path) -> Result<ExitCode, String> {
    let kid = changed(path, AuditAction::KeyNew, AuditTarget::none(), |keyring| keyring.announce(now()))?;
    println!("{kid} is announced. Let verifiers fetch it, then run `keys rotate`.");
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge keys list`.
pub fn list(path: &Path) -> Result<ExitCode, String> {
    let (keyring, _) = open_both(&load(path)?)?;
    let lines = keyring.list(now()).map_err(|error| error.to_string())?;
    if lines.is_empty() {
        println!("No keys yet: the first start makes one, and so does `keys new`.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<24}  {:<10}  {:<20}  {:<20}  ACCEPTED UNTIL", "KID", "STATE", "CREATED", "SIGNS SINCE");
    let date = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), rfc3339);
    for line in lines {
        let state = line.state.map_or("expired", |state| state.as_str());
        let until = line.revoked.map_or_else(|| date(line.accepted_until), |at| format!("revoked {}", rfc3339(at)));
        println!(
            "{:<24}  {state:<10}  {:<20}  {:<20}  {until}",
            line.kid,
            rfc3339(line.created),
            date(line.signs_since)
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge keys rotate`.
pub fn rotate(path: &Path) -> Result<ExitCode, String> {
    let rotated = changed(path, AuditAction::KeyRotate, AuditTarget::none(), |keyring| keyring.rotate(now()))?;
    println!("{} signs now.", rotated.signing);
    if let Some(retiring) = rotated.retiring {
        println!("{retiring} stays published until the last token it signed has expired.");
    }
    if rotated.announced_for < 600 {
        println!(
            "Note: it had been announced for {} s only; verifiers that fetch less often may refuse its tokens at first.",
            rotated.announced_for
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge keys reseal`.
pub fn reseal(path: &Path) -> Result<ExitCode, String> {
    let keys = |keyring: &Keyring| keyring.reseal(now());
    changed(path, AuditAction::KeyReseal, AuditTarget::none(), keys)?;
    app::reseal(path)?;
    println!(
        "Every key and webhook secret is sealed under keys.master_key_file; once all edges use it, the previous one can go."
    );
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge keys revoke`.
pub fn revoke(path: &Path, kid: &str) -> Result<ExitCode, String> {
    let target = AuditTarget::of("key", kid);
    let successor =
        changed(path, AuditAction::KeyRevoke, target, |keyring| store::blocking(keyring.revoke(kid, now())))?;
    println!("{kid} is revoked: running edges refuse its tokens within a second.");
    if let Some(successor) = successor {
        println!("{successor} signs now.");
    }
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge token`: prints a token and nothing else, so that a script can take it.
pub fn token(path: &Path, user: &str, app: &str, scope: &str, ttl: u64) -> Result<ExitCode, String> {
    let config = load(path)?;
    let user = UserId::parse(user).map_err(|error| format!("--user {user}: {error}"))?;
    let app = MiniAppId::parse(app).map_err(|error| format!("--app {app}: {error}"))?;
    let scopes = scopes(scope)?;
    warn_of_what_the_edge_will_refuse(&config, &app, scopes)?;
    let token = mint(&config, &TokenRequest::new(user, app, scopes, ttl))?;
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}

/// A token may say more than the registry allows; the edge then takes it for less. Whoever mints one by hand is told.
fn warn_of_what_the_edge_will_refuse(config: &Config, app: &MiniAppId, scopes: ScopeSet) -> Result<(), String> {
    match registered(config, app)? {
        None => eprintln!(
            "Note: there is no mini-app {app}, in the config or in the store; the edge will refuse this token."
        ),
        Some(known) => {
            if known.suspended {
                eprintln!("Note: {app} is suspended; the edge will refuse this token.");
            }
            let more = scopes.difference(known.allowed_scopes());
            if !more.is_empty() {
                eprintln!("Note: {app} has not registered {more}; the edge will take this token without it.");
            }
        }
    }
    Ok(())
}

/// What the mini-app is registered as, in the config or the store.
fn registered(config: &Config, app: &MiniAppId) -> Result<Option<MiniApp>, String> {
    if let Some(named) = config.miniapps.get(app) {
        return Ok(Some((**named).clone()));
    }
    let (store, clock) = open_store(config)?;
    let keyring = live::open_keyring(config, &store, Generation::default())?;
    let records = store::blocking(AppStore::new(store).all()).map_err(|error| error.to_string())?;
    match records.get(app) {
        Some(Ok(record)) if record.removed.is_none() => record
            .app(keyring.sealer(), clock.unix_secs())
            .map(Some)
            .map_err(|error| format!("mini-app {app}: {error}")),
        Some(Err(error)) => Err(format!("mini-app {app}: {error}")),
        _ => Ok(None),
    }
}

pub(super) fn mint(config: &Config, request: &TokenRequest) -> Result<String, String> {
    let (keyring, log) = open_both(config)?;
    let number = store::blocking(log.number()).map_err(|error| error.to_string())?;
    keyring.knows_of_revocation(number);
    keyring.ensure_signing_key(now()).map_err(|error| error.to_string())?;
    keyring.mint(&issuer_of(&config.public_url), request, now()).map_err(|error| error.to_string())
}

fn scopes(list: &str) -> Result<ScopeSet, String> {
    let known = |name: &str| {
        Scope::parse(name)
            .ok_or_else(|| format!("--scope: there is no scope {name}; known: {}", crate::config::scope_names()))
    };
    list.split_whitespace().map(known).collect()
}

/// Changes the ring, with its audit line around the change.
fn changed<T>(
    path: &Path,
    action: AuditAction,
    target: AuditTarget,
    change: impl FnOnce(&Keyring) -> Result<T, KeyringError>,
) -> Result<T, String> {
    let config = load(path)?;
    let (store, clock) = open_store(&config)?;
    let keyring = live::open_keyring(&config, &store, Generation::default())?;
    let audit = audit::log(&config, &store, &clock);
    audit::audited(&audit, action, target, || change(&keyring).map_err(|error| error.to_string()))
}

fn open_both(config: &Config) -> Result<(Keyring, RevocationLog), String> {
    let (store, clock) = open_store(config)?;
    let keyring = live::open_keyring(config, &store, Generation::default())?;
    Ok((keyring, RevocationLog::new(store, clock)))
}

fn now() -> u64 {
    Clock::system().unix_secs()
}
