//! One HTTP/1.1 connection of the load generator: as little work per answer as can be, so that the proxy is the bottleneck.
//!
//! Answers of one server mostly have the same length. So an answer that ends where the last one did is taken as read
//! after two comparisons; every other one is read properly.

use std::io;
use std::pin::Pin;

use pingora::tls::ssl::{SslConnector, SslMethod, SslVerifyMode};
use pingora::tls::tokio_ssl::SslStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Any byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where a server is.
#[derive(Clone, Debug)]
pub struct Target {
    /// What `Host` says.
    pub host: String,
    /// `host:port` to connect to.
    pub address: String,
    /// Whether TLS is spoken. Certificates are checked unless the host is a loopback address.
    pub tls: bool,
}

impl Target {
    /// A plain server on this machine.
    pub fn local(port: u16) -> Target {
        let address = format!("127.0.0.1:{port}");
        Target { host: address.clone(), address, tls: false }
    }

    /// Connects; `alpn` is offered over TLS.
    pub async fn connect(&self, alpn: &[u8]) -> io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect(&self.address).await?;
        tcp.set_nodelay(true)?;
        if !self.tls {
            return Ok(Box::new(tcp));
        }
        let name = self.host.rsplit_once(':').map_or(self.host.as_str(), |(name, _)| name);
        let mut connector = SslConnector::builder(SslMethod::tls()).map_err(io::Error::other)?;
        connector.set_alpn_protos(alpn).map_err(io::Error::other)?;
        if name == "127.0.0.1" || name == "localhost" {
            connector.set_verify(SslVerifyMode::NONE);
        }
        let ssl = connector.build().configure().and_then(|c| c.into_ssl(name)).map_err(io::Error::other)?;
        let mut stream = SslStream::new(ssl, tcp).map_err(io::Error::other)?;
        Pin::new(&mut stream).connect().await.map_err(io::Error::other)?;
        Ok(Box::new(stream))
    }
}

/// A connection and what it has read.
pub struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    filled: usize,
    /// Where the last answer's head and the whole of it ended.
    last: (usize, usize),
    /// Whether the server has said that it closes.
    pub closing: bool,
}

impl Connection {
    /// Connects to `target` for HTTP/1.1.
    pub async fn open(target: &Target) -> io::Result<Connection> {
        let stream = target.connect(b"\x08http/1.1").await?;
        Ok(Connection { stream, buffer: vec![0; 16 * 1024], filled: 0, last: (0, 0), closing: false })
    }

    /// Sends `request` and reads the answer to its end. Returns the status.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        self.answer().await
    }

    /// Sends a part of a request.
    pub async fn send(&mut self, part: &[u8]) -> io::Result<()> {
        self.stream.write_all(part).await
    }

    /// Reads an answer to its end. Returns the status.
    pub async fn answer(&mut self) -> io::Result<u16> {
        self.filled = 0;
        loop {
            if self.filled == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            let read = self.stream.read(room).await?;
            let so_far = self.buffer.get(..self.filled + read).unwrap_or_default();
            if read == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("closed after {} bytes of an answer", so_far.len()),
                ));
            }
            self.filled += read;
            if ends_like(so_far, self.last) {
                return Ok(200);
            }
            if let Some(answer) = parse(so_far)? {
                self.closing = answer.closing;
                self.last = if answer.status == 200 && !answer.closing { (answer.head, answer.end) } else { (0, 0) };
                return Ok(answer.status);
            }
        }
    }

    /// The last answer as it came.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.buffer.get(..self.filled).unwrap_or_default()).into_owned()
    }
}

fn ends_like(answer: &[u8], (head, end): (usize, usize)) -> bool {
    end != 0
        && answer.len() == end
        && answer.starts_with(b"HTTP/1.1 200")
        && answer.get(head - 4..head) == Some(b"\r\n\r\n")
}

struct Answer {
    status: u16,
    head: usize,
    end: usize,
    closing: bool,
}

/// The answer that `bytes` begin with; `None` when it is not all there yet.
fn parse(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let text = std::str::from_utf8(bytes.get(..head).unwrap_or_default()).map_err(|_| bad("a head that is no text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or_else(|| bad("no status"))?;
    if (100..200).contains(&status) {
        let rest = parse(bytes.get(head..).unwrap_or_default())?;
        return Ok(rest.map(|a| Answer { head: a.head + head, end: a.end + head, ..a }));
    }
    let (mut length, mut chunked, mut closing) = (None, false, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse::<usize>().map_err(|_| bad("a Content-Length that is no number"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            closing = value.eq_ignore_ascii_case("close");
        }
    }
    let end = if chunked {
        end_of_chunks(bytes, head)?
    } else if matches!(status, 204 | 304) {
        Some(head)
    } else {
        Some(head + length.ok_or_else(|| bad("neither Content-Length nor chunks"))?)
    };
    match end {
        Some(end) if end < bytes.len() => Err(bad("more bytes than the answer has")),
        Some(end) if end == bytes.len() => Ok(Some(Answer { status, head, end, closing })),
        _ => Ok(None),
    }
}

fn end_of_chunks(bytes: &[u8], mut at: usize) -> io::Result<Option<usize>> {
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(line) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(rest.get(..line).unwrap_or_default()).unwrap_or_default();
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| bad("a chunk without a size"))?;
        at += line + 2 + size + 2;
        if size == 0 {
            return Ok((at <= bytes.len()).then_some(at));
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
