//! Lua scripts: sent by their hash, and whole to a server that does not know them yet.

use std::fmt;

use redis::{Cmd, cmd};

/// A Lua script. All keys that it writes have to be among its keys, in one slot.
#[derive(Clone)]
pub struct Script {
    source: &'static str,
    hash: String,
    read_only: bool,
}

impl Script {
    /// A script that may write.
    pub fn new(source: &'static str) -> Script {
        Script { source, hash: redis::Script::new(source).get_hash().to_owned(), read_only: false }
    }

    /// A script that only reads: replicas run it too.
    pub fn read_only(source: &'static str) -> Script {
        Script { read_only: true, ..Script::new(source) }
    }

    pub(super) fn command(&self, whole: bool, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
        let mut command = cmd(match (whole, self.read_only) {
            (false, false) => "EVALSHA",
            (false, true) => "EVALSHA_RO",
            (true, false) => "EVAL",
            (true, true) => "EVAL_RO",
        });
        command.arg(if whole { self.source } else { &self.hash }).arg(keys.len());
        keys.iter().chain(args).for_each(|arg| {
            command.arg(*arg);
        });
        command
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script({})", self.hash)
    }
}
