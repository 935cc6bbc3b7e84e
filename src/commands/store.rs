//! `store`: backing a store up, restoring it, and moving it to another back end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::{audit, load};
use crate::clock::{Clock, rfc3339};
use crate::config;
use crate::metrics::Metrics;
use crate::model::audit::{AuditAction, AuditTarget};
use crate::policy::rate_limit::instances_on;
use crate::store::archive::{self, Reader};
use crate::store::folder::{self, ServiceLock};
use crate::store::kept::Again;
use crate::store::replacing::{Refused, Replacing, is_whole};
use crate::store::{self, Backend, Opened, StoreError, transfer};

/// `tmcp-edge store backup`: works while an edge serves.
pub fn backup(path: &Path, to: &Path) -> Result<ExitCode, String> {
    let config = load(path)?;
    let clock = Clock::system();
    let store = open(&config.store, &clock)?;
    let told = |error: io::Error| format!("{}: {error}", to.display());
    let unfinished = half(to);
    // One that was left behind must not lend its mode to this one.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(told(error)),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(told)?;
    // On one runtime: connections to a Redis live on the one that opened them.
    let (file, records) = runtime()?.block_on(async {
        is_whole(&*store).await?;
        let written = transfer::backup(&*store, BufWriter::new(file), clock.unix_secs()).await;
        written.map_err(|error| format!("the backup failed: {error}"))
    })?;
    let file = file.into_inner().map_err(|error| told(error.into_error()))?;
    file.sync_all().and_then(|()| fs::rename(&unfinished, to)).map_err(told)?;
    println!("{records} records are in {}.", to.display());
    println!("What is secret in it is sealed under keys.master_key_file: keep a copy of that file elsewhere.");
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge store restore`: no edge may be serving.
pub fn restore(path: &Path, from: &Path, force: bool, stopped: bool) -> Result<ExitCode, String> {
    let config = load(path)?;
    let clock = Clock::system();
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", from.display());
    let source = || File::open(from).map(BufReader::new).map_err(|error| told(&error));
    // To the end once, before anything is changed.
    archive::verify(source()?).map_err(|error| told(&error))?;
    let mut reader = Reader::begin(source()?).map_err(|error| told(&error))?;
    let _alone = alone(&config.store)?;
    nobody_serves(&config.store, &clock, stopped)?;
    let store = open(&config.store, &clock)?;
    let elapsed = Duration::from_secs(clock.unix_secs().saturating_sub(reader.taken()));
    let audit = audit::log(&config, &store, &clock);
    let target = AuditTarget::of("backup", from.display()).and("taken", rfc3339(reader.taken())).and("force", force);
    let (moved, again) =
        runtime()?.block_on(audit.around(audit::change(AuditAction::StoreRestore, target), unwritten, async {
            let replacing = make_room(&store, &clock, force).await?;
            let moved = transfer::restore(&*store, &mut reader, elapsed).await;
            let moved = moved.map_err(|error| format!("the restore failed: {error}"))?;
            Ok((moved, replacing.finish().await.map_err(not_again)?))
        }))?;
    println!("{} records of {} are restored.", moved.records, rfc3339(reader.taken()));
    println!(
        "{} were left out: what has expired, and permissions with their codes and refresh tokens, which may have been \
         used or withdrawn since. Users sign in to their mini-apps once more.",
        moved.left_out
    );
    println!(
        "Mini-apps are as they were then: `app list` shows which are suspended, `app rotate-secret` ends old secrets."
    );
    println!(
        "What was revoked since then in a store that is no more is good again until it expires; `keys revoke` ends all \
         tokens of a key."
    );
    tell(&again);
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge store copy`: from one config's store to another's.
pub fn copy(path: &Path, to: &Path, force: bool, stopped: bool) -> Result<ExitCode, String> {
    let (from, to_config) = (load(path)?.store, load(to)?);
    let to = to_config.store.clone();
    if from == to {
        return Err("both configs name the same store".to_owned());
    }
    let clock = Clock::system();
    // Whoever holds the folder knows that no edge serves from it, whatever is said.
    let still = match alone(&from) {
        Err(serves) if stopped => return Err(serves),
        held => held.ok().flatten(),
    };
    let stands_still = stopped || still.is_some();
    let _alone = alone(&to)?;
    nobody_serves(&to, &clock, stopped)?;
    let (source, target) = (open(&from, &clock)?, open(&to, &clock)?);
    let audit = audit::log(&to_config, &target, &clock);
    let what = AuditTarget::of("from", path.display()).and("force", force);
    let (moved, again) =
        runtime()?.block_on(audit.around(audit::change(AuditAction::StoreCopy, what), unwritten, async {
            is_whole(&*source).await?;
            let replacing = make_room(&target, &clock, force).await?;
            let copied = transfer::copy(&*source, &*target, stands_still).await;
            let copied = copied.map_err(|error| format!("the copy failed: {error}"))?;
            Ok((copied, replacing.finish().await.map_err(not_again)?))
        }))?;
    println!("{} records are copied.", moved.records);
    if !stands_still {
        println!(
            "{} were left out: permissions with their codes and refresh tokens, which an edge may be changing at this \
             moment. To take them along, stop every edge and say --stopped.",
            moved.left_out
        );
    }
    tell(&again);
    Ok(ExitCode::SUCCESS)
}

fn not_again(error: StoreError) -> String {
    format!("everything is in place, but what had been revoked since is not: {error}. Begin again with --force")
}

/// Says what of the store that was replaced still holds, and which keys sign now.
fn tell(again: &Again) {
    for kid in &again.keys {
        println!("{kid} stays revoked.");
    }
    if again.revocations > 0 {
        println!("{} revocations and switches of payments that were newer hold on.", again.revocations);
    }
    for kid in &again.signing {
        println!("{kid} signs now.");
    }
    if again.signing.is_empty() {
        println!("No key signs now: the next start makes one.");
    }
}

fn half(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// A hold on the store's folder, when it has one; an error when an edge serves from it.
fn alone(store: &config::Store) -> Result<Option<ServiceLock>, String> {
    match store {
        config::Store::Embedded { path } => {
            folder::prepare(path)?;
            ServiceLock::take(path).map(Some)
        }
        config::Store::Redis(_) => Ok(None),
    }
}

/// Makes sure that no edge serves from a Redis, as far as it tells: each says so every few seconds.
fn nobody_serves(store: &config::Store, clock: &Clock, stopped: bool) -> Result<(), String> {
    let config::Store::Redis(_) = store else { return Ok(()) };
    if stopped {
        return Ok(());
    }
    let Some(redis) = opened(store, clock)?.redis else { return Ok(()) };
    match runtime()?.block_on(instances_on(&redis)).map_err(|error| error.to_string())? {
        0 => Ok(()),
        some => Err(format!(
            "{some} edge(s) have served from this Redis within the last seconds: stop them first, or say --stopped when \
             you know that none does"
        )),
    }
}

/// Empties a store, if it may be; what it knew to be void is to be done again.
async fn make_room(store: &Arc<dyn Backend>, clock: &Clock, force: bool) -> Result<Replacing, String> {
    let begun = Replacing::begin(store, clock, force).await;
    let begun = begun.map_err(|refused| match refused {
        Refused::NotEmpty => "the store is not empty: --force removes everything that is in it first".to_owned(),
        Refused::Store(error) => error.to_string(),
    })?;
    if let Some(why) = &begun.forgotten {
        eprintln!("Note: what had been revoked cannot be read, and is forgotten: {why}");
    }
    Ok(begun)
}

pub(super) fn open(store: &config::Store, clock: &Clock) -> Result<Arc<dyn Backend>, String> {
    opened(store, clock).map(|opened| opened.store)
}

fn opened(store: &config::Store, clock: &Clock) -> Result<Opened, String> {
    let metrics = Metrics::new(&[]).map_err(|error| error.to_string())?;
    store::open_unseen(store, clock, &Arc::new(metrics))
}

fn unwritten(error: StoreError) -> String {
    audit::unwritten(&error)
}

fn runtime() -> Result<Runtime, String> {
    Runtime::new().map_err(|error| format!("cannot start threads: {error}"))
}
