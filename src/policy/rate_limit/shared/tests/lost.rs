//! Without the store.

use redis::Commands as _;
use tokio::net::TcpListener;

use super::door::{Door, Doorway};
use super::*;

const SOON: Duration = Duration::from_millis(20);

/// Calls on keys that nothing is known of, until none waits for the store any more.
async fn until_nobody_waits(engine: &Shared, policy: &Policy) {
    let mut key = 1000;
    while engine.is_up() {
        key += 1;
        one(engine, policy, user(key)).await;
    }
    // Whoever comes now is answered at once.
    assert!(matches!(engine.take(engine.clock.tick(), &[Charge { policy, key: user(1), cost: 1 }]), Taken::Now(_)));
}

async fn each_rule_holds(engine: &Shared) {
    let rule = |rule| policy(1, 9, LimitAlgorithm::TokenBucket, rule);
    let closed = one(engine, &rule(OnStoreFailure::Closed), user(2)).await;
    assert!(closed.lost && !closed.admitted);
    let (open, local) = (rule(OnStoreFailure::Open), rule(OnStoreFailure::Local));
    let mut admitted = 0;
    for _ in 0..30 {
        assert!(one(engine, &open, user(4)).await.admitted);
        let outcome = one(engine, &local, user(3)).await;
        assert!(!outcome.lost);
        admitted += u32::from(outcome.admitted);
    }
    assert_eq!(admitted, 10 / engine.instances());
}

#[tokio::test]
async fn a_store_that_stops_answering_costs_the_first_calls_only_and_comes_back() {
    let server = Server::start(&[]);
    let engine = started(server.port, PATIENT / 60).await;
    let other = started(server.port, PATIENT / 60).await;
    until(|| engine.instances() == 2).await;
    drop(other);
    server.freeze();
    until_nobody_waits(&engine, &bucket(1, 9)).await;
    each_rule_holds(&engine).await;
    server.thaw();
    until(|| engine.is_up()).await;
    assert!(one(&engine, &bucket(1, 9), user(5)).await.admitted);
}

#[tokio::test]
async fn a_store_that_is_gone_costs_the_first_calls_only_and_comes_back() {
    let mut server = Server::start(&[]);
    let engine = started(server.port, PATIENT / 60).await;
    server.kill();
    until_nobody_waits(&engine, &bucket(1, 9)).await;
    each_rule_holds(&engine).await;
    server.start_again();
    until(|| engine.is_up()).await;
}

#[tokio::test]
async fn one_that_never_answered_is_never_waited_for() {
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let engine = engine(hole.local_addr().unwrap().port(), SOON);
    tokio::spawn(engine.clone().look_after());
    let mut held = Vec::new();
    // Probes connect, and get no answer.
    held.push(hole.accept().await.unwrap());
    each_rule_holds(&engine).await;
    assert!(!engine.is_up());
}

#[tokio::test]
async fn one_that_is_slow_is_as_good_as_lost() {
    let server = Server::start(&[]);
    let engine = started(server.port, SOON).await;
    // Every script behind this one is late.
    let port = server.port;
    let busy = std::thread::spawn(move || {
        let mut connection =
            redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap().get_connection().unwrap();
        let nap = "local t = redis.call('TIME') local till = t[1] * 1000000 + t[2] + 1000000
            repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] >= till";
        redis::Script::new(nap).invoke::<()>(&mut connection).unwrap();
    });
    until_nobody_waits(&engine, &bucket(1, 9)).await;
    each_rule_holds(&engine).await;
    busy.join().unwrap();
    until(|| engine.is_up()).await;
}

/// Questions that may be asked of a store after it stopped answering: those that it takes to give it up.
const GIVEN_UP_AFTER: usize = 3;

