//! The sample and the explanation hold what the reader holds.

use super::super::reader::Load;
use super::super::tree::{Kind, Node};
use super::*;

#[test]
fn the_sample_reads_well_on_a_fresh_clone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = load(&root.join("conf/edge.yaml"), &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.upstreams.keys().collect::<Vec<_>>(), ["homeserver", "miniapps", "wallet"]);
    assert_eq!(config.upstreams["wallet"].tls.as_ref().unwrap().server_name, "wallet.internal");
    let unmet = config.require_for_run().unwrap_err();
    assert_eq!(unmet.len(), 3, "{unmet}");
    for part in [
        "conf/edge.yaml",
        "conf/registration.yaml",
        "conf/miniapps.yaml",
        "conf/../upstreams",
        "conf/../upstreams/wallet.yaml",
    ] {
        assert!(config.files.contains(&root.join(part)), "{part} is not among {:?}", config.files);
    }
}

pub(super) const MAIN: &str = include_str!("../explain/edge.yaml");
const UPSTREAM: &str = include_str!("../explain/upstream.yaml");
const MINIAPPS: &str = include_str!("../explain/miniapps.yaml");

/// A config as text, without what differs by its name alone.
fn shown(config: Config) -> String {
    format!("{:#?}", Config { files: Vec::new(), miniapps_file: None, unmet: Problems::default(), ..config })
}

#[test]
fn the_explained_values_are_the_defaults() {
    assert_eq!(shown(with_files(MAIN, &files()).unwrap()), shown(with("").unwrap()));
    assert_eq!(upstream(UPSTREAM).unwrap().upstreams["wallet"], upstream(WALLET).unwrap().upstreams["wallet"]);
    let shortest = "miniapps: [{ id: ma_shop_001, name: Shop }]";
    assert_eq!(shown(miniapps(MINIAPPS, "").unwrap()), shown(miniapps(shortest, "").unwrap()));
    assert!(explain().contains("requests_per_minute: 100"));
}

/// The explanation with every key in force: `#key:` loses its `#`, and takes the place of the same key above it.
fn uncommented(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let Some(active) = trimmed.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(['#', ' ']))
        else {
            lines.push(line.to_owned());
            continue;
        };
        let key = active.split(':').next().unwrap();
        let depth = |line: &String| line.len() - line.trim_start().len();
        let same =
            lines.iter().rposition(|line| line.trim_start().starts_with(&format!("{key}:")) && depth(line) == indent);
        if let Some(same) = same
            && !active.starts_with('-')
            && !lines[same..]
                .iter()
                .any(|line| depth(line) < indent && !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        {
            lines.remove(same);
        }
        lines.push(format!("{}{active}", " ".repeat(indent)));
    }
    lines.join("\n")
}

fn key_paths(node: &Node, path: &str, all: &mut Vec<String>) {
    match &node.kind {
        Kind::Map(entries) => {
            for (key, node) in entries {
                let below = if path.is_empty() { key.text.clone() } else { format!("{path}.{}", key.text) };
                all.push(below.clone());
                key_paths(node, &below, all);
            }
        }
        Kind::List(items) => items.iter().for_each(|item| key_paths(item, &format!("{path}[]"), all)),
        Kind::Scalar { .. } => {}
    }
}

/// Key paths with indexes and the names of policies taken out.
fn plain(path: &str) -> String {
    let mut path: String = path.chars().filter(|c| !c.is_ascii_digit()).collect();
    if let Some(rest) = path.strip_prefix("rate_limits.") {
        path = format!("rate_limits.*{}", rest.find('.').map_or("", |at| &rest[at..]));
    }
    path
}

#[test]
fn every_key_is_explained_and_everything_explained_is_a_key() {
    let (main, homeserver) = (uncommented(MAIN), uncommented(UPSTREAM).replace("name: wallet", "name: homeserver"));
    let files = files()
        .with("c/upstreams/homeserver.yaml", homeserver.as_str())
        .with("c/upstreams/wallet.yaml", WALLET)
        .with("c/upstreams/ca.pem", PEM)
        .with("c/upstreams/edge.crt", PEM)
        .with("c/upstreams/edge.key", PEM)
        .with("c/upstreams/homeserver-admin-token", "secret")
        .with("c/registration.yaml", include_str!("../../../tests/fixtures/brief/registration.yaml"))
        .with("c/old-hs-token", "old")
        .with("c/mas-secret", "secret")
        .with("c/redis-password", "secret")
        .with("c/sentinel-password", "secret")
        .with("c/ca.pem", PEM)
        .with("c/edge.crt", PEM)
        .with("c/edge.key", PEM)
        .with("c/master.key", "5".repeat(64))
        .with("c/old.key", "6".repeat(64))
        .with("c/admin-tokens", "ops:operator:0123456789abcdef")
        .with("c/miniapps.yaml", uncommented(MINIAPPS))
        .with("c/shop-webhook-secret", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    let load = Load::new(&env, &files);
    let node = load.parse(Path::new("c/edge.yaml"), &main);
    let node = node.unwrap_or_else(|| panic!("{:?}\n{main}", load.problems));
    let config = super::load::read(&load, Path::new("c/edge.yaml"), &node);
    let wrong = Problems::new(Path::new(""), load.problems.borrow().clone());
    assert!(wrong.is_empty() && config.is_some(), "with every key in force:\n{wrong}\n{main}");
    config.unwrap();

    let documents = [("c/edge.yaml", MAIN), ("c/upstreams/homeserver.yaml", UPSTREAM), ("c/miniapps.yaml", MINIAPPS)];
    for (file, text) in documents {
        let mut explained = Vec::new();
        key_paths(&tree::parse(&uncommented(text)).unwrap(), "", &mut explained);
        let explained: Vec<String> = explained.iter().map(|path| plain(path)).collect();
        for asked in load.asked.borrow().iter() {
            let Some(path) = asked.strip_prefix(&format!("{file}: ")) else { continue };
            let key = path.rsplit('.').next().unwrap();
            if key.starts_with("requests_per_") {
                continue; // one of three units, explained together
            }
            let told = explained.contains(&plain(path)) || text.contains(&format!("or {key}: ${{NAME}}"));
            assert!(told, "{path} is read from {file} and not explained");
        }
    }
}
