//! Who calls, from where and by which ids, as upstreams are told.

use http::{HeaderMap, HeaderValue, header};

use crate::model::token::TepClaims;

/// Our identity and trace headers.
pub mod name {
    #![expect(missing_docs, reason = "each constant is the header's name")]
    use http::HeaderName;
    pub const USER_ID: HeaderName = HeaderName::from_static("x-tmcp-user-id");
    pub const APP_ID: HeaderName = HeaderName::from_static("x-tmcp-app-id");
    pub const SCOPES: HeaderName = HeaderName::from_static("x-tmcp-scopes");
    pub const SESSION_ID: HeaderName = HeaderName::from_static("x-tmcp-session-id");
    pub const WALLET_ID: HeaderName = HeaderName::from_static("x-tmcp-wallet-id");
    pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    pub const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
    pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
    pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
}

/// Who the caller is, in the form that upstreams are told. Made once per token, then shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `X-TMCP-User-Id`.
    pub user_id: Option<HeaderValue>,
    /// `X-TMCP-App-Id`.
    pub app_id: Option<HeaderValue>,
    /// `X-TMCP-Scopes`: space-separated.
    pub scopes: Option<HeaderValue>,
    /// `X-TMCP-Session-Id`.
    pub session_id: Option<HeaderValue>,
    /// `X-TMCP-Wallet-Id`.
    pub wallet_id: Option<HeaderValue>,
}

impl Identity {
    /// The identity that a TEP token proves. Fails on a claim that cannot stand in a header: such a token must be
    /// refused, or the upstream would be told less than was verified.
    pub fn of(claims: &TepClaims) -> Result<Identity, header::InvalidHeaderValue> {
        let optional = |text: &Option<String>| text.as_deref().map(HeaderValue::from_str).transpose();
        Ok(Identity {
            user_id: Some(HeaderValue::from_str(claims.user.as_str())?),
            app_id: Some(HeaderValue::from_str(claims.app.as_str())?),
            scopes: Some(HeaderValue::from_str(&claims.scopes.to_string())?),
            session_id: optional(&claims.session_id)?,
            wallet_id: optional(&claims.wallet_id)?,
        })
    }

    pub(super) fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in [
            (name::USER_ID, &self.user_id),
            (name::APP_ID, &self.app_id),
            (name::SCOPES, &self.scopes),
            (name::SESSION_ID, &self.session_id),
            (name::WALLET_ID, &self.wallet_id),
        ] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }
}

/// The request's ids, in the form that upstreams are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// `X-Request-Id`.
    pub request_id: HeaderValue,
    /// `X-Trace-Id`.
    pub trace_id: HeaderValue,
    /// W3C `traceparent`.
    pub traceparent: HeaderValue,
}

impl Trace {
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(name::REQUEST_ID, self.request_id.clone());
        headers.insert(name::TRACE_ID, self.trace_id.clone());
        headers.insert(name::TRACEPARENT, self.traceparent.clone());
    }
}

/// Where the request came from, as far as it can be believed (the socket, or what trusted proxies say).
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address.
    pub client: HeaderValue,
    /// Whether the client spoke TLS to us or to a trusted proxy.
    pub https: bool,
    /// The host that the client asked for.
    pub host: Option<HeaderValue>,
}
