//! Compiling policies, overrides, and what a reload keeps.

use super::*;

fn special(requests: u32) -> LimitOverride {
    LimitOverride { app: app("ma_shop_001"), policy: "default".into(), requests, burst: 0 }
}

#[test]
fn a_reload_resets_only_what_it_changes() {
    let mut bench = Bench::new(&[("default", limit(100, 20)), ("payment_operations", limit(30, 10))]);
    bench.drain("default", user(1));
    bench.drain("payment_operations", user(1));

    // Another policy is new, the order is another, one is switched to report only: nothing counts differently.
    let trial = LimitPolicy { report_only: true, on_store_failure: OnStoreFailure::Closed, ..limit(30, 10) };
    bench.reload(
        &[("a_new_one", limit(1, 0)), ("default", limit(100, 20)), ("payment_operations", trial)],
        &[special(5)],
    );
    assert_eq!(bench.drain("default", user(1)).0, 0);
    assert!(bench.take("payment_operations", user(1)).report().unwrap().would_refuse.is_some());

    bench.reload(&[("default", limit(100, 20)), ("payment_operations", limit(31, 10))], &[]);
    assert_eq!(bench.drain("default", user(1)).0, 0);
    assert_eq!(bench.drain("payment_operations", user(1)).0, 41);

    // Back again: the old buckets are still there.
    bench.reload(&[("default", limit(100, 20)), ("payment_operations", limit(30, 10))], &[]);
    assert_eq!(bench.drain("payment_operations", user(1)).0, 0);
    bench.reload(&[("default", window(100, 20))], &[]);
    assert_eq!(bench.drain("default", user(1)).0, 120);
}

#[test]
fn policies_and_keys_do_not_share_buckets() {
    let bench = Bench::new(&[("a", limit(10, 0)), ("b", limit(10, 0))]);
    bench.drain("a", user(1));
    assert_eq!(bench.drain("b", user(1)).0, 10);
    assert_eq!(bench.drain("a", user(2)).0, 10);
}

#[test]
fn an_override_holds_for_its_mini_app_alone() {
    let mut bench = Bench::new(&[("default", limit(10, 0)), ("storage", limit(10, 0))]);
    bench.reload(&[("default", limit(10, 0)), ("storage", limit(10, 0))], &[special(50)]);
    let policies = bench.limiter.policies();
    let (default, storage) = (policies.id("default").unwrap(), policies.id("storage").unwrap());
    let theirs = policies.for_app(default, Some(&app("ma_shop_001")));
    assert_ne!(theirs, default);
    assert_eq!(policies.name(theirs), "default");
    assert_eq!(policies.get(theirs).unwrap().app, Some(app("ma_shop_001")));
    assert_eq!(policies.for_app(default, Some(&app("ma_other"))), default);
    assert_eq!(policies.for_app(default, None), default);
    assert_eq!(policies.for_app(storage, Some(&app("ma_shop_001"))), storage);
    assert_eq!(policies.for_app(PolicyId::NONE, Some(&app("ma_shop_001"))), PolicyId::NONE);

    let key = LimitKey::app_user(&app("ma_shop_001"), &UserId::parse("@a:tween.example").unwrap());
    let call = Claim { policy: theirs, key, cost: 1 };
    let admitted = (0..60).filter(|_| matches!(bench.take_all(&[call]), Decision::Admitted(_))).count();
    assert_eq!(admitted, 50);
}

#[test]
fn names_find_policies() {
    let policies = compile(&[("default", limit(10, 0))], &[]).unwrap();
    assert_eq!(policies.id("none"), Some(PolicyId::NONE));
    assert_eq!(policies.id("nobody"), None);
    assert_eq!(policies.name(policies.id("default").unwrap()), "default");
    assert_eq!(policies.name(PolicyId::NONE), "none");
    assert!(policies.get(PolicyId::NONE).is_none());
}

#[test]
fn mistakes_are_named() {
    let error = |policies: &[(&str, LimitPolicy)], overrides: &[LimitOverride]| {
        compile(policies, overrides).expect_err("it compiled").to_string()
    };
    let default = [("default", limit(10, 0))];
    assert!(error(&[("none", limit(1, 0))], &[]).contains("\"none\""));
    assert!(error(&[("x", limit(0, 5))], &[]).contains("\"x\": requests must be at least 1"));
    assert!(error(&default, &[special(0)]).contains("requests must be at least 1"));
    assert!(error(&default, &[special(5), special(6)]).contains("ma_shop_001 has two overrides"));
    let lost = LimitOverride { policy: "lost".into(), ..special(5) };
    assert!(error(&default, &[lost]).contains("\"lost\": the override of ma_shop_001 names no policy"));
    let none = LimitOverride { policy: "none".into(), ..special(5) };
    assert!(error(&default, &[none]).contains("names no policy"));
}
