//! How each sandbox server listens: every request is recorded, then met by a fault if one is set, then answered.
//!
//! A fault may close the connection without an answer. HTTP libraries always answer, so the connection itself is
//! told to fail: [`Wire`] wraps the socket, and once cut it refuses to read or write another byte.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::faults::{self, Faults};
use super::recorder::{self, Recorder};

/// The largest body that is taken in: above everything the edge lets through, a homeserver's transaction included.
const BODY_LIMIT: usize = 80 << 20;
/// How long a stopping server waits for requests under way.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// What every sandbox server has beside its own routes.
#[derive(Clone, Default)]
pub struct Desk {
    /// What has reached the server.
    pub recorder: Recorder,
    /// How it is told to misbehave.
    pub faults: Faults,
}

impl Desk {
    /// Puts the recording and the faults in front of `routes`, and `/_sandbox/…` beside them, which is neither
    /// recorded nor met by faults.
    pub fn around(&self, routes: Router) -> Router {
        let controls = Router::new().merge(recorder::routes(&self.recorder)).merge(faults::routes(&self.faults));
        let observed = routes.layer(DefaultBodyLimit::disable()).layer(from_fn_with_state(self.clone(), observe));
        observed.merge(controls)
    }
}

async fn observe(
    State(desk): State<Desk>,
    ConnectInfo(switch): ConnectInfo<Switch>,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().path().starts_with("/_sandbox/") {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = match axum::body::to_bytes(body, BODY_LIMIT).await {
        Ok(body) => body,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    desk.recorder.record(&parts, &body);
    if let Some(fault) = desk.faults.meet(parts.uri.path()) {
        tokio::time::sleep(fault.delay()).await;
        if fault.drop {
            switch.cut();
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        if let Some(status) = fault.status {
            let body = fault.body.unwrap_or_else(|| json!({"sandbox": "a fault is set on this path"}));
            return (status, Json(body)).into_response();
        }
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

/// A server under way.
pub struct Server {
    /// Where it listens; the port is the one it got when 0 was asked for.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Binds and starts to answer.
    pub async fn start(address: SocketAddr, app: Router) -> io::Result<Server> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
        let address = listener.local_addr()?;
        let (stop, mut stopped) = watch::channel(false);
        let signal = async move {
            // An error means that the server's handle is gone: stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let service = app.into_make_service_with_connect_info::<Switch>();
        let serving = axum::serve(Wires(listener), service).with_graceful_shutdown(signal);
        Ok(Server { address, stop, task: tokio::spawn(async move { serving.await }) })
    }

    /// The URL that its paths are appended to.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes no more connections, lets requests under way finish, and gives up on them after two seconds.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(STOP_WITHIN, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

struct Wires(TcpListener);

impl Listener for Wires {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.0).await;
        // Small answers must not wait for Nagle; without the option they are only slower.
        let _ = stream.set_nodelay(true);
        (Wire { stream, switch: Switch::default() }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Cuts one connection.
#[derive(Clone, Debug, Default)]
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn cut(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl Connected<IncomingStream<'_, Wires>> for Switch {
    fn connect_info(stream: IncomingStream<'_, Wires>) -> Switch {
        stream.io().switch.clone()
    }
}

/// A socket that can be cut from within a handler.
struct Wire {
    stream: TcpStream,
    switch: Switch,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.switch.check()?;
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.switch.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.switch.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
