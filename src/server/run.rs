//! Builds the parts, starts them in the right order and takes them down again.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use pingora::apps::HttpServerOptions;
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::proxy::{HttpProxy, ProxyHttp, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::accept::{Endpoint, Front, Rules};
use super::control::{Control, Ended, Order, Orders, Signals};
use super::counters::Counters;
use super::descriptors;
use super::guard::Guard;
use super::lifecycle::{Lifecycle, Phase};
use super::listeners::{FOLDER, Inherited, Listener};
use super::loops::Loops;
use super::notify::{State, notify};
use super::reload::{ConfigFiles, ReloadHook, Reloader, Reloads};
use super::tls::Certificate;
use super::upgrade::{self, Predecessor};
use crate::clock::Clock;
use crate::config;
use crate::store::folder::ServiceLock;

/// HTTP/2 streams that one connection may have open.
const H2_STREAMS: u32 = 100;
/// How long tasks get to notice that their runtime goes.
const RUNTIME_GOODBYE: Duration = Duration::from_millis(500);
/// How long others may take to be told that this process goes.
const LEAVING: Duration = Duration::from_secs(1);
/// How long the caller's own last work may take.
const STOPPING: Duration = Duration::from_secs(5);

/// What a server is to be.
pub struct ServerSpec {
    /// Listeners, limits and times.
    pub server: config::Server,
    /// Largest header section that HTTP/2 decodes, bytes. The gateway sees to HTTP/1 itself.
    pub max_header_size: usize,
    /// Tries of one request towards upstreams, the first included.
    pub tries: usize,
    /// Idle upstream connections kept in all.
    pub upstream_pool: usize,
    /// Files that the config was read from.
    pub files: ConfigFiles,
    /// Take the listeners over from a running process (`run --upgrade`).
    pub upgrade: bool,
    /// The data folder that this process has to itself while it serves; `None`: it keeps none.
    pub data_folder: Option<PathBuf>,
    /// The hold on that folder, if it has been taken already; else a predecessor's is taken over, or it is taken.
    pub held: Option<ServiceLock>,
    /// Where the process stands, made by the caller so that others can have it before.
    pub lifecycle: Lifecycle,
    /// The clock that connections' ages are told by.
    pub clock: Clock,
}

/// What the server calls.
pub struct Hooks {
    /// Once, when the listeners are there and before anything is accepted: start what runs beside the gateway on
    /// [`Started::runtime`] and print addresses. May block; a predecessor that hands over waits 30 s for it. An error
    /// ends the start, and the predecessor serves on.
    pub started: Box<dyn FnOnce(Started) -> Result<(), String> + Send>,
    /// Reads the config again.
    pub reload: ReloadHook,
    /// Reopens log files, on SIGUSR1.
    pub reopen_logs: Box<dyn Fn() + Send + Sync>,
    /// Tells others that this process goes, for up to 1 s: after the last request, and before the runtime that it was served
    /// on goes, with the connections that it drives.
    pub leaving: Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>,
    /// Last work after the last request (flushing logs, spans and the store), for up to 5 s, on the same runtime as
    /// what `started` spawned.
    pub stopping: Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>,
}

/// What a server that has its listeners gives to whoever started it.
pub struct Started {
    /// Where each of `server.listen` is, in the same order, with real ports.
    pub addresses: Vec<SocketAddr>,
    /// The socket of `server.admin`, non-blocking. It is handed to a successor too; stop accepting when
    /// [`Lifecycle::closing`] turns true.
    pub admin: TcpListener,
    /// A runtime of one thread for background work, apart from that of requests; it lives until `stopping` is done.
    pub runtime: tokio::runtime::Handle,
    /// The runtime that requests are served on.
    pub workers: tokio::runtime::Handle,
    /// The way to the server while it runs.
    pub handle: Handle,
}

/// The way to a running server. Clones share it.
#[derive(Clone)]
pub struct Handle {
    /// Where the process stands.
    pub lifecycle: Lifecycle,
    /// Asks for reloads and tells how they went.
    pub reloads: Reloads,
    /// What was counted at the door.
    pub counters: Arc<Counters>,
    /// The loops that the server needs, and those that are added to be watched like them.
    pub loops: Arc<Loops>,
    guard: Arc<Guard>,
    rules: Arc<ArcSwap<Rules>>,
    certificates: Arc<Vec<Option<Arc<Certificate>>>>,
    first: Arc<config::Server>,
}

impl Handle {
    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.guard.open()
    }

    /// Puts the parts of `server` into force that can change while it runs: limits, trusted proxies, drain time,
    /// certificate files. New connections see them at once, open ones keep their times.
    /// Returns the names of settings that differ and need a restart or an upgrade.
    ///
    /// # Errors
    /// When the descriptor limit leaves no room for any connections; nothing has changed then.
    pub fn apply(&self, server: &config::Server) -> Result<Vec<&'static str>, String> {
        let connections = descriptors::fitting(server.limits.connections)?;
        self.guard.set_caps(connections, server.limits.per_ip);
        self.rules.store(Arc::new(Rules::of(server)));
        for (certificate, listen) in self.certificates.iter().zip(&server.listen) {
            if let (Some(certificate), Some(files)) = (certificate, &listen.tls) {
                certificate.set_files(files);
            }
        }
        let first = &*self.first;
        let shape = |server: &config::Server| -> Vec<_> {
            server.listen.iter().map(|listen| (listen.address, listen.tls.is_some(), listen.proxy_protocol)).collect()
        };
        let differ = [
            ("server.listen", shape(first) != shape(server)),
            ("server.admin.address", first.admin.address != server.admin.address),
            ("server.threads", first.threads != server.threads),
            ("server.upgrade_socket", first.upgrade_socket != server.upgrade_socket),
            ("server.watch", first.watch != server.watch),
        ];
        Ok(differ.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect())
    }
}

