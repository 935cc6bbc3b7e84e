use super::*;
use crate::model::{MiniAppId, ScopeSet, UserId};
use crate::store::embedded::Embedded;

fn log(folder: &tempfile::TempDir, clock: Clock) -> RevocationLog {
    let metrics = Arc::new(crate::metrics::Metrics::new(&[]).unwrap());
    RevocationLog::new(Arc::new(Embedded::open(folder.path(), clock.clone(), metrics).unwrap()), clock)
}

fn user(name: &str) -> Revoked {
    Revoked::User(UserId::parse(name).unwrap())
}

/// Or the next consent and the next token exchange would give it back unasked.
#[tokio::test]
async fn what_is_revoked_is_no_longer_approved() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(&folder, Clock::manual(1_800_000_000).0);
    let approvals = Approvals::new(log.store.clone());
    let [alice, bob] = ["@alice:x", "@bob:x"].map(|user| UserId::parse(user).unwrap());
    let [shop, game] = ["ma_shop", "ma_game"].map(|app| MiniAppId::parse(app).unwrap());
    let scopes = ScopeSet::from_list("user:read wallet:pay");
    for (user, app) in [(&alice, &shop), (&alice, &game), (&bob, &shop)] {
        approvals.add(user, app, scopes, 100).await.unwrap();
    }
    let pay = ScopeSet::from_list("wallet:pay");
    let revocation = log.append(Revoked::Scopes(alice.clone(), shop.clone(), pay)).await.unwrap();
    assert_eq!(approvals.of(&alice, &shop).await.unwrap(), ScopeSet::from_list("user:read"));
    assert_eq!(log.number().await.unwrap(), revocation.number, "the last word, after what was approved is gone");
    assert_eq!(log.all().await.unwrap().1.len(), 1);
    log.append(Revoked::Pair(alice.clone(), shop.clone())).await.unwrap();
    assert_eq!(approvals.of(&alice, &shop).await.unwrap(), ScopeSet::EMPTY);
    for (user, app) in [(&alice, &game), (&bob, &shop)] {
        assert_eq!(approvals.of(user, app).await.unwrap(), scopes);
    }
    // Where nothing was approved, once is enough.
    let (before, again) = (log.number().await.unwrap(), log.append(Revoked::Pair(alice, shop)).await.unwrap());
    assert_eq!(again.number, before + 1);
}

#[tokio::test]
async fn numbers_grow_and_nothing_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, time) = Clock::manual(1_800_000_000);
    let log = log(&folder, clock);
    assert_eq!((log.number().await.unwrap(), log.all().await.unwrap()), (0, (0, Vec::new())));
    let first = log.append(user("@a:x")).await.unwrap();
    let second = log.append(user("@b:x")).await.unwrap();
    assert_eq!((first.number, second.number), (1_800_000_000_000, 1_800_000_000_001));
    assert_eq!(log.since(0).await.unwrap().unwrap(), [first.clone(), second.clone()]);
    assert_eq!(log.since(first.number).await.unwrap().unwrap(), std::slice::from_ref(&second));
    assert_eq!(log.since(second.number).await.unwrap().unwrap(), []);
    assert_eq!(log.recent(0, 1).await.unwrap(), std::slice::from_ref(&first));
    assert_eq!(log.recent(first.number, 9).await.unwrap(), std::slice::from_ref(&second));
    assert_eq!(log.since(first.number - 1).await.unwrap(), None, "a number that was never given");

    time.advance(LOGGED_FOR * 2);
    let third = log.append(user("@a:x")).await.unwrap();
    assert_eq!(log.since(second.number).await.unwrap().unwrap(), std::slice::from_ref(&third));
    assert_eq!(log.since(first.number).await.unwrap(), None, "what it would need has left the log");
    let (number, mut all) = log.all().await.unwrap();
    all.sort_by_key(|revocation| revocation.number);
    assert_eq!((number, all), (third.number, vec![second, third]), "one entry for each that is revoked");
}

#[tokio::test]
async fn of_each_scope_the_last_time_that_it_was_taken_back_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, _) = Clock::manual(1_800_000_000);
    let log = log(&folder, clock);
    let (user, app) = (UserId::parse("@a:x").unwrap(), MiniAppId::parse("ma_shop").unwrap());
    let scopes = |list| Revoked::Scopes(user.clone(), app.clone(), ScopeSet::from_list(list));
    let both = log.append(scopes("user:read wallet:pay")).await.unwrap();
    assert_eq!(log.all().await.unwrap().1, std::slice::from_ref(&both), "once");
    let later = log.append(scopes("wallet:pay")).await.unwrap();
    assert_eq!(log.all().await.unwrap().1, [both, later]);
}

#[tokio::test]
async fn what_is_remembered_ends_with_the_tokens_that_it_voids() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, time) = Clock::manual(1_800_000_000);
    let log = log(&folder, clock);
    let app = MiniAppId::parse("ma_shop").unwrap();
    for what in [
        Revoked::Grant("g".to_owned()),
        Revoked::App(app),
        Revoked::Token { jti: "j".to_owned(), expires_at: 1_800_000_100 },
        Revoked::Payments { off: true },
    ] {
        log.append(what).await.unwrap();
    }
    let kinds = async |log: &RevocationLog| {
        let (_, all) = log.all().await.unwrap();
        let mut kinds: Vec<&str> = all.iter().map(|revocation| revocation.what.kind()).collect();
        kinds.sort_unstable();
        kinds
    };
    assert_eq!(kinds(&log).await, ["app", "grant", "payments", "token"]);
    time.advance(Duration::from_secs(200));
    assert_eq!(kinds(&log).await, ["app", "grant", "payments"]);
    time.advance(GRANTS_FOR);
    assert_eq!(kinds(&log).await, ["app", "payments"]);
    time.advance(EPOCHS_FOR);
    assert_eq!(kinds(&log).await, ["payments"]);
}

/// A fail-over may lose what was read before. Tokens that were issued since know of a number that must not be given out
/// again: what had it would not void them.
#[tokio::test]
async fn numbers_do_not_come_again_when_a_fail_over_has_lost_some() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, _) = Clock::manual(1_800_000_000);
    let log = log(&folder, clock);
    let kept = log.append(user("@a:x")).await.unwrap();
    let lost = kept.number + 5_000;
    assert_eq!(log.since(lost).await.unwrap(), None, "everything is to be read anew");
    let next = log.append(user("@b:x")).await.unwrap();
    assert!(next.number > lost, "{next:?}");
    let (number, _) = log.all().await.unwrap();
    assert_eq!(number, next.number);
    // Whoever revokes before anybody has looked knows the number itself.
    let known = number + 5_000;
    assert!(log.append_after(known, user("@c:x")).await.unwrap().number > known);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_stand_in_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(&folder, Clock::manual(1_800_000_000).0);
    let each = (0..16).map(|n| {
        // As many instances as there are calls: they have no turns.
        let log = RevocationLog::new(log.store.clone(), log.clock.clone());
        tokio::spawn(async move { log.append(user(&format!("@u{n}:x"))).await.unwrap() })
    });
    futures::future::join_all(each).await;
    let found = log.since(0).await.unwrap().unwrap();
    assert_eq!(found.len(), 16);
    assert!(found.iter().zip(found.iter().skip(1)).all(|(one, next)| one.number < next.number));
}
