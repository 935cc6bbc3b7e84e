//! The scripts against the arithmetic in process, by a clock that the test moves.

use std::collections::VecDeque;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use redis::{Commands as _, Connection, Value};

use super::super::hold::{Back, Origin, Told};
use super::super::question::{Terms, told};
use super::*;
use crate::policy::rate_limit::rule::State;

const BUCKET: &str = include_str!("../bucket.lua");
const WINDOW: &str = include_str!("../window.lua");

/// A script that reads its clock from a key, and whose bucket stays: real time does not pass for it.
fn by_hand(source: &str) -> redis::Script {
    let clock = "{ redis.call('HGET', 'clock', 's'), redis.call('HGET', 'clock', 'us') }";
    let (head, tail) = source.split_once("redis.call('TIME')").unwrap();
    let by_hand = format!("{head}{clock}{tail}");
    let (head, tail) = by_hand.split_once(", 'PX'").unwrap();
    let (_, tail) = tail.split_once('\n').unwrap();
    redis::Script::new(&format!("{head})\n{tail}"))
}

struct Hand {
    connection: Connection,
    script: redis::Script,
    question: Question,
}

impl Hand {
    fn ask(&mut self, micros: u64, terms: Terms, costs: &[u32]) -> Told {
        let at = [("s", micros / 1_000_000), ("us", micros % 1_000_000)];
        self.connection.hset_multiple::<_, _, _, ()>("clock", &at).unwrap();
        let mut call = self.script.key("tested");
        for arg in self.question.args(terms, costs, Tick(micros * 1000)) {
            call.arg(arg);
        }
        let value: Value = call.invoke(&mut self.connection).unwrap();
        told(value, costs.len()).unwrap()
    }
}

