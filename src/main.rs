//! Commands; no logic.

fn main() {}
