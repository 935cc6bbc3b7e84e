//! Every row of the built-in table over HTTP: who is let through, and what everybody else is told.

use std::collections::BTreeSet;

use tmcp_edge::model::rows::{Answer as Answered, Auth, Body, ROWS, Row, Verb};
use tmcp_edge::model::{Operation, Scope};

use crate::edge::{SERVER_NAME, shared};
use crate::wire::{Answer, Request};

/// A row's pattern with something in place of its parameters.
fn example(pattern: &str) -> String {
    let segment = |segment: &str| match segment {
        "{user_id}" | "{user_id...}" => format!("@alice:{SERVER_NAME}"),
        "{alias...}" => format!("%23chat:{SERVER_NAME}"),
        "{miniapp_id}" => "ma_shop_001".to_owned(),
        "{rest...}" => "protocol/tmcp".to_owned(),
        name if name.starts_with('{') => "x_1".to_owned(),
        literal => literal.to_owned(),
    };
    pattern.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// Rows that are off unless configured are not looked at here.
fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| row.operation != Operation::MatrixClient)
}

fn calls(row: &'static Row) -> impl Iterator<Item = (Verb, String)> {
    row.paths.iter().flat_map(move |path| row.methods.iter().map(move |verb| (*verb, example(path))))
}

/// A request with a body where the method takes one; the body is right by its form, not by its schema.
fn call(row: &Row, verb: Verb, path: &str) -> Request {
    let request = Request::new(verb.as_str(), path);
    let writes = matches!(verb, Verb::Post | Verb::Put | Verb::Patch);
    match row.body {
        Body::Form if writes => {
            request.header("content-type", "application/x-www-form-urlencoded").body("token=x&client_id=y")
        }
        Body::Json(_) | Body::Homeserver if writes => request.header("content-type", "application/json").body("{}"),
        _ if writes => request.body(""),
        _ => request,
    }
}

fn takes_tep(auth: Auth) -> bool {
    matches!(auth, Auth::Tep | Auth::MatrixOrTep | Auth::MatrixOrOfficialTep | Auth::TepOrClient)
}

/// What the edge says of a request that it has let through to whoever answers it.
fn is_admitted(answer: &Answer, row: &Row) -> bool {
    match answer.status {
        200 | 501 => true,
        // The wallet's or the schema's word, both of which come after every check of who and whether.
        400 => matches!(row.body, Body::Json(_)) || row.answer == Answered::WalletChecked,
        404 => row.answer == Answered::Wallet,
        // The room check of `resolve` is not a check of scopes.
        403 => row.answer == Answered::WalletChecked && answer.code() == "FORBIDDEN",
        _ => false,
    }
}

fn check_headers(answer: &Answer, operation: &str) {
    crate::headers::check_standing(answer);
    assert_eq!(answer.header("x-protocol-operation"), Some(operation), "{answer:?}");
}

#[test]
fn every_row_with_every_single_scope_token() {
    let edge = shared();
    let tokens: Vec<(Scope, String)> = Scope::ALL.iter().map(|scope| (*scope, edge.token(&[*scope]))).collect();
    let mut tried = 0;
    let mut wire = edge.wire();
    for row in rows().filter(|row| takes_tep(row.auth)) {
        for (at, (verb, path)) in calls(row).enumerate() {
            for (scope, token) in &tokens {
                // The second prefix of a row is tried with the scopes that matter and one that does not.
                if at > 0 && !row.scopes.contains(*scope) && *scope != Scope::UserRead {
                    continue;
                }
                // Withdrawing a permission ends its token, which the next row wants to use.
                let own = (row.operation == Operation::AuthRevoke).then(|| edge.token(&[*scope]));
                let token = own.as_ref().unwrap_or(token);
                let answer = edge.send_on(&mut wire, call(row, verb, &path).bearer(token));
                check_headers(&answer, row.operation.as_str());
                let place = format!("{} {path} with {scope}: {} {}", verb.as_str(), answer.status, answer.text());
                tried += 1;
                if row.auth == Auth::MatrixOrOfficialTep && !scope.official_only() {
                    // Whether the app is official comes first: what scope it lacks does not matter then.
                    assert_eq!(answer.verdict(), (403, "FORBIDDEN".into()), "{place}");
                } else if row.scopes.is_empty() || row.scopes.contains(*scope) {
                    assert!(is_admitted(&answer, row), "{place}");
                } else {
                    assert_eq!(answer.verdict(), (403, "INVALID_SCOPE".into()), "{place}");
                    let challenge = answer.header("www-authenticate").unwrap();
                    assert!(challenge.contains("error=\"insufficient_scope\""), "{place}");
                    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
                    assert!(row.scopes.iter().all(|missing| message.contains(missing.as_str())), "{place}");
                }
            }
        }
    }
    assert!(tried > 600, "only {tried} calls were tried");
}

