//! The arithmetic against simple models, and against threads.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::policy::rate_limit::rule::State;

#[test]
fn thirty_and_ten_let_forty_through_and_then_one_every_two_seconds() {
    let bench = Bench::new(&[("payment_operations", limit(30, 10))]);
    let (admitted, report) = bench.drain("payment_operations", user(1));
    assert_eq!((admitted, report.retry_after), (40, Some(2)));
    for _ in 0..100 {
        bench.hand.advance(Duration::from_nanos(1_999_999_999));
        assert!(matches!(bench.take("payment_operations", user(1)), Decision::Refused(_)));
        bench.hand.advance(Duration::from_nanos(1));
        assert!(matches!(bench.take("payment_operations", user(1)), Decision::Admitted(_)));
        assert!(matches!(bench.take("payment_operations", user(1)), Decision::Refused(_)));
    }
    bench.hand.advance(Duration::from_hours(1));
    assert_eq!(bench.drain("payment_operations", user(1)).0, 40);
}

#[test]
fn a_rate_that_is_no_whole_number_of_nanoseconds_does_not_drift() {
    let bench = Bench::new(&[("default", limit(7, 0))]);
    let mut admitted = bench.drain("default", user(1)).0;
    for _ in 0..100_000 {
        bench.hand.advance(Duration::from_nanos(61_234_567));
        admitted += u32::from(matches!(bench.take("default", user(1)), Decision::Admitted(_)));
    }
    let elapsed = u128::from(bench.clock.tick().0);
    assert_eq!(u128::from(admitted), 7 + elapsed * 7 / 60_000_000_000);
}

#[test]
fn five_a_day_is_five_a_day() {
    let daily = LimitPolicy { per: Duration::from_hours(24), ..limit(5, 0) };
    let bench = Bench::new(&[("registration", daily)]);
    let (admitted, report) = bench.drain("registration", user(1));
    assert_eq!((admitted, report.retry_after), (5, Some(86_400 / 5)));
    assert_eq!(report.reset_after, 86_400);
}

#[test]
fn the_sliding_window_weighs_the_one_before() {
    let bench = Bench::new(&[("wallet_resolution", window(100, 20))]);
    assert_eq!(bench.drain("wallet_resolution", user(1)).0, 120);
    // The next window begins full and clears as the first one slides out.
    bench.hand.advance(MINUTE);
    let (admitted, report) = bench.drain("wallet_resolution", user(1));
    assert_eq!((admitted, report.retry_after), (0, Some(1)));
    bench.hand.advance(MINUTE / 2);
    assert_eq!(bench.drain("wallet_resolution", user(1)).0, 60);
    // 60 in this window, and half of 120: nothing until they fade.
    bench.hand.advance(MINUTE * 2);
    assert_eq!(bench.drain("wallet_resolution", user(1)).0, 120);
}

/// Tokens times nanoseconds of the period, refilled step by step: the textbook, in wide integers.
struct TextbookBucket {
    requests: i128,
    per: i128,
    capacity: i128,
    level: i128,
    at: i128,
}

impl TextbookBucket {
    fn new(requests: u32, per: Duration, burst: u32) -> Self {
        let (requests, per) = (i128::from(requests), per.as_nanos() as i128);
        let capacity = requests + i128::from(burst);
        TextbookBucket { requests, per, capacity, level: capacity * per, at: 0 }
    }

    fn take(&mut self, now: Tick, cost: u32) -> bool {
        let now = i128::from(now.0);
        self.level = (self.level + (now - self.at) * self.requests).min(self.capacity * self.per);
        self.at = now;
        let admitted = self.level >= i128::from(cost) * self.per;
        self.level -= if admitted { i128::from(cost) * self.per } else { 0 };
        admitted
    }

    fn remaining(&self) -> i128 {
        self.level / self.per
    }
}

/// Counts by window number, nothing ever forgotten.
#[derive(Default)]
struct TextbookWindow {
    counts: BTreeMap<u64, u128>,
}

impl TextbookWindow {
    fn take(&mut self, now: Tick, length: u64, capacity: u32, cost: u32) -> bool {
        let (window, elapsed) = (now.0 / length, now.0 % length);
        let count = |at: Option<u64>| at.and_then(|at| self.counts.get(&at)).copied().unwrap_or(0);
        let used = count(window.checked_sub(1)) * u128::from(length - elapsed)
            + (count(Some(window)) + u128::from(cost)) * u128::from(length);
        let admitted = used <= u128::from(capacity) * u128::from(length);
        if admitted {
            *self.counts.entry(window).or_default() += u128::from(cost);
        }
        admitted
    }
}

fn steps() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let pause = prop_oneof![Just(0), 0..1_000_u64, 0..2_000_000_000_u64, 0..200_000_000_000_u64];
    proptest::collection::vec((pause, 0..6_u32), 1..200)
}

fn periods() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::from_secs(1)),
        Just(MINUTE),
        Just(Duration::from_hours(24)),
        (1_000_000..100_000_000_000_u64).prop_map(Duration::from_nanos)
    ]
}