/// Nobody waits: calls by every rule and on keys never seen are answered at once, and nothing is asked.
fn nobody_waits(engine: &Shared, doorway: &Doorway) {
    let asked = doorway.questions();
    for number in 0..200 {
        for rule in [OnStoreFailure::Local, OnStoreFailure::Closed, OnStoreFailure::Open] {
            for algorithm in [LimitAlgorithm::TokenBucket, LimitAlgorithm::SlidingWindow] {
                let policy = policy(1, 9, algorithm, rule);
                let charge = Charge { policy: &policy, key: user(100_000 + number), cost: 1 };
                let Taken::Now(outcome) = engine.take(engine.clock.tick(), &[charge]) else {
                    panic!("{rule:?}, {algorithm:?}: it waits for a store that is lost");
                };
                assert_eq!(
                    (outcome.admitted, outcome.lost),
                    match rule {
                        OnStoreFailure::Closed => (false, true),
                        _ => (true, false),
                    }
                );
            }
        }
    }
    assert_eq!(doorway.questions(), asked, "a question was asked of a store that is lost");
}

/// However it stops answering, and whatever it did before: a few questions are lost with it and no more are asked. Calls
/// that have a closed policy and an open one are refused, and none of all these is a failure.
#[tokio::test]
async fn a_store_that_comes_and_goes_is_asked_a_few_questions_each_time() {
    let server = Server::start(&[]);
    let doorway = Doorway::before(server.port).await;
    let engine = started(doorway.port, SOON).await;
    for door in [Door::Silent, Door::Shut, Door::Silent, Door::Shut] {
        doorway.set(door);
        let before = doorway.questions();
        until_nobody_waits(&engine, &bucket(1, 9)).await;
        let asked = doorway.questions() - before;
        assert!(asked <= GIVEN_UP_AFTER, "{door:?}: {asked} questions");
        nobody_waits(&engine, &doorway);
        let (closed, open) = (
            policy(1, 9, LimitAlgorithm::TokenBucket, OnStoreFailure::Closed),
            policy(1, 9, LimitAlgorithm::SlidingWindow, OnStoreFailure::Open),
        );
        let both = [Charge { policy: &open, key: user(9), cost: 1 }, Charge { policy: &closed, key: user(9), cost: 1 }];
        let outcome = take(&engine, &both).await;
        assert!(outcome.lost && !outcome.admitted);
        doorway.set(Door::Open);
        until(|| engine.is_up()).await;
        assert!(one(&engine, &bucket(1, 9), user(7)).await.standings[0].full_in > 0, "it counts there again");
    }
}

/// What was being asked when the store fell silent ends, all of it, and as the policy says.
#[tokio::test]
async fn calls_that_are_under_way_when_it_falls_silent_end_by_the_rule() {
    let server = Server::start(&[]);
    let doorway = Doorway::before(server.port).await;
    let engine = started(doorway.port, SOON).await;
    doorway.set(Door::Silent);
    let (local, closed) = (bucket(1, 9), policy(1, 9, LimitAlgorithm::TokenBucket, OnStoreFailure::Closed));
    // Some on one key, which share a question, and some on keys of their own.
    let on_one = join_all((0..40).map(|_| one(&engine, &local, user(1))));
    let apart = join_all((0..40).map(|number| one(&engine, &closed, user(2 + number))));
    let (on_one, apart) = futures::join!(on_one, apart);
    assert_eq!(on_one.iter().filter(|outcome| outcome.admitted).count(), 10, "the bucket of this instance");
    assert!(on_one.iter().all(|outcome| !outcome.lost) && apart.iter().all(|outcome| outcome.lost));
    assert!(doorway.questions() <= 41, "one for all on one key: {}", doorway.questions());
}

