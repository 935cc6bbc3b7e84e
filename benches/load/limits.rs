//! Limits that edges share through Redis: what they cost beside limits in process, what an outage costs, how exact they are.
//!
//! Edges and Redis are real, and what is measured is what a client sees. Every request goes to a row that asks for a token
//! but no scope: an edge that is cut off from Redis refuses wallet scopes, and must not be measured at that.

use std::cell::RefCell;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::connection::{Connection, Target};
use super::generator::{Load, Outcome, at_rate, saturate};
use super::process::{Process, find, free_port};
use super::proxies::{EdgeSetup, PLAIN, Running, Starter};
use super::requests::{Order, Picker, Requests};
use super::throughput::median;

const HOST: &str = "tmcp.load.example";
/// Calls a second of each key.
const PER_KEY: f64 = 1000.0;
/// The share of what an edge with limits in process carries at which an outage is looked at.
const BELOW: f64 = 0.4;
/// After so long an outage has to cost nothing.
const FIRST: Duration = Duration::from_secs(1);
/// The brief's limits: a bucket of so many, and so many more a minute.
const BUCKET: f64 = 120.0;
const PER_MINUTE: f64 = 100.0;
/// Callers on three edges, and how many clients each of them has at each edge.
const CALLERS: usize = 20;
const SKEW: [usize; 3] = [8, 2, 1];
/// How long a client that was refused waits: all clients of a caller together try far more often than there are tokens.
const PAUSE: Duration = Duration::from_millis(100);

/// What the edge counts.
const ROUND_TRIPS: &str = "tmcp_edge_redis_round_trips_total{use=\"limit\"}";
const LOST: &str = "tmcp_edge_limit_store_failures_total";

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds.
    pub rounds: usize,
    /// Measured time of one edge in one round.
    pub time: Duration,
    /// Connections kept open.
    pub connections: usize,
}

