//! HTTP/2 frame by frame: what a well-behaved client never sends.

use std::pin::Pin;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Uri};
use pingora::tls::ssl::{SslConnector, SslMethod, SslVerifyMode};
use pingora::tls::tokio_ssl::SslStream;
use tokio::net::TcpStream;

use crate::edge::{TestEdge, fresh_ip, mark, shared};

const BALANCE: &str = "/api/v1/wallet/balance";
const INITIATE: &str = "/api/v1/wallet/p2p/initiate";
const BODY: &str = r#"{"recipient":"@bob:tween.example","amount":1,"currency":"USD","idempotency_key":"key"}"#;

/// What came of a stream: status, headers and body, or why there was none.
type Outcome = Result<(u16, HeaderMap, Vec<u8>), h2::Error>;

async fn connect(edge: &TestEdge) -> SendRequest<Bytes> {
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    connector.set_alpn_protos(b"\x02h2").unwrap();
    let ssl = connector.build().configure().unwrap().into_ssl("localhost").unwrap();
    let mut stream = SslStream::new(ssl, TcpStream::connect(edge.tls).await.unwrap()).unwrap();
    Pin::new(&mut stream).connect().await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

fn request(edge: &TestEdge, method: Method, target: &str, mark: &str) -> Request<()> {
    let uri = Uri::builder().scheme("https").authority("edge.test").path_and_query(target).build().unwrap();
    Request::builder()
        .method(method)
        .uri(uri)
        .header("authorization", format!("Bearer {}", edge.full_token()))
        .header("x-forwarded-for", fresh_ip())
        .header("x-mark", mark)
        .body(())
        .unwrap()
}

async fn send(client: &mut SendRequest<Bytes>, request: Request<()>, body: Option<&str>) -> Outcome {
    let (answer, mut stream) = client.send_request(request, body.is_none())?;
    if let Some(body) = body {
        // A refusal may come before the body is out.
        let _ = stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true);
    }
    let (parts, mut body) = answer.await?.into_parts();
    let mut whole = Vec::new();
    while let Some(chunk) = body.data().await {
        let Ok(chunk) = chunk else { break };
        let _ = body.flow_control().release_capacity(chunk.len());
        whole.extend_from_slice(&chunk);
    }
    Ok((parts.status.as_u16(), parts.headers, whole))
}

