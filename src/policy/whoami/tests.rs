use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::*;
use crate::config::{AppService, Namespace};

const NOW: u64 = 1_800_000_000;

/// A homeserver that answers by the token's text, when it is let.
#[derive(Default)]
struct Demo {
    asked: AtomicUsize,
    down: std::sync::atomic::AtomicBool,
    gate: Option<Arc<Notify>>,
}

#[async_trait]
impl Homeserver for Demo {
    async fn whoami(&self, token: &str) -> Result<Option<Whoami>, Unavailable> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(Unavailable { reason: "down".to_owned(), retry_after: Some(7) });
        }
        let known = token.strip_prefix("good_").map(|user| Whoami {
            user: UserId::parse(user).unwrap(),
            device_id: Some("DEVICE".to_owned()),
            is_guest: user.starts_with("@guest"),
        });
        Ok(known)
    }
}

fn service() -> AppService {
    AppService {
        id: "tween".to_owned(),
        url: String::new(),
        as_token: None,
        hs_tokens: Vec::new(),
        sender_localpart: "_tmcp".to_owned(),
        users: vec![
            Namespace { exclusive: true, regex: "@_tmcp_.*".to_owned() },
            Namespace { exclusive: true, regex: "@ma_.*|@bot".to_owned() },
        ],
        aliases: Vec::new(),
        query_token: false,
        file: "registration.yaml".into(),
    }
}

fn tokens(demo: &Arc<Demo>, open: usize) -> Arc<MatrixTokens> {
    let rules = UserRules::new("tween.example", Some(&service())).unwrap();
    Arc::new(MatrixTokens::new(demo.clone(), rules, UserHasher::new(b"salt"), open))
}

async fn code(tokens: &MatrixTokens, token: &str, now: u64) -> Result<String, (Code, Option<u64>)> {
    let answer = tokens.check(token, now).await;
    answer.map(|user| user.user.to_string()).map_err(|refusal| (refusal.code(), refusal.retry_after_seconds()))
}

#[tokio::test]
async fn answers_are_kept_for_a_minute_good_and_bad() {
    let demo = Arc::new(Demo::default());
    let tokens = tokens(&demo, 8);
    for (token, answer) in [
        ("good_@alice:tween.example", Ok("@alice:tween.example".to_owned())),
        ("bad", Err((Code::InvalidToken, None))),
        ("good_@guest1:tween.example", Err((Code::Forbidden, None))),
    ] {
        let before = demo.asked.load(Ordering::SeqCst);
        for later in [0, 30, 59] {
            assert_eq!(code(&tokens, token, NOW + later).await, answer);
        }
        assert_eq!(demo.asked.load(Ordering::SeqCst), before + 1, "{token}");
        assert_eq!(code(&tokens, token, NOW + 60).await, answer);
        assert_eq!(demo.asked.load(Ordering::SeqCst), before + 2, "{token}");
    }
}

#[tokio::test]
async fn users_whom_we_do_not_serve() {
    let tokens = tokens(&Arc::new(Demo::default()), 8);
    for user in [
        "@guest:tween.example",
        "@alice:other.example",
        "@_tmcp:tween.example",
        "@_tmcp_relay:tween.example",
        "@ma_shop_bot:tween.example",
        "@bot:tween.example",
    ] {
        assert_eq!(code(&tokens, &format!("good_{user}"), NOW).await, Err((Code::Forbidden, None)), "{user}");
    }
    for user in ["@alice:tween.example", "@x_ma_:tween.example", "@_tmc:tween.example"] {
        assert_eq!(code(&tokens, &format!("good_{user}"), NOW).await, Ok(user.to_owned()));
    }
}

#[tokio::test]
async fn tokens_that_no_homeserver_should_see() {
    let demo = Arc::new(Demo::default());
    let tokens = tokens(&demo, 8);
    for token in ["", "tokén", "a b", "a\tb", "a\u{7f}", &"a".repeat(4097)] {
        assert_eq!(code(&tokens, token, NOW).await, Err((Code::InvalidToken, None)), "{token:?}");
    }
    assert_eq!(demo.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_homeserver_in_trouble_is_not_the_tokens_fault() {
    let demo = Arc::new(Demo::default());
    let tokens = tokens(&demo, 8);
    demo.down.store(true, Ordering::SeqCst);
    let down = Err((Code::ServiceUnavailable, Some(7)));
    assert_eq!(code(&tokens, "good_@alice:tween.example", NOW).await, down);
    demo.down.store(false, Ordering::SeqCst);
    assert!(code(&tokens, "good_@alice:tween.example", NOW).await.is_ok(), "trouble is not kept");
    demo.down.store(true, Ordering::SeqCst);
    assert!(code(&tokens, "good_@alice:tween.example", NOW + 59).await.is_ok(), "what is known stays known");
}

/// Waits for a condition that another task brings about.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_question_for_one_token_and_a_cap_for_all() {
    let gate = Arc::new(Notify::new());
    let demo = Arc::new(Demo { gate: Some(gate.clone()), ..Demo::default() });
    let tokens = tokens(&demo, 1);
    let ask = |token: &'static str| {
        let tokens = tokens.clone();
        tokio::spawn(async move { code(&tokens, token, NOW).await })
    };
    let first = ask("good_@alice:tween.example");
    until(|| demo.asked.load(Ordering::SeqCst) == 1).await;
    let others: Vec<_> = (0..20).map(|_| ask("good_@alice:tween.example")).collect();
    assert_eq!(ask("good_@bob:tween.example").await.unwrap(), Err((Code::ServiceUnavailable, Some(1))));
    first.abort();
    gate.notify_one();
    for other in others {
        assert_eq!(other.await.unwrap(), Ok("@alice:tween.example".to_owned()), "the first to ask has left");
    }
    assert_eq!(demo.asked.load(Ordering::SeqCst), 1);
    gate.notify_one();
    assert!(ask("good_@bob:tween.example").await.unwrap().is_ok(), "there is room again");
}

#[test]
fn a_namespace_that_is_no_pattern_is_named() {
    let service = AppService { users: vec![Namespace { exclusive: true, regex: "@(".to_owned() }], ..service() };
    let error = UserRules::new("tween.example", Some(&service)).unwrap_err();
    assert!(error.starts_with("namespaces.users: @(:"), "{error}");
}
