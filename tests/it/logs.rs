//! One line in the access log for each request, with what happened and nothing that is secret.

use std::time::Duration;

use crate::edge::{ADMIN_TOKEN, Setup, eventually, fresh_ip, fresh_user, ordinary, shared};
use crate::wire::Request;

#[test]
fn each_request_leaves_one_line() {
    let edge = shared();
    let user = fresh_user();
    let token = edge.token_of(&user, crate::edge::APP, ordinary());
    let ip = fresh_ip();
    let requests = [
        (Request::get("/api/v1/wallet/balance?secret=in-the-query").bearer(&token), "wallet_balance", 200, ""),
        (Request::get("/api/v1/wallet/balance"), "wallet_balance", 401, "INVALID_TOKEN"),
        (Request::get("/nowhere/in-the-path"), "unmatched", 404, "NOT_FOUND"),
        (Request::new("DELETE", "/api/v1/wallet/balance").bearer(&token), "unmatched", 405, "METHOD_NOT_ALLOWED"),
        (Request::get("/api/v1/wallet/p2p/nowhere").bearer(&token), "p2p_status", 404, ""),
        (Request::get("/api/v1/capabilities").bearer(&token), "capabilities", 501, "NOT_IMPLEMENTED"),
        (
            Request::post("/api/v1/wallet/p2p/initiate", r#"{"a":"in-the-body"}"#).bearer(&token),
            "p2p_initiate",
            400,
            "VALIDATION_FAILED",
        ),
        (Request::get("/api/v1/wallet/%00").bearer(&token), "unmatched", 400, "VALIDATION_FAILED"),
    ];
    let mut expected = Vec::new();
    for (request, operation, status, error) in requests {
        let answer = edge.send(request.header("x-forwarded-for", &ip));
        assert_eq!(answer.status, status, "{operation}: {}", answer.text());
        expected.push((answer.header("x-trace-id").unwrap().to_owned(), operation, status, error));
    }
    let lines = || edge.access_log_text();
    eventually("a line for each", Duration::from_secs(10), || {
        let text = lines();
        expected.iter().all(|(trace, ..)| text.contains(trace))
    });
    for (trace, operation, status, error) in expected {
        let of_trace: Vec<_> = edge.access_log().into_iter().filter(|line| line.to_string().contains(&trace)).collect();
        assert_eq!(of_trace.len(), 1, "{of_trace:#?}");
        let line = of_trace[0].to_string();
        assert!(line.contains(&format!("\"{operation}\"")) && line.contains(&status.to_string()), "{line}");
        assert!(error.is_empty() || line.contains(error), "{line}");
        assert!(line.contains(&ip), "{line}");
        // Only what had a body says how long that took.
        assert_eq!(of_trace[0]["body_us"].is_u64(), operation == "p2p_initiate", "{line}");
    }
    let text = lines() + &edge.log();
    for secret in [token.as_str(), user.as_str(), "in-the-query", "in-the-path", "in-the-body"] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn a_row_of_the_config_is_counted_and_logged_under_its_own_name() {
    let row = |path: &str, label: &str| {
        format!(
            "  - {{ path: \"{path}\", methods: [GET], operation: \"{label}\", auth_required: true, upstream: partner }}\n"
        )
    };
    let rows = row("/partner/v1/orders", "Partner: orders!") + &row("/partner/v1/balance", "wallet_balance");
    let edge = Setup::default()
        .upstream("partner", "addresses: [\"{wallet}\"]\ntls: false\n")
        .main(&format!("tmcp_endpoints:\n{rows}"))
        .start();
    let token = edge.full_token();
    for (path, name) in [
        ("/partner/v1/orders", "partner_orders"),
        ("/partner/v1/orders", "partner_orders"),
        ("/partner/v1/balance", "custom_wallet_balance"),
    ] {
        let answer = edge.send(Request::get(path).bearer(&token));
        assert_eq!(answer.status, 404);
        assert_eq!(answer.header("x-protocol-operation"), Some(name));
    }
    let metrics = || edge.at_admin(ADMIN_TOKEN, Request::get("/metrics")).text();
    // A request is counted behind its answer.
    for (name, count) in [("partner_orders", 2), ("custom_wallet_balance", 1)] {
        for line in [
            format!("tmcp_edge_requests_total{{operation=\"{name}\",status=\"4xx\"}} {count}"),
            format!("tmcp_edge_request_duration_seconds_count{{operation=\"{name}\"}} {count}"),
        ] {
            let counted = || metrics().lines().any(|found| found == line);
            eventually(&line, Duration::from_secs(10), counted);
        }
    }
    assert!(!metrics().contains("operation=\"custom\""));
    eventually("a line for each", Duration::from_secs(10), || edge.access_log().len() == 3);
    let mut names: Vec<_> = edge.access_log().iter().map(|line| line["operation"].to_string()).collect();
    // A line is written behind its answer, so those of two connections may change places.
    names.sort();
    assert_eq!(names, ["\"custom_wallet_balance\"", "\"partner_orders\"", "\"partner_orders\""]);
}
