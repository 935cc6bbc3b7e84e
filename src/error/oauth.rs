//! The errors that OAuth has names for.

use super::Code;

/// An error of the OAuth endpoints (RFC 6749 sections 4.1.2.1 and 5.2, RFC 8628 section 3.5, RFC 8693 section 2.2.2,
/// RFC 7009 section 2.2.1, protocol section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is named after its error, defined in the RFCs above")]
pub enum OauthError {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    UnsupportedResponseType,
    InvalidScope,
    InvalidTarget,
    RequestNotSupported,
    RequestUriNotSupported,
    AuthorizationPending,
    SlowDown,
    AccessDenied,
    ExpiredToken,
    ConsentRequired,
    UnsupportedTokenType,
}

impl OauthError {
    /// What [`OauthError::SlowDown`] asks for (RFC 8628 section 3.5).
    pub const SLOWER: &str = "Wait 5 seconds longer between two questions from now on.";

    /// The error as it stands in an answer.
    pub const fn as_str(self) -> &'static str {
        match self {
            OauthError::InvalidRequest => "invalid_request",
            OauthError::InvalidClient => "invalid_client",
            OauthError::InvalidGrant => "invalid_grant",
            OauthError::UnauthorizedClient => "unauthorized_client",
            OauthError::UnsupportedGrantType => "unsupported_grant_type",
            OauthError::UnsupportedResponseType => "unsupported_response_type",
            OauthError::InvalidScope => "invalid_scope",
            OauthError::InvalidTarget => "invalid_target",
            OauthError::RequestNotSupported => "request_not_supported",
            OauthError::RequestUriNotSupported => "request_uri_not_supported",
            OauthError::AuthorizationPending => "authorization_pending",
            OauthError::SlowDown => "slow_down",
            OauthError::AccessDenied => "access_denied",
            OauthError::ExpiredToken => "expired_token",
            OauthError::ConsentRequired => "consent_required",
            OauthError::UnsupportedTokenType => "unsupported_token_type",
        }
    }

    /// What the rest of the edge calls it: statuses and counters are those of this code.
    pub const fn code(self) -> Code {
        match self {
            OauthError::InvalidClient => Code::InvalidToken,
            OauthError::ConsentRequired => Code::Forbidden,
            _ => Code::ValidationFailed,
        }
    }
}
