use serde_json::Value;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::config::Lockout as Numbers;
use crate::policy::authn::testing::{House, NOW, claims_with, verify};
use crate::policy::rate_limit::testing::{PATIENT, engine_by, until};
use crate::policy::rate_limit::{Buckets, LimitKey, Shared};
use crate::store::redis::testing::Server;

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_secs(60);

fn config() -> config::Lockouts {
    config::Lockouts {
        account_suspension: Some(Numbers { strikes: 10, within: HOUR, lasts: HOUR }),
        payment_lock: Some(Numbers { strikes: 5, within: 5 * MINUTE, lasts: 15 * MINUTE }),
    }
}

/// Lockouts, somebody to lock out, and the hand on the clock.
struct Stage {
    lockouts: Lockouts,
    metrics: Arc<Metrics>,
    clock: Clock,
    hand: ManualClock,
    house: House,
}

fn stage_on(engine: Arc<dyn Engine>, (clock, hand): (Clock, ManualClock)) -> Stage {
    let metrics = Arc::new(Metrics::new(Code::NAMES).unwrap());
    let lockouts = Lockouts::new(&config(), &engine, &metrics).unwrap().unwrap();
    Stage { lockouts, metrics, clock, hand, house: House::new() }
}

fn stage() -> Stage {
    stage_on(Arc::new(Buckets::new(1 << 20)), Clock::manual(NOW))
}

impl Stage {
    fn caller(&self, app: &str, user: &str) -> Caller {
        let claims = claims_with(json!({ "app_id": app, "aud": app, "sub": user }));
        let token = self.house.token(&claims);
        Caller::Tep(verify(&self.house.verifier(), &token, NOW).unwrap_or_else(|fault| panic!("{fault:?}")))
    }

    fn alice(&self) -> Caller {
        self.caller("ma_shop", "@alice:tween.example")
    }

    fn moment(&self) -> (Tick, u64) {
        (self.clock.tick(), self.clock.unix_secs())
    }

    async fn violate(&self, caller: &Caller) -> Refusal {
        let limited = Refusal::new(Code::RateLimitExceeded, "Slower.").retry_after(2);
        self.lockouts.violated(caller, limited, self.moment()).await
    }

    async fn fail(&self, caller: &Caller, operation: Operation, code: Code) {
        self.lockouts.refused_by_wallet(caller, operation, code, self.clock.tick()).await;
    }

    /// The code with which a call of that operation is refused.
    async fn refused(&self, caller: &Caller, operation: Operation) -> Option<Refusal> {
        self.lockouts.check(caller, operation, self.moment()).await.err()
    }

    async fn code(&self, caller: &Caller, operation: Operation) -> Option<Code> {
        self.refused(caller, operation).await.map(|refusal| refusal.code())
    }
}

fn detail<'a>(refusal: &'a Refusal, name: &str) -> &'a Value {
    &refusal.details_value().unwrap()[name]
}

#[tokio::test]
async fn the_tenth_violation_within_an_hour_suspends_for_an_hour() {
    let stage = stage();
    let alice = stage.alice();
    for violation in 1..10 {
        let told = stage.violate(&alice).await;
        assert_eq!((told.retry_after_seconds(), told.details_value()), (Some(2), None), "{violation}");
        assert!(stage.refused(&alice, Operation::WalletBalance).await.is_none(), "{violation}");
    }
    let tenth = stage.violate(&alice).await;
    assert_eq!((tenth.code(), tenth.retry_after_seconds()), (Code::RateLimitExceeded, Some(3600)));
    assert_eq!(detail(&tenth, "suspended_until"), &rfc3339(NOW + 3600));
    stage.hand.advance(Duration::from_millis(1500));
    let refusal = stage.refused(&alice, Operation::WalletBalance).await.unwrap();
    assert_eq!((refusal.code(), refusal.retry_after_seconds()), (Code::AccountSuspended, Some(3599)));
    // From the moment as the second shows it: never before the end, and at most a second after it.
    assert_eq!(detail(&refusal, "suspended_until"), &rfc3339(NOW + 3600));
    assert!(refusal.message().starts_with("10 calls over the limits within 1 hour "), "{}", refusal.message());
    stage.hand.advance(HOUR - Duration::from_millis(1501));
    assert!(stage.refused(&alice, Operation::WalletBalance).await.is_some(), "a millisecond before the end");
    stage.hand.advance(Duration::from_millis(1));
    assert!(stage.refused(&alice, Operation::WalletBalance).await.is_none());
    assert_eq!(stage.violate(&alice).await.retry_after_seconds(), Some(2), "it starts afresh");
    assert_eq!(stage.metrics.lockouts.get(LockoutKind::AccountSuspension), 1);
}

