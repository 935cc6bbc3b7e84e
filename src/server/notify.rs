//! Tells systemd where the process stands (`sd_notify`), when it was started with `Type=notify`.
//!
//! It matters for upgrades: a successor says which process is the main one now, otherwise systemd takes the old one's
//! exit for the service's. Nothing is sent without `$NOTIFY_SOCKET`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What systemd is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// Requests are served; this process is the service's main one.
    Ready,
    /// The process is on its way out.
    Stopping,
}

/// Tells systemd, if it asked; a failure is logged and changes nothing.
pub(super) fn notify(state: State) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        log::warn!("cannot notify {}: {error}", socket.display());
    }
}

fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let message = match state {
        State::Ready => format!("READY=1\nMAINPID={}\n", std::process::id()),
        State::Stopping => "STOPPING=1\n".to_owned(),
    };
    let address = match socket.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(OsString::from(socket))?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_so_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("{}-edge-notify", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_address).unwrap();
        let mut got = [0; 64];
        send(path.as_os_str(), State::Stopping).unwrap();
        let len = by_path.recv(&mut got).unwrap();
        assert_eq!(&got[..len], b"STOPPING=1\n");
        send(OsStr::new(&format!("@{name}")), State::Ready).unwrap();
        let len = by_name.recv(&mut got).unwrap();
        assert_eq!(got[..len], *format!("READY=1\nMAINPID={}\n", std::process::id()).as_bytes());
    }
}