/// A Redis that keeps everything, as `run` asks for.
struct Redis {
    process: Process,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Redis {
    async fn start() -> Result<Redis, String> {
        let program = find("redis-server").ok_or("redis-server is not installed: ./test installs it")?;
        let folder = tempfile::Builder::new().prefix("tmcp-load-redis-").tempdir().map_err(|e| e.to_string())?;
        let port = free_port()?;
        let (port_text, place) = (port.to_string(), folder.path().display().to_string());
        let arguments = [
            ["--bind", "127.0.0.1"],
            ["--port", &port_text],
            ["--dir", &place],
            ["--save", ""],
            ["--appendonly", "yes"],
            ["--appendfsync", "always"],
        ];
        let arguments: Vec<String> = arguments.iter().flatten().map(|word| (*word).to_owned()).collect();
        let mut process = Process::start(&program, &arguments, None, &folder.path().join("output"))?;
        process.wait_for(port).await.map_err(|e| format!("redis-server: {e}"))?;
        // It shares a core with a load that never sleeps; with a core of its own it would not have to wait for that.
        let pid = process.pid().to_string();
        let _may_not = Command::new("renice").args(["-n", "-10", "-p", &pid]).stdout(Stdio::null()).status();
        Ok(Redis { process, port, _folder: folder })
    }
}

/// Measures and prints. Returns the JSON.
pub async fn run(starter: &Starter<'_>, plan: Plan) -> Result<Value, String> {
    let (rate, cost) = cost(starter, plan).await?;
    let outage = outage(starter, plan, rate * BELOW).await?;
    let exact = exactness(starter, plan).await?;
    Ok(json!({ "cost": cost, "outage": outage, "exactness": exact }))
}

/// Throughput with Redis beside throughput in process; also the latter, answers a second.
async fn cost(starter: &Starter<'_>, plan: Plan) -> Result<(f64, Value), String> {
    // As many keys as bring each to a thousand calls a second.
    let edge = start(starter, None, false).await?;
    let all = requests(starter, usize::MAX);
    let first = saturate(&load(&edge, &all, plan.connections, 0), plan.time.min(FIRST), u64::MAX).await;
    drop(edge);
    let keys = ((first.rate() / PER_KEY).round() as usize).max(1);
    let requests = requests(starter, keys);
    println!("\n{keys} keys in turn, {} connections, {} rounds", plan.connections, plan.rounds);
    println!(
        "  {:<7} {:>14} {:>14} {:>7} {:>20} {:>11} {:>9}",
        "round", "in process/s", "with Redis/s", "ratio", "round trips/request", "unanswered", "failed"
    );
    let (mut rates, mut ratios, mut trips, mut failed, mut lost) = (Vec::new(), Vec::new(), Vec::new(), 0, 0.0);
    for round in 1..=plan.rounds {
        let alone = full(&start(starter, None, false).await?, &requests, plan, round as u64).await?;
        let redis = Redis::start().await?;
        let edge = start(starter, Some(&redis), false).await?;
        let load = load(&edge, &requests, plan.connections, round as u64);
        saturate(&load, FIRST, u64::MAX).await;
        let (trips_before, lost_before) = (metric(&edge, ROUND_TRIPS).await?, metric(&edge, LOST).await?);
        let shared = saturate(&load, plan.time, u64::MAX).await;
        let asked = metric(&edge, ROUND_TRIPS).await? - trips_before;
        let unanswered = metric(&edge, LOST).await? - lost_before;
        rates.push(alone.rate());
        ratios.push(shared.rate() / alone.rate());
        trips.push(asked / shared.answered.max(1) as f64);
        failed += alone.failed + shared.failed;
        lost += unanswered;
        println!(
            "  {round:<7} {:>14.0} {:>14.0} {:>7.3} {:>20.4} {unanswered:>11} {:>9}",
            alone.rate(),
            shared.rate(),
            shared.rate() / alone.rate(),
            asked / shared.answered.max(1) as f64,
            alone.failed + shared.failed
        );
    }
    let (ratio, trips) = (median(&ratios), median(&trips));
    println!(
        "  {:<7} {:>14.0} {:>14} {ratio:>7.3} {trips:>20.4}   to be reached: 0.85, 0.1",
        "median",
        median(&rates),
        ""
    );
    if lost > 0.0 {
        println!(
            "  Where three in a row were not answered within 5 ms, the edge went on without Redis: such a round says little."
        );
    }
    let found = json!({
        "keys": keys, "ratio": ratio, "round_trips_per_request": trips, "unanswered_questions": lost, "failed": failed,
    });
    Ok((median(&rates), found))
}

/// What a Redis that takes connections and never answers adds to an answer's time, from a second after it fell silent.
async fn outage(starter: &Starter<'_>, plan: Plan, rate: f64) -> Result<Value, String> {
    let requests = requests(starter, usize::MAX);
    println!("\nRedis black-holed, {rate:.0} requests/s, p99 in microseconds");
    println!(
        "  {:<7} {:>12} {:>12} {:>14} {:>12} {:>9}",
        "round", "in process", "with Redis", "first second", "after it", "failed"
    );
    let mut added = Vec::new();
    let mut failed = 0;
    for round in 1..=plan.rounds {
        let alone = paced(&start(starter, None, false).await?, &requests, plan, rate).await?;
        let redis = Redis::start().await?;
        let edge = start(starter, Some(&redis), false).await?;
        let well = paced(&edge, &requests, plan, rate).await?;
        let load = load(&edge, &requests, plan.connections, 3);
        redis.process.signal("STOP")?;
        let first = at_rate(&load, rate, FIRST).await;
        let after = at_rate(&load, rate, plan.time).await;
        redis.process.signal("CONT")?;
        let p99 = |outcome: &Outcome| outcome.latency.micros(0.99);
        let failures = alone.failed + well.failed + first.failed + after.failed;
        println!(
            "  {round:<7} {:>12.0} {:>12.0} {:>14.0} {:>12.0} {failures:>9}",
            p99(&alone),
            p99(&well),
            p99(&first),
            p99(&after)
        );
        added.push(p99(&after) - p99(&alone));
        failed += failures;
    }
    let added = median(&added);
    println!("  added after the first second: {added:+.0} µs   to be reached: 1000 µs");
    Ok(json!({ "requests_per_second": rate, "added_p99_micros": added, "failed": failed }))
}

/// Three edges on one Redis, one of which has most of the load, with the brief's limits: how much is let through.
async fn exactness(starter: &Starter<'_>, plan: Plan) -> Result<Value, String> {
    let redis = Redis::start().await?;
    let edges = [
        start(starter, Some(&redis), true).await?,
        start(starter, Some(&redis), true).await?,
        start(starter, Some(&redis), true).await?,
    ];
    let requests = requests(starter, CALLERS);
    let admitted = Rc::new(RefCell::new(vec![0_u64; requests.len()]));
    let began = Instant::now();
    let until = began + plan.time.max(Duration::from_secs(10));
    let mut clients = Vec::new();
    for (edge, clients_here) in edges.iter().zip(SKEW) {
        for caller in 0..requests.len() {
            for _ in 0..clients_here {
                let (requests, admitted) = (requests.clone(), admitted.clone());
                clients.push(client(edge.port, requests, caller, until, admitted));
            }
        }
    }
    let errors = futures::future::join_all(clients).await.into_iter().filter_map(Result::err).collect::<Vec<_>>();
    if let Some(error) = errors.first() {
        return Err(format!("{} clients broke off; the first one: {error}", errors.len()));
    }
    let seconds = began.elapsed().as_secs_f64();
    let allowance = BUCKET + PER_MINUTE / 60.0 * seconds;
    let bound = BUCKET + PER_MINUTE / 60.0 * (seconds + 1.0);
    let admitted = admitted.take();
    let most = admitted.iter().max().copied().unwrap_or(0);
    let all: u64 = admitted.iter().sum();
    let share = all as f64 / (allowance * admitted.len() as f64);
    println!(
        "\nThree edges on one Redis, {CALLERS} callers, load {SKEW:?}, {seconds:.1} s of 100 a minute and 20 more"
    );
    println!("  most that one caller got: {most}   at most: {bound:.1}");
    println!("  all of them, of what they were allowed: {share:.4}   to be reached: 0.99");
    if most as f64 > bound {
        return Err(format!("one caller got {most} of at most {bound:.1}: limits do not hold"));
    }
    Ok(json!({ "seconds": seconds, "most": most, "bound": bound, "share_of_allowance": share }))
}

/// Calls for one caller until the time is over, and waits a moment after each refusal.
async fn client(
    port: u16,
    requests: Rc<Requests>,
    caller: usize,
    until: Instant,
    admitted: Rc<RefCell<Vec<u64>>>,
) -> Result<(), String> {
    let mut connection = Connection::open(&Target::local(port)).await.map_err(|e| e.to_string())?;
    let mut request = Vec::new();
    requests.copy(caller, 0, &mut request);
    while Instant::now() < until {
        match connection.exchange(&request).await.map_err(|e| e.to_string())? {
            200 => {
                if let Some(count) = admitted.borrow_mut().get_mut(caller) {
                    *count += 1;
                }
            }
            429 => tokio::time::sleep(PAUSE).await,
            _ => return Err(connection.text()),
        }
    }
    Ok(())
}

fn requests(starter: &Starter<'_>, most: usize) -> Rc<Requests> {
    let list = &starter.tokens.list;
    Rc::new(Requests::get(HOST, PLAIN, list.get(..most).unwrap_or(list)))
}

fn load(edge: &Running, requests: &Rc<Requests>, connections: usize, seed: u64) -> Rc<Load> {
    let picker = Rc::new(Picker::new(Order::InTurn, requests.len(), seed));
    Rc::new(Load { target: Target::local(edge.port), requests: requests.clone(), picker, connections })
}

async fn full(edge: &Running, requests: &Rc<Requests>, plan: Plan, seed: u64) -> Result<Outcome, String> {
    let load = load(edge, requests, plan.connections, seed);
    told(saturate(&load, FIRST, u64::MAX).await)?;
    told(saturate(&load, plan.time, u64::MAX).await)
}

async fn paced(edge: &Running, requests: &Rc<Requests>, plan: Plan, rate: f64) -> Result<Outcome, String> {
    let load = load(edge, requests, plan.connections, 2);
    told(at_rate(&load, rate, FIRST).await)?;
    told(at_rate(&load, rate, plan.time).await)
}

/// An edge that refuses is set up wrongly; what it would be measured at means nothing.
fn told(outcome: Outcome) -> Result<Outcome, String> {
    match &outcome.first_failure {
        Some(why) => Err(format!("{} requests failed; the first one: {why}", outcome.failed)),
        None => Ok(outcome),
    }
}

/// Starts an edge: with limits in process, or on `redis`; so wide that nothing is refused, or the brief's.
async fn start(starter: &Starter<'_>, redis: Option<&Redis>, brief_limits: bool) -> Result<Running, String> {
    let folder = tempfile::Builder::new().prefix("tmcp-load-").tempdir().map_err(|e| e.to_string())?;
    let (port, admin) = (free_port()?, free_port()?);
    let setup =
        EdgeSetup { port, admin, upstream: starter.upstream, plain_row: true, brief_limits, ..EdgeSetup::default() };
    let setup = match redis {
        Some(redis) => {
            let embedded = setup.write(folder.path(), starter.tokens)?;
            let kept = folder.path().join("embedded.yaml");
            std::fs::rename(&embedded, &kept).map_err(|e| format!("{}: {e}", embedded.display()))?;
            let setup = EdgeSetup { redis: Some(redis.port), ..setup };
            let shared = setup.write(folder.path(), starter.tokens)?;
            // The keys that signed the tokens; the first edge on a Redis brings them.
            copy_store(&starter.programs.edge, &kept, &shared)?;
            setup
        }
        None => setup,
    };
    let mut running = starter.edge(&setup, folder)?;
    if let Some(process) = &mut running.process {
        process.wait_for(port).await?;
    }
    Ok(running)
}

fn copy_store(edge: &Path, from: &Path, to: &Path) -> Result<(), String> {
    let done = Command::new(edge)
        .args(["store", "copy", "--stopped", "--force", "--config"])
        .arg(from)
        .arg("--to")
        .arg(to)
        .output();
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("store copy: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{}: {error}", edge.display())),
    }
}

/// What a metric of an edge says.
async fn metric(edge: &Running, series: &str) -> Result<f64, String> {
    let told = |error: std::io::Error| format!("the metrics: {error}");
    let mut connection = Connection::open(&Target::local(edge.admin)).await.map_err(told)?;
    connection.exchange(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.map_err(told)?;
    let text = connection.text();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.and_then(|value| value.trim().parse().ok()).ok_or_else(|| format!("the metrics have no {series}"))
}
