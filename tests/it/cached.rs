//! The response cache as callers see it: `X-Cache`, whose answer it is, and what makes it forget (brief 7.1).

use tmcp_edge::model::Scope;

use crate::edge::{ADMIN_TOKEN, APP, Setup, TestEdge, fresh_user};
use crate::headers::check_standing;
use crate::upstream::{Reply, Scripted};
use crate::wire::{Answer, Request};

const ORDERS: &str = "/partner/v1/orders";
const MONDAY: &str = "Mon, 23 Nov 2026 08:00:00 GMT";

/// A back end whose answers say for whom they are and how many came before, and an edge that may keep them.
fn start() -> (Scripted, TestEdge) {
    let partner = Scripted::start(|seen| {
        let path = seen.start.split(' ').nth(1).unwrap();
        let body = format!("{{\"for\":\"{}\",\"as\":\"{path}\"}}", seen.header("x-tmcp-user-id").unwrap_or("nobody"));
        let more = match path.rsplit('/').next().unwrap() {
            "private" => "cache-control: private, max-age=60\r\n",
            "secret" => "cache-control: no-store\r\n",
            "cookie" => "set-cookie: a=b\r\n",
            _ => "cache-control: max-age=60\r\n",
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nalt-svc: h3=\":443\"\r\netag: \"v1\"\r\nlast-modified: ";
        let text = format!("{head}{MONDAY}\r\n{more}content-length: {}\r\n\r\n", body.len());
        let body = if seen.start.starts_with("HEAD") { "" } else { body.as_str() };
        Reply::Bytes(format!("{text}{body}").into())
    });
    let row = "path: \"/partner/v1/*\", methods: [GET, POST], operation: Partner, auth_required: true, scopes: [\"user:read\"]";
    let edge = Setup::default()
        .upstream("partner", &format!("addresses: [\"{}\"]\ntls: false\nhealth: false\n", partner.address))
        .main(&format!("tmcp_endpoints:\n  - {{ {row}, upstream: partner, cacheable: true }}"))
        .start();
    (partner, edge)
}

fn ask(edge: &TestEdge, path: &str, token: &str) -> Answer {
    edge.send(Request::get(&format!("{ORDERS}{path}")).bearer(token))
}

fn cache(answer: &Answer) -> &str {
    answer.header("x-cache").unwrap_or("none")
}

#[test]
fn an_answer_is_kept_for_the_one_who_got_it() {
    let (partner, edge) = start();
    let (alice, bob) = (edge.token(&[Scope::UserRead]), edge.token(&[Scope::UserRead]));
    let first = ask(&edge, "", &alice);
    let again = ask(&edge, "", &alice);
    assert_eq!((cache(&first), cache(&again)), ("MISS", "HIT"));
    assert_eq!(first.body, again.body);
    check_standing(&again);
    assert_eq!(again.header("etag"), Some("\"v1\""));
    assert_eq!([first.header("alt-svc"), again.header("alt-svc")], [None, None], "what goes no further is not kept");
    assert!(again.number("age") < 60);
    assert!(again.number("x-ratelimit-remaining") < first.number("x-ratelimit-remaining"), "a hit is a call as well");
    let other = ask(&edge, "", &bob);
    assert_eq!(cache(&other), "MISS");
    assert_ne!(other.body, first.body);
    // A query is another question, and another token of the same user with other scopes another caller.
    assert_eq!(cache(&ask(&edge, "?page=2", &alice)), "MISS");
    let user = fresh_user();
    let wide = edge.token_of(&user, APP, [Scope::UserRead, Scope::WalletPay].into_iter().collect());
    let narrow = edge.token_of(&user, APP, [Scope::UserRead].into_iter().collect());
    assert_eq!([cache(&ask(&edge, "", &wide)), cache(&ask(&edge, "", &narrow))], ["MISS", "MISS"]);
    assert_eq!(partner.seen().len(), 5);
}

#[test]
fn what_may_not_be_kept_is_not() {
    let (partner, edge) = start();
    let token = edge.token(&[Scope::UserRead]);
    for path in ["/secret", "/cookie"] {
        assert_eq!([cache(&ask(&edge, path, &token)), cache(&ask(&edge, path, &token))], ["MISS", "MISS"], "{path}");
    }
    assert_eq!([cache(&ask(&edge, "/private", &token)), cache(&ask(&edge, "/private", &token))], ["MISS", "HIT"]);
    for header in [("cache-control", "no-cache"), ("cookie", "a=b"), ("pragma", "no-cache")] {
        let request = Request::get(&format!("{ORDERS}/private")).bearer(&token).header(header.0, header.1);
        assert_eq!(cache(&edge.send(request)), "BYPASS", "{header:?}");
    }
    assert_eq!(partner.seen().len(), 8);
    // A row that the config does not say it of is not cached, and says nothing of a cache.
    assert_eq!(edge.send(Request::get("/api/v1/wallet/balance").bearer(&edge.full_token())).header("x-cache"), None);
}

#[test]
fn who_has_the_answer_is_told_304() {
    let (partner, edge) = start();
    let token = edge.token(&[Scope::UserRead]);
    assert_eq!(cache(&ask(&edge, "", &token)), "MISS");
    let mut wire = edge.wire();
    let mut conditional =
        |name: &str, value: &str| edge.send_on(&mut wire, Request::get(ORDERS).bearer(&token).header(name, value));
    for (name, value) in
        [("if-none-match", "\"v1\""), ("if-none-match", "\"v0\", W/\"v1\""), ("if-modified-since", MONDAY)]
    {
        let held = conditional(name, value);
        assert_eq!((held.status, cache(&held)), (304, "HIT"), "{name}: {value}");
        assert_eq!((held.header("etag"), held.header("content-length")), (Some("\"v1\""), None));
        assert_eq!(held.header("content-type"), None);
        check_standing(&held);
    }
    let changed = conditional("if-none-match", "\"v2\"");
    assert_eq!((changed.status, cache(&changed)), (200, "HIT"));
    let head = edge.send(Request::new("HEAD", ORDERS).bearer(&token));
    assert_eq!((head.status, cache(&head), head.number("content-length")), (200, "HIT", changed.body.len() as u64));
    assert_eq!(partner.seen().len(), 1);
}

#[test]
fn a_write_or_an_operator_makes_it_forget() {
    let (partner, edge) = start();
    let (writer, other) = (edge.token(&[Scope::UserRead]), edge.token(&[Scope::UserRead]));
    for token in [&writer, &other] {
        assert_eq!([cache(&ask(&edge, "", token)), cache(&ask(&edge, "", token))], ["MISS", "HIT"]);
    }
    assert_eq!(edge.send(Request::post(ORDERS, "{}").bearer(&writer)).status, 200);
    assert_eq!([cache(&ask(&edge, "", &writer)), cache(&ask(&edge, "", &other))], ["MISS", "HIT"]);
    let purged = edge.at_admin(ADMIN_TOKEN, Request::post("/api/v1/cache/purge", "{\"path_prefix\":\"/partner/\"}"));
    assert_eq!(purged.status, 200, "{}", purged.text());
    assert!(purged.json()["purged"].as_u64().unwrap() >= 2, "{}", purged.text());
    assert_eq!([cache(&ask(&edge, "", &writer)), cache(&ask(&edge, "", &other))], ["MISS", "MISS"]);
    let before = partner.seen().len();
    let reloaded = edge.at_admin(ADMIN_TOKEN, Request::new("POST", "/api/v1/reload").body(""));
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    assert_eq!(cache(&ask(&edge, "", &writer)), "HIT", "a reload that does not touch the cache leaves it");
    assert_eq!(partner.seen().len(), before);
}
