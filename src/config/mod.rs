//! Text → typed, checked values with their place in the file. Opens the files that the config names, nothing else.

pub mod secret;
pub mod types;

pub use secret::Secret;
pub use types::*;
