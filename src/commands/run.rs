//! `run`: from a config to a serving process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::control::{self, EdgeControl};
use super::{audit, load, start_logging};
use crate::admin::Admin;
use crate::cache::ResponseCache;
use crate::clock::Clock;
use crate::config::{Config, Store};
use crate::gateway::{self, Gateway};
use crate::live::Live;
use crate::metrics::Reload;
use crate::server::{ConfigFiles, Ended, Handle, Hooks, Lifecycle, Loops, ServerSpec, Started, serve};
use crate::snapshot::{Edge, Snapshot};
use crate::store::audit::AuditLog;
use crate::store::folder::{self, ServiceLock};
use crate::telemetry::export::Exporter;
use crate::telemetry::{AccessLog, Spans, Telemetry};

/// How often what no longer matters is forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How long log lines may take to be written out at the end.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// `tmcp-edge run`.
pub fn run(path: &Path, upgrade: bool) -> Result<ExitCode, String> {
    let config = load(path)?;
    config.require_for_run().map_err(|unmet| unmet.to_string())?;
    start_logging(config.log.level);
    start(path, config, upgrade, |_| Ok(()))
}

/// Serves `config`, read from `path`. `ready` is called when the listeners are there.
pub(super) fn start(
    path: &Path,
    config: Config,
    upgrade: bool,
    ready: impl FnOnce(&Started) -> Result<(), String> + Send + 'static,
) -> Result<ExitCode, String> {
    let files = ConfigFiles::look(config.files.clone());
    let clock = Clock::system();
    // Before the store is opened, which may write to it. A successor's predecessor holds it, and hands it on.
    let held = match &config.store {
        Store::Embedded { path } if !upgrade => {
            folder::prepare(path)?;
            Some(ServiceLock::take(path)?)
        }
        _ => None,
    };
    let live = Live::open(&config, clock.clone())?;
    let lifecycle = Lifecycle::new();
    let log = AccessLog::open(&config.log.access, live.metrics.clone())
        .map_err(|error| format!("log.access: the access log cannot be opened: {error}"))?;
    let snapshot = Snapshot::build(config, &live, None)?;
    let config = snapshot.config.clone();
    let data_folder = match &config.store {
        Store::Embedded { path } => Some(path.clone()),
        Store::Redis(_) => None,
    };
    let spec = ServerSpec {
        server: config.server.clone(),
        max_header_size: config.validation.max_header_size,
        tries: gateway::MOST_TRIES,
        upstream_pool: snapshot.upstreams.pool_size(),
        files,
        upgrade,
        data_folder,
        held,
        lifecycle: lifecycle.clone(),
        clock,
    };
    let spans: Arc<OnceLock<Spans>> = Arc::default();
    let telemetry = Telemetry { metrics: live.metrics.clone(), log: log.clone(), spans: spans.clone() };
    let draining = lifecycle.clone();
    let edge = Arc::new(Edge::new(live, snapshot, move || draining.is_draining()));
    let cache = Arc::new(ArcSwap::from_pointee(response_cache(&config, &edge.live().clock)));
    let gateway = Gateway::new(edge.clone(), telemetry, cache.clone());

    let shared = edge.live().shared.clone();
    let server: Arc<OnceLock<Handle>> = Arc::default();
    let admin: Arc<Mutex<Option<JoinHandle<()>>>> = Arc::default();
    let hooks = Hooks {
        started: Box::new({
            let (edge, server, cache) = (edge.clone(), server.clone(), cache.clone());
            let admin = admin.clone();
            move |started: Started| {
                let _ = server.set(started.handle.clone());
                if let Some(collector) = &edge.snapshot().config.otlp {
                    let exporting = Spans::start(collector, &started.runtime, edge.live().metrics.clone())
                        .map_err(|error| format!("telemetry.otlp: {error}"))?;
                    let _ = spans.set(exporting);
                }
                edge.snapshot().upstreams.start(&started.runtime);
                if let Some(redis) = &edge.live().redis {
                    redis.drive_on(started.workers.clone());
                }
                if let (Some(shared), Store::Redis(store)) = (&edge.live().shared, &edge.snapshot().config.store) {
                    started.runtime.block_on(shared.meet(store.timeouts.connect));
                }
                started.runtime.block_on(edge.live().catch_up())?;
                look_after(&edge, &started.handle.loops, &started.runtime);
                *admin.lock() = Some(serve_admin(&started, edge.clone(), cache)?);
                let addresses: Vec<String> = started.addresses.iter().map(ToString::to_string).collect();
                log::info!(
                    "serving on {}, admin on {}",
                    addresses.join(", "),
                    edge.snapshot().config.server.admin.address
                );
                ready(&started)
            }
        }),
        reload: reload_hook(path.to_owned(), edge, server, cache),
        reopen_logs: Box::new({
            let log = log.clone();
            move || log.reopen()
        }),
        leaving: Box::new(move || {
            async move {
                if let Some(shared) = shared {
                    shared.leave().await;
                }
            }
            .boxed()
        }),
        stopping: Box::new(move || {
            async move {
                // A successor answers on the admin address now; what came to us before is ours to answer.
                let admin = admin.lock().take().filter(|_| lifecycle.is_ready());
                if let Some(admin) = admin
                    && let Err(error) = admin.await
                {
                    log::warn!("server.admin: {error}");
                }
                let flushed = tokio::task::spawn_blocking(move || log.shutdown(FLUSH_WITHIN)).await;
                if !matches!(flushed, Ok(true)) {
                    log::warn!("the last access-log lines could not be written");
                }
            }
            .boxed()
        }),
    };
    match serve(spec, gateway, hooks)? {
        Ended::Drained | Ended::Fast => Ok(ExitCode::SUCCESS),
        Ended::Cut { open } => {
            log::warn!("{open} connections were still open when the time to drain was over");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn response_cache(config: &Config, clock: &Clock) -> ResponseCache {
    ResponseCache::new(config.cache.response, config.cache.vary_by.clone(), clock.clone())
}

/// Serves the admin address from when requests are served until nothing more is accepted.
fn serve_admin(
    started: &Started,
    edge: Arc<Edge>,
    cache: Arc<ArcSwap<ResponseCache>>,
) -> Result<JoinHandle<()>, String> {
    let (clock, metrics) = (edge.live().clock.clone(), edge.live().metrics.clone());
    metrics.reloaded(Reload::Ok, 1, clock.unix_secs());
    let server = started.handle.clone();
    let exporter = Exporter::new(metrics.clone(), clock.clone());
    let exporter = exporter.refresh_with(control::refresh(edge.clone(), server.clone(), cache.clone()));
    let control = EdgeControl {
        edge,
        cache,
        listeners: started.addresses.iter().map(ToString::to_string).collect(),
        admin: started.admin.local_addr().map_err(|error| format!("server.admin: {error}"))?,
        started: clock.tick(),
        server: server.clone(),
    };
    let admin = Admin::new(Arc::new(control), exporter, metrics, clock);
    let listener = started.admin.try_clone().map_err(|error| format!("server.admin: {error}"))?;
    let serving = async move {
        let (mut serving, mut closing) = (server.lifecycle.serving(), server.lifecycle.closing());
        let _ = serving.wait_for(|serving| *serving).await;
        let stop = async move {
            // The sender lives as long as the process does.
            let _ = closing.wait_for(|closing| *closing).await;
        };
        let served = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => admin.serve(listener, stop).await,
            Err(error) => Err(error),
        };
        if let Err(error) = served {
            log::error!("server.admin: {error}");
        }
    };
    Ok(started.runtime.spawn(serving))
}

/// Reads the config again and puts it in force, or says why not; the last good one then stays.
fn reload_hook(
    path: PathBuf,
    edge: Arc<Edge>,
    server: Arc<OnceLock<Handle>>,
    cache: Arc<ArcSwap<ResponseCache>>,
) -> crate::server::ReloadHook {
    let first = edge.snapshot().config.clone();
    Arc::new(move |prompt| {
        let (path, edge, server, cache) = (path.clone(), edge.clone(), server.clone(), cache.clone());
        let first = first.clone();
        async move {
            let runtime = tokio::runtime::Handle::current();
            let again = edge.clone();
            let replace = move || -> Result<Vec<PathBuf>, String> {
                let config = load(&path)?;
                config.require_for_run().map_err(|unmet| unmet.to_string())?;
                let server = server.get().ok_or("the server is still starting")?;
                let files = config.files.clone();
                // A store that is away must not keep an operator from saying what holds meanwhile.
                if let Err(error) = runtime.block_on(edge.live().tokens.keyring.refresh()) {
                    log::warn!("reload: {error}; the keys in memory stay in use");
                }
                if let Err(error) = runtime.block_on(edge.live().apps.look()) {
                    log::warn!("reload: {error}; the mini-apps in memory stay in use");
                }
                edge.replace(config, &runtime, |config| {
                    let mut restart = server.apply(&config.server)?;
                    restart.extend(fixed_at_start(&first, config));
                    if !restart.is_empty() {
                        log::warn!("changed, but only in force after a restart or an upgrade: {}", restart.join(", "));
                    }
                    Ok(())
                })?;
                let config = edge.snapshot().config.clone();
                if cache.load().size() != config.cache.response || cache.load().vary_by() != config.cache.vary_by {
                    cache.store(Arc::new(response_cache(&config, &edge.live().clock)));
                }
                Ok(files)
            };
            let (metrics, clock) = (again.live().metrics.clone(), again.live().clock.clone());
            let made = async {
                let done = tokio::task::spawn_blocking(replace).await;
                done.map_err(|error| format!("the reload did not finish: {error}")).and_then(|done| done)
            };
            let done = match audit::reload(prompt) {
                Some(change) => {
                    let retention = again.snapshot().config.server.admin.audit_retention;
                    AuditLog::new(again.live().store.clone(), clock.clone(), retention).beside(change, made).await
                }
                None => made.await,
            };
            let result = if done.is_ok() { Reload::Ok } else { Reload::Failed };
            metrics.reloaded(result, again.snapshot().revision, clock.unix_secs());
            done
        }
        .boxed()
    })
}

/// Settings outside of `server` that differ from those the process was started with, and that no reload changes.
fn fixed_at_start(first: &Config, next: &Config) -> impl Iterator<Item = &'static str> + use<> {
    let differ = [
        ("store", first.store != next.store),
        ("keys.master_key_file", first.master_key != next.master_key),
        ("keys.previous_master_key_file", first.previous_master_key != next.previous_master_key),
        ("cache.auth_cache", first.cache.auth != next.cache.auth),
        ("log.level", first.log.level != next.log.level),
        ("log.access", first.log.access != next.log.access),
        ("telemetry.otlp", first.otlp != next.otlp),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name)
}

/// Starts what has to be done now and then: sweeping, noticing changed keys, mini-apps and revocations, fetching issuers' keys.
fn look_after(edge: &Arc<Edge>, loops: &Arc<Loops>, runtime: &tokio::runtime::Handle) {
    let own = edge.clone();
    loops.start(runtime, "sweeping", async move {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            own.live().sweep();
        }
    });
    if let Some(shared) = &edge.live().shared {
        loops.start(runtime, "looking after shared limits", shared.clone().look_after());
    }
    let own = edge.clone();
    loops.start(runtime, "fetching issuers' keys", async move {
        loop {
            let snapshot = own.snapshot();
            let issuers = snapshot.policy.authn.verifier().issuers();
            // With no issuers there is nothing to do until a revision brings some.
            let fresh = async {
                issuers.keep_fresh().await;
                std::future::pending::<()>().await
            };
            tokio::select! {
                () = fresh => {}
                () = own.changed(snapshot.revision) => {}
            }
        }
    });
    let own = edge.clone();
    loops.start(runtime, "following the key ring", async move { own.live().tokens.keyring.keep_fresh().await });
    let revocations = edge.live().revocations.clone();
    loops.start(runtime, "following revocations", async move { revocations.follow().await });
    let apps = edge.live().apps.clone();
    loops.start(runtime, "following mini-apps", async move { apps.follow().await });
}
