//! What the command line does. Each command is a function that returns an exit code, or what to tell the person who
//! typed it.

pub mod app;
mod audit;
mod control;
pub mod dev;
mod greeting;
pub mod inspect;
pub mod keys;
pub mod revoke;
pub mod run;
pub mod store;

use std::path::Path;
use std::sync::Arc;

use log::LevelFilter;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::store::Backend;
use crate::store::audit::LOG_TARGET;

/// Reads a config, with `${NAME}` taken from the environment.
pub(crate) fn load(path: &Path) -> Result<Config, String> {
    config::load(path, &|name| std::env::var(name).ok()).map_err(|problems| problems.to_string())
}

/// Opens the config's store for a command, with the clock that it goes by.
pub(crate) fn open_store(config: &Config) -> Result<(Arc<dyn Backend>, Clock), String> {
    let clock = Clock::system();
    let store = store::open(&config.store, &clock)?;
    Ok((store, clock))
}

/// Crates that, when asked for details, print what clients sent, credentials included.
const TALKATIVE: &[&str] = &["pingora", "h2", "hyper", "reqwest", "axum", "tower", "rustls", "openssl"];

/// Writes our own lines from `level` on, and of those crates nothing below `info`, whatever `RUST_LOG` says: no log may
/// hold a credential.
pub(crate) fn start_logging(level: LevelFilter) {
    let mut logger = env_logger::Builder::new();
    logger.filter_level(level).parse_default_env();
    for name in TALKATIVE {
        logger.filter_module(name, level.min(LevelFilter::Info));
    }
    // Who changed what is told whatever the level is.
    logger.filter_module(LOG_TARGET, LevelFilter::Info);
    logger.init();
}