fn run(test: impl AsyncFnOnce(&'static TestEdge)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test(shared()));
}

#[test]
fn the_wallet_hears_the_same_over_http_2() {
    run(async |edge| {
        let mut client = connect(edge).await;
        let mark = mark();
        let mut get = request(edge, Method::GET, BALANCE, &mark);
        get.headers_mut().insert("x-tmcp-user-id", "@evil:tween.example".parse().unwrap());
        get.headers_mut().insert("x_tmcp_user_id", "@evil:tween.example".parse().unwrap());
        get.headers_mut().insert("te", "trailers".parse().unwrap());
        let (status, headers, _) = send(&mut client, get, None).await.unwrap();
        assert_eq!((status, headers["x-tmcp-version"].to_str().unwrap()), (200, "v1.2.0"));
        assert!(!headers.contains_key("connection") && !headers.contains_key("keep-alive"));
        let seen = edge.at_wallet("x-mark", &mark);
        assert!(!format!("{seen:?}").contains("evil"), "{seen:#?}");
        assert_eq!(seen[0].headers["x-forwarded-proto"], "https");
        assert_eq!(seen[0].headers["x-forwarded-host"], "edge.test");
        assert_eq!(seen[0].headers["host"], edge.wallet().address().to_string());
        assert!(!seen[0].headers.contains_key("te"));
        let head = request(edge, Method::HEAD, BALANCE, &mark);
        let (status, _, body) = send(&mut client, head, None).await.unwrap();
        assert_eq!((status, body.len()), (200, 0));
    });
}

#[test]
fn path_tricks_end_in_a_refusal_over_http_2_too() {
    run(async |edge| {
        let mut client = connect(edge).await;
        let mark = mark();
        let mut tried = 0;
        for trick in crate::paths::TRICKS {
            let Ok(target) = std::str::from_utf8(trick) else { continue };
            let Ok(target) = target.parse::<http::uri::PathAndQuery>() else { continue };
            if target.as_str() != std::str::from_utf8(trick).unwrap() {
                continue;
            }
            tried += 1;
            let get = request(edge, Method::GET, target.as_str(), &mark);
            match send(&mut client, get, None).await {
                Ok((status, ..)) => assert!(matches!(status, 400 | 404), "{target}: {status}"),
                // A stream that ends in an error was refused as well; the connection must be another one then.
                Err(_) => client = connect(edge).await,
            }
        }
        assert!(tried > 30, "only {tried} tricks fit into a :path");
        assert!(edge.at_wallet("x-mark", &mark).is_empty());
        let get = request(edge, Method::GET, BALANCE, &mark);
        assert_eq!(send(&mut client, get, None).await.unwrap().0, 200);
    });
}

#[test]
fn a_length_that_lies_reaches_nobody() {
    run(async |edge| {
        for length in ["5", "1000", "0", "-1", "+86", "86, 86", "x"] {
            let mut client = connect(edge).await;
            let mark = mark();
            let mut post = request(edge, Method::POST, INITIATE, &mark);
            post.headers_mut().insert("content-type", "application/json".parse().unwrap());
            post.headers_mut().insert("content-length", length.parse().unwrap());
            let sending = send(&mut client, post, Some(BODY));
            let outcome = tokio::time::timeout(std::time::Duration::from_secs(10), sending).await.unwrap();
            assert!(
                outcome.as_ref().map_or(true, |(status, ..)| *status == 400 || *status == 408),
                "{length}: {outcome:?}"
            );
            assert!(edge.at_wallet("x-mark", &mark).is_empty(), "{length}: {outcome:?}");
        }
    });
}

#[test]
fn bodies_where_none_are_taken_and_hosts_that_differ() {
    run(async |edge| {
        let mut client = connect(edge).await;
        let mark = mark();
        let get = request(edge, Method::GET, BALANCE, &mark);
        let (status, ..) = send(&mut client, get, Some("GET / HTTP/1.1\r\n\r\n")).await.unwrap();
        assert_eq!(status, 400);
        let mut other = request(edge, Method::GET, BALANCE, &mark);
        other.headers_mut().insert("host", "other.test".parse().unwrap());
        let outcome = send(&mut client, other, None).await;
        assert!(outcome.as_ref().map_or(true, |(status, ..)| *status == 400), "{outcome:?}");
        let mut two = request(edge, Method::GET, BALANCE, &mark);
        two.headers_mut().append("host", "edge.test".parse().unwrap());
        two.headers_mut().append("host", "other.test".parse().unwrap());
        let outcome = send(&mut connect(edge).await, two, None).await;
        assert!(outcome.as_ref().map_or(true, |(status, ..)| *status == 400), "{outcome:?}");
        assert!(edge.at_wallet("x-mark", &mark).is_empty());
    });
}

#[test]
fn headers_over_the_limit_are_431_over_http_2() {
    run(async |edge| {
        let mut client = connect(edge).await;
        let mark = mark();
        for (length, expected) in [(6 << 10, 200), (9 << 10, 431)] {
            let mut get = request(edge, Method::GET, BALANCE, &mark);
            get.headers_mut().insert("x-padding", "x".repeat(length).parse().unwrap());
            let (status, ..) = send(&mut client, get, None).await.unwrap();
            assert_eq!(status, expected, "{length}");
        }
        assert_eq!(edge.at_wallet("x-mark", &mark).len(), 1);
        let get = request(edge, Method::GET, BALANCE, &mark);
        assert_eq!(send(&mut client, get, None).await.unwrap().0, 200, "the connection lives on");
    });
}

#[test]
fn streams_that_are_given_up_leave_the_others_alone() {
    run(async |edge| {
        let mut client = connect(edge).await;
        let (left, stayed) = (mark(), mark());
        for _ in 0..20 {
            client = client.ready().await.unwrap();
            let mut post = request(edge, Method::POST, INITIATE, &left);
            post.headers_mut().insert("content-type", "application/json".parse().unwrap());
            let (_, mut stream) = client.send_request(post, false).unwrap();
            let _ = stream.send_data(Bytes::from_static(b"{\"recipient\""), false);
            stream.send_reset(h2::Reason::CANCEL);
        }
        let asking = (0..20).map(|_| {
            let mut client = client.clone();
            let get = request(edge, Method::GET, BALANCE, &stayed);
            async move { send(&mut client, get, None).await.unwrap().0 }
        });
        let statuses = futures::future::join_all(asking).await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        assert!(edge.at_wallet("x-mark", &left).is_empty(), "half a body reached the wallet");
    });
}
