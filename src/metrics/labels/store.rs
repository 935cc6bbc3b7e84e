//! What the store and Redis are asked.

use super::Label;

labels! {
    /// What the store was asked for.
    StoreVerb {
        /// A value.
        Get "get",
        /// Values of a range of names.
        Scan "scan",
        /// A conditional batch.
        Apply "apply",
        /// Due items.
        Claim "claim",
        /// A piece of everything.
        Dump "dump",
        /// Writing such a piece.
        Load "load",
    }

    /// What the store said.
    StoreResult {
        /// It did what was asked.
        Ok "ok",
        /// A batch's condition did not hold.
        Conflict "conflict",
        /// It did not answer.
        Unavailable "unavailable",
        /// It did it, but not safely.
        NotDurable "not_durable",
        /// It takes no more.
        Full "full",
        /// It holds what cannot be read.
        Malformed "malformed",
        /// It failed otherwise.
        Internal "internal",
    }

    /// What Redis was asked for.
    RedisUse {
        /// To read.
        Read "read",
        /// To write.
        Write "write",
        /// To decide a limit.
        Limit "limit",
        /// How it is: topology, health.
        Control "control",
    }

    /// Why Redis did not do what it was asked.
    RedisFault {
        /// No connection could be opened, or the last try is too recent to try again.
        Connect "connect",
        /// Name or password were refused, or the user may not do this.
        Denied "denied",
        /// The connection broke.
        Dropped "dropped",
        /// No answer in time.
        Timeout "timeout",
        /// The slot is elsewhere, or moving.
        Redirected "redirected",
        /// A replica was asked to write.
        ReadOnly "read_only",
        /// The server is reading its data after a start.
        Loading "loading",
        /// The cluster does not serve the slot now.
        ClusterDown "cluster_down",
        /// The server has no memory left, or cannot write to its disk.
        Full "full",
        /// The server has too few replicas to take writes.
        NoReplicas "no_replicas",
        /// Anything else.
        Other "other",
    }

    /// What came of opening a connection.
    Opened {
        /// It is open.
        Ok "ok",
        /// It is not.
        Failed "failed",
    }
}
