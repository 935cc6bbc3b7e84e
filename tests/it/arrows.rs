//! Imports go one way: every `crate::` path in `src` is held against the order that `lib.rs` states.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by floor, lowest first. A room may name rooms of lower floors, and its own.
const FLOORS: &[&[&str]] = &[
    &["model", "clock", "metrics"],
    &["error", "config"],
    &["store"],
    &["upstream"],
    &["policy"],
    &["operations"],
    &["snapshot", "live"],
    &["context", "response", "cache", "telemetry", "admin"],
    &["gateway"],
    &["server"],
    &["commands"],
    &["cli"],
    &["main", "lib"],
];

/// Arrows inside one floor that are part of the design.
const SIDEWAYS: &[(&str, &str)] = &[
    ("metrics", "model"),
    ("config", "error"),
    ("snapshot", "live"),
    ("admin", "telemetry"),
    ("admin", "cache"),
    ("context", "telemetry"),
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            rust_files(&entry, files);
        } else if entry.extension().is_some_and(|ext| ext == "rs") {
            files.push(entry);
        }
    }
}

fn room_of(file: &Path, src: &Path) -> String {
    let first = file.strip_prefix(src).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Every room named by a `crate::` path in code (comments and strings are not looked into).
fn rooms_named(text: &str) -> Vec<(usize, String)> {
    let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(at, line)| {
        line.match_indices("crate::").map(move |(found, _)| {
            let rest = &line[found + "crate::".len()..];
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            (at + 1, name)
        })
    })
    .collect()
}

#[test]
fn imports_go_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut wrong = BTreeMap::new();
    for file in files {
        let room = room_of(&file, &src);
        for (line, named) in rooms_named(&fs::read_to_string(&file).unwrap()) {
            let allowed = if room == "sandbox" {
                matches!(named.as_str(), "model" | "sandbox")
            } else if named == "sandbox" {
                room == "commands"
            } else {
                named == room
                    || SIDEWAYS.contains(&(room.as_str(), named.as_str()))
                    || floor(&room).zip(floor(&named)).is_some_and(|(from, to)| to < from)
            };
            if !allowed {
                let place = format!("{}:{line}", file.strip_prefix(&src).unwrap().display());
                wrong.insert(place, format!("{room} names {named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not allowed: {wrong:#?}");
}

#[test]
fn pingora_stays_in_its_rooms() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let allowed = ["server", "gateway", "response", "cache", "telemetry", "admin", "upstream"];
    for file in files {
        let room = room_of(&file, &src);
        let text = fs::read_to_string(&file).unwrap();
        let names_it = text.contains("use pingora") && !text.contains("use pingora_limits");
        assert!(!names_it || allowed.contains(&room.as_str()), "{} names Pingora types", file.display());
    }
}
