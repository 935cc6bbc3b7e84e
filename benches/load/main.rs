//! The load test: `cargo bench --bench load`. What it measures and how to read it: `benches/README.md`.
//!
//! | file | what it is for |
//! |---|---|
//! | `throughput`, `target` | the rounds against proxies that it starts itself; the same against a deployment of yours |
//! | `limits` | limits shared through Redis: what they cost, what an outage costs, how exact they are |
//! | `resources`, `soak` | start, reload, memory; nothing fails through reloads and upgrades |
//! | `generator`, `connection`, `requests`, `histogram` | the load generator |
//! | `upstream`, `tokens`, `proxies`, `process` | the wallet behind, the callers' tokens, the processes in between |
//! | `report`, `chart` | tables, JSON, SVG |

mod chart;
mod connection;
mod generator;
mod histogram;
mod limits;
mod process;
mod proxies;
mod report;
mod requests;
mod resources;
mod soak;
mod target;
mod throughput;
mod tokens;
mod upstream;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use process::{Cores, find};
use proxies::{Kind, Programs, Starter};
use report::Report;
use throughput::{LATENCY_AT, Plan, Scenario, median};

/// Measures the edge against bare Pingora and whatever other proxies are installed, or a deployment of yours.
#[derive(Parser)]
#[command(name = "load", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Task>,
    #[command(flatten)]
    throughput: Throughput,
}

#[derive(Subcommand)]
enum Task {
    /// Requests a second, ratios and latencies (what is done when nothing is named)
    Throughput(Throughput),
    /// Time to start and to reload with 5,000 routes, memory idle and with 10,000 connections
    Resources(Small),
    /// Limits shared through Redis beside limits in process: throughput, an outage, three edges
    Limits(Limits),
    /// 200,000 requests through 20 reloads and 3 upgrades, none of which may fail
    Soak(Small),
}

#[derive(Args)]
struct Small {
    #[command(flatten)]
    programs: ProgramPaths,
    /// Folder for the JSON report
    #[arg(long, default_value = "target/load")]
    out: PathBuf,
}

#[derive(Args)]
struct Limits {
    /// Rounds; medians are taken over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of one edge in one round
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Connections kept open
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// The tmcp-edge to measure, instead of the one that this benchmark was built with
    #[arg(long)]
    edge: Option<PathBuf>,
    /// Folder for the JSON report
    #[arg(long, default_value = "target/load")]
    out: PathBuf,
}

#[derive(Args)]
struct Throughput {
    /// Rounds; medians are taken over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of one proxy in one round
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Connections kept open
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Tokens of the Zipf scenario
    #[arg(long, default_value_t = 100_000)]
    tokens: usize,
    /// The edge's memory for verified tokens, such as 256MB, instead of its default
    #[arg(long)]
    auth_cache: Option<String>,
    /// What to run: get, zipf, post, latency
    #[arg(long, value_delimiter = ',', default_value = "get,zipf,post,latency")]
    only: Vec<String>,
    /// Leave HAProxy, nginx and Envoy out even when they are installed
    #[arg(long)]
    no_peers: bool,
    #[command(flatten)]
    programs: ProgramPaths,
    /// Folder for report.json and chart.svg
    #[arg(long, default_value = "target/load")]
    out: PathBuf,

    /// Measure this deployment instead of proxies of our own: http:// or https:// and host
    #[arg(long, requires = "token_file")]
    target: Option<String>,
    /// With --target: bearer tokens, one a line, used in turn
    #[arg(long, requires = "target")]
    token_file: Option<PathBuf>,
    /// With --target: what to GET
    #[arg(long, default_value = "/api/v1/wallet/balance", requires = "target")]
    path: String,
    /// With --target: requests a second for the latencies, instead of 70 % of what it carries at full load
    #[arg(long, requires = "target")]
    rate: Option<f64>,
}

