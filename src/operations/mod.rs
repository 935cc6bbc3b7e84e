//! What the edge answers itself.
//!
//! Every operation takes a [`Permit`], so none can be called for a request that was not admitted. Operations do not know
//! each other, and see no socket: what they answer is a [`Local`].

pub mod auth_revoke;
pub mod jwks;
pub mod oauth;
pub mod pages;
pub mod resolve;
mod services;
mod withdraw;

pub use services::Services;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, LOCATION, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use smallvec::SmallVec;

use crate::error::Refusal;
use crate::model::Operation;
use crate::model::rows::Auth;
use crate::policy::Permit;
use crate::policy::authn::Caller;
use crate::policy::guard::Address;
use crate::upstream::forward::Trace;

const NO_STORE: (HeaderName, HeaderValue) = (CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// What a call brings besides its permit.
pub struct Call<'a> {
    /// Who is calling.
    pub caller: &'a Caller,
    /// The method.
    pub method: &'a Method,
    /// The path's parameters, as they were sent.
    pub params: SmallVec<[&'a str; 2]>,
    /// The query string.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// Where it comes from.
    pub address: Address<'a>,
    /// The request's ids.
    pub trace: Trace,
    /// When its head arrived, milliseconds since the Unix epoch.
    pub arrived_at: u64,
}

/// An answer of the edge's own.
#[derive(Clone, Debug)]
pub struct Local {
    /// The status.
    pub status: StatusCode,
    /// Headers besides those of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body, JSON unless a header says otherwise.
    pub body: Bytes,
}

impl Local {
    /// 200 with a JSON body.
    pub fn ok(body: impl Into<Bytes>) -> Local {
        Local { status: StatusCode::OK, headers: Vec::new(), body: body.into() }
    }

    /// 200 with a JSON body that nobody may keep (RFC 6749 section 5.1).
    pub fn secret(body: impl Into<Bytes>) -> Local {
        Local { headers: vec![NO_STORE, (PRAGMA, HeaderValue::from_static("no-cache"))], ..Local::ok(body) }
    }

    /// Sends the browser elsewhere, by GET (RFC 9700 section 4.12).
    ///
    /// # Errors
    /// When the address cannot stand in a header.
    pub fn see_other(address: &str) -> Result<Local, Refusal> {
        let address = HeaderValue::from_str(address).map_err(|error| Refusal::internal(error.to_string()))?;
        let headers = vec![NO_STORE, (LOCATION, address)];
        Ok(Local { status: StatusCode::SEE_OTHER, headers, body: Bytes::new() })
    }
}

/// Answers an operation of the edge's own.
///
/// # Errors
/// What the operation refuses.
pub async fn answer(permit: &Permit, services: &Services, call: Call<'_>) -> Result<Local, Refusal> {
    match permit.route().operation {
        Operation::OauthJwks => Ok(jwks::answer(permit, &services.keyring)),
        Operation::OauthConsent => pages::consent::answer(permit, services, &call).await,
        Operation::OauthMetadata => Ok(oauth::metadata::answer(permit, services)),
        Operation::OauthAuthorize => oauth::authorize::answer(permit, services, &call).await,
        Operation::OauthToken => oauth::token::answer(permit, services, &call).await,
        Operation::OauthDevice if permit.route().auth == Auth::OauthClient => {
            oauth::device::answer(permit, services, &call).await
        }
        Operation::OauthRevoke => oauth::revoke::answer(permit, services, &call).await,
        Operation::OauthIntrospect => oauth::introspect::answer(permit, services, &call).await,
        Operation::OauthDevice => pages::device::answer(permit, services, &call).await,
        Operation::OauthApps => pages::apps::answer(permit, services, &call).await,
        Operation::AuthRevoke => auth_revoke::answer(permit, services, &call).await,
        Operation::WalletResolve | Operation::WalletResolveBatch => resolve::answer(permit, services, call).await,
        other => Err(Refusal::internal(format!("no code answers {other}"))),
    }
}
