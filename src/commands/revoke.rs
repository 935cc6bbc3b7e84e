//! `revoke`: takes tokens back, or calls payments off. It writes to the store; running edges follow within a second. The
//! admin address does the same at `/api/v1/revocations` and `/api/v1/payments`.

use std::path::Path;
use std::process::ExitCode;

use super::{audit, load, open_store};
use crate::clock::Clock;
use crate::config::Config;
use crate::model::audit::{AuditAction, AuditTarget};
use crate::model::{Revocation, RevokeOrder, RevokeRequest, Revoked};
use crate::store;
use crate::store::revocations::{EPOCHS_FOR, RevocationLog};

/// What `tmcp-edge revoke` was told, as it was typed.
#[derive(Clone, Debug)]
pub enum Asked {
    /// Something that was given out.
    Revoke(RevokeRequest),
    /// `--payments`: whether they are to be let through.
    Payments(bool),
}

/// `tmcp-edge revoke`.
pub fn revoke(path: &Path, asked: Asked) -> Result<ExitCode, String> {
    let config = load(path)?;
    let what = what(asked, &config, Clock::system().unix_secs())?;
    let (store, clock) = open_store(&config)?;
    let audit = audit::log(&config, &store, &clock);
    let log = RevocationLog::new(store, clock);
    let Revocation { what, .. } = audit::audited(&audit, AuditAction::of(&what), AuditTarget::from(&what), || {
        store::blocking(log.append(what.clone())).map_err(|error| error.to_string())
    })?;
    println!("{}. Running edges follow within a second.", told(&what));
    Ok(ExitCode::SUCCESS)
}

fn what(asked: Asked, config: &Config, now: u64) -> Result<Revoked, String> {
    match asked {
        Asked::Payments(on) => Ok(Revoked::Payments { off: !on }),
        Asked::Revoke(request) => match request.read(now + EPOCHS_FOR.as_secs(), &config.trusted())? {
            RevokeOrder::Log(what) => Ok(what),
            RevokeOrder::OwnKey(kid) => {
                Err(format!("a key of our own is withdrawn by `keys revoke {kid}`; another's needs --issuer"))
            }
        },
    }
}

fn told(what: &Revoked) -> String {
    match what {
        Revoked::Grant(grant) => format!("Grant {grant} has ended and its tokens are revoked"),
        Revoked::Pair(user, app) => format!("What {user} allowed {app} is revoked"),
        Revoked::Scopes(user, app, scopes) => format!("What {user} allowed {app} is revoked, as far as it is {scopes}"),
        Revoked::User(user) => format!("Every token of {user} is revoked; what {user} has approved stays approved"),
        Revoked::App(app) => format!("Every token of {app} is revoked; what users have approved stays approved"),
        Revoked::Key { issuer, kid } => format!("Every token of {issuer} signed with {kid} is revoked"),
        Revoked::Token { jti, .. } => format!("The token {jti} is revoked"),
        Revoked::Payments { off: true } => "Payments are switched off".to_owned(),
        Revoked::Payments { off: false } => "Payments are let through again".to_owned(),
    }
}
