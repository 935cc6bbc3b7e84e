//! Devices ask while their user answers (RFC 8628 section 3.5).

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::edge::PUBLIC_APP;
use crate::inside::Inside;

fn poll(edge: &TestEdge, device_code: &str) -> Answer {
    named(edge, PUBLIC_APP, "/oauth2/token", &[DEVICE_GRANT, ("device_code", device_code)])
}

/// Answers while the device does nothing but ask; each of its questions is written down. Says whether it has got its
/// tokens meanwhile.
fn answer_in_between(edge: &TestEdge, device_code: &str, user_code: &str, decision: &str) -> (Answer, bool) {
    let answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = [(); 3].map(|()| {
            scope.spawn(|| {
                let mut granted = false;
                while !granted && !answered.load(Ordering::Relaxed) {
                    granted = poll(edge, device_code).status == 200;
                }
                granted
            })
        });
        let pairs = [("user_code", user_code), ("decision", decision)];
        let answer = edge.send(post("/oauth2/device", &pairs).bearer(&edge.matrix_token("bob")));
        answered.store(true, Ordering::Relaxed);
        (answer, asking.into_iter().any(|asks| asks.join().unwrap()))
    })
}

#[test]
fn an_answer_is_not_lost_to_the_devices_own_questions() {
    let edge = edge();
    for _ in 0..10 {
        let (device_code, user_code) = device(edge, PUBLIC_APP);
        let (answer, _) = answer_in_between(edge, &device_code, &user_code, "deny");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(error(&poll(edge, &device_code)), (400, "access_denied".to_owned()));
    }
    for _ in 0..10 {
        let (device_code, user_code) = device(edge, PUBLIC_APP);
        let (answer, granted) = answer_in_between(edge, &device_code, &user_code, "approve");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(poll(edge, &device_code).status, if granted { 400 } else { 200 });
    }
}

/// A mini-app's back end asks for all of its devices, under the limits that stand without any config.
#[test]
fn two_devices_may_ask_until_their_user_answers() {
    let edge = Inside::start();
    let begin = || {
        let (status, begun) = edge.post("/oauth2/device/authorization", &[("scope", "wallet:balance")]);
        assert_eq!(status, 200, "{begun}");
        begun
    };
    let devices = [begin(), begin()];
    let ask =
        |device: &Value| edge.post("/oauth2/token", &[DEVICE_GRANT, ("device_code", text(device, "device_code"))]);
    let told = |(status, body): (u16, Value)| (status, text(&body, "error").to_owned());
    for _ in 0..100 {
        for device in &devices {
            assert_eq!(told(ask(device)), (400, "authorization_pending".to_owned()));
        }
        edge.advance(Duration::from_secs(5));
    }
    edge.allow_device("alice", text(&devices[0], "user_code"));
    let (status, tokens) = ask(&devices[0]);
    assert_eq!((status, text(&tokens, "user_id")), (200, "@alice:tween.example"), "{tokens}");
    // One that does not wait is told to, for as long as it does not.
    assert_eq!(told(ask(&devices[1])), (400, "authorization_pending".to_owned()));
    for _ in 0..30 {
        assert_eq!(told(ask(&devices[1])), (400, "slow_down".to_owned()));
    }
}

#[test]
fn whoever_makes_device_codes_up_is_limited() {
    let edge = Inside::start();
    let made_up = || Credential::first(Kind::Device).unwrap().expose().to_owned();
    let statuses = [(); 16].map(|()| edge.post("/oauth2/token", &[DEVICE_GRANT, ("device_code", &made_up())]).0);
    assert_eq!((statuses[..15].iter().all(|status| *status == 400), statuses[15]), (true, 429), "{statuses:?}");
}

/// Whoever goes on asking after a no pays for it like for anything else.
#[test]
fn a_device_that_was_refused_has_no_free_questions() {
    let edge = Inside::start();
    let (_, begun) = edge.post("/oauth2/device/authorization", &[("scope", "wallet:balance")]);
    let code = text(&begun, "device_code").to_owned();
    edge.deny_device(text(&begun, "user_code"));
    let poll = || edge.post("/oauth2/token", &[DEVICE_GRANT, ("device_code", &code)]).1;
    let mut told: Vec<String> = (0..40).map(|_| text(&poll(), "error").to_owned()).collect();
    assert_eq!(told[0], "access_denied");
    told.dedup();
    assert_eq!(told, ["access_denied", "slow_down"]);
}
