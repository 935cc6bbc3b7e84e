//! HTTP/2 byte by byte: header lists that no library would send, of which a downgrade to HTTP/1.1 could make two requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pingora::tls::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};

use crate::edge::{TestEdge, fresh_ip, mark, shared};

const BODY: &str = r#"{"recipient":"@bob:tween.example","amount":1,"currency":"USD","idempotency_key":"key"}"#;
const EVIL: &str = "@evil:tween.example";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Longer than anything that a test waits for on purpose.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// An answer with status 200.
    Taken,
    /// An answer with another status.
    Refused,
    /// The stream or the connection was ended.
    Ended,
}

type List = Vec<(Vec<u8>, Vec<u8>)>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header list as literals without indexing (RFC 7541 section 6.2.2), which can hold any bytes.
fn literals(list: &List) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in list {
        block.push(0);
        for text in [name, value] {
            // A length of 127 and more goes on in groups of seven bits (section 5.1).
            let mut length = text.len();
            if length < 127 {
                block.push(u8::try_from(length).unwrap());
            } else {
                block.push(127);
                length -= 127;
                while length >= 128 {
                    block.push(u8::try_from(length % 128).unwrap() | 128);
                    length /= 128;
                }
                block.push(u8::try_from(length).unwrap());
            }
            block.extend(text);
        }
    }
    block
}

fn connect(edge: &TestEdge) -> SslStream<TcpStream> {
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    connector.set_alpn_protos(b"\x02h2").unwrap();
    let tcp = TcpStream::connect(edge.tls).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    connector.build().connect("localhost", tcp).unwrap()
}

/// Sends one request and waits for its end.
fn send(edge: &TestEdge, list: &List, body: &str) -> Outcome {
    let mut stream = connect(edge);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &literals(list)));
    bytes.extend(frame(DATA, END_STREAM, 1, body.as_bytes()));
    // The other side may have had enough before the end.
    let _ = stream.write_all(&bytes);
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return Outcome::Ended;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if stream.read_exact(&mut payload).is_err() {
            return Outcome::Ended;
        }
        match head[3] {
            RESET | GOAWAY => return Outcome::Ended,
            // The status comes first, behind changes of the table's size; 200 is entry 8 of the static table.
            HEADERS => {
                let first = payload.iter().find(|byte| **byte & 0xe0 != 0x20);
                return if first == Some(&0x88) { Outcome::Taken } else { Outcome::Refused };
            }
            _ => {}
        }
    }
}

/// A list that is in order: a payment with a token.
fn list(edge: &TestEdge, mark: &str) -> List {
    let pairs = [
        (":method", "POST".to_owned()),
        (":scheme", "https".to_owned()),
        (":authority", "edge.test".to_owned()),
        (":path", "/api/v1/wallet/p2p/initiate".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("authorization", format!("Bearer {}", edge.full_token())),
        ("x-forwarded-for", fresh_ip()),
        ("x-mark", mark.to_owned()),
    ];
    pairs.map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes())).to_vec()
}

fn nothing_hidden(edge: &TestEdge, hidden: &str) {
    assert!(edge.at_wallet("x-mark", hidden).is_empty(), "what was hidden came through");
    assert!(edge.at_wallet("x-tmcp-user-id", EVIL).is_empty(), "a spoofed caller came through");
}

#[test]
fn a_list_in_order_is_taken() {
    let edge = shared();
    let mark = mark();
    assert_eq!(send(edge, &list(edge, &mark), BODY), Outcome::Taken);
    assert_eq!(edge.at_wallet("x-mark", &mark).len(), 1);
}

