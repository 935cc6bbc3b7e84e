//! The store under real processes: killed ones, second ones, and the `store` commands.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::json;
use tmcp_edge::clock::Clock;
use tmcp_edge::metrics::Metrics;
use tmcp_edge::model::Revoked;
use tmcp_edge::store::replacing::Replacing;
use tmcp_edge::store::{Applied, Backend, Batch, Partition, Read};
use tmcp_edge::{config, store};

use super::process::Setup;
use super::upgrade::upgrade;
use super::upstream::Upstream;

/// Names the folder in the environment of the process that [`writes_until_it_is_killed`] starts.
const FOLDER: &str = "TMCP_EDGE_TEST_STORE";
const CALLERS: usize = 8;

fn open(folder: &Path) -> Arc<dyn Backend> {
    let at = config::Store::Embedded { path: folder.to_owned() };
    store::open(&at, &Clock::system(), &Arc::new(Metrics::new(&[]).unwrap())).unwrap().store
}

async fn number(store: &dyn Backend, caller: usize, name: &str) -> u64 {
    let partition = Partition::of("killed", &[&caller.to_string()]);
    let entry = store.get(&partition, name, Read::Latest).await.unwrap();
    entry.map_or(0, |entry| str::from_utf8(&entry.value).unwrap().parse().unwrap())
}

/// In the process that is killed this writes and says what was acknowledged, for ever; elsewhere it does nothing.
#[tokio::test]
async fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = open(Path::new(&folder));
    let writing = (0..CALLERS).map(async |caller| {
        let partition = Partition::of("killed", &[&caller.to_string()]);
        for n in number(&*store, caller, "a").await + 1.. {
            let n = n.to_string();
            let batch = Batch::new(partition.clone()).unwrap().put("a", n.clone(), None).put("b", n.clone(), None);
            assert_eq!(store.apply(batch).await, Ok(Applied::Done));
            println!("acknowledged {caller} {n}");
        }
    });
    futures::future::join_all(writing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_until_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = [0; CALLERS];
    for round in 0..10 {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "life::store::the_process_that_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut seen = 0;
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            // What was written when the process was killed may be half a line.
            let words: Vec<&str> = line.split(' ').collect();
            if let ["acknowledged", caller, n] = words[..]
                && let (Ok(caller), Ok(n)) = (caller.parse::<usize>(), n.parse::<u64>())
                && n >= acknowledged[caller]
            {
                acknowledged[caller] = n;
                seen += 1;
            }
            if seen == 20 + round * 7 {
                process.kill().unwrap();
            }
        }
        process.wait().unwrap();
        let store = open(folder.path());
        for (caller, acknowledged) in acknowledged.iter().enumerate() {
            let (a, b) = (number(&*store, caller, "a").await, number(&*store, caller, "b").await);
            assert_eq!(a, b, "half a batch");
            assert!(a >= *acknowledged, "round {round}: {a} is there and {acknowledged} was acknowledged");
        }
    }
    assert!(acknowledged.iter().sum::<u64>() > 100, "{acknowledged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_edge_serves_from_a_folder_and_a_successor_takes_it_over() {
    let wallet = Upstream::start("wallet");
    let setup = Setup::new(wallet.address);
    let mut first = setup.start().await;
    let refused = async |holder: &str| {
        let mut second = setup.spawn(&[]);
        assert!(!second.ended().await.success());
        assert!(second.log().contains(holder) && second.log().contains("run --upgrade"), "{}", second.log());
    };
    refused("another edge serves from this folder").await;
    assert!(first.is_running());
    let successor = upgrade(&setup, &first).await;
    assert!(first.ended().await.success());
    refused("another edge serves from this folder").await;
    // Commands that only read or add work beside it; one that would replace everything does not.
    let backup = setup.folder().join("backup");
    let done = setup.command(&["store", "backup", backup.to_str().unwrap()]);
    assert!(done.status.success(), "{done:?}");
    let refused = setup.command(&["store", "restore", backup.to_str().unwrap()]);
    assert!(!refused.status.success() && said(&refused.stderr).contains("another edge serves"), "{refused:?}");
    drop(successor);
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let setup = Setup::new("127.0.0.1:9".parse().unwrap());
    setup.write();
    let folder = setup.folder().join("store");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = setup.command(&["run"]);
    assert!(!refused.status.success());
    assert!(said(&refused.stderr).contains("may be written to by others (mode 777)"), "{refused:?}");
}

/// Whoever says that every edge has stopped is not believed where it can be seen that one has not.
#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_not_copied_from_under_an_edge() {
    let wallet = Upstream::start("wallet");
    let (here, mut there) = (Setup::new(wallet.address), Setup::new(wallet.address));
    there.edge["store"] = json!({"kind": "embedded", "path": there.folder().join("other")});
    there.write();
    let edge = here.start().await;
    let copy = |more: &[&str]| {
        let target = there.file();
        here.command(&[&["store", "copy", "--to", target.to_str().unwrap()], more].concat())
    };
    let refused = copy(&["--stopped"]);
    assert!(!refused.status.success() && said(&refused.stderr).contains("another edge serves"), "{refused:?}");
    let done = copy(&[]);
    assert!(done.status.success() && said(&done.stdout).contains("say --stopped"), "{done:?}");
    drop(edge);
}

