//! A door in front of a server: what comes through can be counted, held up, swallowed or turned away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long a late door holds each answer.
pub(super) const LATE: Duration = Duration::from_millis(60);

/// What the door does with what the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Passes it on.
    Open,
    /// Takes connections and questions, and says nothing: a black hole. Once open again it passes on what it has kept.
    Silent,
    /// Passes everything on later than [`LATE`].
    Late,
    /// Ends every connection.
    Shut,
}

/// A door, and the hand on it.
pub(super) struct Doorway {
    pub port: u16,
    door: watch::Sender<Door>,
    questions: Arc<AtomicUsize>,
}

impl Doorway {
    /// Stands in front of the server at `port`.
    pub async fn before(port: u16) -> Doorway {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (door, watched) = watch::channel(Door::Open);
        let questions = Arc::new(AtomicUsize::new(0));
        let counted = questions.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let (counted, mut there, back) = (counted.clone(), watched.clone(), watched.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = ask(from_client, to_server, counted) => {}
                        () = answer(from_server, to_client, back) => {}
                        _ = there.wait_for(|door| *door == Door::Shut) => {}
                    }
                });
            }
        });
        Doorway { port: own, door, questions }
    }

    pub fn set(&self, door: Door) {
        self.door.send_replace(door);
    }

    /// Questions about limits that have come to the door, those about who is there not among them.
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }
}

async fn ask(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, counted: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read) = client.read(&mut buffer).await
        && read > 0
    {
        // A bucket's key: `tmcp:{limit:<family>:<key>}`, where instances have `tmcp:{limit:instances}`.
        let text = String::from_utf8_lossy(&buffer[..read]);
        let questions = text.matches("{limit:").count() - text.matches("{limit:instances").count();
        counted.fetch_add(questions, Ordering::SeqCst);
        if server.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn answer(mut server: OwnedReadHalf, mut client: OwnedWriteHalf, mut door: watch::Receiver<Door>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read) = server.read(&mut buffer).await
        && read > 0
    {
        if *door.borrow() == Door::Late {
            // This is what a slow server is: nobody waits for the end of it, but until a question is given up.
            tokio::time::sleep(LATE).await;
        }
        let passes = |door: &Door| matches!(door, Door::Open | Door::Late);
        if door.wait_for(passes).await.is_err() || client.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
