use super::*;
use crate::clock::{Clock, ManualClock};

fn limits(flood: u32, failed: u32, in_flight: usize) -> ServerLimits {
    ServerLimits {
        connections: 100,
        per_ip: 100,
        in_flight_per_ip: in_flight,
        buffered_bodies: 1 << 20,
        header_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(60),
        keepalive: Duration::from_secs(75),
        keepalive_requests: 1_000,
        max_connection_age: Duration::from_hours(1),
        failed_auth_per_minute: failed,
        requests_per_second_per_ip: flood,
    }
}

fn guard(limits: &ServerLimits) -> (PeerGuard, Arc<Peers>, Clock, ManualClock) {
    let peers = Arc::new(Peers::new());
    let (clock, hand) = Clock::manual(1_700_000_000);
    (PeerGuard::new(limits, peers.clone()).unwrap(), peers, clock, hand)
}

fn ip(text: &str) -> LimitKey {
    LimitKey::ip(text.parse().unwrap())
}

#[test]
fn failed_authentications_shut_the_address_out_and_nobody_else() {
    let (guard, _, clock, hand) = guard(&limits(0, 10, 0));
    let (bad, good) = (ip("192.0.2.1"), ip("192.0.2.2"));
    for _ in 0..10 {
        guard.check(bad, clock.tick()).unwrap();
        guard.failed_auth(bad, clock.tick());
    }
    let barred = guard.check(bad, clock.tick()).unwrap_err();
    assert_eq!(barred, Barred { reason: Reason::FailedAuth, limit: 10, retry_after: 6 });
    guard.check(good, clock.tick()).unwrap();

    hand.advance(Duration::from_secs(5));
    assert_eq!(guard.check(bad, clock.tick()).unwrap_err().retry_after, 1);
    hand.advance(Duration::from_secs(1));
    guard.check(bad, clock.tick()).unwrap();
}

#[test]
fn failures_that_come_in_together_are_all_paid_for() {
    let (guard, _, clock, hand) = guard(&limits(0, 10, 0));
    let bad = ip("2001:db8::1");
    for _ in 0..50 {
        guard.failed_auth(bad, clock.tick());
    }
    assert_eq!(guard.check(ip("2001:db8::2"), clock.tick()).unwrap_err().retry_after, 41 * 6);
    hand.advance(Duration::from_secs(41 * 6));
    guard.check(bad, clock.tick()).unwrap();
    for _ in 0..10_000 {
        guard.failed_auth(bad, clock.tick());
    }
    assert_eq!(guard.check(bad, clock.tick()).unwrap_err().retry_after, MOST_DEBT.as_secs() + 6);
}

#[test]
fn a_flood_is_held_to_the_limit_and_a_steady_caller_is_not_touched() {
    let (guard, _, clock, hand) = guard(&limits(100, 0, 0));
    let (flood, steady) = (ip("192.0.2.1"), ip("192.0.2.2"));
    let (mut served, mut retry) = (0, 0);
    for millis in 0..10_000_u32 {
        for _ in 0..5 {
            match guard.check(flood, clock.tick()) {
                Ok(()) => served += 1,
                Err(barred) => {
                    assert_eq!((barred.reason, barred.limit), (Reason::Flood, 100));
                    retry = barred.retry_after;
                }
            }
        }
        if millis % 11 == 0 {
            guard.check(steady, clock.tick()).unwrap();
        }
        hand.advance(Duration::from_millis(1));
    }
    // A full bucket, ten seconds of refilling, and what comes in below half before the count begins.
    assert!((1_100..=1_151).contains(&served), "{served} requests were served in 10 s");
    assert_eq!(retry, 1);
}

#[test]
fn requests_under_way_are_counted_exactly_under_threads() {
    let (guard, peers, ..) = guard(&limits(0, 0, 3));
    let peer = ip("192.0.2.1");
    let held: Vec<_> = (0..3).map(|_| guard.enter(peer).unwrap_or_else(|_| panic!("refused too early"))).collect();
    let Err(barred) = guard.enter(peer) else { panic!("one too many was let in") };
    assert_eq!(barred, Barred { reason: Reason::InFlight, limit: 3, retry_after: 1 });
    assert!(guard.enter(ip("192.0.2.2")).is_ok());
    drop(held);

    let most = std::sync::atomic::AtomicUsize::new(0);
    let inside = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let Ok(entered) = guard.enter(peer) else { continue };
                    let now = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                    most.fetch_max(now, std::sync::atomic::Ordering::SeqCst);
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(entered);
                }
            });
        }
    });
    assert!(most.into_inner() <= 3);
    assert_eq!(peers.in_flight(), 0, "something is still counted after everything ended");
}

#[test]
fn reload_keeps_what_is_known() {
    let (first, peers, clock, _) = guard(&limits(0, 10, 2));
    let peer = ip("192.0.2.1");
    let one = first.enter(peer);
    (0..10).for_each(|_| first.failed_auth(peer, clock.tick()));
    let second = PeerGuard::new(&limits(0, 10, 1), peers).unwrap();
    assert!(second.check(peer, clock.tick()).is_err());
    assert!(second.enter(peer).is_err());
    drop(one);
    assert!(second.enter(peer).is_ok());
}

#[test]
fn zero_switches_a_rule_off() {
    let (guard, peers, clock, _) = guard(&limits(0, 0, 0));
    let peer = ip("192.0.2.1");
    let held: Vec<_> = (0..1_000).map(|_| guard.enter(peer)).collect();
    assert!(held.iter().all(Result::is_ok));
    for _ in 0..1_000 {
        guard.failed_auth(peer, clock.tick());
        guard.check(peer, clock.tick()).unwrap();
    }
    assert!(peers.sketch.get().is_none());
    assert_eq!(peers.stats().live, 0);
}

#[test]
fn refusals_say_when_to_come_back() {
    let refusal = Refusal::from(Barred { reason: Reason::Flood, limit: 100, retry_after: 1 });
    assert_eq!(refusal.code(), Code::RateLimitExceeded);
    assert_eq!(refusal.retry_after_seconds(), Some(1));
    assert_eq!(refusal.fields(), [("limit", 100.into()), ("window", "1 second".into())]);
    let refusal = Refusal::from(Barred { reason: Reason::FailedAuth, limit: 10, retry_after: 6 });
    assert_eq!(refusal.fields(), [("limit", 10.into()), ("window", "1 minute".into())]);
    assert_eq!(refusal.inside_message(), Some("peer guard: failed_auth"));
}
