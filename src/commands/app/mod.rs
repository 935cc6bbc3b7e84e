//! `app`: mini-apps in the store. It writes to the store; running edges follow within a second.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::{audit, load, open_store};
use crate::clock::rfc3339;
use crate::config::units::{parse_duration, show_duration};
use crate::config::{Config, Disk, MiniApp, Problems, Registration, registration};
use crate::live;
use crate::model::MiniAppId;
use crate::model::audit::{AuditAction, AuditTarget};
use crate::policy::apps::registrar::{Added, Done, Registrar, RegistrarError, Source};
use crate::policy::apps::view::{self, View};
use crate::policy::authn::Generation;
use crate::store;
use crate::store::apps::AppStore;
use crate::store::revocations::RevocationLog;

/// Longest time that a replaced client secret may stay good.
const OLD_VALID_FOR_AT_MOST: Duration = Duration::from_secs(90 * 24 * 3600);

/// Where `app add` takes mini-apps from.
#[derive(Clone, Debug)]
pub enum Asked {
    /// From arguments.
    Entry(Box<Registration>),
    /// From a file in the form of `miniapps.yaml`, `-` for standard input.
    File(PathBuf),
    /// From nowhere that was said.
    Nothing,
}

/// `tmcp-edge app add`.
pub fn add(path: &Path, asked: &Asked, replace: bool, as_json: bool) -> Result<ExitCode, String> {
    let config = load(path)?;
    let text = match asked {
        Asked::Nothing => {
            return Err("say --id and --name, or --file with mini-apps in the form of miniapps.yaml".to_owned());
        }
        Asked::Entry(_) => String::new(),
        Asked::File(file) if is_stdin(file) => {
            registration::text_of(io::stdin()).map_err(|error| format!("standard input: {error}"))?
        }
        Asked::File(file) => {
            let told = |error: io::Error| format!("{}: {error}", file.display());
            registration::text_of(File::open(file).map_err(told)?).map_err(told)?
        }
    };
    let env = |name: &str| std::env::var(name).ok();
    let source = |complete: &mut dyn FnMut(&mut MiniApp)| -> Result<Vec<MiniApp>, Problems> {
        match asked {
            Asked::Nothing => Ok(Vec::new()),
            Asked::Entry(entry) => entry.read("command line", complete).map(|app| vec![app]),
            Asked::File(file) => {
                let name = if is_stdin(file) { Path::new("standard input") } else { file };
                registration::parse(&text, name, &Disk, &env, complete)
            }
        }
    };
    let first = config.miniapps.is_empty() && is_first(&config)?;
    let target = match asked {
        Asked::Entry(entry) => AuditTarget::of("app", &entry.id),
        Asked::File(file) => AuditTarget::of("file", file.display()).and("apps", named_in(&source)),
        Asked::Nothing => AuditTarget::none(),
    };
    let target = if replace { target.and("replace", true) } else { target };
    let added =
        changed(&config, AuditAction::AppAdd, target, |registrar| store::blocking(registrar.add(&source, replace)))?;
    if first {
        eprintln!(
            "Note: no mini-app was registered, which let every one through; from now on only registered ones may call."
        );
    }
    if as_json {
        let line = |added: &Added| {
            json!({
                "id": added.id.as_str(),
                "result": result(added.done),
                "client_secret": added.client_secret.as_ref().map(|secret| secret.expose()),
                "webhook_secret": added.webhook_secret.as_ref().map(|secret| secret.expose()),
                "scopes_lost": added.lost.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
            })
        };
        println!("{}", pretty(&added.iter().map(line).collect::<Vec<_>>())?);
    } else {
        added.iter().for_each(|added| print!("{}", told(added)));
    }
    Ok(ExitCode::SUCCESS)
}

/// The mini-apps that a source names, whether or not they may be registered.
fn named_in(source: &Source<'_>) -> String {
    let mut ids: Vec<String> = Vec::new();
    // What is wrong with them is told when they are registered.
    let _ = source(&mut |app| ids.push(app.id.to_string()));
    ids.join(" ")
}

