//! What a request's checks find.

use super::Label;

labels! {
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
}
