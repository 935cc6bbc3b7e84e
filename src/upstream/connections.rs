//! Connections to upstreams: opened, kept while idle, and taken again.
//!
//! HTTP/1.1 connections lie in a stack beside their address, and the one that was used last is used next: the others
//! grow old together and are closed when the load falls. Nothing watches an idle connection; whether it still lives is
//! looked at when it is taken, and once a second by [`Idle::tidy`]. Pingora's own pool has a task watch each of them,
//! which costs a task for every request. HTTP/2 connections are shared, which is Pingora's to arrange.

use std::fmt;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use pingora::connectors::http::Connector;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::Stream;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v1::client::HttpSession as Http1;
use pingora::upstreams::peer::{HttpPeer, Peer};
use tokio::io::AsyncReadExt;

use super::address::Address;
use crate::clock::Tick;

/// HTTP/2 connections kept while idle, over all upstreams.
const SHARED_KEPT: usize = 128;

/// A connection for one request and its answer. Boxed: it is large, and handed on several times.
pub type Line = Box<HttpSession>;

/// Opens connections.
pub struct Dialer {
    transport: TransportConnector,
    shared: Connector,
}

/// Whether an idle connection will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Yes.
    Any,
    /// No: the last one that was idle turned out to be dead, and so may the others be.
    Fresh,
}

impl Default for Dialer {
    fn default() -> Self {
        Dialer {
            transport: TransportConnector::new(None),
            shared: Connector::new(Some(ConnectorOptions::new(SHARED_KEPT))),
        }
    }
}

impl Dialer {
    /// A connection to `address`, and whether it has been used before.
    ///
    /// # Errors
    /// Pingora's, with the upstream as its source: nothing has been sent.
    pub async fn open(&self, address: &Address, wanted: Wanted, now: Tick) -> pingora::Result<(Line, bool)> {
        let peer = address.plain_peer();
        if speaks_http2(peer) {
            let opened = Box::pin(self.shared.get_http_session(peer)).await;
            let (mut session, reused) = opened.map_err(|error| error.into_up())?;
            session.set_read_timeout(peer.options.read_timeout);
            session.set_write_timeout(peer.options.write_timeout);
            return Ok((Box::new(session), reused));
        }
        let kept = if wanted == Wanted::Any { address.idle().take(now) } else { None };
        let (stream, reused) = match kept {
            Some(stream) => (stream, true),
            None => {
                let opened = Box::pin(self.transport.new_stream(peer)).await;
                (opened.map_err(|error| error.into_up())?, false)
            }
        };
        let mut line = Box::new(HttpSession::H1(Http1::new_with_options(stream, peer)));
        line.set_read_timeout(peer.options.read_timeout);
        line.set_write_timeout(peer.options.write_timeout);
        Ok((line, reused))
    }

    /// Takes a connection back whose answer has been read to its end; it is closed when it cannot be used again.
    pub async fn keep(&self, line: Line, address: &Address, now: Tick) {
        match *line {
            HttpSession::H1(mut session) => {
                session.respect_keepalive();
                if let Some(stream) = session.reuse().await {
                    address.idle().put(stream, now);
                }
            }
            shared => {
                let peer = address.plain_peer();
                Box::pin(self.shared.release_http_session(shared, peer, peer.idle_timeout())).await;
            }
        }
    }
}

fn speaks_http2(peer: &HttpPeer) -> bool {
    peer.options.alpn.get_max_http_version() == 2
}

/// HTTP/1.1 connections to one address that nobody uses at the moment.
pub struct Idle {
    kept: Mutex<Vec<Kept>>,
    most: usize,
    timeout: Duration,
}

struct Kept {
    stream: Stream,
    since: Tick,
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Idle({} of {})", self.len(), self.most)
    }
}

impl Idle {
    /// Room for `most` connections, each for at most `timeout`.
    pub fn new(most: usize, timeout: Duration) -> Idle {
        Idle { kept: Mutex::default(), most, timeout }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.kept.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one that was used last, if it still lives.
    fn take(&self, now: Tick) -> Option<Stream> {
        loop {
            // The lock is not held while the connection is looked at.
            let Kept { mut stream, since } = self.kept.lock().pop()?;
            if now.since(since) < self.timeout && is_quiet(&mut stream) {
                return Some(stream);
            }
        }
    }

    fn put(&self, mut stream: Stream, now: Tick) {
        if is_quiet(&mut stream) {
            let mut kept = self.kept.lock();
            if kept.len() < self.most {
                kept.push(Kept { stream, since: now });
            }
        }
    }

    /// Closes those that are too old, and those that the upstream has closed.
    pub fn tidy(&self, now: Tick) {
        self.kept.lock().retain_mut(|kept| now.since(kept.since) < self.timeout && is_quiet(&mut kept.stream));
    }
}

/// Whether nothing can be read: an end means that the upstream has closed it, and anything else is no answer of ours.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0];
    // Out of tokio's budget a read would say "not yet" of a connection that is closed.
    tokio::task::unconstrained(stream.read(&mut byte)).now_or_never().is_none()
}

#[cfg(test)]
mod tests {
    use pingora::protocols::l4::stream::Stream as TcpIo;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(50);

    /// Our end of a connection, and the upstream's.
    async fn connection(listener: &TcpListener) -> (Stream, TcpStream) {
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        (Box::new(TcpIo::from(ours)), theirs)
    }

    fn after(seconds: u64) -> Tick {
        Tick::default().plus(Duration::from_secs(seconds))
    }

    #[tokio::test]
    async fn the_last_one_used_is_used_next_and_old_ones_are_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let idle = Idle::new(2, TIMEOUT);
        let mut theirs = Vec::new();
        let mut ids = Vec::new();
        for second in 0..3 {
            let (ours, upstream) = connection(&listener).await;
            theirs.push(upstream);
            ids.push(ours.id());
            idle.put(ours, after(second));
        }
        assert_eq!(idle.len(), 2, "there is room for two");
        assert_eq!(idle.take(after(3)).map(|stream| stream.id()), Some(ids[1]));
        idle.tidy(after(49));
        assert_eq!(idle.len(), 1);
        idle.tidy(after(50));
        assert!(idle.is_empty());
        let (ours, _upstream) = connection(&listener).await;
        idle.put(ours, after(60));
        assert!(idle.take(after(110)).is_none(), "as old as its time-out");
    }

    #[tokio::test]
    async fn what_the_upstream_has_closed_or_spoken_on_is_not_used() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let idle = Idle::new(9, TIMEOUT);
        let (good, _good_end) = connection(&listener).await;
        let good_id = good.id();
        let (mut closed, closed_end) = connection(&listener).await;
        let (mut odd, mut odd_end) = connection(&listener).await;
        drop(closed_end);
        odd_end.write_all(b"HTTP/1.1 408").await.unwrap();
        for stream in [&mut closed, &mut odd] {
            // Until it has come: what the kernel has not told of yet, nobody can see.
            while is_quiet(stream) {
                tokio::task::yield_now().await;
            }
        }
        let now = after(1);
        idle.put(good, now);
        idle.kept.lock().push(Kept { stream: odd, since: now });
        idle.kept.lock().push(Kept { stream: closed, since: now });
        assert_eq!(idle.take(now).map(|stream| stream.id()), Some(good_id));
        assert!(idle.is_empty());
    }
}
