//! What a call was given and did not use is there for others.

use super::super::hold::{Back, LEASE, Origin};
use super::door::{Door, Doorway, LATE};
use super::question::Terms;
use super::*;
use crate::metrics::RedisUse;

#[tokio::test]
async fn who_was_refused_gets_what_another_instance_hands_back() {
    let server = Server::start(&[]);
    let (holder, (other, hand)) = (started(server.port, PATIENT).await, by_hand(&server).await);
    // What is handed back would be refilled after hours only.
    let numbers = LimitPolicy {
        requests: 5,
        per: Duration::from_secs(86_400),
        burst: 95,
        algorithm: LimitAlgorithm::TokenBucket,
        on_store_failure: OnStoreFailure::Local,
        report_only: false,
    };
    let policy = Policy::new("tested", None, &numbers).unwrap();
    let slot = Slot { family: policy.family, key: user(1) };
    let terms = Terms { wish: 5, ..Terms::default() };
    let asked = holder.clock.tick();
    let told = holder.question(slot, Question::new(&policy), terms, Vec::new()).await.unwrap();
    assert_eq!((told.leased, told.left), (5, 95));
    let charge = |cost| [Charge { policy: &policy, key: user(1), cost }];
    assert!(take(&other, &charge(95)).await.admitted);
    let refused = take(&other, &charge(1)).await;
    assert!(!refused.admitted && matches!(refused.standings[0].wait, Wait::Nanos(nanos) if nanos > 1_000_000_000_000));
    let origin = Origin { asked, window: told.window };
    let terms = Terms { back: Back { tokens: 5, origin }, ..Terms::default() };
    assert_eq!(holder.question(slot, Question::new(&policy), terms, Vec::new()).await.unwrap().left, 5);
    assert!(!take(&other, &charge(1)).await.admitted, "remembered");
    hand.advance(LEASE);
    assert!(take(&other, &charge(1)).await.admitted);
}

/// Calls that were decided here because the answer was late have taken nothing there.
#[tokio::test]
async fn what_an_answer_took_that_came_too_late_goes_back() {
    let server = Server::start(&[]);
    let doorway = Doorway::before(server.port).await;
    let deadline = Duration::from_millis(20);
    let (late, other) = (started(doorway.port, deadline).await, started(server.port, PATIENT).await);
    for algorithm in [LimitAlgorithm::TokenBucket, LimitAlgorithm::SlidingWindow] {
        // Ten minutes refill the bucket, and the window lasts for a year.
        let per = Duration::from_secs(if algorithm == LimitAlgorithm::TokenBucket { 600 } else { 31_536_000 });
        let on_store_failure = OnStoreFailure::Local;
        let numbers = LimitPolicy { requests: 10, per, burst: 0, algorithm, on_store_failure, report_only: false };
        let policy = Policy::new("tested", None, &numbers).unwrap();
        until(|| late.is_up()).await;
        // The server has to be told the script once, and that takes an answer.
        one(&late, &policy, user(2)).await;
        doorway.set(Door::Silent);
        let asked = late.metrics.limit_answers.get(LimitAnswer::Asked);
        assert!(take(&late, &[Charge { policy: &policy, key: user(1), cost: 5 }]).await.admitted, "by itself");
        assert_eq!(late.metrics.limit_answers.get(LimitAnswer::Asked), asked + 1, "{algorithm:?}");
        until_left(&other, &policy, user(1), 5).await;
        doorway.set(Door::Open);
        until_left(&other, &policy, user(1), 10).await;
    }
}

/// A client that hangs up has used nothing, whether the answer is on its way or waits to be read.
#[tokio::test]
async fn a_call_that_is_given_up_takes_nothing() {
    let server = Server::start(&[]);
    let (engine, other) = (started(server.port, PATIENT).await, started(server.port, PATIENT).await);
    let (policy, second) = (bucket(1, 9), policy(1, 19, LimitAlgorithm::SlidingWindow, OnStoreFailure::Local));
    let begin = |key| {
        let charges = [Charge { policy: &policy, key, cost: 1 }, Charge { policy: &second, key, cost: 2 }];
        let Taken::Later(call) = engine.take(engine.clock.tick(), &charges) else { panic!("nothing is known") };
        call
    };
    let slot = Slot { family: policy.family, key: user(2) };
    let mut given_up = begin(user(1));
    assert!(futures::poll!(&mut given_up).is_pending());
    drop(given_up);
    let mut answered = begin(user(2));
    assert!(futures::poll!(&mut answered).is_pending());
    until(|| engine.with_entry(&slot, |entry| !entry.asking).unwrap()).await;
    drop(answered);
    for key in [user(1), user(2)] {
        until_left(&other, &policy, key, 10).await;
        until_left(&other, &second, key, 20).await;
    }
}

