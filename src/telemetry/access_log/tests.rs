use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::mpsc;

use proptest::prelude::*;
use serde_json::Value;

use super::super::outcome::{CacheStatus, Stages};
use super::super::trace::{RequestId, TraceContext};
use super::*;
use crate::error::Code;
use crate::model::Operation;
use crate::policy::authn::UserHasher;

const LONG: Duration = Duration::from_secs(20);

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(Code::NAMES).unwrap())
}

pub(in crate::telemetry) fn outcome<'a>() -> Outcome<'a> {
    Outcome {
        time: Duration::from_millis(1_766_193_300_123),
        trace: TraceContext::new(false),
        request_id: RequestId::new(),
        operation: Operation::WalletBalance,
        row: None,
        method: "GET",
        path: Some("/api/v1/wallet/balance"),
        http: "1.1",
        tls: None,
        status: 200,
        user: None,
        app: None,
        client: None,
        bytes_in: 0,
        bytes_out: 0,
        stages: Stages::default(),
        upstream: None,
        address: None,
        tries: 0,
        attempts: &[],
        cache: None,
        limit: None,
        error: None,
        inside: None,
    }
}

fn line_of(outcome: &Outcome<'_>) -> String {
    let mut line = Vec::new();
    line::write(&mut line, &mut Rfc3339::default(), outcome);
    String::from_utf8(line).unwrap()
}

/// The line with its random ids made the same every time.
fn golden(outcome: &Outcome<'_>) -> String {
    line_of(outcome).replace(outcome.trace.id.as_str(), "TRACE").replace(outcome.request_id.as_str(), "REQUEST")
}

