//! What two HTTP parsers could read differently, refused before anything else is looked at (RFC 9112 sections 6 and 11.2).
//!
//! Pingora answers most malformed requests itself, before any hook. What it tolerates and another hop might not is
//! refused here, and the connection is closed: what follows on it cannot be trusted to be a request.

use http::Version;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use pingora::protocols::http::ServerSession;

use crate::error::{Code, Refusal};

/// Checks the header section's size and framing. `max_header` is in bytes, request line included.
pub fn check(session: &ServerSession, max_header: usize) -> Result<(), Refusal> {
    let head = session.req_header();
    match session.as_http1() {
        Some(h1) => {
            let raw = h1.get_headers_raw_bytes();
            if raw.len() > max_header {
                return Err(too_large(max_header));
            }
            framing_h1(&raw, head.headers.contains_key(TRANSFER_ENCODING))?;
        }
        None => {
            let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
            if size + head.raw_path().len() > max_header {
                return Err(too_large(max_header));
            }
        }
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(refuse("The request has more than one Host header.")),
        (None, _) if head.version == Version::HTTP_11 => return Err(refuse("The request has no Host header.")),
        (Some(host), None) if !is_authority(host.as_bytes()) => {
            return Err(refuse("The Host header has to be a host, with a port or without."));
        }
        _ => {}
    }
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next()
        && (lengths.next().is_some() || length.is_empty() || !length.as_bytes().iter().all(u8::is_ascii_digit))
    {
        return Err(refuse("Content-Length has to be one decimal number."));
    }
    Ok(())
}

/// Looks at the bytes as they came: Pingora has already taken one of two conflicting headers out of the parsed form.
fn framing_h1(raw: &[u8], chunked: bool) -> Result<(), Refusal> {
    let ends_well = |at: usize| at.checked_sub(1).and_then(|before| raw.get(before)) == Some(&b'\r');
    if !memchr::memchr_iter(b'\n', raw).all(ends_well) {
        return Err(refuse("Header lines have to end with CR LF."));
    }
    if !chunked {
        return Ok(());
    }
    let mut lengths = 0;
    let mut encodings = 0;
    for line in raw.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let value = line.get(name.len() + 1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths += 1;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            encodings += 1;
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(refuse("The only Transfer-Encoding taken is `chunked`."));
            }
        }
    }
    if encodings > 1 || (encodings > 0 && lengths > 0) {
        return Err(refuse("Content-Length and Transfer-Encoding exclude each other, and each may stand once."));
    }
    Ok(())
}

/// Whether bytes can be a host and port (RFC 3986 section 3.2.2). Anything else could be read as the beginning of a path
/// or as credentials by whoever builds a URL of it. Empty is allowed (RFC 9112 section 3.2).
fn is_authority(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte))
}

fn refuse(message: &'static str) -> Refusal {
    Refusal::new(Code::ValidationFailed, message).close()
}

fn too_large(max_header: usize) -> Refusal {
    Refusal::new(Code::HeadersTooLarge, format!("The request's header section is larger than {max_header} bytes."))
        .close()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicting_framing_is_refused() {
        let ok = |raw: &str, chunked| framing_h1(raw.as_bytes(), chunked).is_ok();
        assert!(ok("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", false));
        assert!(ok("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", true));
        for raw in [
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(!ok(raw, true), "{raw:?} was taken");
        }
    }
}
