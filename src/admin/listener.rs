//! The admin listener, bounded: so many connections, none idle for ever. A scraper that hangs, or somebody who opens
//! connections and says nothing, must not use up the descriptors that clients need.

use std::future::{self, Future};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep_until};

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// A connection on which nothing moves for this long is closed. Longer than scrapers usually pause.
const IDLE: Duration = Duration::from_secs(90);

/// Who is still to be heard: what has been accepted and has sent nothing yet, and whether more may be accepted.
#[derive(Clone, Debug)]
pub(super) struct Unheard(Arc<watch::Sender<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    connections: usize,
    closed: bool,
}

impl Unheard {
    pub(super) fn new() -> Self {
        Unheard(Arc::new(watch::Sender::default()))
    }

    /// Returns when nothing more is accepted and every connection has begun its first request.
    pub(super) async fn none(&self) {
        // The sender is ours.
        let _ = self.0.subscribe().wait_for(|waiting| waiting.closed && waiting.connections == 0).await;
    }

    fn enter(&self) -> Silent {
        self.0.send_modify(|waiting| waiting.connections += 1);
        Silent(self.clone())
    }
}

/// Counts a connection as unheard while it lives.
struct Silent(Unheard);

impl Drop for Silent {
    fn drop(&mut self) {
        self.0.0.send_modify(|waiting| waiting.connections -= 1);
    }
}

/// A TCP listener with those bounds, which accepts until it is closed.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    closed: BoxFuture<'static, ()>,
    unheard: Unheard,
}

impl Bounded {
    pub(super) fn new(
        listener: TcpListener,
        closed: impl Future<Output = ()> + Send + 'static,
        unheard: Unheard,
    ) -> Self {
        Bounded { listener, places: Arc::new(Semaphore::new(CONNECTIONS)), closed: Box::pin(closed), unheard }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed; without a place the connection would be accepted all the same.
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, peer) = tokio::select! {
            biased;
            () = &mut self.closed => {
                self.unheard.0.send_modify(|waiting| waiting.closed = true);
                return future::pending().await;
            }
            accepted = Listener::accept(&mut self.listener) => accepted,
        };
        let idle = Box::pin(sleep_until(Instant::now() + IDLE));
        let silent = Some(self.unheard.enter());
        (Connection { stream, idle, silent, _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The other end of a connection, for handlers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Peer {
        Peer(*stream.remote_addr())
    }
}

/// A connection that gives up when nothing moves.
pub(super) struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    silent: Option<Silent>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// What moved puts the end off; what did not may be at the end.
    fn watch<T>(&mut self, cx: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE);
            return moved;
        }
        self.idle.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if moved.is_ready() {
            self.silent = None;
        }
        self.watch(cx, moved)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, moved)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut connection, _) = Bounded::new(listener, future::pending(), Unheard::new()).accept().await;
        client.write_all(b"x").await.unwrap();
        let started = Instant::now();
        assert_eq!(connection.read_u8().await.unwrap(), b'x');
        assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= IDLE);
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_connection_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = Bounded::new(listener, future::pending(), Unheard::new());
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            held.push((TcpStream::connect(address).await.unwrap(), bounded.accept().await.0));
        }
        let _waiting = TcpStream::connect(address).await.unwrap();
        assert_eq!(bounded.places.available_permits(), 0);
        held.pop();
        bounded.accept().await;
    }

    #[tokio::test]
    async fn who_was_let_in_is_heard_before_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (close, closing) = tokio::sync::oneshot::channel::<()>();
        let unheard = Unheard::new();
        let mut bounded = Bounded::new(listener, async { closing.await.unwrap() }, unheard.clone());
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = bounded.accept().await;
        let mut none = Box::pin(unheard.none());
        close.send(()).unwrap();
        tokio::select! {
            biased;
            () = &mut none => panic!("somebody has yet to be heard"),
            _ = bounded.accept() => panic!("it is closed"),
            () = tokio::task::yield_now() => {}
        }
        client.write_all(b"x").await.unwrap();
        connection.read_u8().await.unwrap();
        none.await;
    }
}