/// Whether the store has never held a mini-app.
fn is_first(config: &Config) -> Result<bool, String> {
    let (store, _) = open_store(config)?;
    store::blocking(AppStore::new(store).version()).map(|version| version.is_none()).map_err(|error| error.to_string())
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn result(done: Done) -> &'static str {
    match done {
        Done::Registered => "registered",
        Done::Replaced => "replaced",
        Done::Unchanged => "unchanged",
    }
}

fn told(added: &Added) -> String {
    let Added { id, done, client_secret, webhook_secret, lost } = added;
    let mut text = match done {
        Done::Registered => format!("{id} is registered. Running edges know it within a second.\n"),
        Done::Replaced => format!("{id} is changed. Running edges know it within a second.\n"),
        Done::Unchanged => format!("{id} is registered just so already.\n"),
    };
    if !lost.is_empty() {
        text += &format!("Its tokens are good for {lost} no longer.\n");
    }
    let secrets = [("client secret ", client_secret), ("webhook secret", webhook_secret)];
    for (name, secret) in secrets.into_iter().filter_map(|(name, secret)| secret.as_ref().map(|secret| (name, secret)))
    {
        text += &format!("{name}  {}\n", secret.expose());
    }
    if client_secret.is_some() || webhook_secret.is_some() {
        text += "No secret is shown a second time.\n";
    }
    text
}

