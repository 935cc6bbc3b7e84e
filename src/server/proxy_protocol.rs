//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): who the client behind a load balancer is.
//!
//! Whoever may write this header may call itself anything, so it is read from trusted peers only, and there it has to
//! be present. Parsing is pure; [`read`] feeds it from a socket, never past what the header may be long.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest version 1 line (section 2.1), CR LF included.
const V1_MAX: usize = 107;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;
/// Addresses and extensions of version 2. Extensions hold TLS details and certificates' names; a few hundred bytes in
/// practice.
const V2_MAX: usize = 4096;

/// What a header said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// The client's address.
    At(SocketAddr),
    /// The proxy speaks for itself (a health check), or for a client that is not on IP: the socket's address counts.
    Proxy,
}

/// What can be said of the first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parsed {
    /// A whole header of this many bytes.
    Header(Client, usize),
    /// Not yet whole.
    Incomplete,
}

/// Why bytes are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(&'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a PROXY header: {}", self.0)
    }
}

fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let v2_prefix = bytes.len().min(V2_SIGNATURE.len());
    if bytes.get(..v2_prefix) == V2_SIGNATURE.get(..v2_prefix) {
        return parse_v2(bytes);
    }
    let v1_prefix = bytes.len().min(6);
    if bytes.get(..v1_prefix) == b"PROXY ".get(..v1_prefix) {
        return parse_v1(bytes);
    }
    Err(Malformed("neither signature"))
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let window = bytes.get(..bytes.len().min(V1_MAX)).unwrap_or_default();
    let Some(line_len) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() < V1_MAX { Ok(Parsed::Incomplete) } else { Err(Malformed("line too long")) };
    };
    let line = window.get(..line_len).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| Malformed("line is not ASCII"))?;
    let total = line_len + 2;
    let mut parts = line.split(' ').skip(1);
    let family = parts.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(Parsed::Header(Client::Proxy, total));
    }
    let mut next = || parts.next().ok_or(Malformed("line too short"));
    let (source, destination, source_port, destination_port) = (next()?, next()?, next()?, next()?);
    if parts.next().is_some() {
        return Err(Malformed("line has too many fields"));
    }
    let ip: IpAddr = match family {
        "TCP4" => both::<Ipv4Addr>(source, destination)?.into(),
        "TCP6" => both::<Ipv6Addr>(source, destination)?.into(),
        _ => return Err(Malformed("neither TCP4, TCP6 nor UNKNOWN")),
    };
    port(destination_port)?;
    Ok(Parsed::Header(Client::At(client(ip, port(source_port)?)), total))
}

/// The source address, once the destination is known to be an address of the same family.
fn both<A: std::str::FromStr>(source: &str, destination: &str) -> Result<A, Malformed> {
    let bad = |_| Malformed("bad address");
    destination.parse::<A>().map_err(|_| bad(()))?;
    source.parse().map_err(|_| bad(()))
}

fn port(text: &str) -> Result<u16, Malformed> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical).ok_or(Malformed("bad port"))
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED>() else { return Ok(Parsed::Incomplete) };
    let [.., version_command, family, len_high, len_low] = *fixed;
    if version_command >> 4 != 2 {
        return Err(Malformed("version is not 2"));
    }
    let len = usize::from(u16::from_be_bytes([len_high, len_low]));
    if len > V2_MAX {
        return Err(Malformed("too long"));
    }
    let local = match version_command & 0x0f {
        0 => true,
        1 => false,
        _ => return Err(Malformed("command is neither LOCAL nor PROXY")),
    };
    let Some(body) = rest.get(..len) else { return Ok(Parsed::Incomplete) };
    let client = match family {
        _ if local => Client::Proxy,
        // Address families: 1 IPv4, 2 IPv6; transports: 1 stream, 2 datagram.
        0x11 => Client::At(v2_client::<4, Ipv4Addr>(body)?),
        0x21 => Client::At(v2_client::<16, Ipv6Addr>(body)?),
        0x00 | 0x31 | 0x32 => Client::Proxy,
        _ => return Err(Malformed("address family or transport is not one of a TCP connection")),
    };
    Ok(Parsed::Header(client, V2_FIXED + len))
}

/// Source address, destination address, source port, destination port.
fn v2_client<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(body: &[u8]) -> Result<SocketAddr, Malformed> {
    let short = Malformed("too short for its addresses");
    let (source, rest) = body.split_first_chunk::<N>().ok_or(short)?;
    let (_destination, rest) = rest.split_first_chunk::<N>().ok_or(short)?;
    let (ports, _extensions) = rest.split_first_chunk::<4>().ok_or(short)?;
    let [high, low, ..] = *ports;
    Ok(client(A::from(*source).into(), u16::from_be_bytes([high, low])))
}