/// Runs random calls by both and compares every answer. `unit`: microseconds that times are multiples of.
fn compare(algorithm: LimitAlgorithm, source: &str, unit: u64) {
    let server = Server::start(&[]);
    let script = by_hand(source);
    let steps = prop::collection::vec((0..3_u8, 1..40_u32, 0..30_000_u64), 1..40);
    let mut runner = TestRunner::new(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() });
    let outcome = runner.run(&(1..200_u32, 0..50_u32, steps), |(requests, burst, steps)| {
        let policy = policy(requests, burst, algorithm, OnStoreFailure::Local);
        let mut connection = server.connection();
        connection.del::<_, ()>("tested").unwrap();
        let mut hand = Hand { connection, script: script.clone(), question: Question::new(&policy) };
        let (mut state, mut micros) = (State::default(), 1_700_000_000_000_000_u64);
        for (pace, cost, pause) in steps {
            // Some calls come at once, some slowly, so that buckets run empty and fill up.
            micros += pause * unit * [0, 1, 100][usize::from(pace)] / unit.clamp(1, 1000);
            micros -= micros % unit;
            let verdict = policy.rule.weigh(state, Tick(micros * 1000), cost);
            let told = hand.ask(micros, Terms::default(), &[cost]);
            let wait = match verdict.standing.wait {
                Wait::Nanos(nanos) => Wait::Nanos(nanos.div_ceil(unit * 1000) * unit * 1000),
                other => other,
            };
            prop_assert_eq!(told.waits.as_slice(), [wait]);
            prop_assert_eq!(told.left, verdict.standing.remaining);
            prop_assert_eq!(told.full_in, verdict.standing.full_in.div_ceil(1000) * 1000);
            state = verdict.granted.unwrap_or(state);
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn the_bucket_in_redis_counts_as_the_one_in_process() {
    compare(LimitAlgorithm::TokenBucket, BUCKET, 1);
}

#[test]
fn the_window_in_redis_counts_as_the_one_in_process() {
    compare(LimitAlgorithm::SlidingWindow, WINDOW, 1000);
}

/// Whatever leases are taken and handed back, and however the clock jumps, no more is out than the bucket and the
/// refill of the time that went forward.
#[test]
fn a_clock_that_jumps_back_grants_nothing() {
    let server = Server::start(&[]);
    for (algorithm, source) in [(LimitAlgorithm::TokenBucket, BUCKET), (LimitAlgorithm::SlidingWindow, WINDOW)] {
        let script = by_hand(source);
        let policy = policy(600, 40, algorithm, OnStoreFailure::Local);
        let mut hand = Hand { connection: server.connection(), script, question: Question::new(&policy) };
        hand.connection.del::<_, ()>("tested").unwrap();
        let mut now = 1_700_000_000_000_000_u64;
        let (mut out, mut leases) = (0_u32, VecDeque::new());
        // At one point of time: all there is.
        for _ in 0..400 {
            let back: Back = leases.pop_front().unwrap_or_default();
            out -= back.tokens;
            let told = hand.ask(now, Terms { wish: 5, back, looks: false }, &[3]);
            out += told.leased + if told.waits == [Wait::No] { 3 } else { 0 };
            let origin = Origin { asked: Tick(now * 1000), window: told.window };
            leases.push_back(Back { tokens: told.leased, origin });
        }
        assert!((638..=640).contains(&out), "{algorithm:?}: {out}");
        let emptied = hand.ask(now, Terms::default(), &[]).left;
        for back in [1, 60, 3600, 86_400] {
            now -= back * 1_000_000;
            let told = hand.ask(now, Terms::default(), &[]);
            assert!(told.left <= emptied, "{algorithm:?}: {} after {back} s back", told.left);
            assert!(told.full_in <= 120_000_000_000, "{algorithm:?}: never beyond a refill");
        }
    }
}

/// What was written by a clock that was ahead is used up at most; from then on it refills as ever.
#[test]
fn a_clock_that_jumps_back_shuts_nobody_out() {
    let server = Server::start(&[]);
    for (algorithm, source) in [(LimitAlgorithm::TokenBucket, BUCKET), (LimitAlgorithm::SlidingWindow, WINDOW)] {
        let policy = policy(600, 40, algorithm, OnStoreFailure::Local);
        let mut hand =
            Hand { connection: server.connection(), script: by_hand(source), question: Question::new(&policy) };
        hand.connection.del::<_, ()>("tested").unwrap();
        let mut now = 1_700_000_000_000_000_u64;
        assert_eq!(hand.ask(now, Terms::default(), &[600]).waits, [Wait::No]);
        now -= 3_600_000_000;
        let looks = Terms { looks: true, ..Terms::default() };
        assert!(matches!(hand.ask(now, looks, &[600]).waits[..], [Wait::Nanos(_)]), "{algorithm:?}");
        now += 120_000_000;
        let told = hand.ask(now, Terms::default(), &[600]);
        assert_eq!(told.waits, [Wait::No], "{algorithm:?}: two minutes later, an hour before that clock's time");
    }
    let mark = by_hand(include_str!("../mark.lua"));
    let mut connection = server.connection();
    connection.del::<_, ()>("tested").unwrap();
    let mut ask = |seconds: u64, wish: u64| -> (bool, u64) {
        connection.hset_multiple::<_, _, _, ()>("clock", &[("s", seconds), ("us", 0)]).unwrap();
        mark.key("tested").arg(wish * 1_000_000).arg(60_000_000).invoke(&mut connection).unwrap()
    };
    let minute = 60_000_000;
    assert_eq!(ask(10_000, 0), (false, 0), "a look sets nothing");
    assert_eq!(ask(10_000, 60), (true, minute));
    assert_eq!(ask(10_020, 60), (false, 40_000_000), "it stands");
    assert_eq!(ask(6_400, 0), (false, minute), "an hour back");
    assert_eq!(ask(6_430, 0), (false, minute / 2));
    assert_eq!(ask(6_460, 0), (false, 0));
    assert_eq!(ask(6_460, 60), (true, minute));
}

/// Instances that a clock ahead has seen last do not count for ever.
#[test]
fn a_clock_that_jumps_back_keeps_nobody_present() {
    let server = Server::start(&[]);
    let mut connection = server.connection();
    let at = |connection: &mut Connection, micros: u64| {
        let at = [("s", micros / 1_000_000), ("us", micros % 1_000_000)];
        connection.hset_multiple::<_, _, _, ()>("clock", &at).unwrap();
    };
    let clock = "{ redis.call('HGET', 'clock', 's'), redis.call('HGET', 'clock', 'us') }";
    let by_clock = |source: &str| redis::Script::new(&source.replace("redis.call('TIME')", clock));
    let (now, ahead) = (1_700_000_000_000_000, 600_000_000);

    let present = by_clock(include_str!("../present.lua"));
    let count = |connection: &mut Connection, micros, name: &str| -> u32 {
        at(connection, micros);
        present.key("present").arg(name).arg(10_000).invoke(connection).unwrap()
    };
    assert_eq!(count(&mut connection, now + ahead, "a"), 1);
    assert_eq!(count(&mut connection, now + ahead, "b"), 2);
    assert_eq!(count(&mut connection, now, "a"), 1, "b has not said so by this clock");
    assert_eq!(count(&mut connection, now + 1_000_000, "b"), 2);
}

#[test]
fn a_look_takes_nothing_and_a_bucket_of_any_configurable_size_is_counted() {
    let server = Server::start(&[]);
    let script = by_hand(BUCKET);
    let numbers = LimitPolicy {
        requests: 9_999_991,
        per: Duration::from_secs(86_400),
        burst: 10_000_000,
        algorithm: LimitAlgorithm::TokenBucket,
        on_store_failure: OnStoreFailure::Local,
        report_only: false,
    };
    let policy = Policy::new("large", None, &numbers).unwrap();
    let mut hand = Hand { connection: server.connection(), script, question: Question::new(&policy) };
    let now = 1_700_000_000_000_000;
    let told = hand.ask(now, Terms { looks: true, ..Terms::default() }, &[1]);
    assert_eq!((told.left, told.full_in), (19_999_991, 0));
    let mut state = State::default();
    for cost in [19_999_990, 1, 1, 20_000_000] {
        let told = hand.ask(now, Terms::default(), &[cost]);
        let verdict = policy.rule.weigh(state, Tick(now * 1000), cost);
        assert_eq!(told.left, verdict.standing.remaining);
        assert_eq!(told.waits[0] == Wait::No, verdict.granted.is_some());
        state = verdict.granted.unwrap_or(state);
    }
}

/// What was out for longer than a second goes back less what the bucket was refilled by since: what other calls were given in
/// its place.
#[test]
fn what_goes_back_late_goes_back_less_what_was_refilled_in_its_place() {
    let server = Server::start(&[]);
    // 10 a second, 640 in all.
    let policy = policy(600, 40, LimitAlgorithm::TokenBucket, OnStoreFailure::Local);
    let mut hand = Hand { connection: server.connection(), script: by_hand(BUCKET), question: Question::new(&policy) };
    let start = 1_700_000_000_000_000;
    for (after, left) in [(0, 20), (1_000_000, 30), (1_500_000, 30), (2_500_000, 30), (4_000_000, 40), (9_000_000, 90)]
    {
        hand.connection.del::<_, ()>("tested").unwrap();
        assert_eq!(hand.ask(start, Terms::default(), &[640]).left, 0);
        let origin = Origin { asked: Tick(start * 1000), window: 0 };
        let back = Terms { back: Back { tokens: 20, origin }, ..Terms::default() };
        assert_eq!(hand.ask(start + after, back, &[]).left, left, "{after} microseconds");
    }
}
