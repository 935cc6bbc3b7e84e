//! What can go wrong with Redis, and what that says about a command: whether it happened, and whether to try again.

use std::fmt;
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::super::StoreError;
use crate::config::RedisNode;
use crate::metrics::RedisFault;

/// Why an exchange with Redis failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub kind: RedisFault,
    pub message: String,
    /// Where a redirection leads, and whether for this command only (ASK).
    pub redirect: Option<(RedisNode, bool)>,
}

impl Fault {
    pub fn new(kind: RedisFault, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), redirect: None }
    }

    pub fn timeout(after: Duration) -> Fault {
        Fault::new(RedisFault::Timeout, format!("no answer within {} ms", after.as_millis()))
    }

    /// A refusal of what was sent before, and then not answered: it may have happened at that time.
    pub fn after_silence(self) -> Fault {
        Fault { kind: RedisFault::Timeout, message: format!("no answer at first, and then: {}", self.message), ..self }
    }

    /// A fault of opening a connection, whatever it was: nothing has been sent.
    pub fn opening(error: &RedisError) -> Fault {
        match Fault::from(error) {
            denied @ Fault { kind: RedisFault::Denied, .. } => denied,
            other => Fault { kind: RedisFault::Connect, ..other },
        }
    }

    /// Whether it is known that the command did not happen.
    pub fn refused(&self) -> bool {
        !matches!(self.kind, RedisFault::Dropped | RedisFault::Timeout | RedisFault::Other)
    }

    /// Whether it may be gone after a moment, or at another server.
    pub fn passes(&self) -> bool {
        !matches!(self.kind, RedisFault::Denied | RedisFault::Full | RedisFault::NoReplicas | RedisFault::Other)
    }

    /// Whether it tells that the topology has changed, or may have.
    pub fn moves(&self) -> bool {
        matches!(
            self.kind,
            RedisFault::Connect
                | RedisFault::Dropped
                | RedisFault::Timeout
                | RedisFault::Redirected
                | RedisFault::ReadOnly
                | RedisFault::ClusterDown
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<&RedisError> for Fault {
    fn from(error: &RedisError) -> Fault {
        let redirect = error.redirect_node().and_then(|(address, _)| {
            // `host:port`; IPv6 addresses stand there without brackets.
            let (host, port) = address.rsplit_once(':')?;
            let ask = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
            Some((RedisNode { host: host.to_owned(), port: port.parse().ok()? }, ask))
        });
        Fault { kind: kind(error), message: error.to_string(), redirect }
    }
}

fn kind(error: &RedisError) -> RedisFault {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain) => {
            RedisFault::Redirected
        }
        ErrorKind::Server(ServerErrorKind::ReadOnly) => RedisFault::ReadOnly,
        ErrorKind::Server(ServerErrorKind::BusyLoading) => RedisFault::Loading,
        ErrorKind::Server(ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown) => RedisFault::ClusterDown,
        ErrorKind::Server(ServerErrorKind::NoPerm) | ErrorKind::AuthenticationFailed => RedisFault::Denied,
        ErrorKind::Io if error.is_timeout() => RedisFault::Timeout,
        ErrorKind::Io | ErrorKind::Parse => RedisFault::Dropped,
        _ => by_code(error.code().unwrap_or_default(), error.detail().unwrap_or_default()),
    }
}

/// Codes that the client library does not know. Before Redis 7 a script's error wears the code `ERR`, and its own one is
/// inside the text.
fn by_code(code: &str, detail: &str) -> RedisFault {
    let says = |wanted: &str| code == wanted || detail.split([' ', '-']).any(|word| word == wanted);
    if says("OOM") || says("MISCONF") {
        RedisFault::Full
    } else if says("NOREPLICAS") {
        RedisFault::NoReplicas
    } else if says("NOAUTH") || says("WRONGPASS") || detail.contains("The user executing the script can't") {
        RedisFault::Denied
    } else if detail.contains("non local key") {
        // A script met a key of a slot that is on the move.
        RedisFault::Redirected
    } else if says("READONLY") || says("UNBLOCKED") {
        RedisFault::ReadOnly
    } else {
        RedisFault::Other
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> StoreError {
        match fault.kind {
            RedisFault::Full | RedisFault::NoReplicas => StoreError::Full(fault.message),
            RedisFault::Other => StoreError::Internal(fault.message),
            _ => StoreError::Unavailable(fault.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fault that a server's error line makes.
    fn fault(line: &str) -> Fault {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        Fault::from(&value.extract_error().unwrap_err())
    }

    #[test]
    fn what_servers_say() {
        use RedisFault::*;
        for (line, kind, refused, passes) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", Full, true, false),
            ("MISCONF Redis is configured to save RDB snapshots", Full, true, false),
            ("NOREPLICAS Not enough good replicas to write.", NoReplicas, true, false),
            ("READONLY You can't write against a read only replica.", ReadOnly, true, true),
            ("UNBLOCKED force unblock from blocking operation", ReadOnly, true, true),
            ("LOADING Redis is loading the dataset in memory", Loading, true, true),
            ("CLUSTERDOWN Hash slot not served", ClusterDown, true, true),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Redirected, true, true),
            ("NOPERM this user has no permissions to run the 'evalsha' command", Denied, true, false),
            ("WRONGPASS invalid username-password pair or user is disabled.", Denied, true, false),
            ("ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed", Full, true, false),
            ("ERR unknown command", Other, false, false),
        ] {
            let fault = fault(line);
            assert_eq!((fault.kind, fault.refused(), fault.passes()), (kind, refused, passes), "{line}");
        }
    }

    #[test]
    fn redirections_say_where() {
        let node = |host: &str| RedisNode { host: host.to_owned(), port: 7001 };
        assert_eq!(fault("MOVED 3999 127.0.0.1:7001").redirect, Some((node("127.0.0.1"), false)));
        assert_eq!(fault("ASK 3999 ::1:7001").redirect, Some((node("::1"), true)));
        assert_eq!(fault("TRYAGAIN later").redirect, None);
    }

    #[test]
    fn callers_are_told_whether_it_may_have_happened() {
        let told = |kind| StoreError::from(Fault::new(kind, "x"));
        assert!(matches!(told(RedisFault::Full), StoreError::Full(_)));
        assert!(matches!(told(RedisFault::Dropped), StoreError::Unavailable(_)));
        assert!(matches!(told(RedisFault::Other), StoreError::Internal(_)));
    }
}