/// An IPv4 client stays one when it comes as IPv4-mapped IPv6, so that limits and lists know it.
fn client(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

/// Reads a header and returns it with the bytes that were read behind it. The caller sets the time for it.
///
/// # Errors
/// When the connection ends first or does not begin with a header.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(Client, Bytes)> {
    let mut buffer = BytesMut::with_capacity(V1_MAX);
    loop {
        match parse(&buffer) {
            Ok(Parsed::Header(client, len)) => return Ok((client, buffer.split_off(len).freeze())),
            Ok(Parsed::Incomplete) => {
                // The longest header is bounded above, so the buffer is too.
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(malformed) => return Err(io::Error::new(io::ErrorKind::InvalidData, malformed.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut out = V2_SIGNATURE.to_vec();
        out.extend([command, family]);
        out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        out.extend(body);
        out
    }

    fn at(text: &str) -> Client {
        Client::At(text.parse().unwrap())
    }

    #[test]
    fn version_1_lines() {
        for (line, client) in [
            ("PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n", at("192.0.2.7:56324")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n", at("[2001:db8::7]:1")),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", at("192.0.2.7:1")),
            ("PROXY UNKNOWN\r\n", Client::Proxy),
            ("PROXY UNKNOWN ffff:f...f ffff::1 65535 65535\r\n", Client::Proxy),
        ] {
            let bytes = format!("{line}GET / HTTP/1.1\r\n");
            assert_eq!(parse(bytes.as_bytes()), Ok(Parsed::Header(client, line.len())), "{line}");
            for cut in 0..line.len() {
                assert_eq!(parse(&line.as_bytes()[..cut]), Ok(Parsed::Incomplete), "{line} cut at {cut}");
            }
        }
    }

    #[test]
    fn version_1_lines_that_are_wrong() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "PROXY\tTCP4 1.1.1.1 1.1.1.1 1 1\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n",
            "PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n",
            "PROXY TCP4 ::1 ::1 1 1\r\n",
            "PROXY TCP4 1.1.1.1 ::1 1 1\r\n",
            "PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n",
            "PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 1 \u{661}\r\n",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        assert!(parse(format!("PROXY UNKNOWN {}", "x".repeat(120)).as_bytes()).is_err());
    }

    #[test]
    fn version_2_headers() {
        let v4 = [192, 0, 2, 7, 192, 0, 2, 1, 0xdc, 0x04, 1, 187];
        let mut v6 = Vec::new();
        v6.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        v6.extend([0, 80, 1, 187]);
        let mut with_extension = v4.to_vec();
        with_extension.extend([4, 0, 1, 9]);
        for (bytes, client) in [
            (v2(0x21, 0x11, &v4), at("192.0.2.7:56324")),
            (v2(0x21, 0x11, &with_extension), at("192.0.2.7:56324")),
            (v2(0x21, 0x21, &v6), at("[2001:db8::7]:80")),
            (v2(0x20, 0x11, &v4), Client::Proxy),
            (v2(0x20, 0x00, &[]), Client::Proxy),
            (v2(0x21, 0x31, &[0; 216]), Client::Proxy),
        ] {
            assert_eq!(parse(&bytes), Ok(Parsed::Header(client, bytes.len())));
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Incomplete));
            }
        }
        for bytes in [
            v2(0x11, 0x11, &v4),
            v2(0x22, 0x11, &v4),
            v2(0x21, 0x12, &v4),
            v2(0x21, 0x11, &v4[..11]),
            v2(0x21, 0x21, &v4),
            v2(0x21, 0x11, &[0; V2_MAX + 1]),
        ] {
            assert!(parse(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn what_follows_the_header_is_handed_back() {
        let (mut proxy, mut edge) = tokio::io::duplex(256);
        let writer = tokio::spawn(async move {
            for piece in ["PROXY TCP4 192.0.2.7 19", "2.0.2.1 5 443\r", "\nGET /"] {
                proxy.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            proxy
        });
        let (client, rest) = read(&mut edge).await.unwrap();
        assert_eq!(client, at("192.0.2.7:5"));
        let mut all = rest.to_vec();
        drop(writer.await.unwrap());
        edge.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"GET /");

        let (proxy, mut edge) = tokio::io::duplex(256);
        drop(proxy);
        assert_eq!(read(&mut edge).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..300), signed: u8) {
            let mut input = match signed % 3 { 0 => V2_SIGNATURE.to_vec(), 1 => b"PROXY ".to_vec(), _ => Vec::new() };
            input.extend(bytes);
            if let Ok(Parsed::Header(_, len)) = parse(&input) {
                prop_assert!(len <= input.len());
                // What follows a header does not change it.
                prop_assert_eq!(parse(&input[..len]), parse(&input));
            }
        }

        #[test]
        fn addresses_survive_version_1(ip: u128, v4: bool, source: u16, destination: u16) {
            let ip: IpAddr = if v4 { Ipv4Addr::from_bits(ip as u32).into() } else { Ipv6Addr::from_bits(ip).into() };
            let line = format!("PROXY TCP{} {ip} {ip} {source} {destination}\r\n", if v4 { 4 } else { 6 });
            let expected = Client::At(SocketAddr::new(ip.to_canonical(), source));
            prop_assert_eq!(parse(line.as_bytes()), Ok(Parsed::Header(expected, line.len())));
        }
    }
}
