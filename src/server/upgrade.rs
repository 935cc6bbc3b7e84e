//! Handing the listening sockets to a successor, so that not one connection is refused or cut.
//!
//! The successor (`run --upgrade`) listens on the upgrade socket and waits. On SIGQUIT the running process connects and
//! sends its sockets; while both hold them, the kernel's queue is shared and nothing can be missed. Then three words
//! make sure that exactly one of the two serves on:
//!
//! ```text
//! old → new   sockets and their names
//! new → old   ready       everything is built, only accepting is left to do
//! old → new   yours       I accept nothing more
//! ```
//!
//! Until the last word the old process goes on as if nothing had happened, whatever goes wrong; a SIGQUIT without a
//! successor changes nothing. Both sides talk only to a process of the same user.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use tokio::net::UnixListener;

/// How long a successor waits for its predecessor's SIGQUIT.
pub(super) const WAIT_FOR_PREDECESSOR: Duration = Duration::from_secs(120);
/// How long a predecessor waits for the successor to be ready.
const WAIT_FOR_READY: Duration = Duration::from_secs(30);
/// How long each other word may take.
const WAIT_FOR_WORD: Duration = Duration::from_secs(5);

const GREETING: &str = "tmcp-edge sockets 1\n";
const READY: &[u8; 6] = b"ready\n";
const YOURS: &[u8; 6] = b"yours\n";
/// The most sockets that one message carries.
const MOST_SOCKETS: usize = 64;
const MOST_NAMES: usize = 16 * 1024;

/// A predecessor whose sockets we hold and that still serves.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

/// A successor that is ready and waits for the word.
#[derive(Debug)]
pub(super) struct Successor(UnixStream);

/// Waits at `path` until the running process hands its sockets over. Who connects and says something else is sent away.
///
/// # Errors
/// When nobody does in time or somebody else waits there already.
pub(super) async fn take_over(path: &Path) -> Result<(Predecessor, Vec<(String, OwnedFd)>), String> {
    let waiting = listen(path)?;
    log::info!("waiting at {} for the running process: send it SIGQUIT", path.display());
    let taking = async {
        loop {
            match taken(&waiting.0).await {
                Ok(taken) => return taken,
                Err(error) => log::warn!("{}: {error}", path.display()),
            }
        }
    };
    tokio::time::timeout(WAIT_FOR_PREDECESSOR, taking)
        .await
        .map_err(|_| format!("no process handed its sockets over within {WAIT_FOR_PREDECESSOR:?}: send SIGQUIT to it"))
}

async fn taken(listener: &UnixListener) -> Result<(Predecessor, Vec<(String, OwnedFd)>), String> {
    let told = |error: io::Error| format!("taking the sockets over failed: {error}");
    let (stream, _) = listener.accept().await.map_err(told)?;
    check_peer(&stream)?;
    let stream = stream.into_std().map_err(told)?;
    stream.set_nonblocking(false).map_err(told)?;
    tokio::task::spawn_blocking(move || receive(&stream).map(|sockets| (Predecessor(stream), sockets)))
        .await
        .map_err(io::Error::other)
        .and_then(|received| received)
        .map_err(told)
}

impl Predecessor {
    /// Says that we are ready and waits until the sockets are ours alone. Blocks.
    ///
    /// # Errors
    /// When the predecessor decided to stay; nothing may be accepted then.
    pub(super) fn relieve(mut self) -> Result<(), String> {
        let relieved = (|| {
            self.0.set_read_timeout(Some(WAIT_FOR_WORD))?;
            self.0.write_all(READY)?;
            expect(&mut self.0, YOURS)
        })();
        relieved.map_err(|error| format!("the running process did not let go and serves on: {error}"))
    }
}

/// Hands `sockets` to the successor that waits at `path`, and waits until it is ready. Blocks.
///
/// # Errors
/// When nobody waits there or it does not get ready; the caller serves on then.
pub(super) fn hand_over(path: &Path, names: &[&str], sockets: &[BorrowedFd<'_>]) -> Result<Successor, String> {
    let mut stream = UnixStream::connect(path).map_err(|error| {
        format!("no successor waits at {} ({error}): start one with `run --upgrade`", path.display())
    })?;
    let ready = (|| {
        stream.set_write_timeout(Some(WAIT_FOR_WORD))?;
        stream.set_read_timeout(Some(WAIT_FOR_READY))?;
        send(&stream, names, sockets)?;
        expect(&mut stream, READY)
    })();
    ready.map_err(|error| format!("the successor at {} did not get ready: {error}", path.display()))?;
    Ok(Successor(stream))
}

impl Successor {
    /// Leaves the sockets to the successor.
    ///
    /// # Errors
    /// When it is gone; the caller serves on then.
    pub(super) fn let_go(mut self) -> Result<(), String> {
        self.0.write_all(YOURS).map_err(|error| format!("the successor is gone: {error}"))
    }
}

fn expect(stream: &mut UnixStream, word: &[u8; 6]) -> io::Result<()> {
    let mut got = [0; 6];
    stream.read_exact(&mut got)?;
    if got == *word { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "unexpected answer")) }
}

/// The socket's file, removed when the waiting is over.
struct Waiting(UnixListener, PathBuf);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.1) {
            log::warn!("{}: {error}", self.1.display());
        }
    }
}

