//! What was measured, for people (a table, a chart) and for programs (JSON).

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::chart;
use super::proxies::Kind;
use super::throughput::{Latency, Plan, Scenario, Series, median};

/// Everything that was measured.
pub struct Report {
    plan: Plan,
    /// Full load.
    pub saturation: Vec<(Scenario, Vec<Series>)>,
    /// The fixed rate and the latencies at it.
    pub latency: Option<(f64, Vec<Latency>)>,
}

impl Series {
    /// Requests a second, the median of the rounds.
    pub fn rate(&self) -> f64 {
        median(&self.rounds.iter().map(|round| round.rate).collect::<Vec<_>>())
    }

    /// Requests a second of processor time, the median of the rounds.
    pub fn per_cpu_second(&self) -> f64 {
        median(&self.rounds.iter().map(|round| round.per_cpu_second).collect::<Vec<_>>())
    }

    /// Refused or broken, in all rounds.
    pub fn failed(&self) -> u64 {
        self.rounds.iter().map(|round| round.failed).sum()
    }

    fn busy(&self) -> f64 {
        median(&self.rounds.iter().map(|round| round.busy).collect::<Vec<_>>())
    }

    /// The median of the rounds' ratios to `base`.
    pub fn ratio(&self, base: &Series) -> f64 {
        median(&self.rounds.iter().zip(&base.rounds).map(|(own, base)| own.rate / base.rate).collect::<Vec<_>>())
    }

    fn ratio_per_cpu(&self, base: &Series) -> f64 {
        let ratios = self.rounds.iter().zip(&base.rounds).map(|(own, base)| own.per_cpu_second / base.per_cpu_second);
        median(&ratios.collect::<Vec<_>>())
    }

    fn spread(&self) -> f64 {
        let rates = self.rounds.iter().map(|round| round.rate);
        let (low, high) = rates.fold((f64::MAX, 0.0_f64), |(low, high), rate| (low.min(rate), high.max(rate)));
        (high - low) / self.rate().max(1.0)
    }
}

fn of(series: &[Series], kind: Kind) -> Option<&Series> {
    series.iter().find(|series| series.kind == kind)
}

impl Report {
    /// Nothing measured yet.
    pub fn new(plan: Plan) -> Report {
        Report { plan, saturation: Vec::new(), latency: None }
    }

    /// What `kind` carried in `scenario`.
    pub fn rate_of(&self, scenario: Scenario, kind: Kind) -> Option<f64> {
        let (_, series) = self.saturation.iter().find(|(at, _)| *at == scenario)?;
        of(series, kind).map(Series::rate)
    }

    /// The tables, on standard output.
    pub fn print(&self) {
        let Plan { rounds, time, connections, .. } = self.plan;
        println!("\n{connections} connections, {rounds} rounds of {} s in turn, medians\n", time.as_secs());
        for (scenario, series) in &self.saturation {
            println!("{}", scenario.title());
            println!(
                "  {:<31} {:>10} {:>7} {:>6} {:>12} {:>8} {:>9} {:>9} {:>7}",
                "", "requests/s", "spread", "busy", "per CPU s", "of bare", "of bare+m", "CPU ratio", "failed"
            );
            let (bare, mimalloc) = (of(series, Kind::BareDefault), of(series, Kind::BareMimalloc));
            for own in series {
                let ratio =
                    |base: Option<&Series>| base.map_or("-".to_owned(), |base| format!("{:.3}", own.ratio(base)));
                println!(
                    "  {:<31} {:>10.0} {:>6.1}% {:>5.0}% {:>12.0} {:>8} {:>9} {:>9} {:>7}",
                    own.kind.name(),
                    own.rate(),
                    own.spread() * 100.0,
                    own.busy() * 100.0,
                    own.per_cpu_second(),
                    ratio(bare),
                    ratio(mimalloc),
                    bare.map_or("-".to_owned(), |bare| format!("{:.3}", own.ratio_per_cpu(bare))),
                    own.failed()
                );
            }
            println!();
        }
        if let Some((rate, latencies)) = &self.latency {
            println!("GET balance at {rate:.0} requests/s (70 % of what the edge carries), microseconds");
            println!("  {:<31} {:>8} {:>8} {:>10} {:>10} {:>7}", "", "p50", "p99", "added p50", "added p99", "failed");
            for own in latencies {
                let added = added(latencies, own, Kind::Direct);
                println!(
                    "  {:<31} {:>8.0} {:>8.0} {:>10.0} {:>10.0} {:>7}",
                    own.kind.name(),
                    median(&own.p50),
                    median(&own.p99),
                    added.0,
                    added.1,
                    own.failed
                );
            }
            if let Some(edge) = latencies.iter().find(|latency| latency.kind == Kind::Edge) {
                for base in [Kind::BareDefault, Kind::BareMimalloc] {
                    let added = added(latencies, edge, base);
                    println!("  the edge over {:<31} p50 {:>+5.0}  p99 {:>+5.0}", base.name(), added.0, added.1);
                }
            }
        }
    }

