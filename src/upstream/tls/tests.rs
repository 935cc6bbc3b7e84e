use std::sync::Arc;

use http::StatusCode;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;

use super::*;
use crate::clock::Clock;
use crate::config;
use crate::model::rows::Class;
use crate::upstream::backend::{Backend, ended};
use crate::upstream::client::{Call, CallError};
use crate::upstream::outcome::Ended;
use crate::upstream::testing::{Authority, build, upstream};

fn backend(address: std::net::SocketAddr, tls: UpstreamTls) -> Arc<Backend> {
    build(config::Upstream { tls: Some(tls), ..upstream(&[&address.to_string()]) }, &Clock::system()).unwrap()
}

/// Calls the upstream the way the proxy does.
async fn through_pingora(backend: &Backend) -> Result<u16, Ended> {
    let target = backend.pick(backend.clock().tick(), None).unwrap();
    let connector = Connector::<()>::new(None);
    let up = |mut error: pingora::BError| {
        error.as_up();
        ended(&error)
    };
    let (mut session, _) = connector.get_http_session(&*backend.peer(&target, false)).await.map_err(up)?;
    let mut head = RequestHeader::build("GET", b"/", None).unwrap();
    head.insert_header("Host", target.host().clone()).unwrap();
    session.write_request_header(Box::new(head)).await.map_err(up)?;
    session.finish_request_body().await.map_err(up)?;
    session.read_response_header().await.map_err(up)?;
    Ok(session.response_header().unwrap().status.as_u16())
}

/// Calls the upstream as the edge does for itself.
async fn by_ourselves(backend: &Backend) -> Result<StatusCode, Ended> {
    match backend.call(Call::get(Class::Read, "/")).await {
        Ok(answer) => Ok(answer.status),
        Err(CallError::Failed(ended, _)) => Err(ended),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_server_is_verified_by_its_name_and_our_authority() {
    let ours = Authority::new("ours");
    let address = ours.serve("wallet.internal", false).await;
    let right = backend(address, ours.towards("wallet.internal", None));
    assert_eq!(through_pingora(&right).await, Ok(200));
    assert_eq!(by_ourselves(&right).await, Ok(StatusCode::OK));
    assert_eq!(right.addresses()[0].host().to_str().unwrap(), format!("wallet.internal:{}", address.port()));

    let wrong_name = backend(address, ours.towards("other.internal", None));
    assert_eq!(through_pingora(&wrong_name).await, Err(Ended::Connect));
    assert_eq!(by_ourselves(&wrong_name).await, Err(Ended::Connect));

    let theirs = Authority::new("theirs");
    let wrong_authority = backend(address, theirs.towards("wallet.internal", None));
    assert_eq!(through_pingora(&wrong_authority).await, Err(Ended::Connect));
    assert_eq!(by_ourselves(&wrong_authority).await, Err(Ended::Connect));

    let system = UpstreamTls { server_name: "wallet.internal".into(), ca: None, client: None };
    let no_authority = backend(address, system);
    assert_eq!(through_pingora(&no_authority).await, Err(Ended::Connect));
    assert_eq!(by_ourselves(&no_authority).await, Err(Ended::Connect));
}

#[tokio::test]
async fn a_server_that_asks_who_we_are_is_told() {
    let ours = Authority::new("ours");
    let address = ours.serve("wallet.internal", true).await;
    let known = backend(address, ours.towards("wallet.internal", Some(ours.sign("edge.internal"))));
    assert_eq!(through_pingora(&known).await, Ok(200));
    assert_eq!(by_ourselves(&known).await, Ok(StatusCode::OK));

    // In TLS 1.3 the server's refusal arrives after the client's handshake is done.
    let anonymous = backend(address, ours.towards("wallet.internal", None));
    assert!(through_pingora(&anonymous).await.is_err());
    assert!(by_ourselves(&anonymous).await.is_err());
    let stranger = Authority::new("stranger");
    let stranger = backend(address, ours.towards("wallet.internal", Some(stranger.sign("edge.internal"))));
    assert!(through_pingora(&stranger).await.is_err());
    assert!(by_ourselves(&stranger).await.is_err());
}

#[test]
fn what_is_wrong_with_the_files_is_said_when_they_are_read() {
    let ours = Authority::new("ours");
    let (one, two) = (ours.sign("one"), ours.sign("two"));
    let junk = ours.folder.path().join("junk.pem");
    std::fs::write(&junk, "not a certificate").unwrap();
    let pair =
        |certificate: &Path, key: &Path| Some(config::ListenTls { certificate: certificate.into(), key: key.into() });
    for (tls, expected) in [
        (UpstreamTls { ca: Some(junk.clone()), ..ours.towards("x", None) }, "tls.ca"),
        (UpstreamTls { ca: Some("/nowhere".into()), ..ours.towards("x", None) }, "cannot be read"),
        (ours.towards("", None), "tls.server_name is empty"),
        (ours.towards("10.0.0.7", None), "expected the DNS name"),
        (ours.towards("::1", None), "expected the DNS name"),
        (ours.towards("x", pair(&junk, &one.key)), "tls.client_certificate"),
        (ours.towards("x", pair(&one.certificate, &junk)), "expected an unencrypted private key"),
        (ours.towards("x", pair(&one.certificate, &two.key)), "is not the key of"),
    ] {
        let error = TlsMaterial::load(&tls).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn another_certificate_is_another_backend() {
    let ours = Authority::new("ours");
    let tls = ours.towards("wallet.internal", Some(ours.sign("edge")));
    let config = config::Upstream { tls: Some(tls.clone()), ..upstream(&["127.0.0.1:4001"]) };
    let first = crate::upstream::testing::build_after(config.clone(), None, &Clock::system()).unwrap();
    let same = crate::upstream::testing::build_after(config.clone(), Some(&first), &Clock::system()).unwrap();
    assert!(Arc::ptr_eq(first.get("wallet").unwrap(), same.get("wallet").unwrap()));
    // The same path, another certificate in it: connections made under the old one are not used again.
    ours.sign("edge");
    let renewed = crate::upstream::testing::build_after(config, Some(&first), &Clock::system()).unwrap();
    let (old, new) = (first.get("wallet").unwrap(), renewed.get("wallet").unwrap());
    assert!(!Arc::ptr_eq(old, new));
    let key = |backend: &Backend| backend.peer(&backend.addresses()[0], false).group_key;
    assert_ne!(key(old), key(new));
    assert!(Arc::ptr_eq(old.breaker(Class::Read), new.breaker(Class::Read)));
    assert!(!format!("{:?}", TlsMaterial::load(&tls).unwrap()).contains("KEY"));
}

#[tokio::test]
async fn a_host_name_in_capitals_is_the_same_host() {
    let ours = Authority::new("ours");
    let address = ours.serve("wallet.internal", false).await;
    let backend = backend(address, ours.towards("Wallet.Internal", None));
    assert_eq!(by_ourselves(&backend).await, Ok(StatusCode::OK));
    assert_eq!(through_pingora(&backend).await, Ok(200));
}

#[tokio::test]
async fn a_server_without_http2_is_spoken_to_as_it_can() {
    let ours = Authority::new("ours");
    let address = ours.serve("wallet.internal", false).await;
    let tls = Some(ours.towards("wallet.internal", None));
    let config = config::Upstream { tls, http2: true, ..upstream(&[&address.to_string()]) };
    let backend = build(config, &Clock::system()).unwrap();
    assert_eq!(by_ourselves(&backend).await, Ok(StatusCode::OK));
    assert_eq!(through_pingora(&backend).await, Ok(200));
}
