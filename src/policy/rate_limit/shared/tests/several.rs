//! Several engines on one Redis.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Three instances, one of which has most of the load, each until it has been refused often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_instances_admit_what_one_would() {
    let server = Server::start(&[]);
    let (requests, burst) = (6000, 500);
    let policy = Arc::new(bucket(requests, burst));
    let admitted = Arc::new(AtomicU64::new(0));
    let mut engines = Vec::new();
    for _ in 0..3 {
        engines.push(started(server.port, PATIENT).await);
    }
    let clock = Clock::system();
    let began = clock.tick();
    let mut callers = Vec::new();
    for (engine, count) in engines.iter().zip([8, 2, 1]) {
        for _ in 0..count {
            let (engine, policy, admitted) = (engine.clone(), policy.clone(), admitted.clone());
            callers.push(tokio::spawn(async move {
                let mut refused = 0;
                while refused < 100 {
                    let outcome = one(&engine, &policy, user(1)).await;
                    if outcome.admitted {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    } else if let Wait::Nanos(nanos) = outcome.standings[0].wait {
                        refused += 1;
                        // As a client that keeps to Retry-After.
                        tokio::time::sleep(Duration::from_nanos(nanos)).await;
                    }
                }
            }));
        }
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let seconds = clock.tick().since(began).as_secs_f64();
    let admitted = admitted.load(Ordering::Relaxed) as f64;
    let (size, rate) = (f64::from(requests + burst), f64::from(requests) / 60.0);
    assert!(admitted <= size + rate * (seconds + 1.0), "{admitted} in {seconds} s");
    assert!(admitted >= 0.99 * (size + rate * seconds), "{admitted} in {seconds} s");
    let asked: u64 = engines.iter().map(|engine| engine.metrics.limit_answers.get(LimitAnswer::Asked)).sum();
    let leased: u64 = engines.iter().map(|engine| engine.metrics.limit_answers.get(LimitAnswer::Lease)).sum();
    assert!(leased > 0 && asked > 0, "{leased} from leases, {asked} asked");
}

/// Calls that draw on two buckets beside calls that draw on one of them: what one bucket gave and the other refused is
/// neither lost nor given twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_instances_admit_what_one_would_out_of_two_buckets() {
    let server = Server::start(&[]);
    let (narrow, wide) = (Arc::new(bucket(3000, 250)), Arc::new(bucket(6000, 500)));
    let (of_narrow, of_wide) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut engines = Vec::new();
    for _ in 0..3 {
        engines.push(started(server.port, PATIENT).await);
    }
    let clock = Clock::system();
    let began = clock.tick();
    let mut callers = Vec::new();
    for (engine, count) in engines.iter().zip([9, 3, 3]) {
        for caller in 0..count {
            let (engine, narrow, wide) = (engine.clone(), narrow.clone(), wide.clone());
            let (of_narrow, of_wide) = (of_narrow.clone(), of_wide.clone());
            let (draws_on_narrow, draws_on_wide) = (caller % 3 != 1, caller % 3 != 2);
            callers.push(tokio::spawn(async move {
                let mut refused = 0;
                while refused < 100 {
                    let wide = Charge { policy: &wide, key: user(1), cost: 1 };
                    let narrow = Charge { policy: &narrow, key: user(2), cost: 1 };
                    let charges: Vec<_> = [(wide, draws_on_wide), (narrow, draws_on_narrow)]
                        .into_iter()
                        .filter_map(|(charge, draws)| draws.then_some(charge))
                        .collect();
                    let outcome = take(&engine, &charges).await;
                    let wait = outcome.standings.iter().map(|standing| standing.wait).max();
                    if outcome.admitted {
                        of_wide.fetch_add(u64::from(draws_on_wide), Ordering::Relaxed);
                        of_narrow.fetch_add(u64::from(draws_on_narrow), Ordering::Relaxed);
                    } else if let Some(Wait::Nanos(nanos)) = wait {
                        refused += 1;
                        tokio::time::sleep(Duration::from_nanos(nanos)).await;
                    }
                }
            }));
        }
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let seconds = clock.tick().since(began).as_secs_f64();
    for (policy, admitted) in [(&narrow, of_narrow), (&wide, of_wide)] {
        let admitted = admitted.load(Ordering::Relaxed) as f64;
        let (size, rate) = (f64::from(policy.requests + policy.burst), f64::from(policy.requests) / 60.0);
        assert!(admitted <= size + rate * (seconds + 1.0), "{admitted} of {size} in {seconds} s");
        assert!(admitted >= 0.95 * (size + rate * seconds), "{admitted} of {size} in {seconds} s");
    }
}