/// The primary that took over has a clock an hour behind: what was written by the old one's lies in the future.
#[tokio::test]
async fn a_clock_that_went_back_shuts_nobody_out() {
    let server = Server::start(&[]);
    let mut connection = server.connection();
    let engine = started(server.port, PATIENT).await;
    for algorithm in [LimitAlgorithm::TokenBucket, LimitAlgorithm::SlidingWindow] {
        let policy = policy(60, 20, algorithm, OnStoreFailure::Local);
        let key = user(algorithm as u32);
        assert!(one(&engine, &policy, key).await.admitted);
        let name = question::name(policy.family, key);
        let state: String = connection.get(&name).unwrap();
        let (first, rest) = state.split_once(' ').unwrap();
        // A bucket says when it is full again, in microseconds; a window which one it is, here a minute long.
        let hour = if algorithm == LimitAlgorithm::TokenBucket { 3_600_000_000 } else { 60 };
        let ahead = first.parse::<u64>().unwrap() + hour;
        connection.set::<_, _, ()>(&name, format!("{ahead} {rest}")).unwrap();
        let outcome = one(&engine, &policy, key).await;
        let standing = outcome.standings[0];
        assert!(standing.full_in <= 120_000_000_000, "{algorithm:?}: never beyond a refill: {standing:?}");
        match standing.wait {
            Wait::No => {}
            Wait::Nanos(nanos) => assert!(nanos <= 120_000_000_000, "{algorithm:?}: {standing:?}"),
            Wait::Never => panic!("{algorithm:?}: {standing:?}"),
        }
    }
    let mark = Policy::mark("tested", Duration::from_secs(60)).unwrap();
    assert!(engine.set_mark(engine.clock.tick(), &mark, user(3)).get().await.new);
    let name = question::name(mark.family, user(3));
    let state: String = connection.get(&name).unwrap();
    let ahead = state.split_once(' ').unwrap().0.parse::<u64>().unwrap() + 3_600_000_000;
    connection.set::<_, _, ()>(&name, format!("{ahead} 0")).unwrap();
    // Another instance, which knows only what is there.
    let other = started(server.port, PATIENT).await;
    let wait = other.marked(other.clock.tick(), &mark, user(3)).get().await;
    assert!(matches!(wait, Wait::Nanos(nanos) if nanos <= 60_000_000_000), "{wait:?}");
}

#[tokio::test]
async fn a_new_edge_meets_its_store_before_it_serves() {
    let server = Server::start(&[]);
    let met = engine(server.port, PATIENT);
    assert!(!met.is_up());
    met.meet(PATIENT).await;
    assert!(met.is_up() && one(&met, &bucket(1, 9), user(1)).await.admitted);
    // One that is not there is not waited for beyond its time.
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let alone = engine(hole.local_addr().unwrap().port(), SOON);
    alone.meet(SOON).await;
    assert!(!alone.is_up());
    each_rule_holds(&alone).await;
}

#[tokio::test]
async fn a_mark_that_was_set_without_the_store_is_told_to_it() {
    let server = Server::start(&[]);
    let doorway = Doorway::before(server.port).await;
    let (cut_off, other) = (started(doorway.port, SOON).await, started(server.port, PATIENT).await);
    let mark = Policy::mark("tested", Duration::from_secs(3600)).unwrap();
    doorway.set(Door::Shut);
    until_nobody_waits(&cut_off, &bucket(1, 9)).await;
    let now = || cut_off.clock.tick();
    assert!(matches!(cut_off.marked(now(), &mark, user(1)), Answer::Now(Wait::No)));
    let Answer::Now(set) = cut_off.set_mark(now(), &mark, user(1)) else { panic!("it waits for a store that is lost") };
    assert_eq!(set, Marked { new: true, wait: Wait::Nanos(3_600_000_000_000) });
    assert!(matches!(cut_off.set_mark(now(), &mark, user(1)), Answer::Now(Marked { new: false, .. })));
    assert!(matches!(cut_off.marked(now(), &mark, user(1)), Answer::Now(Wait::Nanos(_))));
    doorway.set(Door::Open);
    let standing = || Engine::look_at(&*other, other.clock.tick(), &mark, user(1));
    while standing().await.unwrap().wait == Wait::No {
        tokio::task::yield_now().await;
    }
    assert!(matches!(cut_off.marked(now(), &mark, user(1)).get().await, Wait::Nanos(_)), "and stays known here");
    // Lifted anywhere, it is lifted here too.
    Engine::reset(&*other, &mark, user(1)).await.unwrap();
    while cut_off.marked(now(), &mark, user(1)).get().await != Wait::No {
        tokio::task::yield_now().await;
    }
}