    /// `report.json` and `chart.svg` in `folder`.
    pub fn save(&self, folder: &Path) -> Result<(), String> {
        save_json(folder, "report.json", &self.json())?;
        let file = folder.join("chart.svg");
        fs::write(&file, chart::draw(&self.saturation, self.latency.as_ref()))
            .map_err(|error| format!("{}: {error}", file.display()))?;
        eprintln!("written: {}", file.display());
        Ok(())
    }

    fn json(&self) -> Value {
        let saturation = self.saturation.iter().map(|(scenario, series)| {
            let bare = of(series, Kind::BareDefault);
            let mimalloc = of(series, Kind::BareMimalloc);
            let proxies = series.iter().map(|own| {
                json!({
                    "proxy": own.kind.key(),
                    "requests_per_second": own.rate(),
                    "requests_per_cpu_second": own.per_cpu_second(),
                    "ratio_to_bare_default": bare.map(|bare| own.ratio(bare)),
                    "ratio_to_bare_mimalloc": mimalloc.map(|bare| own.ratio(bare)),
                    "failed": own.failed(),
                    "rounds": own.rounds.iter().map(|round| json!({
                        "requests_per_second": round.rate, "busy": round.busy,
                        "requests_per_cpu_second": round.per_cpu_second, "failed": round.failed,
                    })).collect::<Vec<_>>(),
                })
            });
            json!({ "scenario": scenario.key(), "title": scenario.title(), "proxies": proxies.collect::<Vec<_>>() })
        });
        let latency = self.latency.as_ref().map(|(rate, latencies)| {
            let proxies = latencies.iter().map(|own| {
                json!({
                    "proxy": own.kind.key(), "p50_us": median(&own.p50), "p99_us": median(&own.p99),
                    "p50_us_rounds": own.p50, "p99_us_rounds": own.p99, "failed": own.failed,
                })
            });
            json!({ "requests_per_second": rate, "proxies": proxies.collect::<Vec<_>>() })
        });
        json!({
            "command": std::env::args().skip(1).filter(|argument| argument != "--bench").collect::<Vec<_>>(),
            "machine": machine(),
            "connections": self.plan.connections,
            "rounds": self.plan.rounds,
            "seconds": self.plan.time.as_secs(),
            "saturation": saturation.collect::<Vec<_>>(),
            "latency": latency,
        })
    }
}

/// Writes `found` to `name` in `folder`.
pub fn save_json(folder: &Path, name: &str, found: &Value) -> Result<(), String> {
    let file = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&file, format!("{found:#}\n")))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    eprintln!("written: {}", file.display());
    Ok(())
}

/// What `own` adds to the p50 and p99 of `base`.
fn added(latencies: &[Latency], own: &Latency, base: Kind) -> (f64, f64) {
    let Some(base) = latencies.iter().find(|latency| latency.kind == base) else { return (0.0, 0.0) };
    let between =
        |own: &[f64], base: &[f64]| median(&own.iter().zip(base).map(|(own, base)| own - base).collect::<Vec<_>>());
    (between(&own.p50, &base.p50), between(&own.p99, &base.p99))
}

fn machine() -> Value {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    json!({
        "cpu": cpu.trim_start_matches(['\t', ' ', ':']),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}
