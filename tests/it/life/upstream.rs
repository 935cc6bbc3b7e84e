//! An upstream that keeps a record, can be made to wait, and can be killed and brought back on the same port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, StatusCode, Version};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: usize,
    pub version: Version,
}

struct Shared {
    name: String,
    seen: Mutex<Vec<Seen>>,
    /// Requests that wait for the gate, those that have not sent their whole body included.
    waiting: AtomicUsize,
    gate: watch::Sender<bool>,
    status: Mutex<StatusCode>,
    /// Spaces in front of each answer's JSON.
    length: AtomicUsize,
    upgrades: AtomicUsize,
}

/// A server of a test's. It answers every request with 200 and JSON, and `/held…` only while its gate is open.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<Runtime>,
}

impl Upstream {
    /// A plain server for HTTP/1.1 and, by prior knowledge, HTTP/2.
    pub fn start(name: &str) -> Upstream {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(name, socket.local_addr().unwrap(), |runtime| on(runtime, socket))
    }

    /// A server behind whatever `listen` makes.
    pub fn on<L>(name: &str, address: SocketAddr, listen: impl FnOnce(&Runtime) -> L) -> Upstream
    where
        L: Listener<Addr = SocketAddr>,
    {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            seen: Mutex::default(),
            waiting: AtomicUsize::new(0),
            gate: watch::Sender::new(false),
            status: Mutex::new(StatusCode::OK),
            length: AtomicUsize::new(0),
            upgrades: AtomicUsize::new(0),
        });
        let mut upstream = Upstream { address, shared, running: None };
        upstream.run(listen);
        upstream
    }

    fn run<L>(&mut self, listen: impl FnOnce(&Runtime) -> L)
    where
        L: Listener<Addr = SocketAddr>,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = listen(&runtime);
        let router = Router::new().fallback(answer).with_state(self.shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        self.running = Some(runtime);
    }

    /// Ends it at once, connections included.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown_background();
        }
    }

    /// Brings it back where it was.
    pub fn revive(&mut self) {
        let socket = std::net::TcpListener::bind(self.address).unwrap();
        self.run(|runtime| on(runtime, socket));
    }

    /// What has arrived, health checks aside.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().iter().filter(|seen| seen.path != "/health").cloned().collect()
    }

    /// Health checks that have arrived.
    pub fn checked(&self) -> usize {
        self.shared.seen.lock().iter().filter(|seen| seen.path == "/health").count()
    }

    /// Requests for `/held…` that wait.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::SeqCst)
    }

    /// WebSockets that were opened.
    pub fn upgrades(&self) -> usize {
        self.shared.upgrades.load(Ordering::SeqCst)
    }

    /// Lets requests for `/held…` go on.
    pub fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }

    /// Answers with so many bytes more from now on.
    pub fn answers_at_length(&self, length: usize) {
        self.shared.length.store(length, Ordering::SeqCst);
    }

    /// Answers with another status from now on.
    pub fn answers(&self, status: StatusCode) {
        *self.shared.status.lock() = status;
    }
}

/// The socket on a runtime other than the one that is being used.
pub fn on(runtime: &Runtime, socket: std::net::TcpListener) -> TcpListener {
    socket.set_nonblocking(true).unwrap();
    let _inside = runtime.enter();
    TcpListener::from_std(socket).unwrap()
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let mut seen = Seen {
        path: request.uri().path_and_query().unwrap().to_string(),
        headers: request.headers().clone(),
        body: 0,
        version: request.version(),
    };
    if let Some(key) = request.headers().get("sec-websocket-key").filter(|_| seen.headers.contains_key("upgrade")) {
        let accept = derive_accept_key(key.as_bytes());
        shared.upgrades.fetch_add(1, Ordering::SeqCst);
        shared.seen.lock().push(seen);
        tokio::spawn(echo(hyper::upgrade::on(&mut request)));
        let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let answer = answer.header("connection", "upgrade").header("upgrade", "websocket");
        return answer.header("sec-websocket-accept", accept).body(Body::empty()).unwrap();
    }
    let held = path.contains("/held");
    if held {
        shared.waiting.fetch_add(1, Ordering::SeqCst);
    }
    let Ok(body) = to_bytes(request.into_body(), usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    seen.body = body.len();
    shared.seen.lock().push(seen);
    if held {
        let mut gate = shared.gate.subscribe();
        gate.wait_for(|open| *open).await.unwrap();
        shared.waiting.fetch_sub(1, Ordering::SeqCst);
    }
    let told = serde_json::json!({"served_by": shared.name, "path": path, "body": body.len()});
    let answer = Response::builder().status(*shared.status.lock()).header("content-type", "application/json");
    let filler = " ".repeat(shared.length.load(Ordering::SeqCst));
    answer.body(Body::from(format!("{filler}{told}"))).unwrap()
}

async fn echo(upgrade: hyper::upgrade::OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}