#[test]
fn what_a_downgrade_could_split_is_refused() {
    let edge = shared();
    let hidden = mark();
    let smuggled = format!("GET /wallet/v1/balance HTTP/1.1\r\nX-TMCP-User-Id: {EVIL}\r\nX-Mark: {hidden}\r\n\r\n");
    let split = format!("a\r\nX-TMCP-User-Id: {EVIL}");
    let line = format!("x\r\n\r\n{smuggled}");
    // Fields besides those of a list in order.
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("connection", "keep-alive"),
        ("connection", "x-tmcp-user-id"),
        ("proxy-connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("upgrade", "h2c"),
        ("x-split", split.as_str()),
        ("x-split", "a\nb"),
        ("x-split", "a\rb"),
        ("x-split", "a\0b"),
        (split.as_str(), "b"),
        ("x y", "b"),
        ("x:y", "b"),
        ("x\0", "b"),
        ("X-TMCP-User-Id", EVIL),
        ("Transfer-Encoding", "chunked"),
        ("", "b"),
        (":unknown", "b"),
        (":status", "200"),
        (":path", "/api/v1/wallet/balance"),
        (":method", "GET"),
        (":authority", "other.test"),
        ("content-length", "5"),
        ("content-length", "0"),
        ("content-length", "+1"),
        ("content-length", "1, 1"),
        ("content-length", "-1"),
        ("host", "other.test"),
        ("host", "edge.test\r\nX: y"),
    ] {
        let mark = mark();
        let mut odd = list(edge, &mark);
        odd.push((name.into(), value.into()));
        let outcome = send(edge, &odd, &format!("{BODY}{smuggled}"));
        assert_ne!(outcome, Outcome::Taken, "{name:?}: {value:?}");
        let alone = send(edge, &odd, BODY);
        assert_ne!(alone, Outcome::Taken, "{name:?}: {value:?}, with a whole body");
        assert!(edge.at_wallet("x-mark", &mark).is_empty(), "{name:?}: {value:?}");
        nothing_hidden(edge, &hidden);
    }
    // What stands in the first line.
    for (at, value) in [
        (0, "GET"),
        (0, "post"),
        (0, "PO ST"),
        (0, "POST /wallet/v1/balance HTTP/1.1\r\nX:"),
        (0, ""),
        (1, "https://other.test/x?"),
        (1, line.as_str()),
        (2, ""),
        (2, "edge.test\r\nX-TMCP-User-Id: @evil:tween.example"),
        (2, "user@edge.test"),
        (2, "edge test"),
        (2, "edge.test/x"),
        (3, ""),
        (3, "*"),
        (3, "api/v1/wallet/p2p/initiate"),
        (3, "https://edge.test/api/v1/wallet/p2p/initiate"),
        (3, "/api/v1/wallet/p2p/initiate HTTP/1.1\r\nX: y"),
        (3, "/api/v1/wallet/p2p/initiate\r\n\r\nGET / HTTP/1.1"),
        (3, "/api/v1/wallet/p2p/initiate\0"),
        (3, "/api/v1/wallet/p2p/../p2p/initiate"),
        (3, "//api/v1/wallet/p2p/initiate"),
    ] {
        let mark = mark();
        let mut odd = list(edge, &mark);
        odd[at].1 = value.into();
        let outcome = send(edge, &odd, BODY);
        assert_ne!(outcome, Outcome::Taken, "field {at} {value:?}");
        assert!(edge.at_wallet("x-mark", &mark).is_empty(), "field {at} {value:?}");
        nothing_hidden(edge, &hidden);
    }
    // A field of the first line behind the others, or not there at all.
    for at in 0..4 {
        for moved in [true, false] {
            let mark = mark();
            let mut odd = list(edge, &mark);
            let field = odd.remove(at);
            // Which host is meant, the others need not say.
            let may = at == 2 && !moved;
            if moved {
                odd.push(field);
            }
            let outcome = send(edge, &odd, BODY);
            assert!(may || outcome != Outcome::Taken, "field {at}, moved {moved}");
            assert!(edge.at_wallet("x-mark", &mark).len() <= usize::from(may), "field {at}, moved {moved}");
        }
    }
}