#[tokio::test]
async fn the_hour_moves_along() {
    let stage = stage();
    let alice = stage.alice();
    // One every seven minutes: never more than nine within an hour.
    for _ in 0..50 {
        stage.violate(&alice).await;
        assert!(stage.refused(&alice, Operation::WalletBalance).await.is_none());
        stage.hand.advance(7 * MINUTE);
    }
    stage.hand.advance(HOUR);
    // Nine, and the tenth when the first is an hour old to the nanosecond; then one that is within.
    stage.violate(&alice).await;
    stage.hand.advance(HOUR - Duration::from_nanos(1));
    for _ in 0..8 {
        stage.violate(&alice).await;
    }
    stage.hand.advance(Duration::from_nanos(1));
    stage.violate(&alice).await;
    assert!(stage.refused(&alice, Operation::WalletBalance).await.is_none());
    stage.violate(&alice).await;
    assert!(stage.refused(&alice, Operation::WalletBalance).await.is_some());
}

#[tokio::test]
async fn a_suspension_is_the_callers_alone_and_never_an_addresss() {
    let stage = stage();
    let alice = stage.alice();
    let elsewhere = stage.caller("ma_other", "@alice:tween.example");
    let bob = stage.caller("ma_shop", "@bob:tween.example");
    for _ in 0..30 {
        stage.violate(&alice).await;
        for nobody in
            [Caller::Anonymous, Caller::Homeserver, Caller::ResourceServer(LimitKey::resource_server("wallet"))]
        {
            stage.violate(&nobody).await;
            assert!(stage.refused(&nobody, Operation::OauthAuthorize).await.is_none());
        }
    }
    assert_eq!(stage.code(&alice, Operation::StorageGet).await, Some(Code::AccountSuspended));
    for other in [&elsewhere, &bob] {
        assert!(stage.refused(other, Operation::StorageGet).await.is_none());
    }
}

#[tokio::test]
async fn the_fifth_failed_payment_within_five_minutes_locks_what_spends_and_nothing_else() {
    let stage = stage();
    let alice = stage.alice();
    let failures = [Code::PaymentFailed, Code::InsufficientFunds, Code::MfaFailed, Code::InvalidSignature];
    for (code, operation) in failures.into_iter().zip([
        Operation::PaymentInitiate,
        Operation::P2pInitiate,
        Operation::PaymentMfaVerify,
        Operation::PaymentAuthorize,
    ]) {
        stage.fail(&alice, operation, code).await;
        assert!(stage.refused(&alice, Operation::GiftCreate).await.is_none());
    }
    // None of these is a failed payment.
    for code in [Code::UpstreamError, Code::UpstreamTimeout, Code::MfaRequired, Code::MfaLocked, Code::ValidationFailed]
    {
        stage.fail(&alice, Operation::PaymentAuthorize, code).await;
    }
    stage.fail(&alice, Operation::WalletBalance, Code::PaymentFailed).await;
    stage.fail(&Caller::Anonymous, Operation::PaymentAuthorize, Code::PaymentFailed).await;
    assert!(stage.refused(&alice, Operation::GiftCreate).await.is_none());

    // The fifth, from another mini-app: the money is the user's.
    let elsewhere = stage.caller("ma_other", "@alice:tween.example");
    stage.fail(&elsewhere, Operation::GiftCreate, Code::InsufficientFunds).await;
    for operation in [Operation::P2pInitiate, Operation::PaymentAuthorize, Operation::PaymentMfaVerify] {
        let refusal = stage.refused(&alice, operation).await.unwrap();
        assert_eq!((refusal.code(), refusal.retry_after_seconds()), (Code::PaymentLocked, Some(900)), "{operation}");
        assert_eq!(detail(&refusal, "locked_until"), &rfc3339(NOW + 900));
    }
    for operation in [Operation::WalletBalance, Operation::P2pAccept, Operation::GiftOpen, Operation::P2pStatus] {
        assert!(stage.refused(&alice, operation).await.is_none(), "{operation}");
    }
    let bob = stage.caller("ma_shop", "@bob:tween.example");
    assert!(stage.refused(&bob, Operation::P2pInitiate).await.is_none());
    stage.hand.advance(15 * MINUTE);
    assert!(stage.refused(&alice, Operation::P2pInitiate).await.is_none());
    assert_eq!(stage.metrics.lockouts.get(LockoutKind::PaymentLock), 1);
}

#[tokio::test]
async fn four_failures_and_a_fifth_too_late_lock_nothing() {
    let stage = stage();
    let alice = stage.alice();
    for _ in 0..3 {
        for _ in 0..4 {
            stage.fail(&alice, Operation::P2pInitiate, Code::PaymentFailed).await;
        }
        stage.hand.advance(5 * MINUTE);
    }
    assert!(stage.refused(&alice, Operation::P2pInitiate).await.is_none());
}

