//! Documents that follow from the code, and what documents name: `UPDATE_DOCS=1 ./test --test it docs` writes the
//! former anew. `docs/metrics.md` is looked after beside the list that it is made from.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tmcp_edge::config;
use tmcp_edge::error::Code;
use tmcp_edge::policy::route::{self, RouteTable};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Holds a document against what it ought to say, or writes it when asked to.
fn is_up_to_date(path: &str, text: &str) {
    if fs::read_to_string(root().join(path)).is_ok_and(|written| written == text) {
        return;
    }
    assert!(std::env::var_os("UPDATE_DOCS").is_some(), "{path} is out of date: run this test with UPDATE_DOCS=1");
    fs::write(root().join(path), text).unwrap();
}

#[test]
fn errors() {
    let mut codes = Code::ALL.to_vec();
    codes.sort_by_key(|code| (code.status(), code.as_str()));
    let mut text = String::from(
        "# Errors\n\n\
         Every refusal is JSON, `{\"error\": {\"code\", \"message\", \"request_id\", \"timestamp\"}}`, with `details` where \
         there is more\nto say and `retry_after` (seconds) where trying again helps. The request id is in the access log, \
         beside what the\ncaller is not told.\n\n\
         The homeserver's own paths answer in Matrix' shape instead (`errcode`, `error`). A wallet's refusal in the shape \
         above\npasses with its code, also one that is not listed here.\n\n\
         | Status | Code | Meaning |\n|---|---|---|\n",
    );
    for code in codes {
        writeln!(text, "| {} | `{}` | {} |", code.status().as_u16(), code.as_str(), code.meaning()).unwrap();
    }
    is_up_to_date("docs/errors.md", &text);
}

#[test]
fn routes() {
    let config =
        config::load(&root().join("conf/edge.yaml"), &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let table = route::describe(&RouteTable::build(&config));
    let text = format!(
        "# Routes\n\n\
         What `tmcp-edge routes --config conf/edge.yaml` prints: the rows of the protocol, and those that this config \
         lays over\nthem or adds. `{{name}}` is one segment of a path, `{{name...}}` the rest of it.\n\n\
         ```text\n{table}```\n"
    );
    is_up_to_date("docs/routes.md", &text);
}

/// The names in `text` that start with the prefix of our metrics.
fn metric_names(text: &str) -> BTreeSet<&str> {
    let name = |at: usize| {
        let rest = &text[at..];
        &rest[..rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len())]
    };
    text.match_indices("tmcp_edge_").map(|(at, _)| name(at)).collect()
}

#[test]
fn dashboards_and_alerts_ask_for_metrics_that_exist() {
    let documented = read("docs/metrics.md");
    let documented = metric_names(&documented);
    for file in ["conf/deploy/grafana.json", "conf/deploy/alerts.yaml"] {
        let text = read(file);
        let names = metric_names(&text);
        assert!(!names.is_empty(), "{file} names no metric");
        for name in names {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(*suffix));
            assert!(documented.contains(family.unwrap_or(name)), "{file}: {name} is not in docs/metrics.md");
        }
    }
}

/// Every Rust file below `folder`, one after the other.
fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| match path.extension() {
            _ if path.is_dir() => sources(&path),
            Some(kind) if kind == "rs" => fs::read_to_string(path).unwrap(),
            _ => String::new(),
        })
        .collect()
}

#[test]
fn threats_are_tried_by_tests_that_exist() {
    let (text, code) = (read("docs/threats.md"), sources(&root().join("src")) + &sources(&root().join("tests")));
    let rows: Vec<Vec<&str>> =
        text.lines().filter(|line| line.starts_with("| ")).map(|line| line.split('|').collect()).collect();
    let mut sections = BTreeSet::new();
    for row in rows.iter().skip(1) {
        let (section, tests) = (row[1].trim(), row[4]);
        sections.insert(section);
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{section}: no test");
        for name in names {
            assert!(code.contains(&format!("fn {name}(")), "{section}: there is no test {name}");
        }
    }
    // RFC 9700's chapter 4 has that many sections.
    let missing: Vec<String> =
        (1..=17).map(|at| format!("RFC 9700 4.{at}")).filter(|at| !sections.contains(at.as_str())).collect();
    assert!(missing.is_empty(), "not looked at: {missing:?}");
}

/// Targets of Markdown links to files, without their fragments.
fn linked_files(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}

#[test]
fn links_lead_somewhere() {
    let documents = [
        "README.md",
        "CHANGELOG.md",
        "docs/errors.md",
        "docs/metrics.md",
        "docs/routes.md",
        "docs/store.md",
        "docs/threats.md",
    ];
    for document in documents.map(PathBuf::from) {
        let text = read(&document);
        let folder = root().join(&document);
        let folder = folder.parent().unwrap();
        for target in linked_files(&text) {
            assert!(folder.join(target).exists(), "{}: there is no {target}", document.display());
        }
    }
}
