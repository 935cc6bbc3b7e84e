//! How much one core of each proxy carries, and what each adds to an answer's time.
//!
//! Everything runs in rounds, the proxies in turn within a round, each freshly started: what drifts on the machine then
//! drifts for all, and no proxy profits from a lucky start. Ratios are taken within a round; medians are over rounds.

use std::rc::Rc;
use std::time::Duration;

use super::connection::Target;
use super::generator::{Load, Outcome, at_rate, saturate};
use super::proxies::{Kind, Running, Starter};
use super::requests::{Order, Picker, Requests};

/// The share of its saturation at which latency is measured.
pub const LATENCY_AT: f64 = 0.7;

const BALANCE: &str = "/api/v1/wallet/balance";
const TRANSFER: &str = "/api/v1/wallet/p2p/initiate";
/// Tokens of the plain scenarios.
const TOKENS: usize = 1000;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// GET balance, 1000 tokens in turn.
    Get,
    /// GET balance, 100,000 tokens by Zipf's law, 5 % of them never seen before.
    Zipf,
    /// POST of 1 KB that is checked against a schema and whose text is cleaned.
    Post,
}

impl Scenario {
    /// The name on the command line and in the JSON report.
    pub const fn key(self) -> &'static str {
        match self {
            Scenario::Get => "get",
            Scenario::Zipf => "zipf",
            Scenario::Post => "post",
        }
    }

    /// The title in reports.
    pub const fn title(self) -> &'static str {
        match self {
            Scenario::Get => "GET balance, 1000 tokens in turn",
            Scenario::Zipf => "GET balance, 100,000 tokens by Zipf, 5 % never seen before",
            Scenario::Post => "POST transfer of 1 KB, schema and sanitising",
        }
    }

    const fn proxies(self) -> &'static [Kind] {
        match self {
            Scenario::Get => {
                &[Kind::Edge, Kind::BareDefault, Kind::BareMimalloc, Kind::Haproxy, Kind::Nginx, Kind::Envoy]
            }
            Scenario::Zipf => &[Kind::Edge, Kind::BareDefault],
            Scenario::Post => &[Kind::Edge, Kind::BareDefault, Kind::BareMimalloc],
        }
    }
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds.
    pub rounds: usize,
    /// Measured time of one proxy in one round.
    pub time: Duration,
    /// Time before that, unmeasured.
    pub warm_up: Duration,
    /// Connections.
    pub connections: usize,
    /// Tokens of the Zipf scenario.
    pub tokens: usize,
}

/// One proxy in one round at full load.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Answers a second.
    pub rate: f64,
    /// Answers a second of processor time of the proxy.
    pub per_cpu_second: f64,
    /// Share of its core that the proxy used.
    pub busy: f64,
    /// Refused or broken.
    pub failed: u64,
    /// The first failure.
    pub first_failure: Option<String>,
}

/// One proxy over all rounds.
pub struct Series {
    /// Which.
    pub kind: Kind,
    /// Round by round.
    pub rounds: Vec<Measured>,
}

/// One proxy's latency at the fixed rate, round by round, microseconds.
pub struct Latency {
    /// Which.
    pub kind: Kind,
    /// Half of the answers came within this.
    pub p50: Vec<f64>,
    /// 99 % came within this.
    pub p99: Vec<f64>,
    /// Refused, broken or not answered.
    pub failed: u64,
}

/// The middle of `values`.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = sorted.get(half).copied().unwrap_or(0.0);
    if sorted.len() % 2 == 1 {
        return upper;
    }
    half.checked_sub(1).and_then(|at| sorted.get(at)).map_or(upper, |lower| (lower + upper) / 2.0)
}

/// Runs one scenario at full load with the proxies that are there.
pub async fn saturation(
    scenario: Scenario,
    plan: Plan,
    starter: &Starter<'_>,
    available: &[Kind],
) -> Result<Vec<Series>, String> {
    let kinds = scenario.proxies().iter().filter(|kind| available.contains(kind));
    let mut all: Vec<Series> = kinds.map(|kind| Series { kind: *kind, rounds: Vec::new() }).collect();
    eprintln!("{}", scenario.title());
    let requests = Rc::new(requests(scenario, plan, starter));
    for round in 1..=plan.rounds {
        for series in &mut all {
            let measured = one(scenario, plan, starter, series.kind, &requests, round as u64).await?;
            eprintln!(
                "  round {round}/{}  {:<31} {:>8.0} requests/s, core {:>3.0} % busy{}",
                plan.rounds,
                series.kind.name(),
                measured.rate,
                measured.busy * 100.0,
                measured
                    .first_failure
                    .as_deref()
                    .map_or(String::new(), |why| format!("\n  {} FAILED, the first one: {why}", measured.failed)),
            );
            series.rounds.push(measured);
        }
    }
    Ok(all)
}

