use super::*;
use crate::upstream::Upstreams;
use crate::upstream::outcome::Outcome;
use crate::upstream::pools::WALLET;
use crate::upstream::testing::{build, build_after, upstream};

const A: &str = "127.0.0.1:4001";
const B: &str = "127.0.0.1:4002";
const C: &str = "127.0.0.1:4003";

fn ports(backend: &Backend, now: Tick, times: usize) -> Vec<u16> {
    (0..times).map(|_| backend.pick(now, None).unwrap().socket().port()).collect()
}

#[test]
fn addresses_are_taken_in_turn() {
    let backend = build(upstream(&[A, B, C]), &Clock::system()).unwrap();
    assert_eq!(ports(&backend, Tick(0), 5), [4001, 4002, 4003, 4001, 4002]);
}

#[test]
fn a_retry_goes_elsewhere_and_a_dead_address_rests() {
    let backend = build(upstream(&[A, B]), &Clock::system()).unwrap();
    let now = Tick(1);
    let first = backend.pick(now, None).unwrap();
    assert_ne!(backend.pick(now, Some(&first)).unwrap().socket(), first.socket());
    backend.connect_failed(&first, now);
    assert_eq!(ports(&backend, now, 3), [4002; 3]);
    assert_eq!(ports(&backend, now.plus(Duration::from_secs(5)), 2).len(), 2);
    assert!(ports(&backend, now.plus(Duration::from_secs(5)), 2).contains(&4001));
    // Alone, it is tried all the same.
    let alone = build(upstream(&[A]), &Clock::system()).unwrap();
    let only = alone.pick(now, None).unwrap();
    alone.connect_failed(&only, now);
    assert_eq!(alone.pick(now, Some(&only)).unwrap().socket().port(), 4001);
    assert_eq!(alone.read(now).connect_failures, 1);
}

#[test]
fn unhealthy_addresses_are_left_out_until_none_is_healthy() {
    let check =
        config::Health { path: "/health".into(), every: Duration::from_secs(5), unhealthy_after: 2, healthy_after: 1 };
    let backend = build(upstream(&[A, B]), &Clock::system()).unwrap();
    let all = backend.addresses();
    let observe = |index: usize, well| backend.observe(&all[index], well, &check, &"down");
    observe(0, false);
    assert!(ports(&backend, Tick(1), 4).contains(&4001), "one failure is none");
    observe(0, false);
    assert_eq!(ports(&backend, Tick(1), 3), [4002; 3]);
    observe(1, false);
    observe(1, false);
    assert!(backend.read(Tick(1)).none_healthy);
    let mut tried = ports(&backend, Tick(1), 2);
    tried.sort_unstable();
    assert_eq!(tried, [4001, 4002], "none is healthy, so all are tried");
    observe(0, true);
    assert_eq!(ports(&backend, Tick(1), 3), [4001; 3]);
}

#[test]
fn peers_have_every_time_out() {
    let mut config = upstream(&[A]);
    config.http2 = true;
    let backend = build(config, &Clock::system()).unwrap();
    let target = backend.pick(Tick(0), None).unwrap();
    let (peer, upgrade) = (backend.peer(&target, false), backend.peer(&target, true));
    for options in [&peer.options, &upgrade.options] {
        let limits = [options.connection_timeout, options.total_connection_timeout, options.write_timeout];
        assert!(limits.iter().all(Option::is_some) && options.idle_timeout.is_some());
        assert_eq!(options.max_h2_streams, 100);
    }
    assert_eq!(peer.options.read_timeout, Some(Duration::from_secs(2)));
    assert_eq!(upgrade.options.read_timeout, None, "an idle tunnel is no fault");
    assert_eq!((peer.options.alpn.get_min_http_version(), upgrade.options.alpn.get_max_http_version()), (2, 1));
    assert_eq!(target.host(), A);
}

#[test]
fn what_did_not_change_is_taken_over() {
    let clock = Clock::system();
    let first = build_after(upstream(&[A, B]), None, &clock).unwrap();
    let second = build_after(upstream(&[A, B]), Some(&first), &clock).unwrap();
    assert!(Arc::ptr_eq(first.get(WALLET).unwrap(), second.get(WALLET).unwrap()));

    // Another time-out is no reason to forget failures.
    let mut slower = upstream(&[A, B]);
    slower.timeouts.read = Duration::from_secs(20);
    let before = second.get(WALLET).unwrap();
    before.addresses()[0].shun(clock.tick());
    (0..5).for_each(|_| before.admit(Class::Payment, clock.tick()).unwrap().settle(Outcome::Failure));
    let third = build_after(slower, Some(&second), &clock).unwrap();
    let after = third.get(WALLET).unwrap();
    assert!(!Arc::ptr_eq(before, after));
    assert!(after.admit(Class::Payment, clock.tick()).is_err());
    assert!(after.addresses()[0].shunned(clock.tick()));
    assert_eq!(after.peer(&after.addresses()[0], false).options.read_timeout, Some(Duration::from_secs(20)));

    // Other numbers are another breaker.
    let mut strict = upstream(&[A, B]);
    strict.breaker.failures = 1;
    let fourth = build_after(strict, Some(&third), &clock).unwrap();
    assert!(fourth.get(WALLET).unwrap().admit(Class::Payment, clock.tick()).is_ok());
}

