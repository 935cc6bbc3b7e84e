//! `tmcp-edge check --explain`: every key with its meaning and its default.

/// Every key as annotated YAML: the main file, an upstream's file, the mini-apps' file. What is not commented out is
/// the default; `#key:` without a space is a key that has none.
pub fn explain() -> String {
    [MAIN, UPSTREAM, MINIAPPS].join("---\n")
}

const MAIN: &str = include_str!("explain/edge.yaml");
const UPSTREAM: &str = include_str!("explain/upstream.yaml");
const MINIAPPS: &str = include_str!("explain/miniapps.yaml");
