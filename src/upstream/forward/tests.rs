use proptest::prelude::*;

use super::*;
use crate::model::token::TepClaims;
use crate::model::{MiniAppId, Scope, ScopeSet, UserId};

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap()
}

fn claims() -> TepClaims {
    TepClaims {
        user: UserId::parse("@alice:tween.example").unwrap(),
        app: MiniAppId::parse("ma_shop_001").unwrap(),
        scopes: ScopeSet::of(&[Scope::WalletBalance, Scope::WalletPay]),
        session_id: Some("sess_1".into()),
        wallet_id: None,
        jti: None,
        grant_id: None,
        room: None,
        privileged: false,
        issuer: "https://tmcp.example".into(),
        kid: "k1".into(),
        revocation: None,
        issued_at: 0,
        expires_at: 1,
    }
}

struct Rig {
    identity: Identity,
    trace: Trace,
    origin: Origin,
    host: HeaderValue,
}

impl Rig {
    fn new() -> Rig {
        Rig {
            identity: Identity::of(&claims()).unwrap(),
            trace: Trace {
                request_id: value("req_1"),
                trace_id: value("4bf92f3577b34da6a3ce929d0e0e4736"),
                traceparent: value("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            },
            origin: Origin { client: value("203.0.113.9"), https: true, host: Some(value("tmcp.example")) },
            host: value("wallet.internal"),
        }
    }

    fn passage(&self, manner: Manner, credential: Credential) -> Passage<'_> {
        Passage {
            manner,
            credential,
            identity: &self.identity,
            trace: &self.trace,
            origin: &self.origin,
            host: &self.host,
        }
    }

    /// What is left of the given headers; those that the edge adds itself are not listed.
    fn left(&self, manner: Manner, credential: Credential, sent: &[(&str, &str)]) -> Vec<String> {
        let mut headers = self.after(manner, credential, sent);
        for ours in self.after(manner, credential, &[]).keys() {
            headers.remove(ours);
        }
        let mut left: Vec<String> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        left.sort();
        left
    }

    fn after(&self, manner: Manner, credential: Credential, sent: &[(&str, &str)]) -> HeaderMap {
        let mut head = RequestHeader::build("GET", b"/x?y", None).unwrap();
        for (name, value) in sent {
            head.append_header((*name).to_owned(), *value).unwrap();
        }
        let client = head.headers.clone();
        request(&mut head, &self.passage(manner, credential));
        // What goes whole is told the same as what streams, but for how it is carried.
        let mut streamed = head.headers.clone();
        for name in streamed.keys().filter(|name| is_framing(name)).cloned().collect::<Vec<_>>() {
            streamed.remove(name);
        }
        if !client.contains_key(header::CONNECTION) {
            assert_eq!(whole_request(&client, &self.passage(manner, credential)), streamed);
        }
        head.headers.clone()
    }
}

#[test]
fn what_the_client_says_of_its_own_connection_stays_there() {
    let rig = Rig::new();
    let mut client = HeaderMap::new();
    for (name, text) in [
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("content-length", "3"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("accept", "*/*"),
    ] {
        client.append(name, value(text));
    }
    let headers = whole_request(&client, &rig.passage(Manner::Guarded, Credential::Withhold));
    for gone in ["connection", "x-hop", "content-length", "transfer-encoding", "upgrade"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(headers.get("accept").unwrap(), "*/*");
}

#[test]
fn the_wallet_learns_who_calls_from_us_alone() {
    let rig = Rig::new();
    let headers = rig.after(
        Manner::Guarded,
        Credential::Forward,
        &[
            ("Host", "tmcp.example"),
            ("Authorization", "Bearer tep.demo"),
            ("X-TMCP-User-Id", "@mallory:tween.example"),
            ("X-TMCP-Wallet-Id", "w_mallory"),
            ("X-Request-Id", "theirs"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("X-Forwarded-Proto", "http"),
            ("Content-Type", "application/json"),
        ],
    );
    for (name, expected) in [
        ("host", "wallet.internal"),
        ("authorization", "Bearer tep.demo"),
        ("x-tmcp-user-id", "@alice:tween.example"),
        ("x-tmcp-app-id", "ma_shop_001"),
        ("x-tmcp-scopes", "wallet:balance wallet:pay"),
        ("x-tmcp-session-id", "sess_1"),
        ("x-request-id", "req_1"),
        ("x-trace-id", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "tmcp.example"),
        ("content-type", "application/json"),
    ] {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(values, [expected], "{name}");
    }
    // A wallet id that the token does not hold is not the client's to give.
    assert!(!headers.contains_key("x-tmcp-wallet-id"));
}

/// Ways to be taken for somebody else, or for another request.
const SPOOFS: &[&str] = &[
    "x-tmcp-user-id",
    "X-TMCP-User-ID",
    "x-tmcp-anything-new",
    "x_tmcp_user_id",
    "X-Tmcp_User-Id",
    "x-request_id",
    "authorization_",
    "content_length",
    "x-request-id",
    "x-trace-id",
    "traceparent",
    "tracestate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded",
    "forwarded",
    "forwarded-for",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-original-url",
    "x-original-host",
    "x-rewrite-url",
    "x-host",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-internal-api-key",
    "x-accel-redirect",
    "x-sendfile",
    "proxy",
    "proxy-authorization",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "http2-settings",
];

#[test]
fn no_spoof_reaches_any_upstream() {
    let rig = Rig::new();
    for manner in [Manner::Guarded, Manner::Raw] {
        for spoof in SPOOFS {
            assert_eq!(rig.left(manner, Credential::Forward, &[(spoof, "evil")]), [""; 0], "{spoof}, {manner:?}");
            let headers = rig.after(manner, Credential::Forward, &[(spoof, "evil"), (spoof, "evil")]);
            assert!(!headers.values().any(|value| value == "evil"), "{spoof}, {manner:?}");
        }
    }
}

#[test]
fn what_is_the_clients_own_goes_along() {
    let rig = Rig::new();
    let sent: Vec<(&str, &str)> = ["accept", "user-agent", "idempotency-key", "if-none-match", "range", "x-custom"]
        .iter()
        .map(|name| (*name, "1"))
        .collect();
    let names: Vec<&str> = sent.iter().map(|(name, _)| *name).collect();
    let mut expected = names.clone();
    expected.sort_unstable();
    assert_eq!(rig.left(Manner::Guarded, Credential::Withhold, &sent), expected);
    assert_eq!(rig.left(Manner::Raw, Credential::Withhold, &sent), expected);
}

#[test]
fn cookies_and_expectations_are_the_homeservers_business_only() {
    let rig = Rig::new();
    let sent = [("cookie", "a=b"), ("expect", "100-continue"), ("accept-encoding", "gzip"), ("origin", "https://x")];
    assert_eq!(rig.left(Manner::Guarded, Credential::Withhold, &sent), ["origin"]);
    assert_eq!(rig.left(Manner::Raw, Credential::Withhold, &sent), ["accept-encoding", "cookie", "expect", "origin"]);
}

#[test]
fn credentials_go_only_where_they_are_meant_for() {
    use Credential::{Forward, Withhold};
    for (answer, auth, proof, expected) in [
        (Answer::Wallet, Auth::Tep, Proof::Tep, Forward),
        (Answer::WalletChecked, Auth::Tep, Proof::Tep, Forward),
        (Answer::Wallet, Auth::MatrixOrOfficialTep, Proof::Tep, Forward),
        (Answer::Wallet, Auth::MatrixOrOfficialTep, Proof::Matrix, Withhold),
        (Answer::Wallet, Auth::Matrix, Proof::Matrix, Withhold),
        (Answer::Wallet, Auth::Client, Proof::ClientSecret, Withhold),
        (Answer::Wallet, Auth::TepOrClient, Proof::ClientSecret, Withhold),
        (Answer::Homeserver, Auth::Upstream, Proof::None, Forward),
        // Rows that a config adds.
        (Answer::Edge, Auth::Tep, Proof::Tep, Withhold),
        (Answer::Edge, Auth::Public, Proof::None, Forward),
    ] {
        assert_eq!(Credential::rule(answer, auth, proof), expected, "{answer:?} {auth:?} {proof:?}");
    }
    let rig = Rig::new();
    let sent = [("authorization", "Basic c2VjcmV0")];
    assert_eq!(rig.left(Manner::Guarded, Withhold, &sent), [""; 0]);
    assert_eq!(rig.left(Manner::Guarded, Forward, &sent), ["authorization"]);
}

#[test]
fn a_request_keeps_its_line() {
    let rig = Rig::new();
    let mut head = RequestHeader::build("POST", b"/wallet/v1/p2p/%2F?a=%20", None).unwrap();
    head.set_version(http::Version::HTTP_2);
    head.set_send_end_stream(false);
    head.append_header("Content-Length", "3").unwrap();
    request(&mut head, &rig.passage(Manner::Guarded, Credential::Withhold));
    assert_eq!((head.method.as_str(), head.raw_path()), ("POST", b"/wallet/v1/p2p/%2F?a=%20".as_slice()));
    assert_eq!((head.version, head.send_end_stream()), (http::Version::HTTP_2, Some(false)));
    assert_eq!(head.headers.get("content-length").unwrap(), "3");
}

#[test]
fn a_websocket_handshake_stays_whole() {
    let rig = Rig::new();
    let sent = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "x")];
    assert_eq!(rig.left(Manner::Guarded, Credential::Withhold, &sent), ["connection", "sec-websocket-key", "upgrade"]);
    let mut answer = HeaderMap::new();
    for (name, text) in [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "y")] {
        answer.append(name, value(text));
    }
    assert_eq!(answer_headers(&answer, StatusCode::SWITCHING_PROTOCOLS, Manner::Guarded), answer);
}

#[test]
fn nominations() {
    let check = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONNECTION, HeaderValue::from_str(value).unwrap());
        }
        check_nominations(&headers)
    };
    for fine in [&[][..], &["close"], &["Keep-Alive, Upgrade"], &["te, ,trailer"], &["x-hop"], &["keep-alive", "x-hop"]]
    {
        check(fine).unwrap();
    }
    for bad in [
        "authorization",
        "close, Authorization",
        "content-type",
        "content-length",
        "host",
        "x-tmcp-user-id",
        "X-Forwarded-For",
        "x-request-id",
        "cookie",
        "idempotency-key",
        "transfer-encoding",
        "sec-websocket-key",
        "x_tmcp_user_id",
        "\"authorization\"",
        ":authority",
        "a b",
    ] {
        let refusal = check(&[bad]).unwrap_err();
        assert!(refusal.code() == Code::ValidationFailed && refusal.closes(), "{bad}");
        assert!(check(&["close", bad]).is_err(), "{bad} in a second field");
    }
}

