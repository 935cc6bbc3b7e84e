//! `GET /`: how the edge stands, on one page. Rendered here, no script, nothing loaded; it reloads itself.
//!
//! It changes nothing: a button would need a token in the browser. What can be changed is shown as a command line.

use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::{Html, IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::time::timeout;

use super::{Admin, Records};
use crate::clock::rfc3339;
use crate::metrics::Decision;
use crate::model::audit::{AuditLine, AuditOutcome};

/// Changes that are shown.
const CHANGES: usize = 8;
/// How long the store may take to tell them.
const ASKED_FOR: Duration = Duration::from_millis(500);

const STYLE: &str = include_str!("page.css");

/// The page's Content-Security-Policy: nothing but its own style sheet.
pub(super) fn policy() -> String {
    let hash = BASE64_STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

pub(super) async fn page(State(admin): State<Admin>) -> Response {
    let mut response = Html(render(&admin).await).into_response();
    if let Ok(policy) = HeaderValue::from_str(&admin.inner.page_policy) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

async fn render(admin: &Admin) -> String {
    let control = &admin.inner.control;
    let (status, not_ready) = (control.status(), control.not_ready());
    let records = control.records();
    // The page is looked at most when something is wrong with the store.
    let changes = timeout(ASKED_FOR, records.audit().lines(0, None, CHANGES)).await.ok().and_then(Result::ok);
    let mut page = Page(String::with_capacity(8 * 1024));
    page.raw("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">");
    page.raw("<meta http-equiv=refresh content=5><title>tmcp-edge</title><style>");
    page.raw(STYLE);
    page.raw("</style><h1>tmcp-edge</h1>");

    page.table(
        "Status",
        &["", ""],
        [
            [
                Cell::text("ready"),
                if not_ready.is_empty() { Cell::good("yes") } else { Cell::bad(not_ready.join("; ")) },
            ],
            [Cell::text("payments"), payments(&records)],
            [Cell::text("revocations"), followed(&records)],
            [Cell::text("version"), Cell::text(status.version)],
            [Cell::text("config revision"), Cell::text(status.revision)],
            [Cell::text("up for"), Cell::text(duration(status.uptime_seconds))],
            [Cell::text("listens on"), Cell::text(status.listeners.join(", "))],
            [
                Cell::text("last reload"),
                match status.last_reload.ok {
                    true => Cell::good(format!("took effect, {}", status.last_reload.at)),
                    false => Cell::bad(format!(
                        "failed, {}: {}",
                        status.last_reload.at,
                        status.last_reload.errors.join("; ")
                    )),
                },
            ],
        ],
    );
    let lines = changes.iter().flatten().map(|(_, line)| change(line));
    page.table("Last changes", &["when", "who", "role", "what", "outcome"], lines);
    match changes {
        None => page.raw("<p class=bad>The store does not answer."),
        Some(lines) if lines.is_empty() => page.raw("<p>None is remembered."),
        Some(_) => {}
    }
    let addresses = control.upstreams().into_iter().flat_map(|upstream| {
        let name = upstream.name;
        upstream.addresses.into_iter().map(move |address| {
            let health = if address.healthy { Cell::good("healthy") } else { Cell::bad("unhealthy") };
            [Cell::text(&name), Cell::text(address.address), health]
        })
    });
    page.table("Upstreams", &["upstream", "address", "health"], addresses);
    page.table(
        "Circuit breakers",
        &["upstream", "class", "state", "failures", "next trial"],
        control.breakers().into_iter().map(|breaker| {
            let state = if breaker.state == "closed" { Cell::good(breaker.state) } else { Cell::bad(breaker.state) };
            let trial = breaker.retry_after_seconds.map_or_else(String::new, |seconds| format!("in {seconds} s"));
            [
                Cell::text(breaker.upstream),
                Cell::text(breaker.class),
                state,
                Cell::text(breaker.failures),
                Cell::text(trial),
            ]
        }),
    );
    page.table(
        "Caches",
        &["cache", "entries", "bytes", "of"],
        control.caches().into_iter().map(|cache| {
            [Cell::text(cache.cache), Cell::text(cache.entries), Cell::text(cache.bytes), Cell::text(cache.max_bytes)]
        }),
    );
    let policies = admin.inner.metrics.policies().into_iter();
    page.table(
        "Limits",
        &["policy", "admitted", "refused", "would refuse"],
        policies.map(|(name, policy)| {
            let count = |decision| Cell::text(policy.get(decision));
            [Cell::text(name), count(Decision::Admitted), count(Decision::Refused), count(Decision::WouldRefuse)]
        }),
    );
    page.raw(
        "<p>More: <a href=/metrics>metrics</a>, <a href=/api/v1/status>status</a>, <a href=/api/v1/routes>routes</a>, \
         <a href=/api/v1/upstreams>upstreams</a>, <a href=/api/v1/breakers>breakers</a>, <a href=/api/v1/cache>caches</a>, \
         <a href=/api/v1/payments>payments</a>.\
         <pre>curl -X POST   -H \"Authorization: Bearer $TOKEN\" $ADMIN/api/v1/reload\n\
         curl -X DELETE -H \"Authorization: Bearer $TOKEN\" \"$ADMIN/api/v1/cache?all=true\"\n\
         curl -X PUT    -H \"Authorization: Bearer $TOKEN\" $ADMIN/api/v1/payments -d '{\"payments\": \"off\"}'\n\
         curl           -H \"Authorization: Bearer $TOKEN\" $ADMIN/api/v1/audit</pre>",
    );
    page.0
}

fn payments(records: &Records) -> Cell {
    let revocations = records.revocations.revocations();
    match revocations.payments_off() {
        true => Cell::bad(format!("off since {}", rfc3339(revocations.payments_switched() / 1000))),
        false => Cell::good("on"),
    }
}

/// How far this edge lags behind the log of revocations.
fn followed(records: &Records) -> Cell {
    let (revocations, now) = (records.revocations.revocations(), records.clock.tick());
    match revocations.age(now) {
        Some(age) if revocations.is_current(now) => Cell::good(format!("seen {} ms ago", age.as_millis())),
        Some(age) => Cell::bad(format!("not seen for {} s: wallet calls are refused", age.as_secs())),
        None => Cell::text("not followed"),
    }
}

/// A change without what it was about: that may be a user, and looking at this page takes no token.
fn change(line: &AuditLine) -> [Cell; 5] {
    let outcome = match line.outcome {
        AuditOutcome::Done => Cell::good(line.outcome.as_str()),
        AuditOutcome::Begun | AuditOutcome::Failed | AuditOutcome::Refused => Cell::bad(line.outcome.as_str()),
    };
    let (actor, at) = (&line.actor, rfc3339(line.at_ms / 1000));
    [Cell::text(at), Cell::text(&actor.name), Cell::text(&actor.role), Cell::text(&line.action), outcome]
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A table's cell: text, and how to take it.
struct Cell {
    text: String,
    class: &'static str,
}

impl Cell {
    fn text(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), class: "" }
    }

    fn good(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), class: "good" }
    }

    fn bad(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), class: "bad" }
    }
}

struct Page(String);

impl Page {
    fn raw(&mut self, html: &str) {
        self.0.push_str(html);
    }

    fn escaped(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
    }

    fn table<const N: usize>(&mut self, title: &str, heads: &[&str; N], rows: impl IntoIterator<Item = [Cell; N]>) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "<h2>{title}</h2><table>");
        if heads.iter().any(|head| !head.is_empty()) {
            self.raw("<tr>");
            for head in heads {
                let _ = write!(self.0, "<th>{head}");
            }
        }
        for row in rows {
            self.raw("<tr>");
            for cell in row {
                let _ = write!(self.0, "<td class=\"{}\">", cell.class);
                self.escaped(&cell.text);
            }
        }
        self.raw("</table>");
    }
}
