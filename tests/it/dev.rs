//! `tmcp-edge dev`: what it prints can be pasted.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::edge::{Guarded, eventually};
use crate::headers::check_standing;
use crate::wire::{Request, Wire};

#[test]
fn the_lines_that_dev_prints_work_when_pasted() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let log = folder.path().join("dev.log");
    let any = "127.0.0.1:0";
    let arguments = ["dev", "--listen", any, "--admin", any, "--state", state.to_str().unwrap()];
    let _dev = Guarded::spawn(env!("CARGO_BIN_EXE_tmcp-edge"), &arguments, &log);
    let printed = || std::fs::read_to_string(&log).unwrap();
    eventually("dev's greeting", Duration::from_secs(60), || printed().contains("Ctrl-C"));

    let told: Value = serde_json::from_slice(&std::fs::read(state.join("dev.json")).unwrap()).unwrap();
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

    // The lines between "Try:" and the next empty line, as somebody would paste them.
    let printed = printed();
    let lines = printed.split("Try:\n\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let pasted = Command::new("sh").args(["-ec", lines]).output().unwrap();
    let answers = String::from_utf8_lossy(&pasted.stdout).into_owned();
    assert!(pasted.status.success(), "{answers}{}", String::from_utf8_lossy(&pasted.stderr));
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
    for part in ["\"available\"", "\"wallet_id\"", "\"transfer_id\"", "/wallet/v1/p2p/initiate"] {
        assert!(answers.contains(part), "{part}: {answers}");
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{}", path.display());
}
