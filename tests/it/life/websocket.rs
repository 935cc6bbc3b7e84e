//! WebSockets through the edge.

use futures::{SinkExt, StreamExt};
use http::StatusCode;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::client::{Connection, get};
use super::process::{ALICE, Edge, Setup, upstream};
use super::until;
use super::upstream::Upstream;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(edge: &Edge, path: &str, token: Option<&str>) -> Result<Socket, Error> {
    let mut request = format!("ws://{}{path}", edge.address).into_client_request().unwrap();
    if let Some(token) = token {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    connect_async(request).await.map(|(socket, _)| socket)
}

fn refused(attempt: Result<Socket, Error>) -> StatusCode {
    match attempt {
        Err(Error::Http(answer)) => answer.status(),
        other => panic!("{other:?}"),
    }
}

async fn echoes(socket: &mut Socket, message: Message) {
    socket.send(message.clone()).await.unwrap();
    let answer = tokio::time::timeout(super::PATIENCE, socket.next()).await.unwrap();
    assert_eq!(answer.unwrap().unwrap(), message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_needs_a_token_and_is_not_cut_while_it_is_idle() {
    let (wallet, partner) = (Upstream::start("wallet"), Upstream::start("partner"));
    let mut setup = Setup::new(wallet.address).with_partner(&[partner.address]);
    setup.edge["server"]["limits"]["keepalive"] = json!("1s");
    setup.edge["server"]["limits"]["body_timeout"] = json!("1s");
    setup.edge["server"]["limits"]["header_timeout"] = json!("1s");
    let config = setup.upstreams.get_mut("partner").unwrap();
    config["timeouts"] = json!({"connect": "1s", "read": "1s", "write": "1s", "idle": "1s"});
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    for (path, token, status) in [
        ("/partner/v1/socket", None, StatusCode::UNAUTHORIZED),
        ("/partner/v1/socket", Some("tep.nonsense"), StatusCode::UNAUTHORIZED),
        ("/partner/v2/socket", Some(&*token), StatusCode::NOT_FOUND),
    ] {
        assert_eq!(refused(open(&edge, path, token).await), status, "{path}");
    }
    // A mini-app whose scopes do not reach.
    setup.miniapps["miniapps"][0]["scopes"] = json!(["wallet:balance"]);
    setup.write();
    edge.reload().await;
    assert_eq!(refused(open(&edge, "/partner/v1/socket", Some(&token)).await), StatusCode::FORBIDDEN);
    assert_eq!((partner.seen().len(), partner.upgrades()), (0, 0));
    setup.miniapps["miniapps"][0]["scopes"] = json!(["wallet:balance", "user:read"]);
    setup.write();
    edge.reload().await;

    let mut socket = open(&edge, "/partner/v1/socket?room=1", Some(&token)).await.unwrap();
    let seen = &partner.seen()[0];
    assert_eq!(
        (seen.path.as_str(), &seen.headers["x-tmcp-user-id"]),
        ("/partner/v1/socket?room=1", &ALICE.parse().unwrap())
    );
    assert!(!seen.headers.contains_key("authorization"));
    echoes(&mut socket, Message::text("hello")).await;
    // Every time-out there is passes, twice over, while the socket says nothing: a plain request that waits gets its 504,
    // an idle connection is closed.
    for _ in 0..2 {
        let mut slow = Connection::open(edge.address).await;
        let answer = slow.ask(&get("/partner/v1/held", &token)).await.unwrap();
        assert_eq!(answer.status, 504, "{answer:?}");
        let mut idle = Connection::open(edge.address).await;
        assert_eq!(idle.ask(&get("/api/v1/wallet/balance", &token)).await.unwrap().status, 200);
        assert!(idle.rest().await.is_empty());
    }
    echoes(&mut socket, Message::text("still there?")).await;
    echoes(&mut socket, Message::binary(vec![7; 300_000])).await;
    // A reload is none of its business.
    edge.reload().await;
    echoes(&mut socket, Message::text("after a reload")).await;
    socket.close(None).await.unwrap();
    until("its line is in the log", || {
        let log = std::fs::read_to_string(setup.folder().join("access.log")).unwrap();
        log.lines().any(|line| line.contains("\"status\":101"))
    })
    .await;
    // Nothing but a WebSocket is upgraded to.
    let mut other = Connection::open(edge.address).await;
    let request =
        get("/partner/v1/plain", &token).replace("\r\n\r\n", "\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    assert_eq!(other.ask(&request).await.unwrap().status, 200);
    assert!(!partner.seen().last().unwrap().headers.contains_key("upgrade"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_take_no_upgrade_answer_as_ever() {
    let wallet = Upstream::start("wallet");
    let setup = Setup::new(wallet.address);
    let edge = setup.start().await;
    let token = setup.token(ALICE);
    // The balance is answered, and no upgrade reaches the wallet.
    assert_eq!(refused(open(&edge, "/api/v1/wallet/balance", Some(&token)).await), StatusCode::OK);
    assert_eq!(wallet.upgrades(), 0);
    assert!(!wallet.seen()[0].headers.contains_key("upgrade"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_homeservers_own_rows_carry_websockets_too() {
    let (wallet, homeserver) = (Upstream::start("wallet"), Upstream::start("homeserver"));
    let mut setup = Setup::new(wallet.address);
    setup.upstreams.insert("homeserver".into(), upstream("homeserver", &[homeserver.address]));
    setup.upstreams.get_mut("homeserver").unwrap()["forward_client_api"] = json!(true);
    let edge = setup.start().await;
    let mut socket = open(&edge, "/_matrix/client/unstable/socket", Some("syt_of_a_test")).await.unwrap();
    until("the homeserver has switched, too", || homeserver.upgrades() == 1).await;
    echoes(&mut socket, Message::text("hello")).await;
    assert_eq!(homeserver.seen()[0].headers["authorization"], "Bearer syt_of_a_test");
    let mut plain = Connection::open(edge.address).await;
    let answer = plain.ask(&get("/_matrix/client/v3/sync", "syt_of_a_test")).await.unwrap();
    assert_eq!((answer.status, &answer.json()["served_by"]), (200, &json!("homeserver")));

    // Switched off, there is no such path, for either.
    setup.upstreams.get_mut("homeserver").unwrap()["forward_client_api"] = json!(false);
    setup.write();
    edge.reload().await;
    assert_eq!(refused(open(&edge, "/_matrix/client/unstable/socket", Some("x")).await), StatusCode::NOT_FOUND);
    echoes(&mut socket, Message::text("what is open stays open")).await;
}