impl Rules {
    fn of(server: &config::Server) -> Self {
        Rules { limits: server.limits.clone(), trusted: server.trusted_proxies.clone(), drain: server.drain }
    }
}

/// Serves until a signal ends the process: SIGTERM drains, SIGINT stops at once, SIGQUIT hands over to a successor
/// (and is refused when none waits), SIGHUP reloads, SIGUSR1 reopens logs. Blocks; not to be called from a runtime.
///
/// # Errors
/// Why the server could not start, for people.
pub fn serve<G>(spec: ServerSpec, gateway: G, hooks: Hooks) -> Result<Ended, String>
where
    G: ProxyHttp + Send + Sync + 'static,
    G::CTX: Send + Sync,
{
    serve_until(spec, gateway, hooks, || Signals::new().map_err(|error| format!("cannot handle signals: {error}")))
}

pub(super) fn serve_until<G, O: Orders>(
    mut spec: ServerSpec,
    gateway: G,
    hooks: Hooks,
    orders: impl FnOnce() -> Result<O, String>,
) -> Result<Ended, String>
where
    G: ProxyHttp + Send + Sync + 'static,
    G::CTX: Send + Sync,
{
    let no_runtime = |error: std::io::Error| format!("cannot start threads: {error}");
    let aside = Builder::new_multi_thread().worker_threads(1).thread_name("edge-aside").enable_all().build();
    let aside = aside.map_err(no_runtime)?;
    let threads = threads(spec.server.threads);
    let workers = Builder::new_multi_thread().worker_threads(threads).thread_name("edge-worker").enable_all().build();
    let workers = workers.map_err(no_runtime)?;
    // Before anything can be asked of us, so that no signal takes its default action, which ends the process.
    let mut orders = {
        let _inside = aside.enter();
        orders()?
    };

    let connections = descriptors::fitting(spec.server.limits.connections)?;
    let Some((predecessor, mut inherited)) = aside.block_on(inherit(&spec, &mut orders))? else {
        return Ok(Ended::Fast);
    };
    let folder = match (spec.held.take(), spec.data_folder.as_deref()) {
        (Some(held), _) => Some(held),
        (None, folder) => folder.map(|folder| hold(folder, &mut inherited)).transpose()?,
    };
    let listeners = open(&spec.server, &mut inherited)?;
    drop(inherited);
    let (admin, public) = listeners.split_last().ok_or("server.listen is empty")?;
    let addresses = public.iter().map(|listener| listener.address).collect();
    let admin = admin.socket.try_clone().map_err(|error| format!("admin listener: {error}"))?;

    let certificates = certificates(&spec.server)?;
    let counters = Arc::new(Counters::default());
    let loops = Arc::<Loops>::default();
    let guard = Guard::new(connections, spec.server.limits.per_ip);
    let rules = Arc::new(ArcSwap::from_pointee(Rules::of(&spec.server)));
    let watched = spec.server.watch.then(|| spec.files.clone());
    let (reloads, reloader) = Reloader::new(hooks.reload, spec.clock.clone(), watched);
    let handle = Handle {
        lifecycle: spec.lifecycle.clone(),
        reloads: reloads.clone(),
        counters: counters.clone(),
        loops: loops.clone(),
        guard: guard.clone(),
        rules: rules.clone(),
        certificates: certificates.clone(),
        first: Arc::new(spec.server.clone()),
    };
    let proxy = proxy(&spec, threads, gateway);
    let front =
        Front::new(proxy, rules.clone(), guard.clone(), counters.clone(), spec.clock.clone(), spec.lifecycle.clone());

    let started =
        Started { addresses, admin, runtime: aside.handle().clone(), workers: workers.handle().clone(), handle };
    (hooks.started)(started)?;
    if let Some(predecessor) = predecessor {
        predecessor.relieve()?;
    }
    let accepting = accept(&workers, &front, public, &spec.server, &certificates)?;
    for certificate in certificates.iter().flatten() {
        loops.start(aside.handle(), "following certificates", certificate.clone().follow(counters.clone()));
    }
    loops.start(aside.handle(), "reading the config again", reloader.run());
    spec.lifecycle.enter(Phase::Serving);
    notify(State::Ready);

    let control = Control {
        lifecycle: spec.lifecycle.clone(),
        guard,
        rules,
        counters,
        reloads,
        reopen_logs: hooks.reopen_logs,
        upgrade_socket: spec.server.upgrade_socket.clone(),
        listeners: Arc::new(listeners),
        folder: folder.map(Arc::new),
        accepting,
    };
    let ended = aside.block_on(control.run(orders));
    match ended {
        Ended::Drained => log::info!("every connection has ended"),
        Ended::Cut { open } => log::warn!("the time to drain is over: {open} connections are cut"),
        Ended::Fast => log::info!("stopped at once"),
    }
    spec.lifecycle.enter(Phase::Closing);
    let leaving = (hooks.leaving)();
    if aside.block_on(async { tokio::time::timeout(LEAVING, leaving).await }).is_err() {
        log::warn!("others could not be told within {LEAVING:?} that this process goes");
    }
    workers.shutdown_timeout(RUNTIME_GOODBYE);
    let stopping = (hooks.stopping)();
    if aside.block_on(async { tokio::time::timeout(STOPPING, stopping).await }).is_err() {
        log::warn!("last work was not done within {STOPPING:?}");
    }
    aside.shutdown_timeout(RUNTIME_GOODBYE);
    Ok(ended)
}