#[test]
fn a_line_with_everything() {
    let address: SocketAddr = "10.0.1.7:443".parse().unwrap();
    let us = Duration::from_micros;
    let full = Outcome {
        tls: Some("TLSv1.3"),
        http: "2",
        status: 504,
        user: Some(UserHasher::new(b"demo").hash("@alice:tween.example")),
        app: Some("ma_shop_001"),
        client: Some("203.0.113.7".parse().unwrap()),
        bytes_in: 1024,
        bytes_out: 311,
        stages: Stages {
            total: us(10_004_321),
            admit: Some(us(12)),
            body: Some(us(150)),
            connect: Some(us(900)),
            first_byte: Some(us(0)),
        },
        upstream: Some("wallet"),
        address: Some(&address),
        tries: 2,
        cache: Some(CacheStatus::Miss),
        limit: Some("default"),
        error: Some(Code::UpstreamTimeout),
        inside: Some("read of \"wallet\" timed out\nafter 10 s"),
        ..outcome()
    };
    insta::assert_snapshot!(golden(&full).trim_end(), @r##"{"time":"2025-12-20T01:15:00.123Z","trace_id":"TRACE","request_id":"REQUEST","operation":"wallet_balance","method":"GET","path":"/api/v1/wallet/balance","http":"2","tls":"TLSv1.3","status":504,"user":"4f8f5df761d826b9","app":"ma_shop_001","client":"203.0.113.7","bytes_in":1024,"bytes_out":311,"total_us":10004321,"admit_us":12,"body_us":150,"connect_us":900,"first_byte_us":0,"upstream":"wallet","address":"10.0.1.7:443","tries":2,"cache":"miss","limit":"default","error":"UPSTREAM_TIMEOUT","inside":"read of \"wallet\" timed out\nafter 10 s"}"##);
}

#[test]
fn a_line_with_little() {
    let little = Outcome { path: None, operation: Operation::Unmatched, status: 0, ..outcome() };
    insta::assert_snapshot!(golden(&little).trim_end(), @r##"{"time":"2025-12-20T01:15:00.123Z","trace_id":"TRACE","request_id":"REQUEST","operation":"unmatched","method":"GET","http":"1.1","status":0,"bytes_in":0,"bytes_out":0,"total_us":0}"##);
}

#[test]
fn an_ipv6_client_is_its_network() {
    let client = |text: &str| {
        let line = line_of(&Outcome { client: Some(text.parse().unwrap()), ..outcome() });
        serde_json::from_str::<Value>(&line).unwrap()["client"].as_str().unwrap().to_owned()
    };
    assert_eq!(client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    assert_eq!(client("::ffff:192.0.2.1"), "192.0.2.1");
    let six: SocketAddr = "[2001:db8::1]:443".parse().unwrap();
    let line = line_of(&Outcome { upstream: Some("wallet"), address: Some(&six), ..outcome() });
    assert!(line.contains(r#""address":"[2001:db8::1]:443""#), "{line}");
}

proptest! {
    #[test]
    fn whatever_the_texts_hold_a_line_is_one_object_on_one_line(
        method in any::<String>(), inside in any::<String>(), app in any::<String>(), status in 0u16..600,
        ip in any::<std::net::IpAddr>(), micros in any::<u64>(),
    ) {
        let stages = Stages { total: Duration::from_micros(micros), ..Stages::default() };
        let line = line_of(&Outcome {
            method: &method, inside: Some(&inside), app: Some(&app), status, client: Some(ip), stages, ..outcome()
        });
        prop_assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(value["app"].as_str(), Some(app.as_str()));
        prop_assert_eq!(value["status"].as_u64(), Some(u64::from(status)));
        prop_assert_eq!(value["total_us"].as_u64(), Some(micros));
        prop_assert!(value["method"].as_str().unwrap().len() <= 16 + '…'.len_utf8());
    }
}

/// A sink that hands on what it is given.
pub(in crate::telemetry) struct Channel(pub mpsc::Sender<Vec<u8>>);

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_of_many_threads_all_arrive_whole() {
    let (sender, receiver) = mpsc::channel();
    let metrics = metrics();
    let log = AccessLog::to_writer(Box::new(Channel(sender)), metrics.clone()).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let log = log.clone();
            thread::spawn(move || {
                (0..500)
                    .map(|_| {
                        let outcome = outcome();
                        log.write(&outcome);
                        outcome.request_id.to_string()
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let sent: HashSet<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert!(log.shutdown(LONG));
    let text = String::from_utf8(receiver.try_iter().flatten().collect()).unwrap();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["request_id"].as_str().unwrap().to_owned();
    assert_eq!(text.lines().map(id).collect::<HashSet<_>>(), sent);
    assert_eq!((metrics.log_lines.get(), metrics.log_dropped.get()), (2000, 0));
}

/// A sink that does not take anything until told.
struct Stuck(mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_sink_costs_lines_and_stops_nobody() {
    let (release, stuck) = mpsc::channel();
    let metrics = metrics();
    let log = AccessLog::to_writer(Box::new(Stuck(stuck)), metrics.clone()).unwrap();
    let outcome = outcome();
    // The writer takes one buffer away and is stuck with it; the next one fills.
    while metrics.log_dropped.get() == 0 {
        log.write(&outcome);
    }
    assert!(!log.flush(Duration::ZERO));
    drop(release);
    assert!(log.shutdown(LONG));
    let held = metrics.log_lines.get() * line_of(&outcome).len() as u64;
    assert!(held < 3 * BOUND as u64, "{held} bytes were held");
}

/// A sink that takes the first bytes of each write and then fails, as often as told.
struct Torn(u32, mpsc::Sender<Vec<u8>>, bool);

impl Write for Torn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            self.1.send(bytes.to_vec()).unwrap();
            return Ok(bytes.len());
        }
        let fails = self.2;
        self.2 = !fails;
        if fails {
            self.0 -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let some = &bytes[..bytes.len().min(10)];
        self.1.send(some.to_vec()).unwrap();
        Ok(some.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_after_a_torn_one_is_whole() {
    let (sender, receiver) = mpsc::channel();
    let metrics = metrics();
    let log = AccessLog::to_writer(Box::new(Torn(1, sender, false)), metrics.clone()).unwrap();
    log.write(&outcome());
    assert!(log.flush(LONG));
    assert_eq!(metrics.log_dropped.get(), 1);
    let second = outcome();
    log.write(&second);
    assert!(log.shutdown(LONG));
    let text = String::from_utf8(receiver.try_iter().flatten().collect()).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert_eq!(format!("{}\n", text.lines().last().unwrap()), line_of(&second));
}

#[test]
fn rotation_loses_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let log = AccessLog::open(&Target::File(path.clone()), metrics()).unwrap();
    let (first, second) = (outcome(), outcome());
    log.write(&first);
    assert!(log.flush(LONG));
    std::fs::rename(&path, &moved).unwrap();
    log.reopen();
    assert!(log.flush(LONG));
    log.write(&second);
    assert!(log.shutdown(LONG));
    assert_eq!(std::fs::read_to_string(moved).unwrap(), line_of(&first));
    assert_eq!(std::fs::read_to_string(path).unwrap(), line_of(&second));
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("access.log");
    let error = AccessLog::open(&Target::File(path.clone()), metrics()).unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
}

#[test]
fn off_is_off() {
    let log = AccessLog::open(&Target::Off, metrics()).unwrap();
    log.write(&outcome());
    assert!(!log.is_on() && log.flush(Duration::ZERO) && log.shutdown(Duration::ZERO));
}
