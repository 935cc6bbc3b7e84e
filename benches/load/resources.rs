//! What an edge costs when nothing happens, and how long it takes to start and to take a new config.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::connection::{Connection, Target};
use super::process::free_port;
use super::proxies::{EdgeSetup, Kind, Running, Starter};
use super::requests::Requests;
use super::throughput::median;

const ROUTES: usize = 5000;
const CONNECTIONS: usize = 10_000;
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures and prints. Returns the JSON.
pub async fn run(starter: &Starter<'_>) -> Result<serde_json::Value, String> {
    // The edge keeps two descriptors and a reserve for each connection that it takes.
    let allowed = rlimit::increase_nofile_limit(u64::MAX).map_err(|e| e.to_string())?;
    let connections = CONNECTIONS.min((allowed / 2).saturating_sub(300) as usize);

    let (mut plain, mut start, mut reload, mut stall) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let (_, took) = start_edge(starter, 0).await?;
        plain.push(took);
        let (running, took) = start_edge(starter, ROUTES).await?;
        start.push(took);
        let (took, longest) = reload_edge(starter, &running).await?;
        reload.push(took);
        stall.push(longest);
        let (last_start, last_reload) = (start.last().unwrap_or(&0.0), reload.last().unwrap_or(&0.0));
        eprintln!("  round {round}/{ROUNDS}: start {last_start:.0} ms, reload {last_reload:.0} ms");
    }
    println!("start, built-in routes:                  {:>7.0} ms", median(&plain));
    println!("start, {ROUTES} routes more:                {:>7.0} ms", median(&start));
    println!("reload, {ROUTES} routes more:               {:>7.0} ms", median(&reload));
    println!("longest answer while it reloaded:        {:>7.1} ms", median(&stall));

    let mut memory = Vec::new();
    for kind in [Kind::Edge, Kind::BareDefault, Kind::BareMimalloc] {
        let [idle, open, used] = memory_of(starter, kind, connections).await?;
        println!(
            "{:<31} idle {idle:>5.0} MiB, {connections} connections {open:>5.0} MiB, after a request on each \
             {used:>5.0} MiB",
            kind.name()
        );
        memory.push(json!({
            "proxy": kind.key(), "idle_mib": idle, "connections": connections, "connected_mib": open, "used_mib": used,
        }));
    }
    Ok(json!({
        "start_ms": median(&plain), "start_with_routes_ms": median(&start), "reload_with_routes_ms": median(&reload),
        "longest_answer_while_reloading_ms": median(&stall), "routes": ROUTES, "memory": memory,
    }))
}

/// Starts an edge; the time is from its start to its first answer that came from the wallet, milliseconds.
async fn start_edge(starter: &Starter<'_>, routes: usize) -> Result<(Running, f64), String> {
    let folder = tempfile::Builder::new().prefix("tmcp-load-").tempdir().map_err(|e| e.to_string())?;
    let (port, admin) = (free_port()?, free_port()?);
    let setup = EdgeSetup { port, admin, upstream: starter.upstream, routes, ..EdgeSetup::default() };
    // Written before the clock starts.
    setup.write(folder.path(), starter.tokens)?;
    let begin = Instant::now();
    let mut running = starter.edge(&setup, folder)?;
    if let Some(process) = &mut running.process {
        process.wait_for(port).await?;
    }
    let status = get(starter, port, "/api/v1/wallet/balance").await?;
    if status != 200 {
        return Err(format!("the first answer is a {status}"));
    }
    Ok((running, begin.elapsed().as_secs_f64() * 1000.0))
}

/// Has a running edge take one route more. The first time is until that route answers; the second is the longest that an
/// ordinary request took meanwhile. Milliseconds.
async fn reload_edge(starter: &Starter<'_>, running: &Running) -> Result<(f64, f64), String> {
    let new = format!("/partner/v1/service{ROUTES}/items/1");
    if get(starter, running.port, &new).await? != 404 {
        return Err(format!("{new} answers before the reload"));
    }
    let setup = EdgeSetup {
        port: running.port,
        admin: running.admin,
        upstream: starter.upstream,
        routes: ROUTES + 1,
        ..EdgeSetup::default()
    };
    setup.write(running.folder.path(), starter.tokens)?;
    let target = Target::local(running.port);
    let mut connection = Connection::open(&target).await.map_err(|e| e.to_string())?;
    let (ordinary, extra) = (request(starter, "/api/v1/wallet/balance"), request(starter, &new));
    if let Some(process) = &running.process {
        process.signal("HUP")?;
    }
    let begin = Instant::now();
    let mut longest = 0.0_f64;
    while begin.elapsed() < PATIENCE {
        let sent = Instant::now();
        let status = connection.exchange(&ordinary).await.map_err(|e| e.to_string())?;
        longest = longest.max(sent.elapsed().as_secs_f64() * 1000.0);
        if status != 200 {
            return Err(format!("a {status} while reloading: {}", connection.text()));
        }
        if connection.exchange(&extra).await.map_err(|e| e.to_string())? == 200 {
            return Ok((begin.elapsed().as_secs_f64() * 1000.0, longest));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let said = running.process.as_ref().map_or(String::new(), |process| process.said());
    Err(format!("the reload is not in force after {PATIENCE:?}:\n{said}"))
}

/// MiB: idle, with connections that have sent nothing, and with one request on each.
async fn memory_of(starter: &Starter<'_>, kind: Kind, connections: usize) -> Result<[f64; 3], String> {
    let running = starter.start(kind).await?;
    let resident = || running.process.as_ref().map_or(0.0, |process| process.resident_mib());
    get(starter, running.port, "/api/v1/wallet/balance").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = resident();
    let target = Target::local(running.port);
    let mut open = Vec::with_capacity(connections);
    for at in 0..connections {
        open.push(Connection::open(&target).await.map_err(|e| format!("connection {at}: {e}"))?);
        // The listener's queue is finite.
        if at % 100 == 99 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let connected = resident();
    let bytes = request(starter, "/api/v1/wallet/balance");
    for (at, connection) in open.iter_mut().enumerate() {
        let status = connection.exchange(&bytes).await.map_err(|e| format!("connection {at}: {e}"))?;
        if status != 200 {
            return Err(format!("connection {at}: {}", connection.text()));
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok([idle, connected, resident()])
}

fn request(starter: &Starter<'_>, path: &str) -> Vec<u8> {
    let one = starter.tokens.list.get(..1).unwrap_or_default();
    let mut bytes = Vec::new();
    Requests::get("tmcp.load.example", path, one).copy(0, 0, &mut bytes);
    bytes
}

async fn get(starter: &Starter<'_>, port: u16, path: &str) -> Result<u16, String> {
    let mut connection = Connection::open(&Target::local(port)).await.map_err(|e| e.to_string())?;
    connection.exchange(&request(starter, path)).await.map_err(|e| e.to_string())
}