/// An older backup brings no key back that has been revoked since, and lets no payments through that have been called off.
#[tokio::test]
async fn what_was_revoked_since_a_backup_stays_revoked() {
    let here = Setup::new("127.0.0.1:9".parse().unwrap());
    here.write();
    let run = |words: &[&str]| {
        let done = here.command(words);
        assert!(done.status.success(), "{words:?}: {done:?}");
        said(&done.stdout)
    };
    run(&["token", "--user", "@alice:tween.example", "--app", "ma_shop_001", "--scope", "wallet:balance"]);
    let keys = run(&["keys", "list"]);
    let kid = keys.lines().nth(1).unwrap().split(' ').next().unwrap();
    let file = here.folder().join("edge.backup");
    let file = file.to_str().unwrap();
    run(&["store", "backup", file]);
    run(&["keys", "revoke", kid]);
    run(&["revoke", "--payments", "off"]);
    let told = run(&["store", "restore", "--force", file]);
    assert!(told.contains(&format!("{kid} stays revoked")) && told.contains("No key signs now"), "{told}");
    let keys = run(&["keys", "list"]);
    let line = keys.lines().find(|line| line.starts_with(kid)).unwrap();
    assert!(line.contains("revoked"), "{keys}");
    let store = open(&here.folder().join("store"));
    let log = store::revocations::RevocationLog::new(store, Clock::system());
    let (_, all) = log.all().await.unwrap();
    assert!(all.iter().any(|one| one.what == Revoked::Payments { off: true }), "{all:?}");
}

#[tokio::test]
async fn backups_are_restored_and_stores_copied() {
    let (here, mut there) = (Setup::new("127.0.0.1:9".parse().unwrap()), Setup::new("127.0.0.1:9".parse().unwrap()));
    there.edge["store"] = json!({"kind": "embedded", "path": here.folder().join("other")});
    here.write();
    there.write();
    let (app, grant) = (Partition::of("app", &["ma_shop_001"]), Partition::of("grant", &["1"]));
    let value = async |folder: &str, partition: &Partition| {
        let store = open(&here.folder().join(folder));
        store.get(partition, "x", Read::Latest).await.unwrap().map(|entry| said(&entry.value))
    };
    for partition in [&app, &grant] {
        let batch = Batch::new(partition.clone()).unwrap().put("x", "kept", None);
        assert_eq!(open(&here.folder().join("store")).apply(batch).await, Ok(Applied::Done));
    }
    let file = here.folder().join("edge.backup");
    let file = file.to_str().unwrap();
    let done = here.command(&["store", "backup", file]);
    assert!(done.status.success() && said(&done.stdout).contains("2 records"), "{done:?}");
    assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);

    let refused = here.command(&["store", "restore", file]);
    assert!(!refused.status.success() && said(&refused.stderr).contains("--force"), "{refused:?}");
    let done = here.command(&["store", "restore", "--force", file]);
    assert!(done.status.success() && said(&done.stdout).contains("1 records"), "{done:?}");
    assert_eq!(value("store", &app).await.as_deref(), Some("kept"));
    assert_eq!(value("store", &grant).await, None);

    let mut damaged = fs::read(file).unwrap();
    damaged.truncate(damaged.len() - 1);
    let cut = here.folder().join("cut");
    fs::write(&cut, damaged).unwrap();
    let refused = here.command(&["store", "restore", "--force", cut.to_str().unwrap()]);
    assert!(!refused.status.success() && said(&refused.stderr).contains("ends early"), "{refused:?}");
    assert_eq!(value("store", &app).await.as_deref(), Some("kept"), "nothing was touched");

    let target = there.file();
    let done = here.command(&["store", "copy", "--to", target.to_str().unwrap()]);
    // The audit comes along: of the restore that was refused, and of the one that was made.
    assert!(done.status.success() && said(&done.stdout).contains("3 records are copied"), "{done:?}");
    assert_eq!(value("other", &app).await.as_deref(), Some("kept"));
    let same = here.command(&["store", "copy", "--to", here.file().to_str().unwrap()]);
    assert!(!same.status.success() && said(&same.stderr).contains("the same store"), "{same:?}");
}

/// What was revoked is not yet revoked again in it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_serves_from_a_store_that_is_half_replaced() {
    let setup = Setup::new("127.0.0.1:9".parse().unwrap());
    setup.write();
    let file = setup.folder().join("edge.backup");
    for command in [&["keys", "new"][..], &["store", "backup", file.to_str().unwrap()]] {
        assert!(setup.command(command).status.success());
    }
    let store = open(&setup.folder().join("store"));
    Replacing::begin(&store, &Clock::system(), true).await.unwrap();
    drop(store);
    let elsewhere = setup.folder().join("other.backup");
    for refused in [&["run"][..], &["store", "backup", elsewhere.to_str().unwrap()]] {
        let refused = setup.command(refused);
        assert!(!refused.status.success() && said(&refused.stderr).contains("run that again"), "{refused:?}");
    }
    assert!(setup.command(&["store", "restore", "--force", file.to_str().unwrap()]).status.success());
    assert!(setup.command(&["store", "backup", elsewhere.to_str().unwrap()]).status.success());
}
