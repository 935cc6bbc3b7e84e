//! HTTP/1.1 by hand: tests decide every byte that goes out, and see every byte that comes back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than anything that a test waits for on purpose.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
pub struct Wire {
    reader: BufReader<TcpStream>,
    /// Statuses of the interim answers (1xx) that came so far.
    pub interim: Vec<u16>,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The one value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} stands {} times in {self:?}", values.len());
        values.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The header as a number.
    pub fn number(&self, name: &str) -> u64 {
        let text = self.header(name).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        text.parse().unwrap_or_else(|_| panic!("{name}: {text}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {} {}", self.status, self.text()))
    }

    /// The error's code in the protocol's shape; empty when the body is no error.
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Status and code, for comparing at a glance.
    pub fn verdict(&self) -> (u16, String) {
        (self.status, self.code())
    }
}

impl Wire {
    pub fn to(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { reader: BufReader::new(stream), interim: Vec::new() }
    }

    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// The final answer to a request. `head`: the request was a HEAD, so no body follows.
    pub fn answer_to(&mut self, head: bool) -> io::Result<Answer> {
        loop {
            let (status, headers) = self.head()?;
            if (100..200).contains(&status) && status != 101 {
                self.interim.push(status);
                continue;
            }
            let mut answer = Answer { status, headers, body: Vec::new() };
            let empty = head || status == 101 || status == 204 || status == 304;
            if !empty {
                answer.body = self.body(&answer)?;
            }
            return Ok(answer);
        }
    }

    pub fn answer(&mut self) -> io::Result<Answer> {
        self.answer_to(false)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') || line.pop() != Some(b'\r') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        String::from_utf8(line).map_err(io::Error::other)
    }

    fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let start = self.line()?;
        let status = start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {start}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(line.clone()))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn body(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        if answer.header("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
                let mut chunk = vec![0; size];
                self.reader.read_exact(&mut chunk)?;
                body.extend(chunk);
                self.line()?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        let mut body = Vec::new();
        match answer.header("content-length") {
            Some(length) => {
                body.resize(length.parse().map_err(io::Error::other)?, 0);
                self.reader.read_exact(&mut body)?;
            }
            None => drop(self.reader.read_to_end(&mut body)?),
        }
        Ok(body)
    }

    /// The next bytes, as they are.
    pub fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).map(|()| bytes)
    }

    /// Everything until the other side closes; a reset ends it as well.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = self.reader.read(&mut buffer) {
            rest.extend_from_slice(&buffer[..read]);
        }
        rest
    }
}

/// A request that is well formed unless a test sees to it that it is not.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
    pub chunked: Option<usize>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Request {
        Request { method: method.into(), target: target.into(), headers: Vec::new(), body: None, chunked: None }
    }

    pub fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    /// A POST of JSON.
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Request {
        Request::new("POST", target).header("content-type", "application/json").body(body)
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn bearer(self, token: &str) -> Request {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self
    }

    /// Sends the body in chunks of that many bytes.
    pub fn chunks_of(mut self, size: usize) -> Request {
        self.chunked = Some(size);
        self
    }

    /// Whether a header is there already.
    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Its first line and headers, framing included.
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        if !self.has("host") {
            bytes.extend(b"host: edge.test\r\n");
        }
        match (&self.body, self.chunked) {
            (Some(_), Some(_)) => bytes.extend(b"transfer-encoding: chunked\r\n"),
            (Some(body), None) => bytes.extend(format!("content-length: {}\r\n", body.len()).bytes()),
            (None, _) => {}
        }
        bytes.extend(b"\r\n");
        bytes
    }

    /// Its body, framed.
    pub fn body_bytes(&self) -> Vec<u8> {
        let body = self.body.as_deref().unwrap_or_default();
        let (Some(size), true) = (self.chunked, self.body.is_some()) else { return body.to_vec() };
        let mut bytes = Vec::new();
        for chunk in body.chunks(size) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        bytes
    }
}
