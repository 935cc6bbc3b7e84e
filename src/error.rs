//! The one table of errors (protocol section 9): code, status and what the caller is told.
//!
//! A [`Refusal`] has two messages: `message` goes to the caller, `inside` goes to the log and nowhere else, so an
//! internal address or a parser's words cannot leak into an answer by accident. Which JSON shape the caller sees
//! (TMCP's, Matrix's or OAuth's) is decided by the route, in `response`; rooms further in only say what is wrong.

mod oauth;

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

pub use self::oauth::OauthError;

macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $variant:ident $text:literal $status:ident,)*) => {
        /// An error code of protocol section 9, or ours where the protocol has none.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Code { $($(#[doc = $meaning])+ $variant,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The codes as they stand in answers, in the order of [`Code::index`].
            pub const NAMES: &'static [&'static str] = &[$($text,)*];

            /// A dense number for tables.
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The code as it stands in an answer.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> StatusCode {
                match self { $(Code::$variant => StatusCode::$status,)* }
            }

            /// What it means, for people: the text of `docs/errors.md`.
            pub const fn meaning(self) -> &'static str {
                match self { $(Code::$variant => concat!($($meaning),+).trim_ascii(),)* }
            }

            /// The code of that name, if there is one: used to map a wallet's own errors.
            pub fn parse(text: &str) -> Option<Code> {
                match text { $($text => Some(Code::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// The payment needs a second factor.
    MfaRequired "MFA_REQUIRED" PRECONDITION_REQUIRED,
    /// The second factor was wrong.
    MfaFailed "MFA_FAILED" UNAUTHORIZED,
    /// The payer's balance does not cover it.
    InsufficientFunds "INSUFFICIENT_FUNDS" PAYMENT_REQUIRED,
    /// The recipient has no wallet to be paid into.
    RecipientNoWallet "RECIPIENT_NO_WALLET" NOT_FOUND,
    /// The token lacks a scope.
    InvalidScope "INVALID_SCOPE" FORBIDDEN,
    /// The wallet could not carry out the payment.
    PaymentFailed "PAYMENT_FAILED" BAD_REQUEST,
    /// The mini-app's storage for this user is full.
    StorageQuotaExceeded "STORAGE_QUOTA_EXCEEDED" PAYLOAD_TOO_LARGE,
    /// The device that signed is not registered.
    DeviceNotRegistered "DEVICE_NOT_REGISTERED" BAD_REQUEST,
    /// The transfer ran out of time.
    TransferExpired "TRANSFER_EXPIRED" BAD_REQUEST,
    /// The gift ran out of time.
    GiftExpired "GIFT_EXPIRED" BAD_REQUEST,
    /// Nobody can answer right now; try again after `Retry-After`.
    ServiceUnavailable "SERVICE_UNAVAILABLE" SERVICE_UNAVAILABLE,
    /// The body is larger than allowed.
    PayloadTooLarge "PAYLOAD_TOO_LARGE" PAYLOAD_TOO_LARGE,
    /// The body's content type is not accepted.
    UnsupportedMediaType "UNSUPPORTED_MEDIA_TYPE" UNSUPPORTED_MEDIA_TYPE,
    /// The upstream took too long.
    UpstreamTimeout "UPSTREAM_TIMEOUT" GATEWAY_TIMEOUT,
    /// Not in the room, or not the caller's to do.
    Forbidden "FORBIDDEN" FORBIDDEN,
    /// The wallet is suspended.
    WalletSuspended "WALLET_SUSPENDED" FORBIDDEN,
    /// Not built yet.
    NotImplemented "NOT_IMPLEMENTED" NOT_IMPLEMENTED,
    /// Too many failed payments; locked for a while.
    PaymentLocked "PAYMENT_LOCKED" FORBIDDEN,
    /// The credential is missing, malformed, expired or revoked.
    InvalidToken "INVALID_TOKEN" UNAUTHORIZED,
    /// A limit was reached; try again after `Retry-After`.
    RateLimitExceeded "RATE_LIMIT_EXCEEDED" TOO_MANY_REQUESTS,
    /// No such mini-app.
    MiniappNotFound "MINIAPP_NOT_FOUND" NOT_FOUND,
    /// No such app in the store.
    AppNotFound "APP_NOT_FOUND" NOT_FOUND,
    /// A signature does not verify.
    InvalidSignature "INVALID_SIGNATURE" UNAUTHORIZED,
    /// The idempotency key was used with another body, or its first use is under way.
    DuplicateTransaction "DUPLICATE_TRANSACTION" CONFLICT,
    /// Too many wrong second factors.
    MfaLocked "MFA_LOCKED" TOO_MANY_REQUESTS,
    /// The app may not be removed.
    AppNotRemovable "APP_NOT_REMOVABLE" FORBIDDEN,
    /// The recipient has to accept the transfer.
    RecipientAcceptanceRequired "RECIPIENT_ACCEPTANCE_REQUIRED" BAD_REQUEST,
    /// The caller is suspended.
    AccountSuspended "ACCOUNT_SUSPENDED" FORBIDDEN,
    /// The user is suspended.
    UserSuspended "USER_SUSPENDED" FORBIDDEN,
    /// The request breaks a rule; `details` lists which.
    ValidationFailed "VALIDATION_FAILED" BAD_REQUEST,
    /// The request's headers are larger than allowed.
    HeadersTooLarge "HEADERS_TOO_LARGE" REQUEST_HEADER_FIELDS_TOO_LARGE,
    /// No such path, or no such object of the caller's.
    NotFound "NOT_FOUND" NOT_FOUND,
    /// The path exists, the method does not; `Allow` lists what does.
    MethodNotAllowed "METHOD_NOT_ALLOWED" METHOD_NOT_ALLOWED,
    /// The upstream failed or spoke nonsense.
    UpstreamError "UPSTREAM_ERROR" BAD_GATEWAY,
    /// The user has no wallet.
    NoWallet "NO_WALLET" NOT_FOUND,
    /// The gift has been opened by as many as it was for.
    GiftEmpty "GIFT_EMPTY" CONFLICT,
    /// The caller opened this gift before.
    AlreadyOpened "ALREADY_OPENED" CONFLICT,
    /// The client did not send its request in time.
    RequestTimeout "REQUEST_TIMEOUT" REQUEST_TIMEOUT,
    /// Our own failure.
    InternalError "INTERNAL_ERROR" INTERNAL_SERVER_ERROR,
}

/// What goes into `WWW-Authenticate` with a 401 or a 403 for scope (RFC 6750 section 3, protocol section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// No credential was sent: `Bearer`.
    Bearer,
    /// A credential was sent and is no good: `Bearer error="invalid_token"`.
    BearerInvalid,
    /// The credential lacks a scope: `Bearer error="insufficient_scope"`.
    BearerScope,
    /// A client has to authenticate: `Basic realm="tmcp"`.
    Basic,
}

/// Why a request is not let through, or could not be answered.
#[derive(Debug)]
pub struct Refusal(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: Code,
    oauth: Option<OauthError>,
    foreign: Option<(String, StatusCode)>,
    message: Cow<'static, str>,
    inside: Option<String>,
    details: Option<Value>,
    fields: Vec<(&'static str, Value)>,
    retry_after: Option<u64>,
    challenge: Option<Challenge>,
    headers: Vec<(HeaderName, HeaderValue)>,
    close: bool,
}

impl Refusal {
    /// A refusal with a message for the caller.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal(Box::new(Parts {
            code,
            oauth: None,
            foreign: None,
            message: message.into(),
            inside: None,
            details: None,
            fields: Vec::new(),
            retry_after: None,
            challenge: None,
            headers: Vec::new(),
            close: false,
        }))
    }

    /// A refusal of an OAuth endpoint.
    pub fn oauth(error: OauthError, message: impl Into<Cow<'static, str>>) -> Self {
        let mut refusal = Refusal::new(error.code(), message);
        refusal.0.oauth = Some(error);
        refusal
    }

    /// Our own failure: the caller learns nothing, the log learns `inside`.
    pub fn internal(inside: impl Into<String>) -> Self {
        Refusal::new(Code::InternalError, "The request could not be handled. The failure has been logged.")
            .inside(inside)
    }

    /// A refusal in an upstream's own words, with a code that the table does not list and the upstream's own 4xx
    /// (protocol section 9). [`Refusal::code`] is then [`Code::UpstreamError`]; what goes out is
    /// [`Refusal::code_text`] and [`Refusal::status`].
    pub fn foreign(code: impl Into<String>, status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let mut refusal = Refusal::new(Code::UpstreamError, message);
        if status.is_client_error() {
            refusal.0.foreign = Some((code.into(), status));
        }
        refusal
    }

    /// Adds what only the log may say.
    pub fn inside(mut self, inside: impl Into<String>) -> Self {
        self.0.inside = Some(inside.into());
        self
    }

    /// Adds the `details` object.
    pub fn details(mut self, details: Value) -> Self {
        self.0.details = Some(details);
        self
    }

    /// Adds a field beside `code` and `message`, such as `limit` or `circuit_state`.
    pub fn field(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.fields.push((name, value.into()));
        self
    }

    /// Says after how many seconds to try again: the header and the body's `retry_after`.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Adds the `WWW-Authenticate` challenge.
    pub fn challenge(mut self, challenge: Challenge) -> Self {
        self.0.challenge = Some(challenge);
        self
    }

    /// Adds a response header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Closes the connection after the answer: what the client sends next cannot be trusted to be a request.
    pub fn close(mut self) -> Self {
        self.0.close = true;
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The code as it stands in the answer.
    pub fn code_text(&self) -> &str {
        self.0.foreign.as_ref().map_or(self.0.code.as_str(), |(code, _)| code)
    }

    /// The error of an OAuth endpoint, when it is one.
    pub fn oauth_error(&self) -> Option<OauthError> {
        self.0.oauth
    }

    /// The message as an OAuth `error_description` may spell it: no characters but those of RFC 6749 sections 4.1.2.1 and
    /// 5.2.
    pub fn oauth_description(&self) -> String {
        let plain = |c: char| if matches!(c, ' ' | '!' | '#'..='[' | ']'..='~') { c } else { '\'' };
        self.message().chars().map(plain).collect()
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.foreign.as_ref().map_or(self.0.code.status(), |(_, status)| *status)
    }

    /// The message for the caller.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The message for the log, if there is more to say than the caller is told.
    pub fn inside_message(&self) -> Option<&str> {
        self.0.inside.as_deref()
    }

    /// The `details` object.
    pub fn details_value(&self) -> Option<&Value> {
        self.0.details.as_ref()
    }

    /// Fields beside `code` and `message`.
    pub fn fields(&self) -> &[(&'static str, Value)] {
        &self.0.fields
    }

    /// Seconds after which to try again.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after
    }

    /// The challenge, if one goes out.
    pub fn challenge_kind(&self) -> Option<Challenge> {
        self.0.challenge
    }

    /// Extra response headers.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0.headers
    }

    /// Whether the connection has to end with this answer.
    pub fn closes(&self) -> bool {
        self.0.close
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code_text(), self.0.message)?;
        match &self.0.inside {
            Some(inside) => write!(f, " ({inside})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
    }

    #[test]
    fn a_foreign_code_keeps_its_text_and_status() {
        let refusal = Refusal::foreign("CARD_EXPIRED", StatusCode::CONFLICT, "The card has expired.");
        assert_eq!((refusal.code_text(), refusal.status()), ("CARD_EXPIRED", StatusCode::CONFLICT));
        let refusal = Refusal::foreign("OOPS", StatusCode::INTERNAL_SERVER_ERROR, "Only a 4xx may be foreign.");
        assert_eq!((refusal.code_text(), refusal.status()), ("UPSTREAM_ERROR", StatusCode::BAD_GATEWAY));
    }
}
