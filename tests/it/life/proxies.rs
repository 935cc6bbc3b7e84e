//! Behind other proxies: whose word about the client is believed.

use std::net::SocketAddr;

use serde_json::json;

use super::client::{Connection, get};
use super::process::{ALICE, Edge, Setup, free_address};
use super::upstream::Upstream;

const BALANCE: &str = "/api/v1/wallet/balance";
/// Our proxies are 127.0.0.1 and 10.0.0.0/8; 127.0.0.2 is somebody else.
const TRUSTED: [&str; 2] = ["127.0.0.1", "10.0.0.0/8"];

async fn edge(proxy_protocol: bool) -> (Upstream, Setup, Edge, String) {
    let wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address);
    setup.edge["server"]["trusted_proxies"] = json!(TRUSTED);
    setup.edge["server"]["listen"][0]["proxy_protocol"] = json!(proxy_protocol);
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    (wallet, setup, edge, token)
}

/// What the last request that arrived says about where it comes from.
fn forwarded_for(wallet: &Upstream) -> String {
    wallet.seen().last().unwrap().headers["x-forwarded-for"].to_str().unwrap().to_owned()
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    header.extend(body);
    header
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_says_who_the_client_is() {
    let (wallet, _setup, edge, token) = edge(true).await;
    let v2_v4 = v2(1, 0x11, &[198, 51, 100, 7, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb]);
    let client: std::net::Ipv6Addr = "2001:db8::7".parse().unwrap();
    let mut v6 = client.octets().to_vec();
    v6.extend([0; 16]);
    v6.extend([0x12, 0x34, 0x01, 0xbb]);
    // With an extension behind the addresses.
    v6.extend([0x04, 0x00, 0x01, 0x00]);
    for (header, said) in [
        (b"PROXY TCP4 198.51.100.7 10.0.0.1 4660 443\r\n".to_vec(), "198.51.100.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4660 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2_v4, "198.51.100.7"),
        (v2(1, 0x21, &v6), "2001:db8::7"),
        (v2(0, 0x00, b""), "127.0.0.1"),
    ] {
        let mut connection = Connection::open(edge.address).await;
        // In two pieces, the second with the request behind it.
        let (first, rest) = header.split_at(header.len() / 2);
        connection.send(first).await.unwrap();
        connection.send([rest, get(BALANCE, &token).as_bytes()].concat()).await.unwrap();
        let answer = connection.answer().await.unwrap();
        assert_eq!(answer.status, 200, "{header:?}");
        assert_eq!(forwarded_for(&wallet), said);
        // It holds for the connection.
        assert_eq!(connection.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
        assert_eq!(forwarded_for(&wallet), said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_right_proxy_header_from_a_trusted_peer_there_is_no_connection() {
    let (wallet, _setup, edge, token) = edge(true).await;
    let right = "PROXY TCP4 198.51.100.7 10.0.0.1 4660 443\r\n";
    for (source, header) in [
        ("127.0.0.2", right),
        ("127.0.0.1", ""),
        ("127.0.0.1", "PROXY TCP4 198.51.100.7\r\n"),
        ("127.0.0.1", "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n"),
        ("127.0.0.1", "proxy tcp4 198.51.100.7 10.0.0.1 1 2\r\n"),
    ] {
        let mut connection = Connection::open_from(source, edge.address).await.unwrap();
        // The server may be faster in closing.
        let _sent = connection.send(header.to_owned() + &get(BALANCE, &token)).await;
        assert!(connection.answer().await.is_err(), "{source} {header:?}");
    }
    assert!(wallet.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_count_the_client_behind_the_proxy() {
    let (_wallet, mut setup, edge, _token) = edge(true).await;
    setup.edge["rate_limits"]["oauth_endpoints"] = json!({"requests_per_hour": 2, "burst": 0});
    setup.edge["server"]["limits"]["per_ip"] = json!(2);
    setup.write();
    edge.reload().await;
    let metadata = "GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: edge.test\r\n\r\n";
    let from = async |client: &str| {
        let mut connection = Connection::open(edge.address).await;
        let header = format!("PROXY TCP4 {client} 10.0.0.1 4660 443\r\n");
        connection.send(header + metadata).await.unwrap();
        (connection.answer().await.map(|answer| answer.status).unwrap_or(0), connection)
    };
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(from("198.51.100.7").await.0);
    }
    assert_ne!(told[0], 429);
    assert_eq!(told[2], 429, "{told:?}");
    assert_ne!(from("198.51.100.8").await.0, 429);
    // The cap of connections too: two of one client, any number of others.
    let first = from("198.51.100.9").await;
    let second = from("198.51.100.9").await;
    assert_eq!(from("198.51.100.9").await.0, 0);
    assert_ne!(from("198.51.100.10").await.0, 0);
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn x_forwarded_for_is_walked_from_the_right() {
    let (wallet, _setup, edge, token) = edge(false).await;
    let ask = async |source: &str, lines: &[&str]| {
        let lines: String = lines.iter().map(|line| format!("X-Forwarded-For: {line}\r\n")).collect();
        let request = get(BALANCE, &token).replace("\r\n\r\n", &format!("\r\n{lines}\r\n"));
        let mut connection = Connection::open_from(source, edge.address).await.unwrap();
        assert_eq!(connection.ask(&request).await.unwrap().status, 200);
        forwarded_for(&wallet)
    };
    for (source, lines, client) in [
        ("127.0.0.1", &[][..], "127.0.0.1"),
        ("127.0.0.1", &["198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", &["192.0.2.1, 198.51.100.7, 10.1.2.3"], "198.51.100.7"),
        ("127.0.0.1", &["192.0.2.1", "198.51.100.7", "10.1.2.3, 10.4.5.6"], "198.51.100.7"),
        ("127.0.0.1", &["198.51.100.7, rubbish, 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", &["[2001:db8::7]:4660"], "2001:db8::7"),
        // Whoever is not a proxy of ours says nothing about others.
        ("127.0.0.2", &["198.51.100.7"], "127.0.0.2"),
        ("127.0.0.2", &["198.51.100.7, 10.1.2.3"], "127.0.0.2"),
    ] {
        assert_eq!(ask(source, lines).await, client, "{source} {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_has_its_own_rule() {
    let wallet = Upstream::start("wallet");
    let mut setup = Setup::new(wallet.address);
    let second: SocketAddr = free_address();
    setup.edge["server"]["trusted_proxies"] = json!(TRUSTED);
    let listen = setup.edge["server"]["listen"].as_array_mut().unwrap();
    listen.push(json!({"address": second.to_string(), "proxy_protocol": true}));
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    let header = "PROXY TCP4 198.51.100.7 10.0.0.1 4660 443\r\n";
    let mut plain = Connection::open(edge.address).await;
    assert_eq!(plain.ask(&get(BALANCE, &token)).await.unwrap().status, 200);
    let mut lying = Connection::open(edge.address).await;
    let answer = lying.ask(&(header.to_owned() + &get(BALANCE, &token))).await;
    assert!(answer.as_ref().map_or(true, |answer| answer.status == 400), "{answer:?}");
    let mut behind = Connection::open(second).await;
    assert_eq!(behind.ask(&(header.to_owned() + &get(BALANCE, &token))).await.unwrap().status, 200);
    assert_eq!(forwarded_for(&wallet), "198.51.100.7");
}
