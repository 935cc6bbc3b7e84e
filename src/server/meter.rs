//! Holds a client to the time in which a request's header must be whole.
//!
//! Pingora's read time-outs start anew with each byte, so a client that drips one byte a second stays for ever. The
//! meter stands between the connection and Pingora's parser, watches plaintext go by and arms one timer when a header
//! has begun and is not whole; the usual request comes in one piece and never arms it. While a connection waits for
//! its next request, the meter also lets the drain end it, and only then: a client is never cut off mid-request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, IO, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::counters::Counters;
use super::framing::{H1Header, H2Headers};
use super::guard::{Live, Stage};

/// What is counted as a header.
#[derive(Debug)]
enum Framing {
    H1(H1Header),
    H2(H2Headers),
}

/// A connection whose request headers are timed.
#[derive(Debug)]
pub(super) struct Metered<S> {
    io: S,
    framing: Framing,
    /// Set while a header is incomplete.
    deadline: Option<Pin<Box<Sleep>>>,
    header_timeout: Duration,
    live: Arc<Live>,
    counters: Arc<Counters>,
}

impl<S: IO> Metered<S> {
    /// Meters `io`, as HTTP/2 when its handshake chose that.
    pub(super) fn new(io: S, header_timeout: Duration, live: Arc<Live>, counters: Arc<Counters>) -> Self {
        let framing = match io.selected_alpn_proto() {
            Some(ALPN::H2) => Framing::H2(H2Headers::new()),
            _ => Framing::H1(H1Header::new()),
        };
        let mut metered = Metered { io, framing, deadline: None, header_timeout, live, counters };
        if matches!(metered.framing, Framing::H2(_)) {
            // The client has to open HTTP/2 itself; one that never does waits for nothing.
            metered.arm();
        }
        metered
    }

    fn arm(&mut self) {
        self.deadline = Some(Box::pin(tokio::time::sleep(self.header_timeout)));
    }

    fn saw(&mut self, bytes: &[u8]) {
        match &mut self.framing {
            Framing::H1(header) => match self.live.stage() {
                Stage::Rest => {}
                Stage::Idle if header.is_whole_in_one(bytes) => self.live.enter(Stage::Rest),
                stage => {
                    if stage == Stage::Idle {
                        *header = H1Header::new();
                    }
                    if header.ends_in(bytes) {
                        self.live.enter(Stage::Rest);
                        self.deadline = None;
                    } else if stage == Stage::Idle {
                        self.live.enter(Stage::Header);
                        self.arm();
                    }
                }
            },
            Framing::H2(headers) => {
                let progress = headers.saw(bytes);
                if progress.finished {
                    self.deadline = None;
                }
                if progress.open && self.deadline.is_none() {
                    self.arm();
                }
            }
        }
    }

    fn overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let overdue = self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
        if overdue {
            self.deadline = None;
            self.counters.header_timeouts.add();
        }
        overdue
    }
}

impl<S: IO> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let new = buf.filled().get(before..).unwrap_or_default();
                if !new.is_empty() {
                    self.saw(new);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending if self.overdue(cx) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request header took too long")))
            }
            Poll::Pending if matches!(self.framing, Framing::H1(_)) && self.live.stage() == Stage::Idle => {
                // An end of input where a request could have begun: the parser takes it for the client's leaving.
                self.live.poll_end(cx).map(Ok)
            }
            other => other,
        }
    }
}

impl<S: IO> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[async_trait]
impl<S: IO> Shutdown for Metered<S> {
    async fn shutdown(&mut self) {
        self.io.shutdown().await;
    }
}

impl<S: IO> UniqueID for Metered<S> {
    fn id(&self) -> UniqueIDType {
        self.io.id()
    }
}

impl<S: IO> Ssl for Metered<S> {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.io.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.io.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.io.selected_alpn_proto()
    }
}

impl<S: IO> Peek for Metered<S> {}

