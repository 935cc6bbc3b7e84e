//! The network between one edge and its Redis, in the test's hand.

use std::net::SocketAddr;
use std::pin::pin;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::life::process::free_address;

/// What becomes of an edge's connections to its Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They work.
    Open,
    /// They are cut, and new ones refused, as by a server that has gone.
    Refused,
    /// They stay, and nothing comes through, as behind a broken switch.
    Silent,
}

/// A relay on loopback before a server.
pub struct Relay {
    pub address: SocketAddr,
    way: watch::Sender<Way>,
    listening: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Relay {
    /// Before the server at that port of loopback.
    pub fn before(port: u16) -> Relay {
        let (address, server) = (free_address(), SocketAddr::from(([127, 0, 0, 1], port)));
        let (way, seen) = watch::channel(Way::Open);
        Relay { address, way, listening: tokio::spawn(listen(address, server, seen)) }
    }

    /// From now on.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn listen(address: SocketAddr, server: SocketAddr, mut way: watch::Receiver<Way>) {
    loop {
        if way.wait_for(|way| *way != Way::Refused).await.is_err() {
            return;
        }
        let listener = TcpListener::bind(address).await.unwrap();
        loop {
            let near = tokio::select! {
                _ = way.wait_for(|way| *way == Way::Refused) => break,
                accepted = listener.accept() => accepted.unwrap().0,
            };
            tokio::spawn(carry(near, server, way.clone()));
        }
    }
}

async fn carry(mut near: TcpStream, server: SocketAddr, mut way: watch::Receiver<Way>) {
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let mut copying = pin!(copy_bidirectional(&mut near, &mut far));
    loop {
        let now = *way.borrow_and_update();
        let changed = match now {
            Way::Refused => return,
            Way::Silent => way.changed().await,
            Way::Open => tokio::select! {
                _ = &mut copying => return,
                changed = way.changed() => changed,
            },
        };
        if changed.is_err() {
            return;
        }
    }
}