/// What holds of every rule: a refusal's wait is the first nanosecond that succeeds, and forgetting at `forget_at`
/// changes nothing.
fn honest(rule: &Rule, state: State, now: Tick, cost: u32) -> Result<Option<State>, TestCaseError> {
    let verdict = rule.weigh(state, now, cost);
    match (verdict.granted, verdict.standing.wait) {
        (Some(_), Wait::No) => {}
        (None, Wait::Nanos(nanos)) => {
            prop_assert!(nanos > 0);
            let after = |nanos| rule.weigh(state, now.plus(Duration::from_nanos(nanos)), cost).granted;
            prop_assert!(after(nanos).is_some(), "refused after its own wait of {} ns", nanos);
            prop_assert!(after(nanos - 1).is_none(), "granted {} ns before", 1);
        }
        (None, Wait::Never) => {
            prop_assert!(rule.weigh(State::default(), now, cost).granted.is_none());
        }
        other => prop_assert!(false, "{other:?}"),
    }
    let kept = verdict.granted.unwrap_or(state);
    let full = Tick(kept.forget_at.max(now.0));
    let remembered = rule.weigh(kept, full, 1).standing;
    let forgotten = rule.weigh(State::default(), full, 1).standing;
    prop_assert_eq!(remembered.remaining, forgotten.remaining);
    prop_assert_eq!(verdict.standing.full_in, if kept.matters(now) { verdict.standing.full_in } else { 0 });
    prop_assert_eq!(rule.weigh(kept, now.plus(Duration::from_nanos(verdict.standing.full_in)), 0).standing.full_in, 0);
    Ok(verdict.granted)
}

proptest! {
    #[test]
    fn the_bucket_is_the_textbooks(requests in 1..2_000_u32, burst in 0..50_u32, per in periods(), steps in steps()) {
        let rule = Rule::new(requests, per, burst, LimitAlgorithm::TokenBucket).unwrap();
        let mut textbook = TextbookBucket::new(requests, per, burst);
        let (mut state, mut now) = (State::default(), Tick(0));
        for (pause, cost) in steps {
            now = now.plus(Duration::from_nanos(pause));
            // Few steps have to reach the bottom of a large bucket.
            let cost = cost * (requests + burst) / 5 + cost % 2;
            let granted = honest(&rule, state, now, cost)?;
            prop_assert_eq!(granted.is_some(), textbook.take(now, cost));
            let standing = rule.weigh(state, now, cost).standing;
            prop_assert_eq!(i128::from(standing.remaining), textbook.remaining());
            state = granted.unwrap_or(state);
        }
    }

    #[test]
    fn the_window_is_the_textbooks(requests in 1..200_u32, burst in 0..50_u32, per in periods(), steps in steps()) {
        let rule = Rule::new(requests, per, burst, LimitAlgorithm::SlidingWindow).unwrap();
        let mut textbook = TextbookWindow::default();
        let (mut state, mut now) = (State::default(), Tick(0));
        for (pause, cost) in steps {
            now = now.plus(Duration::from_nanos(pause));
            let cost = cost * (requests + burst) / 5 + cost % 2;
            let granted = honest(&rule, state, now, cost)?;
            let length = u64::try_from(per.as_nanos()).unwrap();
            prop_assert_eq!(granted.is_some(), textbook.take(now, length, requests + burst, cost));
            state = granted.unwrap_or(state);
        }
    }

    #[test]
    fn extreme_numbers_do_not_overflow(
        requests in prop_oneof![1..10_u32, any::<u32>()],
        burst in prop_oneof![0..10_u32, any::<u32>()],
        per in prop_oneof![1_000_000..u64::MAX, Just(u64::MAX)],
        sliding in any::<bool>(),
        first in any::<u64>(),
        pause in any::<u64>(),
        cost in any::<u32>(),
    ) {
        let algorithm = if sliding { LimitAlgorithm::SlidingWindow } else { LimitAlgorithm::TokenBucket };
        let Ok(rule) = Rule::new(requests, Duration::from_nanos(per), burst, algorithm) else { return Ok(()) };
        // A century of uptime.
        let first = Tick(first % (3_600_000_000_000 * 24 * 366 * 100));
        let mut state = State::default();
        for (now, cost) in [(first, cost), (first, requests), (first.plus(Duration::from_nanos(pause % per)), cost), (Tick(0), 1)] {
            state = rule.weigh(state, now, cost).granted.unwrap_or(state);
        }
    }
}

/// Time moves while threads call: what is admitted is the bucket and its refill, to the token.
#[test]
fn threads_get_the_bucket_and_its_refill_and_no_token_more() {
    let bench = Bench::new(&[("default", limit(60_000, 100))]);
    let policy = bench.limiter.policies().get(bench.limiter.policies().id("default").unwrap()).unwrap();
    let (nanos, admitted) = (AtomicU64::new(0), AtomicU64::new(0));
    let take = |now: Tick| bench.buckets.decide(now, &[Charge { policy, key: user(1), cost: 1 }]).admitted;
    // Empty it first: what a full bucket cannot take in is lost, rightly.
    let first = (0..).take_while(|_| take(Tick(0))).count() as u64;
    assert_eq!(first, 60_100);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50_000 {
                    let now = Tick(nanos.fetch_add(100_000, Ordering::Relaxed));
                    admitted.fetch_add(u64::from(take(now)), Ordering::Relaxed);
                }
            });
        }
    });
    let end = nanos.into_inner();
    while take(Tick(end)) {
        admitted.fetch_add(1, Ordering::Relaxed);
    }
    // One token a millisecond.
    assert_eq!(admitted.into_inner(), end / 1_000_000);
}