#[tokio::test]
async fn an_operator_sees_how_somebody_stands_and_lifts_it() {
    let stage = stage();
    let (alice, now) = (stage.alice(), stage.clock.tick());
    let (app, user) = (MiniAppId::parse("ma_shop").unwrap(), UserId::parse("@alice:tween.example").unwrap());
    let whose = Subject::UserOf(app.clone(), user.clone());
    for _ in 0..10 {
        stage.violate(&alice).await;
    }
    stage.fail(&alice, Operation::P2pInitiate, Code::PaymentFailed).await;
    let suspension = Standing { kind: LockoutKind::AccountSuspension, strikes: 10, of: 10, locked_for: Some(HOUR) };
    let payments = Standing { kind: LockoutKind::PaymentLock, strikes: 1, of: 5, locked_for: None };
    assert_eq!(stage.lockouts.look_at(&whose, now).await.unwrap(), [suspension, payments]);
    assert_eq!(stage.lockouts.look_at(&Subject::User(user), now).await.unwrap()[0].strikes, 0, "another caller");
    assert_eq!(stage.lockouts.look_at(&Subject::Client(app), now).await.unwrap().len(), 1, "a client has no money");
    stage.lockouts.lift(&whose).await.unwrap();
    assert!(stage.refused(&alice, Operation::WalletBalance).await.is_none());
    let standings = stage.lockouts.look_at(&whose, now).await.unwrap();
    assert!(standings.iter().all(|standing| standing.strikes == 0 && standing.locked_for.is_none()), "{standings:?}");
}

#[test]
fn nothing_is_looked_at_where_nothing_is_turned_on() {
    let engine: Arc<dyn Engine> = Arc::new(Buckets::new(1 << 20));
    let metrics = Arc::new(Metrics::new(Code::NAMES).unwrap());
    assert!(Lockouts::new(&config::Lockouts::default(), &engine, &metrics).unwrap().is_none());
}

/// A stage on a server, and its engine, which has found it.
async fn stage_at(port: u16, deadline: Duration) -> (Stage, Arc<Shared>) {
    let (clock, hand) = Clock::manual(NOW);
    let engine = engine_by(port, deadline, clock.clone());
    tokio::spawn(engine.clone().look_after());
    until(|| engine.is_up()).await;
    (stage_on(engine.clone(), (clock, hand)), engine)
}

#[tokio::test]
async fn two_edges_count_together_and_see_each_others_locks() {
    let server = Server::start(&[]);
    let (one, _) = stage_at(server.port, PATIENT).await;
    let (other, _) = stage_at(server.port, PATIENT).await;
    let alice = one.alice();
    for violation in 1..10 {
        let at = if violation % 2 == 0 { &one } else { &other };
        at.violate(&alice).await;
        assert!(one.refused(&alice, Operation::WalletBalance).await.is_none(), "{violation}");
        assert!(other.refused(&alice, Operation::WalletBalance).await.is_none(), "{violation}");
    }
    one.violate(&alice).await;
    assert_eq!(one.code(&alice, Operation::WalletBalance).await, Some(Code::AccountSuspended), "at once here");
    // There it has been seen not to stand, which holds for a second.
    other.hand.advance(Duration::from_secs(1));
    assert_eq!(other.code(&alice, Operation::WalletBalance).await, Some(Code::AccountSuspended));
    // One violation more, at the same time, is the same suspension.
    other.violate(&alice).await;
    let suspended = |stage: &Stage| stage.metrics.lockouts.get(LockoutKind::AccountSuspension);
    assert_eq!((suspended(&one), suspended(&other)), (1, 0));

    // Lifted at one edge it is lifted at the other.
    let whose = Subject::UserOf(MiniAppId::parse("ma_shop").unwrap(), UserId::parse("@alice:tween.example").unwrap());
    assert_eq!(other.lockouts.look_at(&whose, other.clock.tick()).await.unwrap()[0].strikes, 10);
    other.lockouts.lift(&whose).await.unwrap();
    assert!(other.refused(&alice, Operation::WalletBalance).await.is_none());
    while one.refused(&alice, Operation::WalletBalance).await.is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_the_store_what_is_known_here_holds() {
    let mut server = Server::start(&[]);
    let (stage, engine) = stage_at(server.port, PATIENT / 60).await;
    let (alice, bob) = (stage.alice(), stage.caller("ma_shop", "@bob:tween.example"));
    for _ in 0..10 {
        stage.violate(&alice).await;
    }
    server.kill();
    // Nobody knows of anybody's strikes now, so all ten are counted here.
    while engine.is_up() {
        let caller = stage.caller("ma_shop", &format!("@u{}:tween.example", stage.clock.tick().0));
        stage.hand.advance(Duration::from_secs(2));
        assert!(stage.refused(&caller, Operation::WalletBalance).await.is_none());
    }
    assert_eq!(stage.code(&alice, Operation::WalletBalance).await, Some(Code::AccountSuspended));
    for violation in 1..=10 {
        assert!(stage.refused(&bob, Operation::WalletBalance).await.is_none(), "{violation}");
        stage.violate(&bob).await;
    }
    let suspension = stage.refused(&bob, Operation::WalletBalance).await.unwrap();
    assert_eq!(suspension.retry_after_seconds(), Some(3600), "whole, not divided among instances");
    // When it is back, what was set meanwhile stays.
    server.start_again();
    until(|| {
        stage.hand.advance(Duration::from_millis(50));
        engine.is_up()
    })
    .await;
    assert_eq!(stage.code(&bob, Operation::WalletBalance).await, Some(Code::AccountSuspended));
}