/// However much there is to remember, it stays within its bounds; what the store does not know goes last.
#[tokio::test]
async fn memory_is_bounded_whatever_is_held() {
    let server = Server::start(&[]);
    let engine = engine(server.port, PATIENT);
    engine.set_max_bytes(0);
    let mark = Policy::mark("tested", Duration::from_secs(3600)).unwrap();
    let held = || engine.shards.iter().map(|shard| shard.lock().len()).sum::<usize>();
    for number in 0..10_000 {
        // Nobody has found the store yet: it is told of no mark.
        assert!(engine.set_mark(engine.clock.tick(), &mark, user(number)).get().await.new);
    }
    assert!(held() <= SHARDS * FEWEST, "{}", held());
    let untold = || {
        let of = |shard: &Mutex<HashMap<Slot, Entry, _>>| {
            shard.lock().values().filter(|entry| entry.mark.untold(engine.clock.tick()).is_some()).count()
        };
        engine.shards.iter().map(of).sum::<usize>()
    };
    let marks = untold();
    assert!(marks > SHARDS * FEWEST / 2, "{marks}");
    let policy = bucket(1, 9);
    for number in 0..10_000 {
        engine.entry(Slot { family: policy.family, key: user(number) }, |entry| {
            entry.hold.hand_back(1, Origin::default(), Tick(1));
        });
    }
    assert!(held() <= SHARDS * FEWEST, "{}", held());
    assert!(untold() >= marks - SHARDS * FEWEST / 8, "leases go first: {} of {marks}", untold());
}

/// One token that takes a minute to refill, and another limit that refuses: another instance has the token at once.
#[tokio::test]
async fn what_a_slow_key_gave_to_a_refused_call_is_there_for_others() {
    let server = Server::start(&[]);
    // Nobody sweeps at the first one, which would hand it back when its second is over.
    let (first, other) = (engine(server.port, PATIENT), started(server.port, PATIENT).await);
    first.meet(PATIENT).await;
    let (scarce, used_up) = (bucket(1, 0), bucket(1, 1));
    let charges =
        [Charge { policy: &scarce, key: user(1), cost: 1 }, Charge { policy: &used_up, key: user(2), cost: 2 }];
    assert!(take(&other, &charges[1..]).await.admitted);
    assert!(!take(&first, &charges).await.admitted);
    let slot = Slot { family: scarce.family, key: user(1) };
    until(|| first.with_entry(&slot, |entry| !entry.asking && !entry.hold.is_needed()).unwrap()).await;
    assert!(take(&other, &charges[..1]).await.admitted, "it went back before its second was over");
}

/// What is handed back to a store that always answers too late is no reason to ask it again and again.
#[tokio::test]
async fn late_answers_about_a_busy_key_lead_to_no_more_questions() {
    let server = Server::start(&[]);
    let doorway = Doorway::before(server.port).await;
    let engine = started(doorway.port, LATE / 3).await;
    let policy = bucket(1_000_000, 0);
    while engine.metrics.limit_leases.get() < 3 {
        assert!(one(&engine, &policy, user(1)).await.admitted);
    }
    doorway.set(Door::Late);
    while engine.is_up() {
        one(&engine, &policy, user(1)).await;
    }
    // Nobody calls any more. Probes go on, one at a time, each of them late.
    let probes = || engine.metrics.redis_round_trips.get(RedisUse::Limit) - doorway.questions() as u64;
    let (asked, until_then) = (doorway.questions(), probes() + 10);
    until(|| probes() >= until_then).await;
    assert!(doorway.questions() <= asked + 1, "{} questions more", doorway.questions() - asked);
    doorway.set(Door::Open);
    until(|| engine.is_up()).await;
    let slot = Slot { family: policy.family, key: user(1) };
    until(|| engine.with_entry(&slot, |entry| !entry.hold.is_needed()).unwrap_or(true)).await;
}
