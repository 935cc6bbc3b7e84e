//! Several buckets in one call: all or none.

use proptest::prelude::*;

use super::*;

#[test]
fn a_refusal_by_one_takes_from_none() {
    let bench = Bench::new(&[("wide", limit(100, 0)), ("narrow", limit(5, 0))]);
    let claims = [bench.claim("wide", user(1), 1), bench.claim("narrow", user(1), 1)];
    for _ in 0..5 {
        assert!(matches!(bench.take_all(&claims), Decision::Admitted(_)));
    }
    for _ in 0..50 {
        let Decision::Refused(report) = bench.take_all(&claims) else { panic!("admitted over the narrow limit") };
        assert_eq!((report.limit, report.retry_after, report.remaining), (5, Some(12), 0));
    }
    let Decision::Admitted(report) = bench.take("wide", user(1)) else { panic!("the wide limit lost tokens") };
    assert_eq!(report.remaining, 94);
}

#[test]
fn the_tightest_is_reported() {
    let bench = Bench::new(&[("wide", limit(100, 0)), ("narrow", limit(5, 0))]);
    for order in [["wide", "narrow"], ["narrow", "wide"]] {
        let claims = order.map(|name| bench.claim(name, user(1), 1));
        let Decision::Admitted(report) = bench.take_all(&claims) else { panic!("refused") };
        assert_eq!(bench.limiter.policies().name(report.policy), "narrow");
    }
}

#[test]
fn the_wait_is_that_of_the_slowest() {
    let bench = Bench::new(&[("fast", limit(60, 0)), ("slow", limit(6, 0))]);
    bench.drain("fast", user(1));
    bench.drain("slow", user(1));
    let claims = [bench.claim("slow", user(1), 1), bench.claim("fast", user(1), 1)];
    let Decision::Refused(report) = bench.take_all(&claims) else { panic!("admitted") };
    assert_eq!(report.retry_after, Some(10));
    bench.hand.advance(Duration::from_secs(10));
    assert!(matches!(bench.take_all(&claims), Decision::Admitted(_)));
}

#[test]
fn claims_on_one_bucket_count_together() {
    let bench = Bench::new(&[("default", limit(10, 0))]);
    let twice = [bench.claim("default", user(1), 3), bench.claim("default", user(1), 4)];
    let Decision::Admitted(report) = bench.take_all(&twice) else { panic!("refused") };
    assert_eq!(report.remaining, 3);
    let Decision::Refused(report) = bench.take_all(&twice) else { panic!("took 7 of 3") };
    assert_eq!((report.remaining, report.retry_after), (3, Some(24)));
}

#[test]
fn no_claims_and_unlimited_policies_are_unlimited() {
    let bench = Bench::new(&[("default", limit(1, 0))]);
    let none = bench.claim("none", user(1), 1_000);
    assert_eq!(bench.take_all(&[]), Decision::Unlimited);
    assert_eq!(bench.take_all(&[none]), Decision::Unlimited);
    assert!(bench.take_all(&[none]).report().is_none());
    assert!(matches!(bench.take_all(&[none, bench.claim("default", user(1), 1)]), Decision::Admitted(_)));
    assert!(matches!(bench.take_all(&[none, bench.claim("default", user(1), 1)]), Decision::Refused(_)));
}

proptest! {
    /// Any mix of claims changes buckets as taking them one after the other would, if all of them fit, and not at all
    /// otherwise.
    #[test]
    fn together_is_one_by_one_or_nothing(
        calls in proptest::collection::vec(proptest::collection::vec((0..3_usize, 0..3_u32, 1..4_u32), 1..5), 1..40)
    ) {
        let names = ["a", "b", "c"];
        let bench = Bench::new(&[("a", limit(10, 0)), ("b", limit(6, 2)), ("c", window(9, 0))]);
        let sizes = [10, 8, 9];
        let mut left = BTreeMap::new();
        for call in calls {
            let claims: Vec<_> = call.iter().map(|(policy, who, cost)| bench.claim(names[*policy], user(*who), *cost)).collect();
            let mut after = left.clone();
            let mut fits = true;
            for (policy, who, cost) in &call {
                let bucket = after.entry((*policy, *who)).or_insert(sizes[*policy]);
                *bucket -= i64::from(*cost);
                fits &= *bucket >= 0;
            }
            prop_assert_eq!(matches!(bench.take_all(&claims), Decision::Admitted(_)), fits);
            if fits { left = after; }
        }
    }
}

/// Threads draw on their own bucket and on a shared one, in either order: tokens leave both or neither.
#[test]
fn all_or_none_holds_under_threads() {
    let bench = Bench::new(&[("own", limit(300, 0)), ("shared", limit(1_000, 0))]);
    let admitted: Vec<u32> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6_u32)
            .map(|thread| {
                let bench = &bench;
                scope.spawn(move || {
                    let own = bench.claim("own", user(thread), 1);
                    let shared = bench.claim("shared", user(1_000), 1);
                    let claims = if thread % 2 == 0 { [own, shared] } else { [shared, own] };
                    (0..2_000).map(|_| u32::from(matches!(bench.take_all(&claims), Decision::Admitted(_)))).sum()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(admitted.iter().sum::<u32>(), 1_000);
    for (thread, admitted) in admitted.iter().enumerate() {
        assert_eq!(bench.drain("own", user(thread as u32)).0, 300 - admitted);
    }
}
