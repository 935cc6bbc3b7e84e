//! Devices ask while their user answers (RFC 8628 section 3.5).

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::edge::PUBLIC_APP;

fn poll(edge: &TestEdge, device_code: &str) -> Answer {
    named(edge, PUBLIC_APP, "/oauth2/token", &[DEVICE_GRANT, ("device_code", device_code)])
}

/// Answers while the device does nothing but ask; each of its questions is written down.
fn answer_in_between(edge: &TestEdge, device_code: &str, user_code: &str, decision: &str) -> Answer {
    let answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !answered.load(Ordering::Relaxed) && poll(edge, device_code).status == 400 {}
            });
        }
        let pairs = [("user_code", user_code), ("decision", decision)];
        let answer = edge.send(post("/oauth2/device", &pairs).bearer(&edge.matrix_token("bob")));
        answered.store(true, Ordering::Relaxed);
        answer
    })
}

#[test]
fn an_answer_is_not_lost_to_the_devices_own_questions() {
    let edge = edge();
    for _ in 0..10 {
        let (device_code, user_code) = device(edge, PUBLIC_APP);
        let answer = answer_in_between(edge, &device_code, &user_code, "deny");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(error(&poll(edge, &device_code)), (400, "access_denied".to_owned()));
    }
    for _ in 0..10 {
        let (device_code, user_code) = device(edge, PUBLIC_APP);
        let answer = answer_in_between(edge, &device_code, &user_code, "approve");
        assert_eq!(answer.status, 200, "{}", answer.text());
        // One of the questions has had the tokens since.
        assert_eq!(error(&poll(edge, &device_code)).0, 400);
    }
}
