use super::*;
use crate::metrics::Metrics;
use crate::model::Role;
use crate::store::embedded::Embedded;
use crate::store::failing::Failing;

const RETENTION: Duration = Duration::from_secs(86_400);

fn store(folder: &tempfile::TempDir, clock: &Clock) -> Arc<dyn Backend> {
    Arc::new(Embedded::open(folder.path(), clock.clone(), Arc::new(Metrics::new(&[]).unwrap())).unwrap())
}

fn change(action: AuditAction, id: &str) -> Change {
    let actor = AuditActor::token("duty", Role::Operator, "127.0.0.1:1".to_owned());
    Change { actor, action, target: AuditTarget::of("app", "ma_shop"), request_id: format!("req_{id}") }
}

fn same(error: StoreError) -> StoreError {
    error
}

fn told(lines: Vec<(String, AuditLine)>) -> Vec<(String, AuditOutcome)> {
    lines.into_iter().map(|(_, line)| (line.request_id, line.outcome)).collect()
}

#[tokio::test]
async fn a_line_stands_before_the_change_and_says_afterwards_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, time) = Clock::manual(1_800_000_000);
    let audit = AuditLog::new(store(&folder, &clock), clock, RETENTION);
    let seen = audit
        .around(change(AuditAction::Revoke, "1"), same, async {
            let lines = audit.lines(0, None, 10).await?;
            Ok::<_, StoreError>(told(lines))
        })
        .await
        .unwrap();
    assert_eq!(seen, [("req_1".to_owned(), AuditOutcome::Begun)]);
    time.advance(Duration::from_millis(1));
    let failed: Result<(), _> = audit
        .around(change(AuditAction::Reload, "2"), same, async { Err(StoreError::Full("no room".to_owned())) })
        .await;
    assert!(failed.is_err());
    time.advance(Duration::from_millis(1));
    audit.refused(change(AuditAction::PaymentsOff, "3"), "needs admin".to_owned()).await;
    let lines = audit.lines(0, None, 10).await.unwrap();
    assert_eq!(lines[1].1.reason.as_deref(), Some("the store takes no more writes: no room"));
    assert_eq!(
        told(lines),
        [
            ("req_3".to_owned(), AuditOutcome::Refused),
            ("req_2".to_owned(), AuditOutcome::Failed),
            ("req_1".to_owned(), AuditOutcome::Done),
        ]
    );
}

#[tokio::test]
async fn lines_are_paged_from_the_newest_on_and_go_when_their_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, time) = Clock::manual(1_800_000_000);
    let audit = AuditLog::new(store(&folder, &clock), clock, RETENTION);
    for id in ["1", "2", "3"] {
        audit.refused(change(AuditAction::Reload, id), "test".to_owned()).await;
        time.advance(Duration::from_secs(1));
    }
    let page = audit.lines(0, None, 2).await.unwrap();
    assert_eq!(page.iter().map(|(_, line)| line.request_id.as_str()).collect::<Vec<_>>(), ["req_3", "req_2"]);
    let rest = audit.lines(0, Some(&page[1].0), 2).await.unwrap();
    assert_eq!(rest.iter().map(|(_, line)| line.request_id.as_str()).collect::<Vec<_>>(), ["req_1"]);
    assert_eq!(audit.lines(1_800_000_001_000, None, 10).await.unwrap().len(), 2);
    time.advance(RETENTION - Duration::from_millis(2_500));
    assert_eq!(audit.lines(0, None, 10).await.unwrap().len(), 2, "the oldest has gone");
}

#[tokio::test]
async fn without_a_line_nothing_is_changed_but_payments_are_called_off() {
    let clock = Clock::manual(1_800_000_000).0;
    let folder = tempfile::tempdir().unwrap();
    let refusing = Failing::new(store(&folder, &clock));
    refusing.fail(&[KIND]);
    let audit = AuditLog::new(Arc::new(refusing), clock, RETENTION);
    let mut made = 0;
    for (action, expected) in [(AuditAction::PaymentsOn, 0), (AuditAction::Revoke, 0), (AuditAction::PaymentsOff, 1)] {
        let outcome = audit
            .around(change(action, "1"), same, async {
                made += 1;
                Ok::<_, StoreError>(())
            })
            .await;
        assert_eq!((made, outcome.is_ok()), (expected, expected == 1), "{action:?}");
    }
}

#[tokio::test]
async fn a_change_that_nobody_waits_for_is_made_whether_or_not_the_store_takes_its_line() {
    let clock = Clock::manual(1_800_000_000).0;
    let folder = tempfile::tempdir().unwrap();
    let failing = Arc::new(Failing::new(store(&folder, &clock)));
    let audit = AuditLog::new(failing.clone(), clock, RETENTION);
    let seen = audit.beside(change(AuditAction::Reload, "1"), async {
        let lines = audit.lines(0, None, 10).await?;
        Ok::<_, StoreError>(told(lines))
    });
    assert_eq!(seen.await.unwrap(), [("req_1".to_owned(), AuditOutcome::Begun)]);
    assert_eq!(told(audit.lines(0, None, 10).await.unwrap()), [("req_1".to_owned(), AuditOutcome::Done)]);
    failing.fail(&[KIND]);
    let made = audit.beside(change(AuditAction::Reload, "2"), async { Ok::<_, StoreError>("made") }).await;
    assert_eq!((made, audit.lines(0, None, 10).await.unwrap().len()), (Ok("made"), 1));
    failing.fail(&[]);
    let failed =
        audit.beside(change(AuditAction::Reload, "3"), async { Err::<(), _>(StoreError::Full("no".to_owned())) });
    assert!(failed.await.is_err());
    assert!(told(audit.lines(0, None, 10).await.unwrap()).contains(&("req_3".to_owned(), AuditOutcome::Failed)));
}

#[test]
fn a_line_in_a_log_is_json_without_more_than_was_put_in() {
    let audit_line = AuditLine {
        at_ms: 1_766_193_300_123,
        actor: AuditActor::command("root".to_owned()),
        action: "revoke".to_owned(),
        target: AuditTarget::of("user", "@a\"b:tween.example"),
        outcome: AuditOutcome::Done,
        reason: None,
        request_id: "req_1".to_owned(),
    };
    assert_eq!(
        as_json(&audit_line).to_string(),
        r#"{"action":"revoke","actor":{"name":"root","role":"command"},"at":"2025-12-20T01:15:00Z","outcome":"done","request_id":"req_1","target":{"user":"@a\"b:tween.example"}}"#
    );
}
