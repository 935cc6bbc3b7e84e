//! What the caller is told: headers and refusals.

use super::*;
use crate::error::Code;

fn headers(report: &Report) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    report.write(&mut |name, value| headers.push((name.to_string(), value.to_str().unwrap().to_owned())));
    headers
}

fn expect(report: &Report, values: [u64; 6]) {
    let names = ["limit", "remaining", "reset", "reset-after", "burst", "burst-remaining"];
    let expected = names.iter().zip(values).map(|(name, value)| (format!("x-ratelimit-{name}"), value.to_string()));
    assert_eq!(headers(report), expected.collect::<Vec<_>>());
}

#[test]
fn headers_count_down_the_limit_and_then_the_burst() {
    let bench = Bench::new(&[("payment_operations", limit(30, 10))]);
    let take = || *bench.take("payment_operations", user(1)).report().unwrap();
    expect(&take(), [30, 29, UNIX + 2, 2, 10, 10]);
    (0..28).for_each(|_| _ = take());
    expect(&take(), [30, 0, UNIX + 60, 60, 10, 10]);
    expect(&take(), [30, 0, UNIX + 62, 62, 10, 9]);
    (0..9).for_each(|_| _ = take());
    expect(&take(), [30, 0, UNIX + 80, 80, 10, 0]);
    // Refused: nothing changes but time.
    bench.hand.advance(Duration::from_millis(500));
    expect(&take(), [30, 0, UNIX + 80, 80, 10, 0]);
    bench.hand.advance(Duration::from_secs(60));
    expect(&take(), [30, 19, UNIX + 60 + 22, 22, 10, 10]);
}

#[test]
fn the_refusal_is_the_protocols() {
    let bench = Bench::new(&[("default", limit(100, 20))]);
    let (_, report) = bench.drain("default", user(1));
    let refusal = report.refusal();
    assert_eq!(refusal.code(), Code::RateLimitExceeded);
    assert_eq!(refusal.code().status(), 429);
    assert_eq!(refusal.retry_after_seconds(), Some(1));
    assert_eq!(refusal.fields(), [("limit", 100.into()), ("window", "1 minute".into())]);
    assert_eq!(refusal.message(), "The limit of 100 requests per minute is used up. Try again in 1 second.");
}

#[test]
fn odd_periods_are_named() {
    let odd = LimitPolicy { per: Duration::from_secs(90), ..limit(3, 0) };
    let bench = Bench::new(&[("odd", odd)]);
    let refusal = bench.drain("odd", user(1)).1.refusal();
    assert_eq!(refusal.message(), "The limit of 3 requests per 90 seconds is used up. Try again in 30 seconds.");
}

#[test]
fn a_call_that_can_never_succeed_is_told_so() {
    let bench = Bench::new(&[("wallet_resolution", limit(30, 10))]);
    for _ in 0..2 {
        let decision = bench.take_all(&[bench.claim("wallet_resolution", user(1), 41)]);
        let Decision::Refused(report) = decision else { panic!("41 out of 40") };
        assert_eq!((report.retry_after, report.remaining, report.burst_remaining), (None, 30, 10));
        let refusal = report.refusal();
        assert_eq!(refusal.retry_after_seconds(), None);
        assert!(refusal.message().contains("counts as 41 requests"), "{}", refusal.message());
        assert!(refusal.message().contains("more than 40 at once"), "{}", refusal.message());
    }
    assert_eq!(bench.buckets.stats().live, 0);
    assert!(matches!(bench.take_all(&[bench.claim("wallet_resolution", user(1), 40)]), Decision::Admitted(_)));
}

/// A client that obeys `Retry-After` succeeds, whatever the cost and the algorithm.
#[test]
fn retry_after_is_true() {
    for policy in [limit(100, 20), window(100, 20), limit(7, 0), window(7, 3)] {
        let bench = Bench::new(&[("p", policy.clone())]);
        for cost in (1..=policy.requests + policy.burst).step_by(3) {
            bench.hand.advance(Duration::from_millis(1_234));
            bench.drain("p", user(1));
            let claim = [bench.claim("p", user(1), cost)];
            let Decision::Refused(report) = bench.take_all(&claim) else { panic!("drained, yet admitted") };
            bench.hand.advance(Duration::from_secs(report.retry_after.unwrap()));
            assert!(matches!(bench.take_all(&claim), Decision::Admitted(_)), "{policy:?}, cost {cost}");
        }
    }
}

#[test]
fn report_only_counts_and_admits() {
    let trial = LimitPolicy { report_only: true, ..limit(5, 0) };
    let bench = Bench::new(&[("trial", trial), ("default", limit(10, 0))]);
    let trial_id = bench.limiter.policies().id("trial").unwrap();
    for call in 0..10 {
        let Decision::Admitted(report) = bench.take("trial", user(1)) else { panic!("refused in a trial") };
        assert_eq!(report.would_refuse.is_some(), call >= 5);
    }

    // Beside a policy that refuses, it neither hinders nor loses tokens to a refusal.
    let both = [bench.claim("trial", user(2), 1), bench.claim("default", user(2), 1)];
    for call in 0..10 {
        let Decision::Admitted(report) = bench.take_all(&both) else { panic!("refused in a trial") };
        assert_eq!(bench.limiter.policies().name(report.policy), "default");
        assert_eq!(report.would_refuse, (call >= 5).then_some(trial_id));
        assert_eq!(report.remaining, 9 - call);
    }
    bench.hand.advance(Duration::from_secs(12));
    bench.drain("default", user(2));
    assert!(matches!(bench.take_all(&both), Decision::Refused(_)));
    assert_eq!(bench.take("trial", user(2)).report().unwrap().would_refuse, None);
}