#[test]
fn what_a_client_sees_of_a_guarded_answer() {
    let sent = [
        "server",
        "x-powered-by",
        "x-runtime",
        "x-tmcp-user-id",
        "x-tmcp-version",
        "x-ratelimit-limit",
        "x-request-id",
        "x-trace-id",
        "x-protocol-operation",
        "x-cache",
        "strict-transport-security",
        "content-security-policy",
        "x-content-type-options",
        "x-frame-options",
        "referrer-policy",
        "connection",
        "keep-alive",
        "x-hop",
        "alt-svc",
        "via",
        "set-cookie",
        "location",
        "access-control-allow-origin",
        "www-authenticate",
        "proxy-authenticate",
        "content-type",
        "content-length",
        "etag",
        "cache-control",
        "vary",
        "date",
        "retry-after",
        "x-custom",
    ];
    let seen = |manner| {
        let mut answer = HeaderMap::new();
        for name in sent {
            answer.append(name, value(if name == "connection" { "x-hop, content-length" } else { "1" }));
        }
        let headers = answer_headers(&answer, StatusCode::OK, manner);
        let mut names: Vec<String> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(seen(Manner::Guarded), "cache-control content-length content-type date etag retry-after vary x-custom");
    assert_eq!(
        seen(Manner::Raw),
        "access-control-allow-origin cache-control content-length content-security-policy content-type date etag \
         location referrer-policy retry-after set-cookie strict-transport-security vary www-authenticate \
         x-content-type-options x-custom x-frame-options"
    );
}

#[test]
fn a_claim_that_cannot_stand_in_a_header_makes_no_identity() {
    let mut claims = claims();
    claims.session_id = Some("a\r\nX-TMCP-User-Id: @mallory:x".into());
    assert!(Identity::of(&claims).is_err());
}

proptest! {
    /// Whatever a client names its headers, nothing that reads like ours carries its value.
    #[test]
    fn identity_is_never_the_clients(
        name in "[xX][-_]?[tT][mM][cC][pP][-_a-zA-Z]{1,12}|[a-zA-Z_-]{1,20}", raw in any::<bool>(),
    ) {
        let rig = Rig::new();
        let manner = if raw { Manner::Raw } else { Manner::Guarded };
        let headers = rig.after(manner, Credential::Withhold, &[(&name, "evil")]);
        for (kept, value) in &headers {
            if value == "evil" {
                let as_variable = kept.as_str().replace('-', "_");
                prop_assert!(!as_variable.starts_with("x_tmcp_"), "{kept}");
                prop_assert!(!kept.as_str().contains('_'), "{kept}");
            }
        }
        prop_assert_eq!(headers.get("x-tmcp-user-id").unwrap(), "@alice:tween.example");
    }
}
