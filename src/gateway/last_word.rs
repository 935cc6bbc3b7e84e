//! The last word on a request whose upstream failed, said on a connection that stays.
//!
//! Once an upstream has failed, Pingora lets go of an HTTP/1.1 client's connection, whatever `fail_to_proxy` says about
//! it: each 502 would cost the client a handshake, all clients at once when an upstream goes down. So the answer is
//! given as a try more: to a peer whose socket holds nothing but the answer and takes in whatever is sent. For Pingora
//! that is an upstream that answered, and everything goes on as it does after any answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use pingora::Result;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::response::Answer;

/// Where no upstream is, so that its connections are never taken for anybody else's.
const NOWHERE: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// An answer as a peer would send it.
pub fn spoken(answer: &Answer) -> Bytes {
    let mut wire = Vec::with_capacity(512 + answer.body.len());
    wire.extend_from_slice(b"HTTP/1.1 ");
    wire.extend_from_slice(answer.status.as_str().as_bytes());
    wire.extend_from_slice(b" ");
    wire.extend_from_slice(answer.status.canonical_reason().unwrap_or_default().as_bytes());
    wire.extend_from_slice(b"\r\nconnection: close\r\n");
    for (name, value) in &answer.headers {
        wire.extend_from_slice(name.as_str().as_bytes());
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(value.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(format!("content-length: {}\r\n\r\n", answer.body.len()).as_bytes());
    wire.extend_from_slice(&answer.body);
    wire.into()
}

/// The peer that says `wire` and nothing else.
pub fn peer(wire: Bytes) -> Box<HttpPeer> {
    let mut peer = HttpPeer::new(NOWHERE, false, String::new());
    peer.options.custom_l4 = Some(Arc::new(Speaker(wire)));
    Box::new(peer)
}

#[derive(Debug)]
struct Speaker(Bytes);

#[async_trait]
impl L4Connect for Speaker {
    async fn connect(&self, _nowhere: &SocketAddr) -> Result<Stream> {
        Ok(Stream::from(VirtualSocketStream::new(Box::new(Speech(self.0.clone())))))
    }
}

/// What is left to say.
#[derive(Debug)]
struct Speech(Bytes);

impl VirtualSocket for Speech {
    fn set_socket_option(&self, _option: VirtualSockOpt) -> std::io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Speech {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let length = self.0.len().min(into.remaining());
        into.put_slice(self.0.get(..length).unwrap_or_default());
        self.0.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Speech {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
