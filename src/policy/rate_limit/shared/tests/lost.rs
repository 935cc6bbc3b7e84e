//! Without the store.

use tokio::net::TcpListener;

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
