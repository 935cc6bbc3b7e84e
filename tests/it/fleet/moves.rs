//! Stores that are backed up, restored and copied, as mini-apps see it: what becomes of their refresh tokens.

use serde_json::{Value, json};

use super::edges::{BALANCE, Member, Told, sandbox, setup, sign_in, single, user};
use super::servers::Server;

fn error(told: &Told) -> (u16, Value) {
    (told.status, told.body["error"].clone())
}

fn gone() -> (u16, Value) {
    (400, "invalid_grant".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_permissions_along_when_nobody_is_at_work() {
    let (server, sandbox) = (Server::start(&[]), sandbox().await);
    let here = setup(&sandbox, json!({"kind": "embedded", "path": "store"}));
    let there = setup(&sandbox, single(server.port));
    there.write();
    let target = there.file().display().to_string();

    let edge = Member::start(here, None).await;
    let first = sign_in(&sandbox, &edge, &user(0)).await;
    // While an edge serves, its permissions stay: they may change at any moment.
    let said = edge.command(&["store", "copy", "--to", &target]);
    assert!(said.contains("left out") && said.contains("--stopped"), "{said}");
    let here = edge.stop().await;
    let other = Member::start(there, None).await;
    assert_eq!(other.get(BALANCE, &first.text("access_token")).await.status, 200, "the keys came along");
    assert_eq!(error(&other.refresh(&first.text("refresh_token")).await), gone());
    let there = other.stop().await;

    assert!(here.command(&["store", "copy", "--force", "--stopped", "--to", &target]).status.success());
    let other = Member::start(there, None).await;
    let second = other.refresh(&first.text("refresh_token")).await;
    assert_eq!(other.get(BALANCE, &second.text("access_token")).await.status, 200);
    let there = other.stop().await;

    let source = here.file().display().to_string();
    let back = there.command(&["store", "copy", "--force", "--stopped", "--to", &source]);
    assert!(back.status.success(), "{back:?}");
    let edge = Member::start(here, None).await;
    let third = edge.refresh(&second.text("refresh_token")).await;
    assert_eq!(edge.get(BALANCE, &third.text("access_token")).await.status, 200);
    // What was spent over there is spent here: it ends the grant, as everywhere.
    assert_eq!(error(&edge.refresh(&first.text("refresh_token")).await), gone());
    assert_eq!(error(&edge.refresh(&third.text("refresh_token")).await), gone());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_revives_no_refresh_token() {
    let (server, sandbox) = (Server::start(&[]), sandbox().await);
    for store in [single(server.port), json!({"kind": "embedded", "path": "store"})] {
        let setup = setup(&sandbox, store);
        let file = setup.folder().join("edge.backup").display().to_string();
        let edge = Member::start(setup, None).await;
        let first = sign_in(&sandbox, &edge, &user(0)).await;
        edge.command(&["store", "backup", &file]);
        let spent = first.text("refresh_token");
        let second = edge.refresh(&spent).await;
        assert_eq!(second.status, 200);
        let setup = edge.stop().await;
        // Nobody has to say that it has stopped: it said so itself.
        let restored = setup.command(&["store", "restore", "--force", &file]);
        assert!(restored.status.success(), "{restored:?}");
        let edge = Member::start(setup, None).await;
        assert_eq!(error(&edge.refresh(&spent).await), gone(), "used after the backup");
        assert_eq!(error(&edge.refresh(&second.text("refresh_token")).await), gone(), "unknown to the backup");
        assert_eq!(edge.get(BALANCE, &second.text("access_token")).await.status, 200, "the keys are back");
        let again = sign_in(&sandbox, &edge, &user(0)).await;
        assert_eq!(edge.refresh(&again.text("refresh_token")).await.status, 200, "one signs in once more");
    }
}