fn listen(path: &Path) -> Result<Waiting, String> {
    let fail = |error: io::Error| format!("server.upgrade_socket {}: {error}", path.display());
    match UnixStream::connect(path) {
        Ok(_) => return Err(format!("another process waits at {} already", path.display())),
        // Left behind by a process that was killed.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(fail)?,
        Err(_) => {}
    }
    // A socket's file is there before anything listens on it, and whoever sees ours may connect at once. So it is made
    // under a name that nobody looks for.
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let made = Unfinished(unfinished.into());
    // In a container every process may have the same number, one that was killed just here among them.
    let _ = fs::remove_file(&made.0);
    let listener = UnixListener::bind(&made.0).map_err(fail)?;
    fs::set_permissions(&made.0, fs::Permissions::from_mode(0o600)).map_err(fail)?;
    // Unlike renaming, linking does not take the place of a successor that was quicker.
    fs::hard_link(&made.0, path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("another process waits at {} already", path.display()),
        _ => fail(error),
    })?;
    Ok(Waiting(listener, path.to_path_buf()))
}

/// The name that a socket is made under, given up once it has its own.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It may never have come to be.
        let _ = fs::remove_file(&self.0);
    }
}

fn check_peer(stream: &tokio::net::UnixStream) -> Result<(), String> {
    let peer = stream.peer_cred().map_err(|error| format!("cannot tell who connects: {error}"))?.uid();
    let own = rustix::process::geteuid().as_raw();
    if peer == own || peer == 0 { Ok(()) } else { Err(format!("user {peer} is not the one this process runs as")) }
}

fn send(stream: &UnixStream, names: &[&str], sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    if sockets.len() > MOST_SOCKETS {
        return Err(io::Error::other(format!("more than {MOST_SOCKETS} listeners")));
    }
    let mut text = String::from(GREETING);
    for name in names {
        text.push_str(name);
        text.push('\n');
    }
    text.push('\n');
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("no room for the sockets"));
    }
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    let mut stream = stream;
    stream.write_all(text.as_bytes().get(sent..).unwrap_or_default())
}

fn receive(stream: &UnixStream) -> io::Result<Vec<(String, OwnedFd)>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    stream.set_read_timeout(Some(WAIT_FOR_WORD))?;
    stream.set_write_timeout(Some(WAIT_FOR_WORD))?;
    let mut sockets = Vec::new();
    let mut text = Vec::new();
    let mut chunk = [0; 2048];
    while !text.ends_with(b"\n\n") {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got =
            rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                sockets.extend(rights);
            }
        }
        text.extend_from_slice(chunk.get(..got.bytes).unwrap_or_default());
        if got.bytes == 0 || text.len() > MOST_NAMES {
            return Err(bad("the message ends early"));
        }
    }
    let text = String::from_utf8(text).map_err(|_| bad("the message is not text"))?;
    let names = text.strip_prefix(GREETING).ok_or_else(|| bad("the other process is not an edge of this kind"))?;
    let names: Vec<_> = names.trim_end().lines().map(str::to_owned).collect();
    if names.len() != sockets.len() {
        return Err(bad("as many names as sockets expected"));
    }
    Ok(names.into_iter().zip(sockets).collect())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use super::*;

    fn socket_in(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("upgrade.sock")
    }

    async fn until_exists(path: &Path) {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn sockets_change_hands_and_the_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = socket_in(&dir);
        let tcp = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
        let addresses: Vec<_> = tcp.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let new = tokio::spawn({
            let path = path.clone();
            async move {
                let (predecessor, sockets) = take_over(&path).await.unwrap();
                tokio::task::spawn_blocking(|| predecessor.relieve()).await.unwrap().unwrap();
                sockets
            }
        });
        until_exists(&path).await;
        let old = tokio::task::spawn_blocking({
            let path = path.clone();
            move || {
                let fds: Vec<_> = tcp.iter().map(|socket| socket.as_fd()).collect();
                hand_over(&path, &["a", "b"], &fds)?.let_go()
            }
        });
        old.await.unwrap().unwrap();
        let sockets = new.await.unwrap();
        assert_eq!(sockets.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        for ((_, fd), address) in sockets.into_iter().zip(addresses) {
            assert_eq!(TcpListener::from(fd).local_addr().unwrap(), address);
        }
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn without_a_successor_or_with_one_that_fails_nothing_is_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = socket_in(&dir);
        assert!(hand_over(&path, &[], &[]).unwrap_err().contains("--upgrade"));
        // A file that a killed process left behind is no successor either, and is in nobody's way.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(hand_over(&path, &[], &[]).unwrap_err().contains("--upgrade"));
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let new = tokio::spawn({
            let path = path.clone();
            async move { take_over(&path).await.map(|(predecessor, _)| drop(predecessor)) }
        });
        let old = loop {
            let attempt = tokio::task::spawn_blocking({
                let (path, tcp) = (path.clone(), tcp.try_clone().unwrap());
                move || hand_over(&path, &["a"], &[tcp.as_fd()]).map(|_| ())
            });
            match attempt.await.unwrap() {
                Err(error) if error.contains("no successor") => tokio::task::yield_now().await,
                other => break other,
            }
        };
        assert!(old.unwrap_err().contains("did not get ready"));
        new.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn only_one_successor_waits_and_strangers_are_sent_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = socket_in(&dir);
        let new = tokio::spawn({
            let path = path.clone();
            async move { take_over(&path).await.map(|(_, sockets)| sockets.len()) }
        });
        until_exists(&path).await;
        assert!(take_over(&path).await.unwrap_err().contains("waits at"));
        let mut stranger = UnixStream::connect(&path).unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\n\n").unwrap();
        let old = tokio::task::spawn_blocking(move || {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            hand_over(&path, &["a"], &[tcp.as_fd()]).map(|_| ())
        });
        assert_eq!(new.await.unwrap(), Ok(1));
        assert!(old.await.unwrap().is_err());
    }
}
