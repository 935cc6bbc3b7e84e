//! A client that forgives nothing: no retries, no second connection, every byte looked at.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::PATIENCE;

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Whether the server says that the connection ends here.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// One HTTP/1.1 connection.
pub struct Connection(pub BufReader<TcpStream>);

impl Connection {
    pub async fn open(address: SocketAddr) -> Connection {
        Connection(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    /// From another loopback address, such as 127.0.0.2.
    pub async fn open_from(source: &str, address: SocketAddr) -> io::Result<Connection> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0))?;
        Ok(Connection(BufReader::new(socket.connect(address).await?)))
    }

    pub async fn send(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.get_mut().write_all(text.as_ref()).await
    }

    /// The next answer; an error also when it does not come in time or is not whole.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        tokio::time::timeout(PATIENCE, self.read_answer()).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    async fn read_answer(&mut self) -> io::Result<Answer> {
        let mut head = String::new();
        loop {
            if self.0.read_line(&mut head).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the answer ends at {head:?}")));
            }
            if head.ends_with("\r\n\r\n") {
                break;
            }
        }
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {head:?}"));
        let status = head.get(9..12).and_then(|text| text.parse().ok()).ok_or_else(|| bad("no status"))?;
        let mut answer = Answer { status, head: head.clone(), body: String::new() };
        if let Some(length) = answer.header("content-length") {
            let mut body = vec![0; length.parse().map_err(|_| bad("no length"))?];
            self.0.read_exact(&mut body).await?;
            answer.body = String::from_utf8_lossy(&body).into_owned();
        } else if answer.header("transfer-encoding").is_some() {
            answer.body = self.read_chunks().await?;
        }
        Ok(answer)
    }

    async fn read_chunks(&mut self) -> io::Result<String> {
        let mut whole = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await?;
            let length = usize::from_str_radix(line.trim(), 16)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("chunk {line:?}")))?;
            let mut chunk = vec![0; length + 2];
            self.0.read_exact(&mut chunk).await?;
            if length == 0 {
                return Ok(String::from_utf8_lossy(&whole).into_owned());
            }
            whole.extend_from_slice(&chunk[..length]);
        }
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, request: &str) -> io::Result<Answer> {
        self.send(request).await?;
        self.answer().await
    }

    /// Waits until the server ends the connection, and returns what came before.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _cut = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("the connection ended");
        rest
    }
}

/// The text of a GET request with a token.
pub fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: edge.test\r\nAuthorization: Bearer {token}\r\n\r\n")
}

/// The text of a POST request's head, with JSON of `length` bytes to follow.
pub fn post(path: &str, token: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: edge.test\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Clients that call all the time, until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub done: Arc<AtomicUsize>,
    pub failed: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// `kept` clients on connections that they keep, `fresh` ones with a connection for each request.
    pub fn start(address: SocketAddr, request: &str, kept: usize, fresh: usize) -> Load {
        let mut load = Load {
            stop: Arc::default(),
            done: Arc::default(),
            failed: Arc::default(),
            clients: Vec::with_capacity(kept + fresh),
        };
        for client in 0..kept + fresh {
            let keeps = client < kept;
            let request = if keeps { request.to_owned() } else { request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n") };
            let (stop, done, failed) = (load.stop.clone(), load.done.clone(), load.failed.clone());
            load.clients.push(tokio::spawn(async move {
                let mut held = None;
                while !stop.load(Ordering::Relaxed) {
                    match one(address, &mut held, &request).await {
                        Ok(answer) if answer.status == 200 => {
                            if answer.closes() || !keeps {
                                held = None;
                            }
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(answer) => failed.lock().push(format!("{answer:?}")),
                        Err(error) => {
                            held = None;
                            failed.lock().push(format!("keeps {keeps}: {error}"));
                        }
                    }
                }
            }));
        }
        load
    }

    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests are done.
    pub async fn more(&self, requests: usize) {
        let goal = self.done() + requests;
        super::until("the load went on", || self.done() >= goal).await;
    }

    /// Stops it, and returns how many requests were answered with 200 and what became of the others.
    pub async fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        let failed = std::mem::take(&mut *self.failed.lock());
        (self.done.load(Ordering::Relaxed), failed)
    }
}

async fn one(address: SocketAddr, held: &mut Option<Connection>, request: &str) -> io::Result<Answer> {
    if held.is_none() {
        *held = Some(Connection(BufReader::new(TcpStream::connect(address).await?)));
    }
    match held {
        Some(connection) => connection.ask(request).await,
        None => Err(io::ErrorKind::NotConnected.into()),
    }
}
