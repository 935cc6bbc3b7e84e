//! The edge's own pages as a browser meets them, by hand: every form field and cookie is a test's to change.

use std::time::Duration;

use tmcp_edge::clock::Clock;
use tmcp_edge::model::oauth::{Challenge, ClientId, Consent};
use tmcp_edge::model::{MiniAppId, Revoked, ScopeSet};
use tmcp_edge::store::oauth::{Approvals, Credential, Devices, Grants, Kind, Questions};
use tmcp_edge::store::revocations::RevocationLog;

use crate::edge::{APP, Setup, TestEdge, eventually, fresh_ip, user};
use crate::wire::{Answer, Request};

const CALLBACK: &str = "https://shop.example/back?from=tween";
const MINUTE: Duration = Duration::from_secs(60);

fn edge() -> TestEdge {
    Setup::default().main("oauth: { sign_in: homeserver }").start()
}

fn consent(scopes: &str) -> Consent {
    Consent {
        client: ClientId::of(MiniAppId::parse(APP).unwrap()),
        redirect: CALLBACK.to_owned(),
        state: Some("a b&c".to_owned()),
        scopes: ScopeSet::from_list(scopes),
        challenge: Challenge::parse("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM").unwrap(),
        user: None,
        asked_at: u64::try_from(Clock::system().unix().as_millis()).unwrap(),
    }
}

/// Puts a question as `authorize` does; the answer is its session.
fn ask(edge: &TestEdge, scopes: &str) -> String {
    let questions = Questions::new(edge.store());
    let question = consent(scopes);
    edge.block_on(async move { questions.put(&question, MINUTE).await }).unwrap().expose().to_owned()
}

/// A browser: it keeps its cookie and knows what a page's form carries.
struct Browser<'a> {
    edge: &'a TestEdge,
    cookie: Option<String>,
    page: String,
    /// Where it is; `None`: somewhere else each time.
    ip: Option<String>,
}

