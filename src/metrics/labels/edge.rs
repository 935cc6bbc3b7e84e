//! How the edge itself is.

use super::Label;

labels! {
    /// The class of an answer's status.
    StatusClass {
        /// The client left before an answer was written.
        None "none",
        /// 100 to 199: an upgraded connection counts here.
        Informational "1xx",
        /// 200 to 299.
        Success "2xx",
        /// 300 to 399.
        Redirection "3xx",
        /// 400 to 499.
        ClientError "4xx",
        /// 500 and above.
        ServerError "5xx",
    }

    /// The caches.
    CacheName {
        /// Answers of upstreams.
        Response "response",
        /// Verified TEP tokens.
        Token "token",
        /// Answers of the homeserver about Matrix access tokens.
        Whoami "whoami",
        /// Wallet resolutions.
        Resolve "resolve",
        /// Limit buckets.
        Limit "limit",
    }

    /// What a cache said.
    CacheResult {
        /// It was there.
        Hit "hit",
        /// It was not.
        Miss "miss",
        /// It was not asked.
        Bypass "bypass",
    }

    /// Why a client's connection was refused or cut.
    ConnectionRefusal {
        /// As many are open as may be.
        Total "total",
        /// As many of this address are open as may be.
        PerIp "per_ip",
        /// Too few descriptors are left.
        Descriptors "descriptors",
        /// The PROXY header is missing or malformed.
        ProxyHeader "proxy_header",
        /// TLS did not come about.
        Tls "tls",
        /// The request could not be parsed.
        Unparsable "unparsable",
        /// The client took too long to send its request.
        Slow "slow",
    }

    /// What came of a reload.
    Reload {
        /// The new config is in force.
        Ok "ok",
        /// The last good config stays in force.
        Failed "failed",
    }

    /// What became of a span.
    SpanResult {
        /// The collector took it.
        Exported "exported",
        /// The collector did not take it.
        Failed "failed",
        /// The queue was full.
        Dropped "dropped",
    }
}

impl StatusClass {
    /// The class of a status; 0 stands for "no answer was written".
    pub const fn of(status: u16) -> StatusClass {
        match status / 100 {
            0 => StatusClass::None,
            1 => StatusClass::Informational,
            2 => StatusClass::Success,
            3 => StatusClass::Redirection,
            4 => StatusClass::ClientError,
            _ => StatusClass::ServerError,
        }
    }
}
