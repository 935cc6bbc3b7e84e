//! What is forgotten, and what is not.

use super::*;

#[test]
fn full_buckets_are_forgotten() {
    let bench = Bench::new(&[("default", limit(60, 0)), ("wallet_resolution", window(60, 0))]);
    for number in 0..1_000 {
        bench.take("default", user(number));
        bench.take("wallet_resolution", user(number));
    }
    assert_eq!(bench.buckets.stats().live, 2_000);
    assert_eq!(bench.buckets.sweep(bench.clock.tick()), 0);
    bench.hand.advance(Duration::from_secs(1));
    assert_eq!(bench.buckets.sweep(bench.clock.tick()), 1_000);
    bench.hand.advance(MINUTE * 2);
    assert_eq!(bench.buckets.sweep(bench.clock.tick()), 1_000);
    assert!(bench.buckets.is_empty());
    let stats = bench.buckets.stats();
    assert_eq!((stats.live, stats.swept, stats.evicted), (0, 2_000, 0));
}

#[test]
fn newcomers_sweep_as_they_come() {
    let bench = Bench::new(&[("default", limit(60, 0))]);
    for number in 0..50_000 {
        bench.take("default", user(number));
        bench.hand.advance(Duration::from_millis(1));
    }
    // A bucket is full again after a second, in which 1,000 others come.
    let stats = bench.buckets.stats();
    assert!(stats.live < 5_000, "{stats:?}");
    assert_eq!((stats.live as u64 + stats.swept, stats.evicted), (50_000, 0));
}

#[test]
fn refused_calls_and_looks_leave_no_bucket() {
    let bench = Bench::new(&[("default", limit(5, 0))]);
    bench.take_all(&[bench.claim("default", user(1), 6)]);
    let policies = bench.limiter.policies();
    let policy = policies.get(policies.id("default").unwrap()).unwrap();
    assert_eq!(bench.buckets.peek(policy, user(1), bench.clock.tick()).wait, Wait::No);
    assert!(bench.buckets.is_empty());
}

/// A flood of new keys, under the same policy and under one whose buckets take days to refill: who is in deficit stays
/// remembered, and the memory stays bounded.
#[test]
fn a_flood_of_new_keys_forgets_nobody_in_deficit() {
    let slow = LimitPolicy { per: Duration::from_hours(24), ..limit(5, 0) };
    for flooded in ["default", "registration", "wallet_resolution"] {
        let bench = Bench::new(&[
            ("default", limit(100, 20)),
            ("registration", slow.clone()),
            ("wallet_resolution", window(100, 20)),
        ]);
        bench.buckets.set_max_bytes(1 << 20);
        let most = bench.buckets.stats().most;
        for number in 0..100 {
            bench.drain("default", user(number));
            bench.drain("wallet_resolution", user(number));
        }
        for number in 1_000..31_000 {
            bench.take(flooded, user(number));
        }
        let stats = bench.buckets.stats();
        assert!(stats.live <= most, "{stats:?}");
        assert!(stats.evicted > 15_000, "{stats:?}");
        for number in 0..100 {
            assert_eq!(bench.drain("default", user(number)).0, 0, "forgotten in a flood on {flooded}");
            assert_eq!(bench.drain("wallet_resolution", user(number)).0, 0, "forgotten in a flood on {flooded}");
        }
    }
}

#[test]
fn a_lowered_bound_is_reached_by_and_by() {
    let bench = Bench::new(&[("default", limit(1, 0))]);
    for number in 0..20_000 {
        bench.take("default", user(number));
    }
    bench.buckets.set_max_bytes(0);
    for number in 20_000..45_000 {
        bench.take("default", user(number));
    }
    let stats = bench.buckets.stats();
    assert!(stats.live <= stats.most, "{stats:?}");
    assert_eq!(stats.live as u64 + stats.evicted, 45_000);
}