impl<'a> Browser<'a> {
    fn new(edge: &'a TestEdge) -> Browser<'a> {
        Browser { edge, cookie: None, page: String::new(), ip: None }
    }

    fn send(&mut self, mut request: Request) -> Answer {
        let ip = self.ip.clone().unwrap_or_else(fresh_ip);
        request = request.header("accept", "text/html,application/xhtml+xml;q=0.9").header("x-forwarded-for", ip);
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let answer = self.edge.send(request);
        if let Some(set) = answer.header("set-cookie") {
            assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        if answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            self.page = answer.text();
            let policy = answer.header("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'") && !self.page.contains("<script"), "{policy}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        }
        answer
    }

    fn get(&mut self, target: &str) -> Answer {
        self.send(Request::get(target))
    }

    fn csrf(&self) -> String {
        let from = self.page.split("name=\"csrf\" value=\"").nth(1).unwrap_or_else(|| panic!("no form: {}", self.page));
        from.split('"').next().unwrap().to_owned()
    }

    fn form(&self, path: &str, fields: &[(&str, &str)]) -> Request {
        let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Request::new("POST", path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", format!("http://{}", self.edge.address))
            .body(body)
    }

    fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf();
        let mut all = fields.to_vec();
        all.push(("csrf", &csrf));
        let request = self.form(path, &all);
        self.send(request)
    }

    fn sign_in(&mut self, path: &str, more: &[(&str, &str)], name: &str) -> Answer {
        let fields = [&[("action", "sign_in"), ("user", name), ("password", "demo")], more].concat();
        self.post(path, &fields)
    }
}

#[test]
fn a_user_signs_in_allows_and_takes_it_back() {
    let edge = edge();
    let mut browser = Browser::new(&edge);
    let session = ask(&edge, "user:read wallet:balance wallet:pay storage:read");
    let page = format!("/oauth2/consent?session={session}");
    assert_eq!(browser.get(&page).status, 200);
    assert!(browser.page.contains("<label class=\"field\" for=\"password\">"), "{}", browser.page);
    let before = browser.cookie.clone();

    let wrong = browser.post(
        "/oauth2/consent",
        &[("action", "sign_in"), ("session", &session), ("user", "alice"), ("password", "no")],
    );
    assert_eq!(wrong.status, 403);
    assert!(browser.page.contains("role=\"alert\""));
    let signed_in = browser.sign_in("/oauth2/consent", &[("session", &session)], "alice");
    assert_eq!((signed_in.status, signed_in.header("location")), (303, Some(page.as_str())));
    assert_ne!(browser.cookie, before, "signing in changes the cookie");

    let shown = browser.get(&page);
    for part in ["Allow Shop to use your account?", "name=\"wallet:pay\"", "It already may", "@alice:tween.example"] {
        assert!(browser.page.contains(part), "no {part} in {}", browser.page);
    }
    let policy = shown.header("content-security-policy").unwrap();
    assert!(!policy.contains("form-action"), "who knows where the mini-app leads on to: {policy}");
    let allowed = browser.post(
        "/oauth2/consent",
        &[("action", "approve"), ("session", &session), ("user:read", "on"), ("wallet:balance", "on")],
    );
    let location = allowed.header("location").unwrap().to_owned();
    assert_eq!(allowed.status, 303);
    assert!(location.starts_with("https://shop.example/back?from=tween&code=tmcp_code_"), "{location}");
    assert!(location.contains("&state=a+b%26c&iss=http%3A%2F%2F127.0.0.1"), "{location}");
    let again = browser.get(&page);
    assert_eq!(again.status, 404, "a question is answered once");
    assert!(browser.page.contains("no longer good"), "{}", browser.page);

    // Only what is new is asked about.
    let session = ask(&edge, "user:read wallet:pay");
    browser.get(&format!("/oauth2/consent?session={session}"));
    assert!(
        browser.page.contains("name=\"wallet:pay\"") && !browser.page.contains("name=\"user:read\""),
        "{}",
        browser.page
    );
    let no = browser.post("/oauth2/consent", &[("action", "deny"), ("session", &session)]);
    assert!(no.header("location").unwrap().contains("&error=access_denied&"), "{no:?}");

    // The user's own page, and a token that is void once its permission is taken back.
    let token = edge.token_of(&user("alice"), APP, ScopeSet::from_list("wallet:balance"));
    let balance = || edge.send(Request::get("/api/v1/wallet/balance").bearer(&token)).status;
    assert_eq!(balance(), 200);
    browser.get("/oauth2/apps");
    assert!(browser.page.contains("see your balance") && !browser.page.contains("start payments"), "{}", browser.page);
    let fields = [("action", "drop_scope"), ("miniapp_id", APP), ("scope", "wallet:balance")];
    assert_eq!(browser.post("/oauth2/apps", &fields).header("location"), Some("/oauth2/apps?taken=scope"));
    eventually("the token is void", Duration::from_secs(1), || balance() == 401);
    browser.get("/oauth2/apps?taken=scope");
    assert!(browser.page.contains("role=\"status\"") && !browser.page.contains("see your balance"), "{}", browser.page);
    browser.post("/oauth2/apps", &[("action", "drop_app"), ("miniapp_id", APP)]);
    browser.get("/oauth2/apps");
    assert!(browser.page.contains("No mini-app may use your account."), "{}", browser.page);
    // What nobody knows is nothing to take back, and fills no log.
    let invented = browser.post("/oauth2/apps", &[("action", "drop_app"), ("miniapp_id", "ma_never_was")]);
    assert_eq!(invented.status, 404);
    browser.get("/oauth2/apps");
    browser.post("/oauth2/apps", &[("action", "sign_out")]);
    browser.get("/oauth2/apps");
    assert!(browser.page.contains("<h1>Sign in</h1>"), "{}", browser.page);
}

#[test]
fn forms_of_other_sites_and_other_users_are_refused() {
    let edge = edge();
    let session = ask(&edge, "user:read");
    let page = format!("/oauth2/consent?session={session}");
    let mut browser = Browser::new(&edge);
    browser.get(&page);
    browser.sign_in("/oauth2/consent", &[("session", &session)], "alice");
    browser.get(&page);
    let csrf = browser.csrf();
    let fields = [("action", "approve"), ("session", session.as_str()), ("user:read", "on"), ("csrf", csrf.as_str())];
    let mut foreign = browser.form("/oauth2/consent", &fields);
    foreign.headers.retain(|(name, _)| name != "origin");
    assert_eq!(browser.send(foreign.header("origin", "https://evil.example")).status, 403);
    let without = browser.form("/oauth2/consent", &fields[..3]);
    assert_eq!(browser.send(without).status, 403);
    let mut stranger = Browser::new(&edge);
    stranger.get(&page);
    let stolen = stranger.form("/oauth2/consent", &fields);
    assert_eq!(stranger.send(stolen).status, 403, "a proof belongs to one browser");
    // The question has become alice's.
    stranger.get(&page);
    stranger.sign_in("/oauth2/consent", &[("session", &session)], "bob");
    assert_eq!(stranger.get(&page).status, 403);
    let native = Request::get(&page).bearer(&edge.matrix_token("bob"));
    assert_eq!(edge.send(native).status, 403, "nor with a chat app");
    let done = browser.form("/oauth2/consent", &fields);
    assert_eq!(browser.send(done).status, 303, "none of that used the question up");
}

#[test]
fn somebody_else_at_the_same_browser_may_answer() {
    let edge = edge();
    let session = ask(&edge, "user:read");
    let page = format!("/oauth2/consent?session={session}");
    let mut browser = Browser::new(&edge);
    browser.get("/oauth2/apps");
    browser.sign_in("/oauth2/apps", &[], "alice");
    browser.get(&page);
    assert!(browser.page.contains("@alice:tween.example"), "{}", browser.page);
    browser.post("/oauth2/consent", &[("action", "sign_out"), ("session", &session)]);
    browser.get(&page);
    browser.sign_in("/oauth2/consent", &[("session", &session)], "bob");
    assert_eq!(browser.get(&page).status, 200);
    assert!(browser.page.contains("@bob:tween.example"), "{}", browser.page);
    let fields = [("action", "approve"), ("session", session.as_str()), ("user:read", "on")];
    assert!(browser.post("/oauth2/consent", &fields).header("location").unwrap().contains("code=tmcp_code_"));
}

/// Nobody is asked about `storage:*`, so nothing is approved, and yet the mini-app holds a grant.
#[test]
fn a_mini_app_that_was_never_asked_about_is_shown() {
    let edge = edge();
    let mut browser = Browser::new(&edge);
    browser.get("/oauth2/apps");
    browser.sign_in("/oauth2/apps", &[], "alice");
    browser.get("/oauth2/apps");
    assert!(browser.page.contains("No mini-app may use your account."), "{}", browser.page);
    let session = ask(&edge, "storage:read");
    browser.get(&format!("/oauth2/consent?session={session}"));
    assert_eq!(browser.post("/oauth2/consent", &[("action", "approve"), ("session", &session)]).status, 303);
    browser.get("/oauth2/apps");
    for part in ["Shop", "read what it has stored for you", "without asking", "Disconnect Shop"] {
        assert!(browser.page.contains(part), "no {part} in {}", browser.page);
    }
    assert!(!browser.page.contains("drop_scope"), "it would have it again at once: {}", browser.page);
    browser.post("/oauth2/apps", &[("action", "drop_app"), ("miniapp_id", APP)]);
    browser.get("/oauth2/apps");
    assert!(browser.page.contains("No mini-app may use your account."), "{}", browser.page);
}

/// A browser that is told twice by its user drops the first answer.
#[test]
fn pressing_a_button_twice_loses_no_code() {
    let edge = edge();
    let mut browser = Browser::new(&edge);
    browser.get("/oauth2/apps");
    browser.sign_in("/oauth2/apps", &[], "alice");
    for (action, answer) in [("approve", "code=tmcp_code_"), ("deny", "error=access_denied")] {
        let session = ask(&edge, "wallet:history");
        browser.get(&format!("/oauth2/consent?session={session}"));
        let fields = [("action", action), ("session", session.as_str()), ("wallet:history", "on")];
        let [first, second] = [(); 2].map(|()| browser.post("/oauth2/consent", &fields));
        assert_eq!((first.status, second.status), (303, 303), "{}", second.text());
        assert!(first.header("location").unwrap().contains(answer), "{first:?}");
        assert_eq!(first.header("location"), second.header("location"));
        let csrf = browser.csrf();
        let other = if action == "deny" { "approve" } else { "deny" };
        let changed = [("action", other), fields[1], fields[2], ("csrf", csrf.as_str())];
        let changed = browser.form("/oauth2/consent", &changed);
        assert_eq!(browser.send(changed).status, 404, "it has been answered");
        let decide = |who: &str| {
            let form = format!("session={session}&decision={action}");
            let request = Request::new("POST", "/oauth2/consent").bearer(&edge.matrix_token(who)).body(form);
            edge.send(request.header("content-type", "application/x-www-form-urlencoded"))
        };
        assert_eq!(decide("bob").status, 404, "it is alice's");
        assert_eq!(decide("alice").json()["redirect_uri"], first.header("location").unwrap());
        browser.get("/oauth2/apps");
    }
}

/// A browser asks twice for a page that it restores in two tabs.
#[test]
fn one_user_may_open_a_question_twice_at_once() {
    let edge = edge();
    let mut browser = Browser::new(&edge);
    browser.get("/oauth2/apps");
    browser.sign_in("/oauth2/apps", &[], "alice");
    let cookie = browser.cookie.clone().unwrap();
    for _ in 0..5 {
        let page = format!("/oauth2/consent?session={}", ask(&edge, "user:read"));
        let open = || edge.send(Request::get(&page).header("cookie", &cookie)).status;
        let statuses = std::thread::scope(|scope| {
            let tabs = [(); 8].map(|()| scope.spawn(open));
            tabs.map(|tab| tab.join().unwrap())
        });
        assert_eq!(statuses, [200; 8]);
    }
}

#[test]
fn a_chat_app_asks_itself() {
    let edge = edge();
    let session = ask(&edge, "user:read wallet:balance storage:write");
    let page = format!("/oauth2/consent?session={session}");
    let [alice, bob] = ["alice", "bob"].map(|name| edge.matrix_token(name));
    assert_eq!(edge.send(Request::get(&page).bearer("nonsense")).status, 401);
    let tep = edge.token_of(&user("alice"), APP, ScopeSet::from_list("user:read"));
    assert_eq!(edge.send(Request::get(&page).bearer(&tep)).status, 401, "a mini-app cannot approve itself");
    let data = edge.send(Request::get(&page).bearer(&alice)).json();
    assert_eq!(data["mini_app"]["name"], "Shop");
    let scopes = data["requested_scopes"].as_array().unwrap();
    assert_eq!(scopes.len(), 3);
    assert!(scopes.iter().all(|scope| scope["description"].is_string() && scope["sensitivity"].is_string()));
    assert_eq!(edge.send(Request::get(&page).bearer(&bob)).status, 200, "who only looks takes it from nobody");
    let decide = |token: &str, body: &str| {
        let request =
            Request::new("POST", "/oauth2/consent").header("content-type", "application/x-www-form-urlencoded");
        edge.send(request.bearer(token).body(format!("session={session}&{body}")))
    };
    assert_eq!(decide(&alice, "decision=perhaps").status, 400);
    let answer = decide(&alice, "decision=approve&scope=user%3Aread").json();
    assert!(answer["redirect_uri"].as_str().unwrap().contains("code=tmcp_code_"), "{answer}");
    assert_eq!(decide(&alice, "decision=approve").json(), answer, "an answer that got lost");
    assert_eq!(decide(&alice, "decision=deny").status, 404);

    let revoke = |token: &str, body: &'static str| edge.send(Request::post("/api/v1/auth/revoke", body).bearer(token));
    assert_eq!(revoke(&alice, "{}").status, 400, "a Matrix token does not say which mini-app");
    let nothing = revoke(&alice, r#"{"miniapp_id":"ma_shop_001","scopes":[]}"#);
    assert_eq!(nothing.verdict(), (400, "VALIDATION_FAILED".to_owned()), "nothing is not everything");
    let nobody = revoke(&alice, r#"{"miniapp_id":"ma_nobody_registered"}"#);
    assert_eq!(nobody.verdict(), (404, "MINIAPP_NOT_FOUND".to_owned()));
    let revoked = revoke(&alice, r#"{"miniapp_id":"ma_shop_001"}"#).json();
    assert_eq!(revoked["revoked_scopes"], serde_json::json!(["user:read"]));
    assert_eq!(edge.send(Request::get("/api/v1/capabilities").bearer(&tep)).status, 401);
}

#[test]
fn user_codes_are_typed_by_hand_and_not_guessed() {
    let edge = edge();
    let devices = Devices::new(edge.store());
    let client = ClientId::of(MiniAppId::parse(APP).unwrap());
    let now = u64::try_from(Clock::system().unix().as_millis()).unwrap();
    let scopes = ScopeSet::from_list("wallet:balance wallet:pay");
    let (_, code) = edge.block_on(async move { devices.begin(client, scopes, now, MINUTE).await }).unwrap();
    let code = code.to_string();
    let mut browser = Browser::new(&edge);
    browser.get(&format!("/oauth2/device?user_code={code}"));
    let back = browser.sign_in("/oauth2/device", &[("user_code", &code)], "alice");
    assert_eq!(back.header("location"), Some(format!("/oauth2/device?user_code={code}").as_str()));
    browser.get(&format!("/oauth2/device?user_code={code}"));
    assert!(
        browser.page.contains(&format!("value=\"{code}\"")) && !browser.page.contains("Allow Shop"),
        "a link only fills it in"
    );
    let typed = code.to_lowercase().replace('-', " ");
    browser.post("/oauth2/device", &[("action", "look_up"), ("user_code", &typed)]);
    assert!(browser.page.contains("Allow Shop") && !browser.page.contains("wallet:pay"), "{}", browser.page);
    browser.post("/oauth2/device", &[("action", "approve"), ("user_code", &code), ("wallet:balance", "on")]);
    assert!(browser.page.contains("Your device is connected"), "{}", browser.page);
    browser.get("/oauth2/device");
    for _ in 0..5 {
        assert_eq!(browser.post("/oauth2/device", &[("action", "look_up"), ("user_code", "BCDF-GHJK")]).status, 404);
    }
    browser.get("/oauth2/device");
    assert!(browser.page.contains("<h1>Sign in</h1>"), "five wrong codes end the visit");
}

/// Whoever has the password may have signed in before it was changed: revoking a user's tokens ends visits, too.
#[test]
fn revoking_a_user_ends_visits_of_before() {
    let edge = edge();
    let session = ask(&edge, "user:read wallet:balance");
    let page = format!("/oauth2/consent?session={session}");
    let mut browser = Browser::new(&edge);
    browser.get(&page);
    browser.sign_in("/oauth2/consent", &[("session", &session)], "alice");
    browser.get(&page);
    assert!(browser.page.contains("Allow Shop"), "{}", browser.page);
    let form = browser.page.clone();
    let log = RevocationLog::new(edge.store(), Clock::system());
    edge.block_on(async move { log.append(Revoked::User(user("alice"))).await }).unwrap();
    let allowed = [("action", "approve"), ("session", &session), ("wallet:balance", "on")];
    assert_eq!(browser.post("/oauth2/consent", &allowed).header("location"), None);
    assert!(browser.page.contains("<h1>Sign in</h1>"), "{}", browser.page);
    for target in [page.as_str(), "/oauth2/device"] {
        browser.page.clone_from(&form);
        browser.get(target);
        assert!(browser.page.contains("<h1>Sign in</h1>"), "{target}: {}", browser.page);
    }
    browser.get(&page);
    assert_eq!(browser.sign_in("/oauth2/consent", &[("session", &session)], "alice").status, 303);
    browser.get(&page);
    assert!(browser.page.contains("Allow Shop"), "who has signed in since is heard: {}", browser.page);
}

/// A box that the user has left empty is a no, also when the same was allowed in another window meanwhile.
#[test]
fn what_was_shown_and_not_ticked_is_not_granted() {
    let edge = edge();
    let session = ask(&edge, "user:read wallet:balance wallet:pay");
    let page = format!("/oauth2/consent?session={session}");
    let mut browser = Browser::new(&edge);
    browser.get(&page);
    browser.sign_in("/oauth2/consent", &[("session", &session)], "alice");
    browser.get(&page);
    let shown = browser.page.split("name=\"shown\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(shown.contains("wallet:pay") && shown.contains("wallet:balance"), "{shown}");
    let (approvals, grants) = (Approvals::new(edge.store()), Grants::new(edge.store()));
    let (app, pay) = (MiniAppId::parse(APP).unwrap(), ScopeSet::from_list("wallet:pay"));
    edge.block_on(async move { approvals.add(&user("alice"), &app, pay, 1).await }).unwrap();
    let ticked = [("action", "approve"), ("session", &session), ("wallet:balance", "on"), ("shown", &shown)];
    assert_eq!(browser.post("/oauth2/consent", &ticked).status, 303);
    let id = Credential::parse(Kind::Consent, &session).unwrap().grant();
    let granted = edge.block_on(async move { grants.get(id).await }).unwrap().unwrap().value.scopes;
    assert!(granted.is_superset(ScopeSet::from_list("wallet:balance")), "{granted}");
    assert!(!granted.intersects(pay), "{granted}");
}

#[test]
fn a_device_that_was_allowed_nothing_is_not_called_connected() {
    let edge = edge();
    let (devices, client) = (Devices::new(edge.store()), ClientId::of(MiniAppId::parse(APP).unwrap()));
    let now = u64::try_from(Clock::system().unix().as_millis()).unwrap();
    let begun = async move { devices.begin(client, ScopeSet::from_list("wallet:balance"), now, MINUTE).await };
    let code = edge.block_on(begun).unwrap().1.to_string();
    let mut browser = Browser::new(&edge);
    browser.get("/oauth2/device");
    browser.sign_in("/oauth2/device", &[], "alice");
    browser.get("/oauth2/device");
    browser.post("/oauth2/device", &[("action", "look_up"), ("user_code", &code)]);
    browser.post("/oauth2/device", &[("action", "approve"), ("user_code", &code)]);
    assert!(browser.page.contains("was not allowed anything"), "nothing was ticked: {}", browser.page);
}

/// RFC 9700 4.2: a page's address bears a session, which no other site is told by `Referer`, or by being asked for
/// something.
#[test]
fn the_pages_tell_nobody_where_they_were() {
    let edge = edge();
    let session = ask(&edge, "user:read");
    let page = format!("/oauth2/consent?session={session}");
    let mut browser = Browser::new(&edge);
    browser.get(&page);
    browser.sign_in("/oauth2/consent", &[("session", &session)], "alice");
    for target in [page.as_str(), "/oauth2/apps", "/oauth2/device"] {
        let shown = browser.get(target);
        assert_eq!(shown.status, 200);
        let policy = shown.header("referrer-policy").unwrap();
        assert!(["no-referrer", "same-origin", "strict-origin-when-cross-origin"].contains(&policy), "{policy}");
        for asks in ["src=", "<link", "url(", "@import", "href=\"http"] {
            assert!(!browser.page.contains(asks), "{target}: {asks} in {}", browser.page);
        }
    }
}

/// Homeservers limit guesses by address, and ours would be everybody's.
#[test]
fn the_homeserver_is_told_where_a_sign_in_comes_from() {
    let edge = edge();
    let ip = fresh_ip();
    let mut browser = Browser { ip: Some(ip.clone()), ..Browser::new(&edge) };
    browser.get("/oauth2/apps");
    assert_eq!(browser.sign_in("/oauth2/apps", &[], "alice").status, 303);
    let seen = edge.homeserver().desk.recorder.all();
    let logins: Vec<_> = seen.iter().filter(|seen| seen.path == "/_matrix/client/v3/login").collect();
    assert_eq!(logins.len(), 1);
    assert_eq!(logins[0].headers.get("x-forwarded-for"), Some(&ip));
}

#[test]
fn guessed_passwords_shut_their_address_out() {
    let limits = ", failed_auth_per_minute: 5";
    let edge = Setup::default().limits(limits).main("oauth: { sign_in: homeserver }").start();
    let mut guesser = Browser { ip: Some(fresh_ip()), ..Browser::new(&edge) };
    guesser.get("/oauth2/apps");
    let page = guesser.page.clone();
    let mut attempt = |password: &str| {
        guesser.page.clone_from(&page);
        guesser.post("/oauth2/apps", &[("action", "sign_in"), ("user", "alice"), ("password", password)]).status
    };
    assert_eq!(["1", "2", "3", "4", "5"].map(&mut attempt), [403; 5]);
    assert_eq!(attempt("demo"), 429, "the right one is not heard either");
    let mut alice = Browser::new(&edge);
    alice.get("/oauth2/apps");
    assert_eq!(alice.sign_in("/oauth2/apps", &[], "alice").status, 303, "who is somewhere else is");
}

#[test]
fn pages_tell_people_what_went_wrong() {
    let edge = Setup::default().start();
    let mut browser = Browser::new(&edge);
    assert_eq!(browser.get("/oauth2/consent").status, 400);
    assert!(browser.page.contains("Go back to the mini-app") && browser.page.contains("req_"), "{}", browser.page);
    browser.get("/oauth2/apps");
    assert!(browser.page.contains("does not let you sign in here"), "off unless the config says otherwise");
    let ip = fresh_ip();
    let mut last = 0;
    for _ in 0..16 {
        let request = Request::get("/oauth2/apps").header("accept", "text/html").header("x-forwarded-for", &*ip);
        let answer = edge.send(request);
        last = answer.status;
        if last == 429 {
            assert!(answer.text().contains("a little fast") && answer.header("retry-after").is_some(), "{answer:?}");
        }
    }
    assert_eq!(last, 429);
}