#[derive(Args)]
struct ProgramPaths {
    /// The tmcp-edge to measure, instead of the one that this benchmark was built with
    #[arg(long)]
    edge: Option<PathBuf>,
    /// The example bare_default, instead of one built now
    #[arg(long)]
    bare_default: Option<PathBuf>,
    /// The example bare_mimalloc, instead of one built now
    #[arg(long)]
    bare_mimalloc: Option<PathBuf>,
}

fn main() -> ExitCode {
    // Cargo says `--bench` to every benchmark.
    let cli = Cli::parse_from(std::env::args().filter(|argument| argument != "--bench"));
    let done = match cli.command {
        None => throughput(&cli.throughput),
        Some(Task::Throughput(arguments)) => throughput(&arguments),
        Some(Task::Resources(arguments)) => small(&arguments, "resources"),
        Some(Task::Soak(arguments)) => small(&arguments, "soak"),
        Some(Task::Limits(arguments)) => limits(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("load: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `work` on this thread alone, with room for tasks that stay on it.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, work))
}

fn throughput(arguments: &Throughput) -> Result<(), String> {
    if let (Some(url), Some(tokens)) = (&arguments.target, &arguments.token_file) {
        return target::run(&target::Deployment {
            url,
            tokens,
            path: &arguments.path,
            rate: arguments.rate,
            connections: arguments.connections,
            time: Duration::from_secs(arguments.seconds),
        });
    }
    let known = [Scenario::Get, Scenario::Zipf, Scenario::Post];
    let unknown = |name: &&String| *name != "latency" && known.iter().all(|scenario| scenario.key() != *name);
    if let Some(unknown) = arguments.only.iter().find(unknown) {
        return Err(format!("--only {unknown}: expected get, zipf, post or latency"));
    }
    let programs = programs(&arguments.programs)?;
    let tokens = tokens::prepare(&build_folder().join("bench-tokens"), arguments.tokens.max(1000))?;
    let mut available = vec![Kind::Edge, Kind::BareDefault, Kind::BareMimalloc, Kind::Direct];
    for (kind, program) in [(Kind::Haproxy, "haproxy"), (Kind::Nginx, "nginx"), (Kind::Envoy, "envoy")] {
        if !arguments.no_peers && find(program).is_some() {
            available.push(kind);
        }
    }
    let cores = Cores::pick();
    match cores {
        Some(cores) => cores.bind_self()?,
        None => eprintln!("a single core, or no taskset: proxies and load share what there is; ratios are rough"),
    }
    let plan = Plan {
        rounds: arguments.rounds.max(1),
        time: Duration::from_secs(arguments.seconds.max(1)),
        warm_up: Duration::from_secs(2),
        connections: arguments.connections.max(1),
        tokens: arguments.tokens.max(1000),
    };
    let report = block_on(measure(arguments, plan, &programs, &tokens, cores, &available))??;
    report.print();
    report.save(&arguments.out)
}

fn small(arguments: &Small, which: &str) -> Result<(), String> {
    let programs = programs(&arguments.programs)?;
    let tokens = tokens::prepare(&build_folder().join("bench-tokens-few"), 1000)?;
    let cores = Cores::pick();
    if let Some(cores) = cores {
        cores.bind_self()?;
    }
    let found = block_on(async {
        let upstream = start_upstream().await?;
        let starter = Starter {
            programs: &programs,
            tokens: &tokens,
            upstream,
            core: cores.map(|cores| cores.proxy),
            auth_cache: None,
        };
        if which == "soak" { soak::run(&starter).await } else { resources::run(&starter).await }
    })??;
    report::save_json(&arguments.out, &format!("{which}.json"), &found)
}

fn limits(arguments: &Limits) -> Result<(), String> {
    // There are no baselines here: an edge is compared with itself.
    let edge = arguments.edge.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tmcp-edge")));
    let programs = Programs { edge, bare_default: PathBuf::new(), bare_mimalloc: PathBuf::new() };
    let tokens = tokens::prepare(&build_folder().join("bench-tokens-few"), 1000)?;
    let cores = Cores::pick();
    if let Some(cores) = cores {
        cores.bind_self()?;
    }
    let plan = limits::Plan {
        rounds: arguments.rounds.max(1),
        time: Duration::from_secs(arguments.seconds.max(1)),
        connections: arguments.connections.max(1),
    };
    let found = block_on(async {
        let upstream = start_upstream().await?;
        let core = cores.map(|cores| cores.proxy);
        let starter = Starter { programs: &programs, tokens: &tokens, upstream, core, auth_cache: None };
        limits::run(&starter, plan).await
    })??;
    report::save_json(&arguments.out, "limits.json", &found)
}

/// Starts the wallet behind the proxies; returns its port.
async fn start_upstream() -> Result<u16, String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    tokio::task::spawn_local(upstream::serve(listener));
    Ok(port)
}

async fn measure(
    arguments: &Throughput,
    plan: Plan,
    programs: &Programs,
    tokens: &tokens::Tokens,
    cores: Option<Cores>,
    available: &[Kind],
) -> Result<Report, String> {
    let upstream = start_upstream().await?;
    let starter = Starter {
        programs,
        tokens,
        upstream,
        core: cores.map(|cores| cores.proxy),
        auth_cache: arguments.auth_cache.as_deref(),
    };
    let mut usable = Vec::new();
    for kind in available {
        // What the edge is compared with may be set up or built in a way of its own; the rest is measured all the same.
        match (starter.start(*kind).await, kind) {
            (Ok(_), _) => usable.push(*kind),
            (Err(error), Kind::Haproxy | Kind::Nginx | Kind::Envoy) => eprintln!("left out: {error}"),
            (Err(error), _) => return Err(error),
        }
    }
    let available = usable.as_slice();
    let mut report = Report::new(plan);
    for scenario in [Scenario::Get, Scenario::Zipf, Scenario::Post] {
        if arguments.only.iter().any(|name| name == scenario.key()) {
            report.saturation.push((scenario, throughput::saturation(scenario, plan, &starter, available).await?));
        }
    }
    if arguments.only.iter().any(|name| name == "latency") {
        let known = report.rate_of(Scenario::Get, Kind::Edge);
        let full = match known {
            Some(full) => full,
            None => {
                let once = Plan { rounds: 1, ..plan };
                let found = throughput::saturation(Scenario::Get, once, &starter, &[Kind::Edge]).await?;
                let rates = found.iter().flat_map(|series| series.rounds.iter().map(|round| round.rate));
                median(&rates.collect::<Vec<_>>())
            }
        };
        let rate = full * LATENCY_AT;
        report.latency = Some((rate, throughput::latency(rate, plan, &starter, available).await?));
    }
    Ok(report)
}

/// `target/`, wherever cargo has it.
fn build_folder() -> PathBuf {
    let exe = PathBuf::from(env!("CARGO_BIN_EXE_tmcp-edge"));
    exe.ancestors().nth(2).map_or_else(|| PathBuf::from("target"), PathBuf::from)
}

/// The programs to measure. Cargo builds the edge for every benchmark, but no examples.
fn programs(paths: &ProgramPaths) -> Result<Programs, String> {
    let edge = paths.edge.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tmcp-edge")));
    let examples = edge.parent().map(|folder| folder.join("examples")).unwrap_or_default();
    if paths.bare_default.is_none() || paths.bare_mimalloc.is_none() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        eprintln!("building the baselines");
        let built = Command::new(cargo)
            .args(["build", "--release", "--example", "bare_default", "--example", "bare_mimalloc"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        if !built.is_ok_and(|status| status.success()) {
            return Err("the baselines cannot be built; name them with --bare-default and --bare-mimalloc".to_owned());
        }
    }
    let programs = Programs {
        bare_default: paths.bare_default.clone().unwrap_or_else(|| examples.join("bare_default")),
        bare_mimalloc: paths.bare_mimalloc.clone().unwrap_or_else(|| examples.join("bare_mimalloc")),
        edge,
    };
    for file in [&programs.edge, &programs.bare_default, &programs.bare_mimalloc] {
        if !file.is_file() {
            return Err(format!("{} is not there", file.display()));
        }
    }
    Ok(programs)
}
