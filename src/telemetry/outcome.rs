//! What one request came to. The access log, the span and the metrics are all written from this.
//!
//! It borrows from the request's context and lives for one call. There is no field for a raw path, a query string, a
//! header or a body, so none of them can end up in a log.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::trace::{RequestId, TraceContext};
use crate::error::Code;
use crate::metrics::RowMetrics;
use crate::model::Operation;
use crate::policy::authn::UserHash;

/// What one request came to.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// When its first byte was seen, since the Unix epoch.
    pub time: Duration,
    /// Its trace.
    pub trace: TraceContext,
    /// Its id.
    pub request_id: RequestId,
    /// Its operation.
    pub operation: Operation,
    /// Its row, when the config added and labelled that.
    pub row: Option<&'a RowMetrics>,
    /// Its method. Written cut to 16 bytes: it is the client's word.
    pub method: &'a str,
    /// The pattern of the route it took, such as `/api/v1/storage/{key}`; `None`: no route matched.
    pub path: Option<&'a str>,
    /// The HTTP version, such as `1.1`.
    pub http: &'static str,
    /// The TLS version, such as `TLSv1.3`; `None`: plain.
    pub tls: Option<&'a str>,
    /// The status written; 0: none was.
    pub status: u16,
    /// The caller's user.
    pub user: Option<UserHash>,
    /// The caller's mini-app.
    pub app: Option<&'a str>,
    /// The client's address. IPv6 is written as its /64, which is what limits count, too.
    pub client: Option<IpAddr>,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// Where the time went.
    pub stages: Stages,
    /// The upstream's name, when one was asked.
    pub upstream: Option<&'a str>,
    /// The upstream's address that answered or was tried last.
    pub address: Option<&'a SocketAddr>,
    /// Tries at the upstream.
    pub tries: u32,
    /// The same one by one, when the trace is recorded.
    pub attempts: &'a [Attempt],
    /// What the response cache said; `None`: the route is not cached.
    pub cache: Option<CacheStatus>,
    /// The limit policy that was decisive.
    pub limit: Option<&'a str>,
    /// The error code, when a refusal was written.
    pub error: Option<Code>,
    /// What only the log may say about it. Written cut to 512 bytes.
    pub inside: Option<&'a str>,
}

impl Outcome<'_> {
    /// What the operation is called in logs and spans: a config's own row goes by its label.
    pub fn operation_name(&self) -> &str {
        self.row.map_or(self.operation.as_str(), RowMetrics::name)
    }
}

/// One try at an upstream, as its span tells of it. Kept only of requests whose trace is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The span's id, which the upstream was told as its parent.
    pub span: u64,
    /// Where to.
    pub address: SocketAddr,
    /// From the request's first byte to the try's beginning.
    pub began: Duration,
    /// From its beginning to its end.
    pub took: Duration,
    /// The status that the upstream answered; `None`: it did not.
    pub status: Option<u16>,
    /// Why it failed, in the words of `tmcp_edge_upstream_failures_total`.
    pub trouble: Option<&'static str>,
}

/// Where a request's time went. `None`: the stage was not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// From the first byte to the end.
    pub total: Duration,
    /// Every check, the body's too, but not waiting for it.
    pub admit: Option<Duration>,
    /// Reading the body, when it was read whole before the answer.
    pub body: Option<Duration>,
    /// Connecting to the upstream, or taking a connection from the pool.
    pub connect: Option<Duration>,
    /// From the connection to the first byte of the upstream's answer.
    pub first_byte: Option<Duration>,
}

/// What the response cache did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// Answered from the cache.
    Hit,
    /// Not there.
    Miss,
    /// Not asked.
    Bypass,
}

impl CacheStatus {
    /// The value in `X-Cache`.
    pub const fn header(self) -> &'static str {
        match self {
            CacheStatus::Hit => "HIT",
            CacheStatus::Miss => "MISS",
            CacheStatus::Bypass => "BYPASS",
        }
    }

    /// The value in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            CacheStatus::Hit => "hit",
            CacheStatus::Miss => "miss",
            CacheStatus::Bypass => "bypass",
        }
    }
}