#[test]
fn a_check_that_is_gone_leaves_no_verdict_behind() {
    let check = |after| config::Health {
        path: "/health".into(),
        every: Duration::from_secs(5),
        unhealthy_after: after,
        healthy_after: 1,
    };
    let checked = |after| config::Upstream { health: Some(check(after)), ..upstream(&[A]) };
    let clock = Clock::system();
    let first = build_after(checked(1), None, &clock).unwrap();
    let ill = first.get(WALLET).unwrap();
    ill.observe(&ill.addresses()[0], false, &check(1), &"down");
    let healthy = |upstreams: &Upstreams| upstreams.get(WALLET).unwrap().addresses()[0].healthy();
    assert!(!healthy(&first));
    let mut slower = checked(1);
    slower.timeouts.read = Duration::from_secs(20);
    assert!(!healthy(&build_after(slower, Some(&first), &clock).unwrap()));
    assert!(healthy(&build_after(upstream(&[A]), Some(&first), &clock).unwrap()));
}

#[test]
fn an_open_breaker_says_until_when_and_closes_no_other_class() {
    let (clock, _hand) = Clock::manual(0);
    let backend = build(upstream(&[A]), &clock).unwrap();
    (0..5).for_each(|_| backend.admit(Class::Payment, clock.tick()).unwrap().settle(Outcome::Failure));
    let refusal = backend.admit(Class::Payment, clock.tick()).unwrap_err();
    assert_eq!((refusal.code(), refusal.retry_after_seconds()), (Code::ServiceUnavailable, Some(60)));
    assert_eq!(refusal.fields(), [("circuit_state", serde_json::json!("OPEN"))]);
    assert!(backend.admit(Class::Read, clock.tick()).is_ok());
    let breakers = backend.read(clock.tick()).breakers;
    let opened: Vec<u64> = breakers.iter().map(|(_, reading)| reading.opened).collect();
    assert_eq!((breakers.len(), opened.iter().sum::<u64>()), (Class::ALL.len(), 1));
}

#[test]
fn a_name_that_dns_does_not_know_is_no_error_but_has_no_address() {
    let backend = build(upstream(&["does-not-exist.invalid:80"]), &Clock::system()).unwrap();
    let refusal = backend.pick(Tick(0), None).unwrap_err();
    assert_eq!(refusal.code(), Code::ServiceUnavailable);
    assert!(refusal.retry_after_seconds().is_some() && !refusal.message().contains("invalid"));
    backend.renamed("does-not-exist.invalid:80", vec![A.parse().unwrap(), B.parse().unwrap(), A.parse().unwrap()]);
    assert_eq!(backend.addresses().len(), 2);
    let kept = Arc::clone(&backend.addresses()[1]);
    assert_eq!(kept.host(), "does-not-exist.invalid");
    backend.renamed("does-not-exist.invalid:80", vec![B.parse().unwrap()]);
    assert!(Arc::ptr_eq(&kept, &backend.addresses()[0]), "what stays keeps its state");
    backend.renamed("another.invalid:80", vec![C.parse().unwrap()]);
    assert_eq!(backend.addresses().len(), 1, "a name that is not ours changes nothing");
}

#[test]
fn names_are_looked_up() {
    let backend = build(upstream(&["localhost:4001"]), &Clock::system()).unwrap();
    let addresses = backend.addresses();
    assert!(!addresses.is_empty() && addresses.iter().all(|target| target.socket().ip().is_loopback()));
    assert_eq!(addresses[0].host(), "localhost:4001");
    assert_eq!(backend.names(), ["localhost:4001"]);
}

#[test]
fn every_upstream_that_cannot_be_built_is_named() {
    let broken = |name: &str| {
        let tls = config::UpstreamTls { server_name: "x".into(), ca: Some("/nowhere/ca.pem".into()), client: None };
        Arc::new(config::Upstream { name: name.into(), tls: Some(tls), ..upstream(&[A]) })
    };
    let configs = ["one", "two"].map(|name| (name.to_owned(), broken(name))).into();
    let error = Upstreams::build(&configs, None, &Clock::system()).unwrap_err();
    assert_eq!(error.0.len(), 2);
    assert!(error.to_string().contains("upstream one: tls.ca /nowhere/ca.pem"), "{error}");
}

#[test]
fn endings_of_what_pingora_reports() {
    use pingora::Error;
    let of = |etype: ErrorType, esource: ErrorSource| {
        let mut error = *Error::new(etype);
        error.esource = esource;
        ended(&error)
    };
    let up = |etype| of(etype, ErrorSource::Upstream);
    assert_eq!(up(ErrorType::ConnectTimedout), Ended::ConnectTimeout);
    assert_eq!(up(ErrorType::ConnectRefused), Ended::Connect);
    assert_eq!(up(ErrorType::InvalidCert), Ended::Connect);
    assert_eq!(up(ErrorType::ReadTimedout), Ended::Timeout);
    assert_eq!(up(ErrorType::ConnectionClosed), Ended::Broken);
    assert_eq!(up(ErrorType::H2Error), Ended::Broken);
    assert_eq!(up(ErrorType::SocketError), Ended::Edge);
    assert_eq!(of(ErrorType::ReadTimedout, ErrorSource::Downstream), Ended::Client);
    assert_eq!(of(ErrorType::HTTPStatus(413), ErrorSource::Internal), Ended::Edge);
}

#[test]
fn seconds_are_rounded_up() {
    assert_eq!(whole_seconds(Duration::ZERO), 1);
    assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
    assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
    assert_eq!(whole_seconds(Duration::from_secs(60)), 60);
}
