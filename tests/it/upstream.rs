//! An upstream that answers as a test scripts it, byte by byte, where the sandbox would behave too well.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which connection brought it, counted from 0.
    pub connection: usize,
    /// How many came before it on that connection.
    pub before: usize,
    /// Method and target.
    pub start: String,
    /// Header lines in lower-case names, as they came.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a script says to a request.
pub enum Reply {
    /// These bytes, and the connection stays.
    Bytes(Vec<u8>),
    /// These bytes, and the connection ends.
    Last(Vec<u8>),
}

/// The upstream. Ends with the process: its threads wait for nobody.
pub struct Scripted {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// An answer with a content type and a body.
pub fn answer(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into()
}

impl Scripted {
    pub fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (script, tape) = (Arc::new(script), seen.clone());
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (script, tape) = (script.clone(), tape.clone());
                let Ok(stream) = stream else { continue };
                thread::spawn(move || serve(connection, stream, &*script, &tape));
            }
        });
        Scripted { address, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(connection: usize, stream: TcpStream, script: &dyn Fn(&Seen) -> Reply, tape: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(stream);
    for before in 0.. {
        let Some(mut seen) = read_request(&mut reader) else { return };
        (seen.connection, seen.before) = (connection, before);
        tape.lock().unwrap().push(seen.clone());
        let (bytes, last) = match script(&seen) {
            Reply::Bytes(bytes) => (bytes, false),
            Reply::Last(bytes) => (bytes, true),
        };
        if reader.get_mut().write_all(&bytes).is_err() || last {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = || {
        let mut text = String::new();
        reader.read_line(&mut text).ok().filter(|read| *read > 0)?;
        Some(text.trim_end_matches(['\r', '\n']).to_owned())
    };
    let start = line()?;
    let mut headers = Vec::new();
    loop {
        let text = line()?;
        let Some((name, value)) = text.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let seen = Seen { connection: 0, before: 0, start, headers };
    let length = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(seen)
}
