//! Closed sets of label values. Each value has a dense number, so that counting is an array access.

use crate::model::rows::Class;
use crate::model::{Operation, Revoked, Scope};

/// A closed set of values of one label.
pub trait Label: Copy + 'static {
    /// The label values, in the order of [`Label::index`].
    const ALL: &'static [Self];

    /// Place in [`Label::ALL`].
    fn index(self) -> usize;

    /// The value as it stands in the exposition.
    fn name(self) -> &'static str;
}

macro_rules! labels {
    ($($(#[$doc:meta])* $set:ident { $($(#[$item:meta])* $variant:ident $name:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $set { $($(#[$item])* $variant,)* }

        impl Label for $set {
            const ALL: &'static [Self] = &[$($set::$variant,)*];
            fn index(self) -> usize { self as usize }
            fn name(self) -> &'static str {
                match self { $($set::$variant => $name,)* }
            }
        }
    )*};
}

macro_rules! model_labels {
    ($($set:ident)*) => {$(
        impl Label for $set {
            const ALL: &'static [Self] = $set::ALL;
            fn index(self) -> usize { self as usize }
            fn name(self) -> &'static str { self.as_str() }
        }
    )*};
}

model_labels! { Operation Scope Class }

impl RevocationKind {
    /// The kind of a revocation.
    pub const fn of(what: &Revoked) -> RevocationKind {
        match what {
            Revoked::Grant(_) => RevocationKind::Grant,
            Revoked::Pair(..) => RevocationKind::Pair,
            Revoked::Scopes(..) => RevocationKind::Scopes,
            Revoked::User(_) => RevocationKind::User,
            Revoked::App(_) => RevocationKind::App,
            Revoked::Key { .. } => RevocationKind::Key,
            Revoked::Token { .. } => RevocationKind::Token,
            Revoked::Payments { .. } => RevocationKind::Payments,
        }
    }
}

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

    /// How somebody is kept out.
    LockoutKind {
        /// A caller that kept calling over its limits.
        AccountSuspension "account_suspension",
        /// A user whose payments kept failing.
        PaymentLock "payment_lock",
    }

    /// What is revoked.
    RevocationKind {
        /// The tokens of a grant.
        Grant "grant",
        /// Those of a user for a mini-app.
        Pair "pair",
        /// Some scopes of what a user allowed a mini-app.
        Scopes "scopes",
        /// Those of a user.
        User "user",
        /// Those of a mini-app.
        App "app",
        /// Those of a key.
        Key "key",
        /// One token.
        Token "token",
        /// Payments, off or on again.
        Payments "payments",
    }

    /// Where a mini-app is registered.
    AppSource {
        /// In the config.
        Config "config",
        /// In the store.
        Store "store",
    }

    /// What a client showed for tokens: `grant_type` (RFC 6749, RFC 8628, RFC 8693).
    GrantType {
        /// An authorization code.
        AuthorizationCode "authorization_code",
        /// A refresh token.
        RefreshToken "refresh_token",
        /// A device code.
        DeviceCode "device_code",
        /// A Matrix access token.
        TokenExchange "token_exchange",
    }

    /// What came of asking for tokens.
    Issuance {
        /// Tokens.
        Issued "issued",
        /// The user has not answered the device's question yet.
        Pending "pending",
        /// The device asks too often.
        SlowDown "slow_down",
        /// The user said no.
        Denied "denied",
        /// The device's question is over.
        Expired "expired",
        /// The user has to be asked first.
        ConsentRequired "consent_required",
        /// What was shown is no good.
        Refused "refused",
        /// The edge, its store or the homeserver failed.
        Failed "failed",
    }

    /// What was used a second time, which ends its grant (RFC 9700 section 4.14).
    Reused {
        /// An authorization code.
        Code "code",
        /// A refresh token.
        RefreshToken "refresh_token",
    }

    /// How a user is asked.
    OauthFlow {
        /// By a redirect of the browser.
        Code "code",
        /// By a user code.
        Device "device",
    }

    /// What came of wanting a user asked.
    OauthQuestion {
        /// The question waits for its answer.
        Put "put",
        /// The request is no good, or the store does not take it.
        Refused "refused",
    }

    /// What a user answered.
    OauthAnswer {
        /// Yes, to something at least.
        Approved "approved",
        /// No.
        Denied "denied",
    }

    /// What an introspection said (RFC 7662 section 2.2).
    Introspection {
        /// The token is good.
        Active "active",
        /// It is not, or not for the asker to know.
        Inactive "inactive",
    }

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

    /// What came of looking at a TEP token (protocol section 2).
    TokenResult {
        /// Verified before, and still good.
        ValidCached "valid_cached",
        /// Verified now.
        Valid "valid",
        /// None was sent.
        Missing "missing",
        /// Not a token at all, or one with a header that is never taken (`alg`, `crit`).
        Malformed "malformed",
        /// Signed with a key that nobody publishes.
        UnknownKey "unknown_key",
        /// The signature does not verify.
        BadSignature "bad_signature",
        /// Issued by somebody who is not trusted, or not for this.
        WrongIssuer "wrong_issuer",
        /// Made for another audience.
        WrongAudience "wrong_audience",
        /// Past its `exp`.
        Expired "expired",
        /// Before its `nbf` or `iat`.
        NotYetValid "not_yet_valid",
        /// A claim is missing, malformed or contradicts another.
        BadClaims "bad_claims",
        /// Revoked by id, grant, user, mini-app or key.
        Revoked "revoked",
        /// Could not be told: keys or the revocation log are out of reach.
        Unavailable "unavailable",
    }

    /// A kind of credential other than a TEP token.
    Credential {
        /// A Matrix access token, asked about at the homeserver.
        Matrix "matrix",
        /// The homeserver's own token.
        Homeserver "hs_token",
        /// A mini-app's client id and secret.
        Client "client",
    }

    /// What came of looking at such a credential.
    CredentialResult {
        /// Good, and remembered from before.
        ValidCached "valid_cached",
        /// Good.
        Valid "valid",
        /// None was sent.
        Missing "missing",
        /// No good.
        Refused "refused",
        /// Could not be told.
        Unavailable "unavailable",
    }

    /// What a limit decided.
    Decision {
        /// Let through.
        Admitted "admitted",
        /// Refused.
        Refused "refused",
        /// Let through because the policy only reports.
        WouldRefuse "would_refuse",
    }

    /// How a shared limit came to its answer.
    LimitAnswer {
        /// From tokens on lease.
        Lease "lease",
        /// By a refusal that still stands.
        Remembered "remembered",
        /// By asking the store.
        Asked "asked",
        /// By the policy's own rule for when the store does not answer.
        WithoutStore "without_store",
    }

    /// Why a request body was refused.
    BodyRefusal {
        /// Larger than allowed.
        TooLarge "too_large",
        /// A content type that is not accepted.
        MediaType "media_type",
        /// A body where none is expected.
        Unexpected "unexpected",
        /// Not well formed.
        Malformed "malformed",
        /// A name stands twice in one object.
        DuplicateKey "duplicate_key",
        /// Nested too deep.
        TooDeep "too_deep",
        /// Text that is not Unicode, such as a lone surrogate.
        BadText "bad_text",
        /// The operation's schema is not satisfied.
        Schema "schema",
        /// It did not come in time.
        Timeout "timeout",
        /// No room in the budget for buffered bodies.
        NoBudget "no_budget",
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn dense<L: Label>() {
        for (at, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), at, "{}", label.name());
        }
    }

    #[test]
    fn numbers_are_dense() {
        dense::<Operation>();
        dense::<Scope>();
        dense::<Class>();
        dense::<StatusClass>();
        dense::<TokenResult>();
        dense::<ConnectionRefusal>();
    }

    #[test]
    fn status_classes() {
        let of = |status| StatusClass::of(status).name();
        assert_eq!([of(0), of(101), of(200), of(304), of(429), of(503)], ["none", "1xx", "2xx", "3xx", "4xx", "5xx"]);
    }
}
