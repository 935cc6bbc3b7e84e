//! What the edge answers itself.
//!
//! Every operation takes a [`Permit`], so none can be called for a request that was not admitted. Operations do not know
//! each other, and see no socket: what they answer is a [`Local`].

mod asked;
pub mod auth_revoke;
mod form;
pub mod jwks;
pub mod pages;
pub mod resolve;
mod services;
mod withdraw;

pub use asked::Asked;
pub use services::Services;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::error::Refusal;
use crate::model::Operation;
use crate::policy::Permit;

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

    /// 200 with a JSON body that nobody may keep.
    pub fn private(body: impl Into<Bytes>) -> Local {
        let headers = vec![(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        Local { status: StatusCode::OK, headers, body: body.into() }
    }
}

/// Answers an operation of the edge's own.
///
/// # Errors
/// What the operation refuses.
pub async fn answer(permit: &Permit, services: &Services, asked: &Asked<'_>) -> Result<Local, Refusal> {
    match permit.route().operation {
        Operation::OauthJwks => Ok(jwks::answer(permit, &services.keyring)),
        Operation::OauthConsent => pages::consent::answer(permit, services, asked).await,
        Operation::OauthDevice => pages::device::answer(permit, services, asked).await,
        Operation::OauthApps => pages::apps::answer(permit, services, asked).await,
        Operation::AuthRevoke => auth_revoke::answer(permit, services, asked).await,
        other => Err(Refusal::internal(format!("no code answers {other}"))),
    }
}