/// `tmcp-edge app list`.
pub fn list(path: &Path, as_json: bool) -> Result<ExitCode, String> {
    let config = load(path)?;
    let views = views(&config)?;
    if as_json {
        println!("{}", pretty(&views)?);
        return Ok(ExitCode::SUCCESS);
    }
    if views.is_empty() {
        println!("No mini-apps: `app add` registers one.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<24}  {:<12}  {:<14}  {:<6}  {:<10}  NAME", "ID", "TYPE", "CLASSIFICATION", "SOURCE", "STATE");
    for view in &views {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        println!(
            "{:<24}  {:<12}  {:<14}  {:<6}  {:<10}  {}",
            view.registration.id,
            or_dash(&view.registration.client_type),
            or_dash(&view.registration.classification),
            view.source,
            view.state,
            view.registration.name
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge app show`.
pub fn show(path: &Path, id: &str, as_json: bool) -> Result<ExitCode, String> {
    let (config, id) = (load(path)?, parse_id(id)?);
    // The config's comes first, and is the one in force.
    let view = views(&config)?.into_iter().find(|view| view.registration.id == id.as_str());
    let view = view.ok_or_else(|| format!("there is no mini-app {id}; `app list` shows what there is"))?;
    if as_json {
        println!("{}", pretty(&view)?);
    } else {
        print!("{}", view.described(config.miniapps_file.as_deref()));
    }
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge app rotate-secret`.
pub fn rotate_secret(path: &Path, id: &str, old_valid_for: &str, as_json: bool) -> Result<ExitCode, String> {
    let old_valid_for = parse_duration(old_valid_for).filter(|long| *long <= OLD_VALID_FOR_AT_MOST).ok_or_else(|| {
        let most = show_duration(OLD_VALID_FOR_AT_MOST);
        format!("--old-valid-for {old_valid_for}: expected a duration such as 24h or 30m, 0 to end it at once, at most {most}")
    })?;
    let (config, id) = (load(path)?, parse_id(id)?);
    let target = AuditTarget::of("app", &id).and("old_valid_for", show_duration(old_valid_for));
    let rotated = changed(&config, AuditAction::AppRotateSecret, target, |registrar| {
        store::blocking(registrar.rotate(&id, old_valid_for))
    })?;
    let until = rotated.old_until.map(rfc3339);
    if as_json {
        let line = json!({
            "id": id.as_str(), "client_secret": rotated.secret.expose(), "old_valid_until": until,
        });
        println!("{}", pretty(&line)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("client secret   {}\nIt is good within a second and not shown a second time.", rotated.secret.expose());
    match until {
        Some(until) => println!("The one before is good until {until} besides."),
        None => println!("No other is good any longer."),
    }
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge app rotate-secret --webhook`.
pub fn rotate_webhook_secret(path: &Path, id: &str, as_json: bool) -> Result<ExitCode, String> {
    let (config, id) = (load(path)?, parse_id(id)?);
    let secret = changed(&config, AuditAction::AppRotateWebhookSecret, AuditTarget::of("app", &id), |registrar| {
        store::blocking(registrar.rotate_webhook(&id))
    })?;
    if as_json {
        println!("{}", pretty(&json!({ "id": id.as_str(), "webhook_secret": secret.expose() }))?);
    } else {
        println!("webhook secret  {}\nIt signs within a second and is not shown a second time.", secret.expose());
    }
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge app suspend`.
pub fn suspend(path: &Path, id: &str, reason: Option<String>) -> Result<ExitCode, String> {
    let (config, id) = (load(path)?, parse_id(id)?);
    let target = AuditTarget::of("app", &id).and("reason", reason.as_deref().unwrap_or_default());
    changed(&config, AuditAction::AppSuspend, target, |registrar| store::blocking(registrar.suspend(&id, reason)))?;
    println!("{id} is suspended: running edges refuse its tokens within a second, and it gets no others.");
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge app resume`.
pub fn resume(path: &Path, id: &str) -> Result<ExitCode, String> {
    let (config, id) = (load(path)?, parse_id(id)?);
    let target = AuditTarget::of("app", &id);
    changed(&config, AuditAction::AppResume, target, |registrar| store::blocking(registrar.resume(&id)))?;
    println!("{id} is back. Tokens of before stay void: its users sign in once more.");
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge app remove`.
pub fn remove(path: &Path, id: &str) -> Result<ExitCode, String> {
    let (config, id) = (load(path)?, parse_id(id)?);
    let target = AuditTarget::of("app", &id);
    changed(&config, AuditAction::AppRemove, target, |registrar| store::blocking(registrar.remove(&id)))?;
    println!("{id} is removed: running edges refuse its tokens within a second. Its id stays taken.");
    Ok(ExitCode::SUCCESS)
}

fn views(config: &Config) -> Result<Vec<View>, String> {
    let (store, clock) = open_store(config)?;
    let apps = AppStore::new(store);
    store::blocking(view::views(&config.miniapps, &apps, clock.unix_secs())).map_err(|error| error.to_string())
}

fn parse_id(text: &str) -> Result<MiniAppId, String> {
    MiniAppId::parse(text).map_err(|error| format!("{text}: {error}"))
}

/// Seals the mini-apps' webhook secrets under the config's master key, for `keys reseal`.
pub(super) fn reseal(path: &Path) -> Result<(), String> {
    let reseal = |registrar: &Registrar| store::blocking(registrar.reseal());
    changed(&load(path)?, AuditAction::AppReseal, AuditTarget::none(), reseal)
}

/// Changes what is in the config's store, with its audit line around the change.
fn changed<T>(
    config: &Config,
    action: AuditAction,
    target: AuditTarget,
    change: impl FnOnce(&Registrar) -> Result<T, RegistrarError>,
) -> Result<T, String> {
    let (store, clock) = open_store(config)?;
    let audit = audit::log(config, &store, &clock);
    let keyring = live::open_keyring(config, &store, Generation::default())?;
    let (apps, log) = (AppStore::new(store.clone()), RevocationLog::new(store, clock.clone()));
    let named = (config.miniapps.clone(), config.miniapps_file.clone());
    let registrar = Registrar::new(apps, log, keyring, clock, named);
    audit::audited(&audit, action, target, || change(&registrar).map_err(|error| error.to_string()))
}

fn pretty(value: &impl Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(value).map_err(|error| error.to_string())
}
