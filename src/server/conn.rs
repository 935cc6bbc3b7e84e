//! One accepted TCP connection as Pingora's protocols want to see it.
//!
//! Pingora's own stream keeps a 64 KiB read buffer per connection, which ten thousand idle clients turn into 640 MB.
//! Its HTTP/1 parser and OpenSSL both read into buffers of their own, so this one reads straight through and only
//! gathers small writes. Its peer address is the client's as PROXY protocol gave it, so that `session.client_addr()`
//! is right without anybody asking.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::net::TcpStream;

/// Header and first body bytes of an ordinary answer: one segment, one system call.
const WRITE_BUFFER: usize = 1460;

/// A TCP connection with its client's address.
#[derive(Debug)]
pub(super) struct Conn {
    io: BufWriter<TcpStream>,
    /// Bytes that were read behind a PROXY header and belong to what follows.
    read_ahead: Bytes,
    digest: Arc<SocketDigest>,
}

impl Conn {
    /// `client` is whom the connection is for, `read_ahead` what was already read of its bytes.
    pub(super) fn new(stream: TcpStream, client: SocketAddr, read_ahead: Bytes) -> Self {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // The cell is new, so this cannot fail.
        let _unset = digest.peer_addr.set(Some(PingoraAddr::Inet(client)));
        Conn { io: BufWriter::with_capacity(WRITE_BUFFER, stream), read_ahead, digest: Arc::new(digest) }
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read_ahead.has_remaining() {
            let take = self.read_ahead.len().min(buf.remaining());
            buf.put_slice(&self.read_ahead.split_to(take));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
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
impl Shutdown for Conn {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            log::debug!("closing a connection: {error}");
        }
    }
}

impl UniqueID for Conn {
    fn id(&self) -> UniqueIDType {
        self.io.get_ref().as_raw_fd()
    }
}

impl Ssl for Conn {}

impl Peek for Conn {}

impl GetTimingDigest for Conn {
    // Pingora asks for it with each request; nobody here reads it, and an empty list costs no allocation.
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digest.clone())
    }
}
