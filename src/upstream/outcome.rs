//! What came of a call, and what that says about the upstream: the judgement that the breaker is fed with.
//!
//! Only what the upstream is answerable for counts. A 4xx means that it is alive and minding its business; 501 is an
//! answer that it will give for ever, so counting it would keep a healthy upstream shut; a client that hangs up says
//! nothing either way.

use http::StatusCode;

use crate::error::{Code, Refusal};

/// What a breaker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream did its work.
    Success,
    /// The upstream failed.
    Failure,
    /// Nothing is known of the upstream.
    Neutral,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer's status.
    Status(StatusCode),
    /// No connection: refused, unreachable, or TLS failed. Nothing was sent.
    Connect,
    /// No connection in time. Nothing was sent.
    ConnectTimeout,
    /// Connected, but the answer did not come in time.
    Timeout,
    /// The connection broke, or what came was no HTTP.
    Broken,
    /// The client went away, or sent what cannot be forwarded.
    Client,
    /// The edge itself gave up.
    Edge,
}

impl Ended {
    /// What it says about the upstream.
    pub fn outcome(self) -> Outcome {
        match self {
            Ended::Status(status) => classify(status),
            Ended::Connect | Ended::ConnectTimeout | Ended::Timeout | Ended::Broken => Outcome::Failure,
            Ended::Client | Ended::Edge => Outcome::Neutral,
        }
    }

    /// Whether the upstream cannot have seen the request: it may be sent again, elsewhere, whatever its method.
    pub fn never_sent(self) -> bool {
        matches!(self, Ended::Connect | Ended::ConnectTimeout)
    }

    /// What the caller is told when no answer came; `inside` is for the log. An ending with a status is an answer and
    /// is told as "the upstream failed".
    pub fn refusal(self, upstream: &str, inside: impl std::fmt::Display) -> Refusal {
        let inside = format!("upstream {upstream}: {inside}");
        match self {
            Ended::ConnectTimeout | Ended::Timeout => {
                Refusal::new(Code::UpstreamTimeout, "The service behind this address did not answer in time.")
                    .inside(inside)
            }
            Ended::Connect | Ended::Broken | Ended::Status(_) => {
                Refusal::new(Code::UpstreamError, "The service behind this address failed to answer.").inside(inside)
            }
            Ended::Client => {
                Refusal::new(Code::ValidationFailed, "The request could not be read to its end.").inside(inside).close()
            }
            Ended::Edge => Refusal::internal(inside),
        }
    }
}

/// What an answer's status says about the upstream: 5xx except 501 is a failure, everything else a success.
pub fn classify(status: StatusCode) -> Outcome {
    if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED { Outcome::Failure } else { Outcome::Success }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (status, outcome) in [
            (200, Outcome::Success),
            (304, Outcome::Success),
            (401, Outcome::Success),
            (404, Outcome::Success),
            (429, Outcome::Success),
            (500, Outcome::Failure),
            (501, Outcome::Success),
            (502, Outcome::Failure),
            (503, Outcome::Failure),
            (504, Outcome::Failure),
            (599, Outcome::Failure),
        ] {
            assert_eq!(Ended::Status(StatusCode::from_u16(status).unwrap()).outcome(), outcome, "{status}");
        }
    }

    #[test]
    fn endings_without_an_answer() {
        for (ended, outcome, code) in [
            (Ended::Connect, Outcome::Failure, Code::UpstreamError),
            (Ended::ConnectTimeout, Outcome::Failure, Code::UpstreamTimeout),
            (Ended::Timeout, Outcome::Failure, Code::UpstreamTimeout),
            (Ended::Broken, Outcome::Failure, Code::UpstreamError),
            (Ended::Client, Outcome::Neutral, Code::ValidationFailed),
            (Ended::Edge, Outcome::Neutral, Code::InternalError),
        ] {
            let refusal = ended.refusal("wallet", "10.0.0.7 said no");
            assert_eq!((ended.outcome(), refusal.code()), (outcome, code));
            assert!(!refusal.message().contains("10.0.0.7") && !refusal.message().contains("wallet"));
        }
    }
}
