//! The wallet behind the proxies: answers every request with the same balance, at once.
//!
//! It shares a core with the load generator, so it does as little as an HTTP/1.1 server can do.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BALANCE: &str = r#"{"wallet_id":"tw_load_0001","user_id":"@alice:tween.example","balance":{"available":50000.00,"pending":0.00,"currency":"USD"},"limits":{"daily_limit":100000.00,"daily_used":0.00,"transaction_limit":50000.00},"verification":{"level":2,"level_name":"identity_verified","features":["standard_transactions","p2p_transfers"],"can_upgrade":true,"next_level":3,"upgrade_requirements":["address_proof"]},"status":"active"}"#;

/// Serves on `listener` for ever. Has to run inside a `LocalSet`.
pub async fn serve(listener: TcpListener) {
    let length = BALANCE.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nDate: Thu, 01 Jan 2026 \
         00:00:00 GMT\r\n\r\n{BALANCE}"
    );
    let answer: std::rc::Rc<[u8]> = answer.into_bytes().into();
    while let Ok((stream, _)) = listener.accept().await {
        let answer = answer.clone();
        tokio::task::spawn_local(async move {
            // A proxy that goes away is nobody's fault.
            let _gone = converse(stream, &answer).await;
        });
    }
}

async fn converse(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0u8; 16 * 1024];
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        while let Some(end) = buffer.get(..filled).and_then(end_of_head) {
            let head = buffer.get(..end).unwrap_or_default();
            let mut body = body_length(head)?;
            // What has come of the body, and then the rest of it.
            let here = body.min(filled - end);
            body -= here;
            buffer.copy_within(end + here..filled, 0);
            filled -= end + here;
            while body > 0 {
                let room = buffer.get_mut(..body.min(16 * 1024)).unwrap_or_default();
                match stream.read(room).await? {
                    0 => return Ok(()),
                    read => body -= read,
                }
            }
            stream.write_all(answer).await?;
        }
        if filled == buffer.len() {
            return Err(io::Error::other("a head of more than 16 KiB"));
        }
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    if bytes.ends_with(b"\r\n\r\n") && !bytes.starts_with(b"P") {
        // A bodiless request alone in the buffer: the common case needs no search. (Pipelining has no place here.)
        return Some(bytes.len());
    }
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn body_length(head: &[u8]) -> io::Result<usize> {
    if head.starts_with(b"GET") || head.starts_with(b"HEAD") {
        return Ok(0);
    }
    let text = std::str::from_utf8(head).map_err(io::Error::other)?;
    let value = text.split("\r\n").filter_map(|line| line.split_once(':'));
    let value = value.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value.trim());
    match value.last() {
        Some(value) => value.parse().map_err(io::Error::other),
        None => Err(io::Error::other("a body without Content-Length")),
    }
}
