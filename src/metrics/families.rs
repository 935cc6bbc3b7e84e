//! Every family by name: type, labels and what it means. `docs/metrics.md` is made from this list.

use std::fmt::Write as _;

/// The kind of a family, as the exposition writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// The kind's name in a `# TYPE` line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name, with the unit at the end.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
}

macro_rules! families {
    ($($id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Family = Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*

        /// Every family, in the order of the documentation.
        pub const FAMILIES: &[Family] = &[$($id),*];
    };
}

families! {
    REQUESTS Counter "tmcp_edge_requests_total" ["operation", "status"] "Requests finished, by operation and class of status.";
    REQUEST_SECONDS Histogram "tmcp_edge_request_duration_seconds" ["operation"] "Time from a request's first byte to the last byte of its answer.";
    RECEIVED Counter "tmcp_edge_received_bytes_total" [] "Bytes of request bodies read from clients.";
    SENT Counter "tmcp_edge_sent_bytes_total" [] "Bytes of response bodies written to clients.";
    IN_FLIGHT Gauge "tmcp_edge_requests_in_flight" [] "Requests under way.";
    REFUSALS Counter "tmcp_edge_refusals_total" ["code"] "Answers in the error format, by code.";
    TOKENS Counter "tmcp_edge_token_validations_total" ["result"] "TEP tokens looked at, by what came of it.";
    REVOCATIONS Counter "tmcp_edge_revocations_total" ["kind"] "Revocations put in force here, those found at the start included.";
    REVOCATIONS_CURRENT Gauge "tmcp_edge_revocations_current" [] "1 while the log of revocations has been seen within the last second, else 0: wallet calls are then refused.";
    MINIAPPS Gauge "tmcp_edge_miniapps" ["source"] "Mini-apps registered, suspended ones included, by where: in the config or in the store.";
    REVOCATION_SECONDS Histogram "tmcp_edge_revocation_lag_seconds" ["kind"] "Time from a revocation to its being in force here, by the clocks of both edges.";
    PAYMENTS_OFF Gauge "tmcp_edge_payments_off" [] "1 while every payment is called off, else 0.";
    OAUTH_QUESTIONS Counter "tmcp_edge_oauth_authorizations_total" ["flow", "outcome"] "Requests to ask a user, by authorize or by a device.";
    OAUTH_ANSWERS Counter "tmcp_edge_oauth_consents_total" ["flow", "outcome"] "Answers of users.";
    OAUTH_TOKENS Counter "tmcp_edge_oauth_token_requests_total" ["grant_type", "outcome"] "Requests for tokens by clients that may ask, by what came of them; a device's polls are the ones of grant type device_code.";
    OAUTH_REUSE Counter "tmcp_edge_oauth_reuse_detected_total" ["credential"] "Codes and refresh tokens that were used a second time, which ended their grants.";
    OAUTH_INTROSPECTIONS Counter "tmcp_edge_oauth_introspections_total" ["result"] "Introspections, by what they said.";
    CREDENTIALS Counter "tmcp_edge_credentials_total" ["kind", "result"] "Credentials other than TEP tokens looked at, by what came of it.";
    SCOPES Counter "tmcp_edge_scopes_used_total" ["scope"] "Requests admitted by virtue of a scope.";
    LIMITS Counter "tmcp_edge_limit_decisions_total" ["policy", "decision"] "Decisions of limit policies.";
    LIMIT_ANSWERS Counter "tmcp_edge_limit_answers_total" ["from"] "Answers about limits shared through Redis, by what they came from.";
    LIMIT_LEASES Counter "tmcp_edge_limit_leases_total" [] "Leases of tokens from Redis.";
    LIMIT_LEASED_TOKENS Counter "tmcp_edge_limit_leased_tokens_total" [] "Tokens that those leases held.";
    LIMIT_STORE_FAILURES Counter "tmcp_edge_limit_store_failures_total" [] "Questions about limits that Redis did not answer in time.";
    LIMIT_STORE_UP Gauge "tmcp_edge_limit_store_up" [] "1 while limits are counted in Redis; 0 while each policy's on_store_failure holds, and where there is no Redis.";
    LIMIT_INSTANCES Gauge "tmcp_edge_limit_instances" [] "Instances that share the limits, as last seen.";
    LOCKOUTS Counter "tmcp_edge_lockouts_total" ["kind"] "Callers suspended, and users whose payments were locked, on account of what this edge saw.";
    BODIES_REFUSED Counter "tmcp_edge_bodies_refused_total" ["reason"] "Request bodies refused.";
    BODIES_SANITISED Counter "tmcp_edge_bodies_sanitised_total" [] "Request bodies that sanitising changed.";
    BUFFERED Gauge "tmcp_edge_buffered_body_bytes" [] "Bytes of the buffered-body budget in use.";
    WALLET_SECONDS Histogram "tmcp_edge_wallet_operation_duration_seconds" ["operation"] "Time the wallet took to answer, by operation.";
    HOMESERVER_SECONDS Histogram "tmcp_edge_homeserver_call_duration_seconds" ["call"] "Time the homeserver took to answer the edge's own calls.";
    MEMBERSHIP Counter "tmcp_edge_room_membership_checks_total" ["result"] "Checks that users are joined to a room.";
    UPSTREAM_TRIES Counter "tmcp_edge_upstream_tries_total" ["upstream"] "Tries at an upstream, first ones and repeated ones.";
    UPSTREAM_RETRIES Counter "tmcp_edge_upstream_retries_total" ["upstream"] "Tries after the first.";
    UPSTREAM_FAILURES Counter "tmcp_edge_upstream_failures_total" ["upstream", "reason"] "Tries that failed, by reason.";
    UPSTREAM_CONNECTIONS Counter "tmcp_edge_upstream_connections_total" ["upstream", "from"] "Connections used towards an upstream: taken from the pool or newly opened.";
    UPSTREAM_HEALTHY Gauge "tmcp_edge_upstream_healthy_addresses" ["upstream"] "Addresses of an upstream that its health checks hold for healthy.";
    BREAKER Gauge "tmcp_edge_breaker_state" ["upstream", "class"] "State of a circuit breaker: 0 closed, 1 on trial, 2 open.";
    CACHE_REQUESTS Counter "tmcp_edge_cache_requests_total" ["cache", "result"] "Look-ups in a cache.";
    CACHE_ENTRIES Gauge "tmcp_edge_cache_entries" ["cache"] "Entries in a cache.";
    CACHE_BYTES Gauge "tmcp_edge_cache_bytes" ["cache"] "Bytes that a cache counts as used.";
    STORE_CALLS Counter "tmcp_edge_store_calls_total" ["verb", "result"] "Calls of the store, by what came of them.";
    STORE_SECONDS Histogram "tmcp_edge_store_call_duration_seconds" ["verb"] "Time the store took to answer.";
    STORE_COMMITS Counter "tmcp_edge_store_commits_total" [] "Commits of the embedded store to disk. One serves many changes.";
    STORE_CHANGES Counter "tmcp_edge_store_changes_total" [] "Batches and claims that those commits held.";
    STORE_SWEPT Counter "tmcp_edge_store_swept_values_total" [] "Expired values that the embedded store removed.";
    STORE_BYTES Gauge "tmcp_edge_store_bytes" [] "Size of the embedded store's file.";
    REDIS_ROUND_TRIPS Counter "tmcp_edge_redis_round_trips_total" ["use"] "Exchanges with Redis, by what for.";
    REDIS_FAULTS Counter "tmcp_edge_redis_faults_total" ["kind"] "Exchanges with Redis that failed, by kind; those that were repeated too.";
    REDIS_CONNECTIONS Counter "tmcp_edge_redis_connections_total" ["result"] "Connections to Redis opened, or not.";
    REDIS_SHORTFALLS Counter "tmcp_edge_redis_wait_shortfalls_total" [] "Durable writes that too few replicas acknowledged in time.";
    CONNECTIONS_OPEN Gauge "tmcp_edge_connections_open" [] "Client connections open.";
    CONNECTIONS_ACCEPTED Counter "tmcp_edge_connections_accepted_total" [] "Client connections accepted.";
    CONNECTIONS_REFUSED Counter "tmcp_edge_connections_refused_total" ["reason"] "Client connections refused or cut before a request was seen.";
    READY Gauge "tmcp_edge_ready" [] "1 while the edge wants traffic, else 0.";
    CONFIG_REVISION Gauge "tmcp_edge_config_revision" [] "Number of the config revision in force; grows by one with each reload.";
    RELOADS Counter "tmcp_edge_config_reloads_total" ["result"] "Reloads of the config.";
    RELOAD_OK Gauge "tmcp_edge_config_last_reload_successful" [] "1 when the last reload took effect, else 0.";
    RELOAD_TIME Gauge "tmcp_edge_config_last_reload_timestamp_seconds" [] "When the last reload was tried, Unix time.";
    LOG_LINES Counter "tmcp_edge_access_log_lines_total" [] "Access-log lines accepted for writing.";
    LOG_DROPPED Counter "tmcp_edge_access_log_dropped_lines_total" [] "Access-log lines lost because the sink was stuck, full or failing.";
    SPANS Counter "tmcp_edge_spans_total" ["result"] "Trace spans, by what became of them.";
    BUILD Gauge "tmcp_edge_build_info" ["version"] "Always 1; the label tells the version.";
    UPTIME Gauge "tmcp_edge_uptime_seconds" [] "Time since the process started serving.";
    CPU Counter "process_cpu_seconds_total" [] "User and system CPU time of the process.";
    RSS Gauge "process_resident_memory_bytes" [] "Resident memory.";
    VIRTUAL Gauge "process_virtual_memory_bytes" [] "Virtual memory.";
    FDS Gauge "process_open_fds" [] "Open file descriptors.";
    MAX_FDS Gauge "process_max_fds" [] "File descriptors that may be open.";
    THREADS Gauge "process_threads" [] "Threads of the process.";
    STARTED Gauge "process_start_time_seconds" [] "When the process started serving, Unix time.";
}

/// The text of `docs/metrics.md`.
pub fn documentation() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         `GET /metrics` at the admin address, in Prometheus' text format. Series with the label `operation`, and the\n\
         series of upstreams and limit policies, appear once there is something to count; all others stand from the\n\
         start at zero. The `process_*` names are the ones that Prometheus' own client libraries use.\n\n\
         | Name | Kind | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for family in FAMILIES {
        let labels = family.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{}` | {} | {labels} | {} |", family.name, family.kind.as_str(), family.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        if written != documentation() {
            if std::env::var_os("UPDATE_DOCS").is_some() {
                std::fs::write(path, documentation()).unwrap();
                return;
            }
            panic!("docs/metrics.md is out of date: run this test with UPDATE_DOCS=1");
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        for family in FAMILIES {
            assert_eq!(family.kind == Kind::Counter, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains('|'), "{}", family.name);
            if family.kind == Kind::Histogram {
                assert!(family.name.ends_with("_seconds"), "{}", family.name);
            }
        }
    }
}