#[tokio::test]
async fn a_slow_key_sees_every_token_at_every_instance() {
    let server = Server::start(&[]);
    let (first, second) = (started(server.port, PATIENT).await, started(server.port, PATIENT).await);
    for algorithm in [LimitAlgorithm::TokenBucket, LimitAlgorithm::SlidingWindow] {
        let policy = policy(1, 9, algorithm, OnStoreFailure::Local);
        let (clock, began) = (Clock::system(), Clock::system().tick());
        for call in 0..10 {
            let engine = if call % 2 == 0 { &first } else { &second };
            let outcome = one(engine, &policy, user(1)).await;
            assert!(outcome.admitted, "{algorithm:?} {call}");
            assert_eq!(outcome.standings[0].remaining, 9 - call);
        }
        for engine in [&first, &second] {
            assert!(!one(engine, &policy, user(1)).await.admitted);
            let asked = engine.metrics.limit_answers.get(LimitAnswer::Asked);
            let again = one(engine, &policy, user(1)).await;
            assert!(!again.admitted);
            // For as long as a lease is good for: then somebody else's tokens may be back.
            let remembered = engine.metrics.limit_answers.get(LimitAnswer::Asked) == asked;
            assert!(remembered || clock.tick().since(began) > Duration::from_secs(1), "a refusal is remembered");
        }
    }
}

#[tokio::test]
async fn several_buckets_give_all_or_none() {
    let server = Server::start(&[]);
    let engine = started(server.port, PATIENT).await;
    let (wide, narrow) = (bucket(1, 19), policy(1, 2, LimitAlgorithm::SlidingWindow, OnStoreFailure::Local));
    let charges = [Charge { policy: &wide, key: user(1), cost: 2 }, Charge { policy: &narrow, key: user(1), cost: 1 }];
    for _ in 0..3 {
        assert!(take(&engine, &charges).await.admitted);
    }
    for _ in 0..5 {
        let outcome = take(&engine, &charges).await;
        assert!(!outcome.admitted && outcome.standings[0].wait == Wait::No && outcome.standings[1].wait != Wait::No);
    }
    // What the wide one gave to calls that the narrow one refused is still there.
    let mut more = 0;
    while take(&engine, &charges[..1]).await.admitted {
        more += 1;
    }
    assert_eq!(more, 7);
}

#[tokio::test]
async fn calls_that_miss_together_share_questions() {
    let server = Server::start(&[]);
    let engine = started(server.port, PATIENT).await;
    let policy = bucket(1, 99);
    let calls = (0..150).map(|_| one(&engine, &policy, user(1)));
    let outcomes = join_all(calls).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.admitted).count(), 100);
    let asked = engine.metrics.redis_round_trips.get(crate::metrics::RedisUse::Limit);
    assert!(asked < 20, "{asked} round trips");
}

#[tokio::test]
async fn a_reset_is_seen_by_all() {
    let server = Server::start(&[]);
    let (first, second) = (started(server.port, PATIENT).await, started(server.port, PATIENT).await);
    let policy = bucket(1, 1);
    for _ in 0..2 {
        assert!(one(&first, &policy, user(1)).await.admitted);
    }
    assert!(!one(&first, &policy, user(1)).await.admitted && !one(&second, &policy, user(1)).await.admitted);
    let now = second.clock.tick();
    let standing = Engine::look_at(&*second, now, &policy, user(1)).await.unwrap();
    assert!(standing.remaining == 0 && standing.wait != Wait::No && standing.full_in > 0);
    Engine::reset(&*second, &policy, user(1)).await.unwrap();
    assert_eq!(Engine::look_at(&*second, now, &policy, user(1)).await.unwrap().remaining, 2);
    // The other one is told, and asks again.
    while !one(&first, &policy, user(1)).await.admitted {
        tokio::task::yield_now().await;
    }
}

