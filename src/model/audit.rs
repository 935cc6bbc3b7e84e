//! Who changed what at the admin address or by a command: one line for each change.
//!
//! A line is written before its change is begun, and again with what came of it. One that stays [`AuditOutcome::Begun`]
//! belongs to a process that ended in between: the change may have happened.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Revoked, Role};

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditAction {
    /// The config is read again.
    Reload,
    /// Answers are taken out of the response cache.
    CachePurge,
    /// A caller's limits start afresh.
    LimitsReset,
    /// Somebody who was kept out is let in again.
    LockoutsLift,
    /// A grant ends.
    GrantEnd,
    /// Tokens are revoked.
    Revoke,
    /// The switch of payments, by somebody whose asking was not listened to.
    Payments,
    /// Every payment is called off.
    PaymentsOff,
    /// Payments are let through again.
    PaymentsOn,
    /// A signing key is made and announced.
    KeyNew,
    /// The announced key begins to sign.
    KeyRotate,
    /// A signing key is withdrawn.
    KeyRevoke,
    /// Every key is sealed under the current master key.
    KeyReseal,
    /// Mini-apps are registered in the store, or put in the place of others.
    AppAdd,
    /// A mini-app is given another client secret.
    AppRotateSecret,
    /// A mini-app is given another webhook secret.
    AppRotateWebhookSecret,
    /// A mini-app is switched off.
    AppSuspend,
    /// A mini-app is switched on again.
    AppResume,
    /// A mini-app is removed.
    AppRemove,
    /// The mini-apps' webhook secrets are sealed under the current master key.
    AppReseal,
    /// A backup is read into the store.
    StoreRestore,
    /// Another store is copied into this one.
    StoreCopy,
}

impl AuditAction {
    /// The name in audit lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            AuditAction::Reload => "reload",
            AuditAction::CachePurge => "cache.purge",
            AuditAction::LimitsReset => "limits.reset",
            AuditAction::LockoutsLift => "lockouts.lift",
            AuditAction::GrantEnd => "grant.end",
            AuditAction::Revoke => "revoke",
            AuditAction::Payments => "payments",
            AuditAction::PaymentsOff => "payments.off",
            AuditAction::PaymentsOn => "payments.on",
            AuditAction::KeyNew => "key.new",
            AuditAction::KeyRotate => "key.rotate",
            AuditAction::KeyRevoke => "key.revoke",
            AuditAction::KeyReseal => "key.reseal",
            AuditAction::AppAdd => "app.add",
            AuditAction::AppRotateSecret => "app.rotate_secret",
            AuditAction::AppRotateWebhookSecret => "app.rotate_webhook_secret",
            AuditAction::AppSuspend => "app.suspend",
            AuditAction::AppResume => "app.resume",
            AuditAction::AppRemove => "app.remove",
            AuditAction::AppReseal => "app.reseal",
            AuditAction::StoreRestore => "store.restore",
            AuditAction::StoreCopy => "store.copy",
        }
    }

    /// What revoking that is.
    pub const fn of(what: &Revoked) -> AuditAction {
        match what {
            Revoked::Payments { off: true } => AuditAction::PaymentsOff,
            Revoked::Payments { off: false } => AuditAction::PaymentsOn,
            _ => AuditAction::Revoke,
        }
    }
}

/// Who changes something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditActor {
    /// The name of the admin token; for a command and for the edge itself, the system's user.
    pub name: String,
    /// The role of the token; `command` for a command; for the edge itself what prompted it, `signal` or `file`.
    pub role: String,
    /// The socket's other end, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl AuditActor {
    /// The holder of an admin token.
    pub fn token(name: &str, role: Role, from: String) -> AuditActor {
        AuditActor { name: name.to_owned(), role: role.as_str().to_owned(), from: Some(from) }
    }

    /// A command that the system's user `name` runs.
    pub fn command(name: String) -> AuditActor {
        AuditActor { name, role: "command".to_owned(), from: None }
    }

    /// An edge that runs as the system's user `name` and got a signal. Who sent it the system does not tell.
    pub fn signal(name: String) -> AuditActor {
        AuditActor { name, role: "signal".to_owned(), from: None }
    }

    /// An edge that runs as the system's user `name` and watches a file, which somebody has changed.
    pub fn file(name: String) -> AuditActor {
        AuditActor { name, role: "file".to_owned(), from: None }
    }
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It was begun, and nobody has said what came of it.
    Begun,
    /// It happened.
    Done,
    /// It was tried. `reason` says why it failed.
    Failed,
    /// Its asker's role is too small. Nothing was tried.
    Refused,
}

impl AuditOutcome {
    /// The name in audit lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            AuditOutcome::Begun => "begun",
            AuditOutcome::Done => "done",
            AuditOutcome::Failed => "failed",
            AuditOutcome::Refused => "refused",
        }
    }
}

/// What a change is about, by the names of its parameters. No secret stands in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AuditTarget(pub BTreeMap<String, String>);

/// The longest part of a target, bytes. What is longer is cut: a line must fit whatever somebody sends.
const LONGEST_PART: usize = 256;

impl AuditTarget {
    /// Nothing in particular.
    pub fn none() -> AuditTarget {
        AuditTarget::default()
    }

    /// One thing.
    pub fn of(name: &str, value: impl fmt::Display) -> AuditTarget {
        AuditTarget::none().and(name, value)
    }

    /// One more thing.
    #[must_use]
    pub fn and(mut self, name: &str, value: impl fmt::Display) -> AuditTarget {
        let mut value = value.to_string();
        if value.len() > LONGEST_PART {
            let end = (0..=LONGEST_PART).rev().find(|at| value.is_char_boundary(*at)).unwrap_or_default();
            value.truncate(end);
            value.push('…');
        }
        self.0.insert(name.to_owned(), value);
        self
    }
}

impl From<&Revoked> for AuditTarget {
    fn from(what: &Revoked) -> AuditTarget {
        match what {
            Revoked::Grant(grant) => AuditTarget::of("grant", grant),
            Revoked::Pair(user, app) => AuditTarget::of("user", user).and("app", app),
            Revoked::Scopes(user, app, scopes) => AuditTarget::of("user", user).and("app", app).and("scopes", scopes),
            Revoked::User(user) => AuditTarget::of("user", user),
            Revoked::App(app) => AuditTarget::of("app", app),
            Revoked::Key { issuer, kid } => AuditTarget::of("key", kid).and("issuer", issuer),
            Revoked::Token { jti, .. } => AuditTarget::of("token", jti),
            Revoked::Payments { .. } => AuditTarget::none(),
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// When the change was asked for, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who asked.
    pub actor: AuditActor,
    /// What for: an [`AuditAction`], or one that a later release knows.
    pub action: String,
    /// About what.
    pub target: AuditTarget,
    /// What came of it.
    pub outcome: AuditOutcome,
    /// Why, when it failed or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The request that asked, as its answer names it.
    pub request_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cut_where_a_letter_ends() {
        let target = AuditTarget::of("path_prefix", "é".repeat(200)).and("app", "ma_shop");
        assert_eq!(target.0["path_prefix"], format!("{}…", "é".repeat(128)));
        assert_eq!(target.0["app"], "ma_shop");
    }
}