fn requests(scenario: Scenario, plan: Plan, starter: &Starter<'_>) -> Requests {
    let host = "tmcp.load.example";
    let some = starter.tokens.list.get(..TOKENS).unwrap_or(&starter.tokens.list);
    match scenario {
        Scenario::Get => Requests::get(host, BALANCE, some),
        Scenario::Zipf => {
            Requests::get(host, BALANCE, starter.tokens.list.get(..plan.tokens).unwrap_or(&starter.tokens.list))
        }
        Scenario::Post => Requests::transfer(host, TRANSFER, some),
    }
}

fn load(running: &Running, requests: &Rc<Requests>, picker: Picker, connections: usize) -> Rc<Load> {
    Rc::new(Load {
        target: Target::local(running.port),
        requests: requests.clone(),
        picker: Rc::new(picker),
        connections,
    })
}

async fn one(
    scenario: Scenario,
    plan: Plan,
    starter: &Starter<'_>,
    kind: Kind,
    requests: &Rc<Requests>,
    round: u64,
) -> Result<Measured, String> {
    let running = starter.start(kind).await?;
    let tokens = requests.len();
    let order = match scenario {
        Scenario::Zipf => {
            // Half of the tokens are made known, one after the other; the other half are the new ones.
            let known = tokens / 2;
            let picker = Picker::new(Order::InTurn, known, 2 * round);
            check(&saturate(&load(&running, requests, picker, plan.connections), plan.time * 4, known as u64).await)?;
            Order::Zipf { known }
        }
        _ => Order::InTurn,
    };
    let load = load(&running, requests, Picker::new(order, tokens, 2 * round + 1), plan.connections);
    check(&saturate(&load, plan.warm_up, u64::MAX).await)?;
    let cpu = || running.process.as_ref().map_or(0.0, |process| process.cpu_seconds());
    let before = cpu();
    let outcome = saturate(&load, plan.time, u64::MAX).await;
    let used = cpu() - before;
    if !load.picker.had_enough() {
        return Err("the tokens ran out before the round was over: ask for fewer --seconds".to_owned());
    }
    let per_cpu_second = if used > 0.0 { outcome.answered as f64 / used } else { 0.0 };
    let busy = used / outcome.elapsed.as_secs_f64();
    Ok(Measured {
        rate: outcome.rate(),
        per_cpu_second,
        busy,
        failed: outcome.failed,
        first_failure: outcome.first_failure,
    })
}

/// A proxy that refuses while it is warmed up is set up wrongly; what it would be measured at means nothing.
fn check(outcome: &Outcome) -> Result<(), String> {
    match &outcome.first_failure {
        Some(why) if outcome.failed > outcome.answered / 100 => {
            Err(format!("{} of {} requests failed; the first one: {why}", outcome.failed, outcome.answered))
        }
        _ => Ok(()),
    }
}

/// Runs GET balance at `rate` a second.
pub async fn latency(rate: f64, plan: Plan, starter: &Starter<'_>, available: &[Kind]) -> Result<Vec<Latency>, String> {
    let kinds = [Kind::Direct, Kind::BareDefault, Kind::BareMimalloc, Kind::Edge];
    let kinds = kinds.into_iter().filter(|kind| available.contains(kind));
    let mut all: Vec<Latency> =
        kinds.map(|kind| Latency { kind, p50: Vec::new(), p99: Vec::new(), failed: 0 }).collect();
    let requests = Rc::new(requests(Scenario::Get, plan, starter));
    eprintln!("Latency at {rate:.0} requests/s");
    for round in 1..=plan.rounds {
        for series in &mut all {
            let running = starter.start(series.kind).await?;
            let picker = Picker::new(Order::InTurn, requests.len(), round as u64);
            let load = load(&running, &requests, picker, plan.connections);
            check(&saturate(&load, plan.warm_up, u64::MAX).await)?;
            let outcome = at_rate(&load, rate, plan.time).await;
            let (p50, p99) = (outcome.latency.micros(0.5), outcome.latency.micros(0.99));
            eprintln!(
                "  round {round}/{}  {:<31} p50 {p50:>6.0} µs  p99 {p99:>6.0} µs",
                plan.rounds,
                series.kind.name()
            );
            series.p50.push(p50);
            series.p99.push(p99);
            series.failed += outcome.failed;
        }
    }
    Ok(all)
}
