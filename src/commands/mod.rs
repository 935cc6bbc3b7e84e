//! What the command line does. Each command is a function that returns an exit code, or what to tell the person who
//! typed it.

mod control;
pub mod dev;
pub mod inspect;
pub mod keys;
pub mod run;

use std::path::Path;

use crate::config::{self, Config};

/// Reads a config, with `${NAME}` taken from the environment.
pub(crate) fn load(path: &Path) -> Result<Config, String> {
    config::load(path, &|name| std::env::var(name).ok()).map_err(|problems| problems.to_string())
}
