//! The listening sockets: bound anew, or taken over from the process before.
//!
//! Each goes by the address that the config gives it. Two that share one (port 0 twice) are told apart by order.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt;

use crate::store::folder::ServiceLock;

/// Connections that may wait to be accepted; the kernel's own limit (`net.core.somaxconn`) holds besides.
pub(super) const BACKLOG: i32 = 4096;
/// A peer that vanished without a word is noticed after a minute's silence and three unanswered probes.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 3;

/// A listening socket and the name that a successor asks for it by.
#[derive(Debug)]
pub(super) struct Listener {
    /// The address as configured.
    pub(super) name: String,
    /// The address as bound: port 0 has become a real one.
    pub(super) address: SocketAddr,
    /// The socket, non-blocking.
    pub(super) socket: TcpListener,
}

/// Sockets from the process before, by name; those that nobody asks for are closed when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<(String, OwnedFd)>);

impl Inherited {
    pub(super) fn new(sockets: Vec<(String, OwnedFd)>) -> Self {
        Inherited(sockets)
    }

    /// What was handed over under that name.
    pub(super) fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let place = self.0.iter().position(|(own, _)| own == name)?;
        Some(self.0.remove(place).1)
    }

    /// The socket for `address`: inherited, or bound now.
    ///
    /// # Errors
    /// A sentence that names the address and what to do.
    pub(super) fn open(&mut self, address: SocketAddr) -> Result<Listener, String> {
        let name = address.to_string();
        let socket = match self.take(&name) {
            Some(socket) => TcpListener::from(socket),
            None => bind(address).map_err(|error| explain(address, &error))?,
        };
        let address = socket.local_addr().map_err(|error| explain(address, &error))?;
        Ok(Listener { name, address, socket })
    }
}

/// The name that the hold on the data folder goes by.
pub(super) const FOLDER: &str = "data folder";

/// The names and sockets to hand to a successor, and the hold on the data folder.
pub(super) fn to_hand_over<'a>(
    listeners: &'a [Listener],
    folder: Option<&'a ServiceLock>,
) -> (Vec<&'a str>, Vec<BorrowedFd<'a>>) {
    let sockets = listeners.iter().map(|listener| (listener.name.as_str(), listener.socket.as_fd()));
    sockets.chain(folder.map(|lock| (FOLDER, lock.as_fd()))).unzip()
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    // Listening again only deepens the queue. Accepted sockets inherit the options.
    rustix::net::listen(&socket, BACKLOG)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(&socket, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(&socket, PROBES)?;
    Ok(socket)
}

fn explain(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "cannot listen on {address}: another process does. To take over from a running edge, start with `run --upgrade`"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("cannot listen on {address}: ports below 1024 need CAP_NET_BIND_SERVICE")
        }
        _ => format!("cannot listen on {address}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_sockets_are_taken_in_order_and_others_bound() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let before = [bind(any).unwrap(), bind(any).unwrap()];
        let ports: Vec<_> = before.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let mut inherited =
            Inherited::new(before.into_iter().map(|socket| (any.to_string(), OwnedFd::from(socket))).collect());
        assert_eq!(inherited.open(any).unwrap().address, ports[0]);
        let second = inherited.open(any).unwrap();
        assert_eq!(second.address, ports[1]);
        assert!(!ports.contains(&inherited.open(any).unwrap().address));
        let taken = inherited.open(second.address).unwrap_err();
        assert!(taken.contains("--upgrade"), "{taken}");
    }
}
