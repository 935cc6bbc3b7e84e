//! What happens at the OAuth server, and what is revoked.

use super::Label;
use crate::model::Revoked;

labels! {
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
        /// The request is no good.
        Refused "refused",
        /// The store does not take it.
        Failed "failed",
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
}

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
