//! The same load against a deployment that somebody runs already.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use url::Url;

use super::connection::{Connection, Target};
use super::generator::{Load, Outcome, at_rate, saturate};
use super::requests::{Order, Picker, Requests};
use super::throughput::LATENCY_AT;

/// What to send where.
pub struct Deployment<'a> {
    /// Base URL.
    pub url: &'a str,
    /// Bearer tokens, one a line.
    pub tokens: &'a Path,
    /// What to GET.
    pub path: &'a str,
    /// Requests a second for the latencies.
    pub rate: Option<f64>,
    /// Connections.
    pub connections: usize,
    /// How long each of the two measurements takes.
    pub time: Duration,
}

/// Measures requests a second, then latencies at a fixed rate.
pub fn run(deployment: &Deployment<'_>) -> Result<(), String> {
    let target = parse(deployment.url)?;
    let text = std::fs::read_to_string(deployment.tokens)
        .map_err(|error| format!("{}: {error}", deployment.tokens.display()))?;
    let tokens: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if tokens.is_empty() {
        return Err(format!("{}: expected a token on each line", deployment.tokens.display()));
    }
    super::block_on(measure(deployment, target, &tokens))?
}

fn parse(url: &str) -> Result<Target, String> {
    let expected = "expected http:// or https:// and a host, such as https://tmcp.example.com";
    let parsed = Url::parse(url).map_err(|error| format!("--target {url}: {error}; {expected}"))?;
    let (host, port) = (parsed.host_str(), parsed.port_or_known_default());
    match (parsed.scheme(), host, port) {
        ("http" | "https", Some(name), Some(port)) => {
            let host = parsed.port().map_or(name.to_owned(), |port| format!("{name}:{port}"));
            Ok(Target { host, address: format!("{name}:{port}"), tls: parsed.scheme() == "https" })
        }
        _ => Err(format!("--target {url}: {expected}")),
    }
}

async fn measure(deployment: &Deployment<'_>, target: Target, tokens: &[String]) -> Result<(), String> {
    let requests = Rc::new(Requests::get(&target.host, deployment.path, tokens));
    // One request first: a wrong token or path should be told at once, not counted a million times.
    let mut first = Connection::open(&target).await.map_err(|e| format!("{}: {e}", target.address))?;
    let mut request = Vec::new();
    requests.copy(0, 0, &mut request);
    let status = first.exchange(&request).await.map_err(|e| format!("{}: {e}", target.address))?;
    if status >= 400 {
        return Err(format!("GET {} is answered with\n{}", deployment.path, first.text()));
    }
    drop(first);
    let load = |seed| {
        Rc::new(Load {
            target: target.clone(),
            requests: requests.clone(),
            picker: Rc::new(Picker::new(Order::InTurn, requests.len(), seed)),
            connections: deployment.connections,
        })
    };
    let full = load(1);
    let outcome = with_progress("full load", &full, saturate(&full, deployment.time, u64::MAX)).await;
    println!("full load: {:.0} requests/s over {} connections", outcome.rate(), deployment.connections);
    tell_failures(&outcome);
    if outcome.answered == 0 {
        return Err("nothing was answered".to_owned());
    }
    let rate = deployment.rate.unwrap_or(outcome.rate() * LATENCY_AT);
    let paced = load(2);
    let outcome = with_progress("fixed rate", &paced, at_rate(&paced, rate, deployment.time)).await;
    let micros = |share| outcome.latency.micros(share);
    println!(
        "at {rate:.0} requests/s: p50 {:.0} µs, p90 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, longest {:.0} µs",
        micros(0.5),
        micros(0.9),
        micros(0.99),
        micros(0.999),
        micros(1.0)
    );
    tell_failures(&outcome);
    Ok(())
}

fn tell_failures(outcome: &Outcome) {
    if let Some(why) = &outcome.first_failure {
        println!("{} of {} failed; the first one: {why}", outcome.failed, outcome.failed + outcome.answered);
    }
}

async fn with_progress(what: &str, load: &Load, work: impl Future<Output = Outcome>) -> Outcome {
    let progress = async {
        let mut seconds = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            seconds += 1;
            eprint!("\r{what}: {seconds} s, {} requests sent ", load.picker.drawn());
        }
    };
    tokio::select! {
        outcome = work => {
            eprintln!();
            outcome
        }
        () = progress => Outcome::default(),
    }
}