fn threads(configured: usize) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// The predecessor's sockets, for an upgrade. `None` when a signal ends the waiting.
async fn inherit(
    spec: &ServerSpec,
    orders: &mut impl Orders,
) -> Result<Option<(Option<Predecessor>, Inherited)>, String> {
    if !spec.upgrade {
        return Ok(Some((None, Inherited::default())));
    }
    let path = spec.server.upgrade_socket.as_ref();
    let path = path.ok_or("--upgrade needs server.upgrade_socket in the config, of both processes")?;
    let mut taking_over = std::pin::pin!(upgrade::take_over(path));
    loop {
        tokio::select! {
            taken = &mut taking_over => {
                let (predecessor, sockets) = taken?;
                return Ok(Some((Some(predecessor), Inherited::new(sockets))));
            }
            order = orders.next() => match order {
                Order::Stop | Order::Drain => {
                    log::info!("stopped while waiting for the running process, which serves on");
                    return Ok(None);
                }
                Order::HandOver | Order::Reload | Order::ReopenLogs => {
                    log::warn!("{order:?} ignored: this process waits for the running one to hand over");
                }
            },
        }
    }
}

/// The hold on the data folder: the predecessor's own, or one taken now.
fn hold(folder: &Path, inherited: &mut Inherited) -> Result<ServiceLock, String> {
    if let Some(lock) = inherited.take(FOLDER)
        && let Some(lock) = ServiceLock::handed_on(folder, lock)?
    {
        return Ok(lock);
    }
    ServiceLock::take(folder)
}

/// The listeners of the config in order, the admin one last.
fn open(server: &config::Server, inherited: &mut Inherited) -> Result<Vec<Listener>, String> {
    let addresses = server.listen.iter().map(|listen| listen.address).chain([server.admin.address]);
    addresses.map(|address| inherited.open(address)).collect()
}

fn certificates(server: &config::Server) -> Result<Arc<Vec<Option<Arc<Certificate>>>>, String> {
    let load = |listen: &config::Listen| match &listen.tls {
        Some(files) => {
            Certificate::load(files).map(Arc::new).map(Some).map_err(|error| format!("{}: {error}", listen.address))
        }
        None => Ok(None),
    };
    server.listen.iter().map(load).collect::<Result<Vec<_>, _>>().map(Arc::new)
}

fn proxy<G: ProxyHttp>(spec: &ServerSpec, threads: usize, gateway: G) -> HttpProxy<G> {
    let conf = ServerConf {
        threads,
        max_retries: spec.tries,
        upstream_keepalive_pool_size: spec.upstream_pool,
        ..ServerConf::default()
    };
    let mut proxy = http_proxy(&Arc::new(conf), gateway);
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(spec.server.limits.keepalive);
    proxy.server_options = Some(options);
    let mut h2 = default_h2_options();
    h2.max_header_list_size(u32::try_from(spec.max_header_size).unwrap_or(u32::MAX));
    h2.max_concurrent_streams(H2_STREAMS);
    proxy.h2_options = Some(h2);
    proxy
}

fn accept<G>(
    workers: &Runtime,
    front: &Arc<Front<G>>,
    listeners: &[Listener],
    server: &config::Server,
    certificates: &[Option<Arc<Certificate>>],
) -> Result<Vec<JoinHandle<()>>, String>
where
    G: ProxyHttp + Send + Sync + 'static,
    G::CTX: Send + Sync,
{
    let _inside = workers.enter();
    let each = listeners.iter().zip(&server.listen).zip(certificates);
    each.map(|((listener, listen), certificate)| {
        let socket = listener.socket.try_clone().and_then(tokio::net::TcpListener::from_std);
        let socket = socket.map_err(|error| format!("{}: {error}", listener.address))?;
        let endpoint = Endpoint { certificate: certificate.clone(), proxy_protocol: listen.proxy_protocol };
        Ok(workers.spawn(front.clone().listen(socket, endpoint)))
    })
    .collect()
}
