//! Audit lines of commands, and of what an edge does by itself: like those of the admin address, with the system's user
//! for an actor.

use std::fs;
use std::sync::{Arc, Once};

use log::LevelFilter;
use rustix::process::getuid;

use super::start_logging;
use crate::clock::Clock;
use crate::config::Config;
use crate::model::audit::{AuditAction, AuditActor, AuditOutcome, AuditTarget};
use crate::server::Prompt;
use crate::store::audit::{AuditLog, Change};
use crate::store::{self, Backend, StoreError};
use crate::telemetry::RequestId;

/// What a command that is about to change something writes down.
pub(super) fn change(action: AuditAction, target: AuditTarget) -> Change {
    Change { actor: AuditActor::command(user()), action, target, request_id: RequestId::new().to_string() }
}

/// What an edge writes down that reads its config again without having been asked at the admin address, which writes
/// that down itself: `None` then.
pub(super) fn reload(prompt: Prompt) -> Option<Change> {
    let actor = match prompt {
        Prompt::Asked => return None,
        Prompt::Signal => AuditActor::signal(user()),
        Prompt::File => AuditActor::file(user()),
    };
    let request_id = RequestId::new().to_string();
    Some(Change { actor, action: AuditAction::Reload, target: AuditTarget::none(), request_id })
}

/// The audit log in a config's store, for a command that changes something. Its lines go to standard error too, which is
/// a command's log.
pub(super) fn log(config: &Config, store: &Arc<dyn Backend>, clock: &Clock) -> AuditLog {
    static LOGGING: Once = Once::new();
    LOGGING.call_once(|| start_logging(LevelFilter::Warn));
    AuditLog::new(store.clone(), clock.clone(), config.server.admin.audit_retention)
}

/// Makes a change with its line around it. Blocks.
///
/// # Errors
/// When the line cannot be stored, with the change not made, and those of the change.
pub(super) fn audited<T>(
    audit: &AuditLog,
    action: AuditAction,
    target: AuditTarget,
    made: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    let begun = store::blocking(audit.begin(change(action, target))).map_err(|error| unwritten(&error))?;
    let made = made();
    let (outcome, reason) = match &made {
        Ok(_) => (AuditOutcome::Done, None),
        Err(error) => (AuditOutcome::Failed, Some(error.clone())),
    };
    let finished = async {
        audit.finish(begun, outcome, reason).await;
        Ok::<_, StoreError>(())
    };
    store::blocking(finished).map_err(|error| error.to_string())?;
    made
}

/// What a person is told when the audit line of a change cannot be stored.
pub(super) fn unwritten(error: &StoreError) -> String {
    format!("nothing was changed, its audit line cannot be stored: {error}")
}

/// The name of the user that the process runs as; the number where no name is known.
fn user() -> String {
    let id = getuid().as_raw().to_string();
    let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(&id, &known).unwrap_or(&id).to_owned()
}

/// The name of a user id in a file like `/etc/passwd` (passwd(5)).
fn name_of<'a>(id: &str, known: &'a str) -> Option<&'a str> {
    known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, of) = (fields.next()?, fields.nth(1)?);
        (of == id).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names() {
        let known = "root:x:0:0:root:/root:/bin/sh\nbroken\nduty:x:1000:1000::/home/duty:/bin/sh\n";
        assert_eq!(
            (name_of("0", known), name_of("1000", known), name_of("7", known)),
            (Some("root"), Some("duty"), None)
        );
    }
}