/// A key at 1,000 calls a second asks for one call in ten at most.
#[tokio::test]
async fn a_busy_key_hardly_asks() {
    let server = Server::start(&[]);
    let (engine, hand) = by_hand(&server).await;
    for algorithm in [LimitAlgorithm::TokenBucket, LimitAlgorithm::SlidingWindow] {
        let policy = policy(1_000_000, 0, algorithm, OnStoreFailure::Local);
        let asked = || engine.metrics.limit_answers.get(LimitAnswer::Asked);
        let before = asked();
        for _ in 0..5000 {
            hand.advance(Duration::from_millis(1));
            assert!(one(&engine, &policy, user(1)).await.admitted);
        }
        let asked = asked() - before;
        assert!(asked <= 500, "{algorithm:?}: {asked} questions for 5,000 calls");
    }
}

/// The next lease arrives while the one before serves, so no call waits for the store.
#[tokio::test]
async fn a_busy_key_does_not_wait_for_its_next_lease() {
    let server = Server::start(&[]);
    let (engine, hand) = by_hand(&server).await;
    let policy = bucket(1_000_000, 0);
    let slot = Slot { family: policy.family, key: user(1) };
    for call in 0..3000 {
        hand.advance(Duration::from_millis(1));
        let taken = engine.take(engine.clock.tick(), &[Charge { policy: &policy, key: user(1), cost: 1 }]);
        // The first half second shows how fast it is.
        let waits = matches!(taken, Taken::Later(_));
        assert!(!waits || call < 500, "call {call}");
        if let Taken::Later(outcome) = taken {
            outcome.await;
        }
        until(|| engine.entry(slot, |entry| !entry.asking)).await;
    }
}

/// Calls that come while a question is under way are served by the lease that it brings.
#[tokio::test]
async fn calls_that_wait_for_a_question_are_served_by_its_lease() {
    let server = Server::start(&[]);
    let (engine, hand) = by_hand(&server).await;
    let policy = bucket(1_000_000, 0);
    let slot = Slot { family: policy.family, key: user(1) };
    for _ in 0..2000 {
        hand.advance(Duration::from_millis(1));
        assert!(one(&engine, &policy, user(1)).await.admitted);
    }
    until(|| engine.entry(slot, |entry| !entry.asking)).await;
    let leases = || engine.metrics.limit_leases.get();
    let before = leases();
    let charge = Charge { policy: &policy, key: user(1), cost: 1 };
    let first = loop {
        if let Taken::Later(first) = engine.take(engine.clock.tick(), &[charge]) {
            break first;
        }
    };
    let others = async {
        while !engine.entry(slot, |entry| entry.asking && entry.queue.is_empty()) {
            tokio::task::yield_now().await;
        }
        join_all((0..20).map(|_| one(&engine, &policy, user(1)))).await
    };
    let (first, others) = futures::future::join(first, others).await;
    assert!(first.admitted && others.iter().all(|outcome| outcome.admitted));
    assert_eq!(leases() - before, 1);
}

#[tokio::test]
async fn who_leaves_counts_no_more() {
    let server = Server::start(&[]);
    let (first, second) = (started(server.port, PATIENT).await, started(server.port, PATIENT).await);
    assert_eq!(instances_on(&second.redis).await.unwrap(), 2);
    first.leave().await;
    assert_eq!(instances_on(&second.redis).await.unwrap(), 1);
    // It still serves what it has begun, and is not there again by that.
    let policy = bucket(1, 99);
    assert!(one(&first, &policy, user(1)).await.admitted);
    first.probe().await;
    assert_eq!(instances_on(&second.redis).await.unwrap(), 1);
}