impl<S: IO> GetTimingDigest for Metered<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.io.get_timing_digest()
    }
}

impl<S: IO> GetProxyDigest for Metered<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.io.get_proxy_digest()
    }
}

impl<S: IO> GetSocketDigest for Metered<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.io.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    fn metered(io: DuplexStream) -> (Metered<DuplexStream>, Arc<Live>, Arc<Counters>) {
        let live = Arc::new(Live::default());
        let counters = Arc::new(Counters::default());
        (Metered::new(io, Duration::from_secs(10), live.clone(), counters.clone()), live, counters)
    }

    /// One byte a second; returns when the reader gave up.
    async fn drip(client: &mut DuplexStream, bytes: &[u8]) {
        for byte in bytes {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if client.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dripped_header_is_cut_after_the_whole_time() {
        let (mut client, server) = tokio::io::duplex(4096);
        let (mut server, _live, counters) = metered(server);
        let start = tokio::time::Instant::now();
        let reader = tokio::spawn(async move {
            let mut sink = Vec::new();
            server.read_to_end(&mut sink).await.unwrap_err().kind()
        });
        drip(&mut client, &[b'a'; 60]).await;
        assert_eq!(reader.await.unwrap(), io::ErrorKind::TimedOut);
        assert_eq!(counters.header_timeouts.get(), 1);
        assert!(start.elapsed() < Duration::from_secs(15));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leading_blank_line_does_not_switch_the_meter_off() {
        let (mut client, server) = tokio::io::duplex(4096);
        let (mut server, _live, counters) = metered(server);
        client.write_all(b"\r\n\r\n").await.unwrap();
        let reader = tokio::spawn(async move {
            let mut sink = Vec::new();
            server.read_to_end(&mut sink).await.unwrap_err().kind()
        });
        drip(&mut client, b"GET / HTTP/1.1\r\nHost: a").await;
        assert_eq!(reader.await.unwrap(), io::ErrorKind::TimedOut);
        assert_eq!(counters.header_timeouts.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_and_waiting_are_not_its_business() {
        let (mut client, server) = tokio::io::duplex(4096);
        let (mut server, live, counters) = metered(server);
        client.write_all(b"POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\n").await.unwrap();
        let reader = tokio::spawn(async move {
            let mut sink = Vec::new();
            server.read_to_end(&mut sink).await.map(|_| server)
        });
        drip(&mut client, &[b'b'; 30]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        // The next request: idle for an hour, then two pieces within the time.
        live.enter(Stage::Idle);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(live.stage(), Stage::Header);
        client.write_all(b"Host: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(live.stage(), Stage::Rest);
        drop(client);
        assert!(reader.await.unwrap().is_ok());
        assert_eq!(counters.header_timeouts.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_drain_ends_an_idle_connection_and_no_other() {
        let guard = super::super::guard::Guard::new(9, 9);
        let idle = guard.enter().unwrap();
        let busy = guard.enter().unwrap();
        let counters = Arc::new(Counters::default());
        let (_idle_client, server) = tokio::io::duplex(64);
        let mut idle_io = Metered::new(server, Duration::from_secs(10), idle.live.clone(), counters.clone());
        let (mut busy_client, server) = tokio::io::duplex(64);
        let mut busy_io = Metered::new(server, Duration::from_secs(10), busy.live.clone(), counters);
        busy_client.write_all(b"GET / HT").await.unwrap();
        let idle_read = tokio::spawn(async move { idle_io.read_u8().await.map_err(|error| error.kind()) });
        let busy_read = tokio::spawn(async move {
            let mut line = [0; 14];
            busy_io.read_exact(&mut line).await.map(|_| line)
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        guard.end_idle();
        assert_eq!(idle_read.await.unwrap(), Err(io::ErrorKind::UnexpectedEof));
        busy_client.write_all(b"TP/1.1").await.unwrap();
        assert_eq!(&busy_read.await.unwrap().unwrap(), b"GET / HTTP/1.1");
    }
}