#[test]
fn no_row_answers_without_a_credential() {
    let edge = shared();
    let mut wire = edge.wire();
    for row in rows() {
        for (verb, path) in calls(row) {
            let answer = edge.send_on(&mut wire, call(row, verb, &path));
            check_headers(&answer, row.operation.as_str());
            let place = format!("{} {path}: {} {}", verb.as_str(), answer.status, answer.text());
            match row.auth {
                // 403: a form that comes from no page of ours.
                Auth::Public | Auth::InBody => assert!(matches!(answer.status, 200 | 400 | 403 | 501), "{place}"),
                Auth::Homeserver => assert_eq!(answer.status, 401, "{place}"),
                Auth::OauthClient => {
                    assert_eq!(answer.status, 401, "{place}");
                    assert_eq!(answer.json()["error"], "invalid_client", "{place}");
                }
                _ => {
                    assert_eq!(answer.verdict(), (401, "INVALID_TOKEN".into()), "{place}");
                    let scheme = if row.auth == Auth::Client { "Basic" } else { "Bearer" };
                    let challenge = answer.header("www-authenticate").unwrap();
                    assert!(challenge.starts_with(scheme) && !challenge.contains("error="), "{place}: {challenge}");
                }
            }
        }
    }
}

#[test]
fn no_row_takes_a_bad_token() {
    let edge = shared();
    let good = edge.full_token();
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other: String = signature.chars().rev().collect();
    let forged = format!("{head}.{other}");
    let mut wire = edge.wire();
    for row in rows().filter(|row| takes_tep(row.auth)) {
        for (verb, path) in calls(row) {
            let answer = edge.send_on(&mut wire, call(row, verb, &path).bearer(&forged));
            let place = format!("{} {path}: {} {}", verb.as_str(), answer.status, answer.text());
            assert_eq!(answer.verdict(), (401, "INVALID_TOKEN".into()), "{place}");
            assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""), "{place}");
            assert!(!answer.text().contains(&other), "the token stands in the answer: {place}");
        }
    }
}

#[test]
fn head_where_get_is_and_405_where_neither() {
    let edge = shared();
    let token = edge.full_token();
    let mut wire = edge.wire();
    let mut paths = BTreeSet::new();
    for row in rows() {
        for path in row.paths.iter().map(|path| example(path)) {
            if !paths.insert(path.clone()) {
                continue;
            }
            let wrong = edge.send_on(&mut wire, Request::new("TRACE", &path).bearer(&token));
            assert_eq!(wrong.verdict().0, 405, "TRACE {path}: {wrong:?}");
            let allow: BTreeSet<&str> = wrong.header("allow").unwrap().split(", ").collect();
            let expected: BTreeSet<&str> = rows()
                .filter(|other| other.paths.iter().any(|known| matches(known, &path)))
                .flat_map(|other| other.methods.iter().map(|verb| verb.as_str()))
                .collect();
            assert!(allow.is_superset(&expected), "{path}: {allow:?} lacks some of {expected:?}");
            assert_eq!(allow.contains("HEAD"), allow.contains("GET"), "{path}: {allow:?}");
            crate::headers::check_standing(&wrong);
        }
    }
    for path in ["/api/v1/wallet/balance", "/wallet/v1/balance", "/api/v1/capabilities", "/oauth2/jwks.json"] {
        let get = edge.send_on(&mut wire, Request::get(path).bearer(&token));
        let head = edge.send_on(&mut wire, Request::new("HEAD", path).bearer(&token));
        assert_eq!(head.status, get.status, "{path}");
        assert!(head.body.is_empty());
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

/// Whether a concrete path of `example` belongs to a pattern, literals first.
fn matches(pattern: &str, path: &str) -> bool {
    example(pattern) == path
}

#[test]
fn a_head_says_what_a_get_would_say_of_what_is_not_there() {
    let edge = shared();
    let token = edge.full_token();
    for path in ["/api/v1/wallet/p2p/trf_nowhere", "/api/v1/payments/pay_nowhere"] {
        let get = edge.send(Request::get(path).bearer(&token));
        let head = edge.send(Request::new("HEAD", path).bearer(&token));
        assert_eq!((get.status, head.status), (404, 404), "{path}: {} {}", get.text(), head.status);
    }
}

#[test]
fn both_prefixes_are_one_route_with_one_limit() {
    let edge = shared();
    let token = edge.full_token();
    let remaining = |path: &str| {
        let answer = edge.send(Request::get(path).bearer(&token));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.number("x-ratelimit-remaining")
    };
    let first = remaining("/api/v1/wallet/balance");
    assert_eq!(remaining("/wallet/v1/balance"), first - 1);
}

#[test]
fn nowhere_is_404_in_the_protocols_words() {
    let edge = shared();
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/wallet",
        "/api/v1/wallet/balance/",
        "/admin",
        "/metrics",
        "/healthz",
        "/API/V1/wallet/balance",
    ] {
        let answer = edge.send(Request::get(path).bearer(&edge.full_token()));
        assert_eq!(answer.verdict(), (404, "NOT_FOUND".into()), "{path}");
        check_headers(&answer, "unmatched");
        let error = &answer.json()["error"];
        assert!(error["request_id"].as_str().unwrap().starts_with("req_"));
        assert!(error["timestamp"].as_str().unwrap().ends_with('Z'));
    }
}
