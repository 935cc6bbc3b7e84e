//! The OAuth 2.0 server (protocol section 3), a file per endpoint.
//!
//! | file | answers |
//! |---|---|
//! | `metadata` | where everything is (RFC 8414) |
//! | `authorize` | a client that wants a user asked |
//! | `device` | a device that wants a user asked (RFC 8628) |
//! | `token` | codes, refresh tokens, device codes and Matrix sessions become tokens |
//! | `revoke`, `introspect` | a token given back (RFC 7009), a token looked at (RFC 7662) |

pub mod authorize;
pub mod device;
pub mod introspect;
pub mod metadata;
pub mod revoke;
pub mod token;

use super::{Call, Services};
use crate::config::MiniApp;
use crate::error::{OauthError, Refusal};
use crate::model::oauth::GrantId;
use crate::model::{Revoked, Scope, ScopeSet};
use crate::policy::authn::{Caller, Client};
use crate::policy::{Form, Permit};

/// Longest list of scopes, bytes.
const MAX_SCOPE: usize = 2048;

/// The form that came with a call.
fn form_of(permit: &Permit) -> Result<Form, Refusal> {
    Form::parse(permit.body().map_or(&[], |body| body))
}

/// The client that is calling; whether it had to authenticate has been seen to.
fn client_of<'a>(call: &'a Call<'_>) -> Result<&'a Client, Refusal> {
    match call.caller {
        Caller::Client(client) | Caller::Named(client) => Ok(client),
        _ => Err(Refusal::internal("an OAuth endpoint was called by no client")),
    }
}

fn invalid_request(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::oauth(OauthError::InvalidRequest, message)
}

/// A parameter that has to be there.
fn required<'f>(form: &'f Form, name: &str) -> Result<&'f str, Refusal> {
    form.get(name).ok_or_else(|| invalid_request(format!("{name} is missing.")))
}

/// Reads a list of scopes: each has to be one of ours, and the mini-app's (protocol section 3).
fn scopes_of(list: &str, app: &MiniApp) -> Result<ScopeSet, Refusal> {
    let refused = |message: String| Refusal::oauth(OauthError::InvalidScope, message);
    if list.len() > MAX_SCOPE {
        return Err(refused("The list of scopes is too long.".to_owned()));
    }
    let mut scopes = ScopeSet::EMPTY;
    for name in list.split(' ').filter(|name| !name.is_empty()) {
        let shown: String = name.chars().take(64).collect();
        let scope = Scope::parse(name).ok_or_else(|| refused(format!("There is no scope {shown}.")))?;
        if !app.allowed_scopes().contains(scope) {
            return Err(refused(format!("The mini-app has not registered the scope {scope}.")));
        }
        scopes = scopes.union(ScopeSet::of(&[scope]));
    }
    if scopes.is_empty() { Err(refused("scope is missing.".to_owned())) } else { Ok(scopes) }
}

/// As of when a request is answered.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// Milliseconds since the Unix epoch.
    now: u64,
    /// The last revocation that was known before anything was read: whatever comes later voids what is issued, however
    /// soon this instance learns of it.
    known: u64,
}

impl Moment {
    /// Now; to be taken before what the answer depends on is read.
    fn of(services: &Services) -> Moment {
        let known = services.verifier.revocations().known();
        Moment { now: services.now(), known }
    }
}

/// Ends a grant for good: its code, its refresh tokens and its access tokens.
async fn end(services: &Services, id: GrantId) -> Result<(), Refusal> {
    services.revocations.revoke(Revoked::Grant(id.to_string())).await?;
    Ok(())
}
