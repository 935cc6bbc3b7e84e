//! What the server counts before any request exists: plain numbers, read by whoever exports metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of connections and of what happened to the process itself.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections closed at once because `limits.connections` were open.
    pub refused_total: Counter,
    /// Connections closed at once because their address had `limits.per_ip` open.
    pub refused_per_ip: Counter,
    /// Connections whose PROXY header was missing, malformed, late or from a peer that is not trusted.
    pub bad_proxy_header: Counter,
    /// TLS handshakes that failed or took too long.
    pub failed_handshakes: Counter,
    /// Connections cut because a request header did not end in time.
    pub header_timeouts: Counter,
    /// HTTP/2 connections cut because streams outlived their connection's age and the time to drain.
    pub cut_for_age: Counter,
    /// Certificates put in use while running.
    pub certificates_loaded: Counter,
    /// Certificates refused while running; the one before stays in use.
    pub certificates_refused: Counter,
    /// SIGQUITs refused because no successor was there to take over.
    pub upgrades_refused: Counter,
}

impl Counters {
    /// Every counter with its metric name (to be prefixed by the product's) and help text.
    pub fn each(&self) -> [(&'static str, &'static str, u64); 10] {
        [
            ("connections_accepted_total", "Connections accepted.", self.accepted.get()),
            ("connections_refused_total", "Connections refused: too many in all.", self.refused_total.get()),
            (
                "connections_refused_per_ip_total",
                "Connections refused: too many of one address.",
                self.refused_per_ip.get(),
            ),
            ("proxy_headers_bad_total", "Connections without a right PROXY header.", self.bad_proxy_header.get()),
            ("tls_handshakes_failed_total", "TLS handshakes that failed.", self.failed_handshakes.get()),
            ("header_timeouts_total", "Connections cut: header too slow.", self.header_timeouts.get()),
            ("connections_cut_for_age_total", "HTTP/2 connections cut for their age.", self.cut_for_age.get()),
            ("certificates_loaded_total", "Certificates put in use while running.", self.certificates_loaded.get()),
            ("certificates_refused_total", "Certificates refused while running.", self.certificates_refused.get()),
            ("upgrades_refused_total", "Upgrades refused: no successor.", self.upgrades_refused.get()),
        ]
    }
}
