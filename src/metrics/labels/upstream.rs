//! What services behind the edge answer.

use super::Label;

labels! {
    /// A call that the edge itself makes to the homeserver.
    HomeserverCall {
        /// Whose access token is this?
        Whoami "whoami",
        /// Whose name and password are these?
        Login "login",
        /// The end of the session that a login opened.
        Logout "logout",
        /// Who is in a room, as the application service.
        JoinedMembers "joined_members",
        /// Who is in a room, by the admin API.
        AdminMembers "admin_members",
        /// A health check.
        Health "health",
    }

    /// What a look at a room's members said.
    Membership {
        /// Everybody named is joined.
        Joined "joined",
        /// Somebody is not.
        NotJoined "not_joined",
        /// The homeserver did not say.
        Unavailable "unavailable",
    }

    /// How a try at an upstream ended when it failed.
    UpstreamFailure {
        /// No connection.
        Connect "connect",
        /// No connection in time.
        ConnectTimeout "connect_timeout",
        /// TLS did not come about.
        Tls "tls",
        /// The upstream answered too late, or took too long over reading.
        Timeout "timeout",
        /// The connection broke.
        Reset "reset",
        /// What came is not HTTP.
        Protocol "protocol",
        /// A status of 500 or above.
        Status "status",
        /// Not tried: the circuit breaker is open.
        BreakerOpen "breaker_open",
    }

    /// Where a connection to an upstream came from.
    PoolResult {
        /// Taken from the pool.
        Reused "reused",
        /// Newly opened.
        New "new",
    }
}
