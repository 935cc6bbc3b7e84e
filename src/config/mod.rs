//! Text → typed, checked values with their place in the file. Opens the files that the config names, nothing else.
//!
//! A config is read in one pass that does not stop at a fault: [`load()`] answers with a [`Config`] that is known to make
//! sense as a whole, or with every [`Problem`] there is, each with file, line, key path and what was expected.
//!
//! | file | |
//! |---|---|
//! | `tree` | YAML text → nodes with places, within bounds |
//! | `reader`, `map` | nodes → typed values; complaints; unknown keys |
//! | `outside`, `opener` | `${NAME}`, `*_file`, and how files are reached |
//! | `units`, `net`, `pattern` | durations and sizes, address ranges, path patterns |
//! | `load` | the main file; what needs more than one section |
//! | `miniapp` | a mini-app and what has to fit together in it |
//! | `registration` | mini-apps from elsewhere: the command line, the store |
//! | the rest | a section each, by its name |
//! | `explain` | every key with its meaning and default |

mod appservice;
mod egress;
mod endpoints;
mod explain;
mod limits;
mod load;
mod lockouts;
mod map;
pub mod miniapp;
mod miniapps;
pub mod net;
pub mod oauth;
mod opener;
mod outside;
pub mod pattern;
mod problem;
mod reader;
pub mod registration;
pub mod secret;
mod server;
mod store;
mod tokens;
mod tree;
pub mod types;
pub mod units;
mod upstream;
mod validation;

#[cfg(test)]
mod tests;

pub use explain::explain;
pub use load::{load, parse_str};
pub use miniapp::MiniApp;
pub use opener::{Disk, InMemory, Opener};
pub use problem::{Problem, Problems};
pub use registration::Registration;
pub use secret::Secret;
pub use types::*;
