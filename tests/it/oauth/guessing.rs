//! Whoever guesses soon has to wait, also with the right answer; nobody else notices (RFC 6749 2.3.1, RFC 8628 5.1).

use super::*;
use crate::edge::{PUBLIC_APP, fresh_ip};

/// Guesses until the address is not heard any more, and says how often it was.
fn guess_until_stopped(guess: impl Fn(usize) -> Answer) -> usize {
    let (heard, stopped) = (0..200).map(|at| (at, guess(at))).find(|(_, answer)| answer.status == 429).unwrap();
    assert!(stopped.number("retry-after") > 0);
    heard
}

#[test]
fn guessing_a_clients_secret_is_limited() {
    let (edge, ip) = (edge(), fresh_ip());
    let try_it = |secret: &str, ip: &str| {
        let pairs = [("grant_type", "refresh_token"), ("client_id", APP), ("client_secret", secret)];
        edge.send(post("/oauth2/token", &pairs).header("x-forwarded-for", ip))
    };
    let first = try_it("0", &ip);
    assert_eq!(error(&first), (401, "invalid_client".to_owned()));
    assert!(first.header("www-authenticate").unwrap().starts_with("Basic"));
    assert!(guess_until_stopped(|at| try_it(&at.to_string(), &ip)) <= 60);
    assert_eq!(try_it(&edge.client_secret, &ip).status, 429, "the right one is not heard either");
    let elsewhere = try_it(&edge.client_secret, &fresh_ip());
    assert_eq!(error(&elsewhere), (400, "invalid_request".to_owned()), "its owner is let in all the while");
}

#[test]
fn guessing_a_user_code_is_limited() {
    let (edge, ip) = (edge(), fresh_ip());
    let [guesser, owner] = ["alice", "bob"].map(|user| edge.matrix_token(user));
    let (device_code, user_code) = device(edge, PUBLIC_APP);
    let answer = |token: &str, code: &str, ip: &str| {
        let pairs = [("user_code", code), ("decision", "approve")];
        edge.send(post("/oauth2/device", &pairs).bearer(token).header("x-forwarded-for", ip))
    };
    let wrong = |at: usize| {
        let letter = |by: usize| char::from(b"BCDFGHJKLMNPQRSTVWXZ"[at / by % 20]);
        let code: String = [letter(1), letter(20), 'B', 'B', 'B', 'B', 'B', 'B'].into_iter().collect();
        answer(&guesser, &code, &ip)
    };
    assert_eq!(wrong(0).status, 404);
    assert!(guess_until_stopped(|at| wrong(at + 1)) <= 60);
    assert_eq!(answer(&guesser, &user_code, &ip).status, 429, "the right one is not heard either");
    let poll = || named(edge, PUBLIC_APP, "/oauth2/token", &[DEVICE_GRANT, ("device_code", &device_code)]);
    assert_eq!(error(&poll()), (400, "authorization_pending".to_owned()));
    assert_eq!(answer(&owner, &user_code, &fresh_ip()).status, 200, "its owner is let in all the while");
    assert_eq!(text(&poll().json(), "user_id"), "@bob:tween.example");
}

#[test]
fn guessing_a_matrix_token_is_limited() {
    let (edge, ip) = (edge(), fresh_ip());
    let (_, user_code) = device(edge, PUBLIC_APP);
    let ask = |token: &str| {
        let page = format!("/oauth2/device?user_code={user_code}");
        edge.send(Request::get(&page).bearer(token).header("x-forwarded-for", &*ip))
    };
    assert_eq!(ask("guess").status, 401);
    assert!(guess_until_stopped(|at| ask(&format!("guess{at}"))) <= 60);
    assert_eq!(ask(&edge.matrix_token("alice")).status, 429);
}

/// From as many addresses as one likes, with one and the same Matrix access token.
#[test]
fn guessing_user_codes_with_a_chat_apps_token_is_limited_by_user() {
    let edge = Setup::default().start();
    let (_, user_code) = device(&edge, PUBLIC_APP);
    let look = |code: &str, user: &str| {
        let page = format!("/oauth2/device?user_code={code}");
        edge.send(Request::get(&page).bearer(&edge.matrix_token(user))).status
    };
    for _ in 0..10 {
        assert_eq!(look(&user_code, "alice"), 200, "what is right costs nothing");
    }
    assert_eq!([(); 6].map(|()| look("BCDF-GHJK", "alice")), [404, 404, 404, 404, 404, 429]);
    assert_eq!((look(&user_code, "alice"), look(&user_code, "bob")), (429, 200));
}
