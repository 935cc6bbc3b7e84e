//! `tmcp-edge dev`: what it prints can be pasted, and what the README says to paste into a shell beside it, too.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::edge::{Guarded, eventually};
use crate::headers::check_standing;
use crate::wire::{Request, Wire};

/// A running `dev`, with its state in `.tmcp-dev` of a folder of its own.
struct Dev {
    folder: tempfile::TempDir,
    printed: String,
    told: Value,
    _process: Guarded,
}

impl Dev {
    fn start() -> Dev {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join(".tmcp-dev");
        let log = folder.path().join("dev.log");
        let any = "127.0.0.1:0";
        let arguments = ["dev", "--listen", any, "--admin", any, "--state", state.to_str().unwrap()];
        let process = Guarded::spawn(env!("CARGO_BIN_EXE_tmcp-edge"), &arguments, &log);
        let printed = || std::fs::read_to_string(&log).unwrap();
        eventually("dev's greeting", Duration::from_secs(60), || printed().contains("Ctrl-C"));
        let told = serde_json::from_slice(&std::fs::read(state.join("dev.json")).unwrap()).unwrap();
        Dev { printed: printed(), told, folder, _process: process }
    }

    /// What is answered to lines that somebody pastes into a shell in its folder.
    fn paste(&self, lines: &str) -> String {
        let pasted = Command::new("sh").args(["-ec", lines]).current_dir(self.folder.path()).output().unwrap();
        let answers = String::from_utf8_lossy(&pasted.stdout).into_owned();
        assert!(pasted.status.success(), "{answers}{}", String::from_utf8_lossy(&pasted.stderr));
        answers
    }
}

/// The lines that stand after an empty line after `introduction`, up to the next empty line.
fn lines_after<'t>(text: &'t str, introduction: &str) -> &'t str {
    let (_, rest) = text.split_once(introduction).unwrap_or_else(|| panic!("no {introduction:?} in {text}"));
    rest.split("\n\n").nth(1).unwrap()
}

#[test]
fn the_lines_that_dev_prints_work_when_pasted() {
    let dev = Dev::start();
    let (state, told) = (dev.folder.path().join(".tmcp-dev"), &dev.told);
    let text = |pointer: &str| told.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}"));
    for key in [
        "/wallet",
        "/homeserver",
        "/miniapp",
        "/client_id",
        "/client_secret",
        "/webhook_secret",
        "/hs_token",
        "/admin_token",
    ] {
        assert!(!text(key).is_empty(), "{key}");
    }
    private(&state.join("dev.json"));
    let address = text("/edge").strip_prefix("http://").unwrap().parse().unwrap();
    for user in ["@alice:tween.example", "@bob:tween.example"] {
        let of = |key: &str| told["users"][user][key].as_str().unwrap();
        let mut wire = Wire::to(address);
        wire.write(Request::get("/api/v1/wallet/balance").bearer(of("tep_token")).head_bytes()).unwrap();
        let answer = wire.answer().unwrap();
        assert_eq!((answer.status, &answer.json()["user_id"]), (200, &user.into()), "{}", answer.text());
        check_standing(&answer);
        let register = Request::post("/api/v1/wallet/register", "{}").bearer(of("matrix_token"));
        wire.write([register.head_bytes(), register.body_bytes()].concat()).unwrap();
        assert_eq!(wire.answer().unwrap().status, 200);
    }

    let answers = dev.paste(lines_after(&dev.printed, "Try:"));
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
    for part in ["\"available\"", "\"wallet_id\"", "\"transfer_id\"", "/wallet/v1/p2p/initiate"] {
        assert!(answers.contains(part), "{part}: {answers}");
    }
    let answers = dev.paste(lines_after(&dev.printed, "A mini-app gets its tokens by OAuth"));
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    for part in ["\"requested_scopes\"", "\"available\""] {
        assert!(answers.contains(part), "{part}: {answers}");
    }
}

/// The shell blocks of a section of the README.
fn blocks(readme: &str, section: &str) -> String {
    let (_, rest) = readme.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    let section = rest.split("\n## ").next().unwrap();
    section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

#[test]
fn the_readme_can_be_pasted_from_top_to_balance() {
    let dev = Dev::start();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let lines: String = ["Start", "Sign a user in", "See what you allowed"].map(|name| blocks(&readme, name)).concat();
    // What a test cannot have as the README does: its ports, and where the binary is.
    let text = |key: &str| dev.told[key].as_str().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_tmcp-edge")).parent().unwrap();
    let lines =
        lines.replace("http://127.0.0.1:8080", text("edge")).replace("$PWD/target/debug", binaries.to_str().unwrap());
    let answers = dev.paste(&lines);
    assert!(!answers.contains("\"error\""), "{answers}");
    for (part, times) in [
        ("\"available\"", 2),
        ("\"transfer_id\"", 1),
        ("\"requested_scopes\"", 1),
        ("\"scope\":\"user:read wallet:balance\"", 2),
        ("\"revoked_scopes\":[\"wallet:balance\"]", 1),
        ("\"scope\":\"user:read\",\"user_id\"", 1),
    ] {
        assert_eq!(answers.matches(part).count(), times, "{part}: {answers}");
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{}", path.display());
}
