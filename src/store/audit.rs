//! Who changed what: the audit log.
//!
//! Nothing is changed without a line: it is written down durably that a change is asked for, then the change is made, then
//! the line is written again with what came of it. A store that does not take the line is a reason not to change anything
//! ([`AuditLog::begin`]), but for calling payments off, which must not wait for a store to be mended: its line is then in
//! the process's log alone. So is that of a change which nobody waits for ([`AuditLog::beside`]).
//!
//! Lines are named by the time that is left until the end of time, so that the store's order is the newest first: that is
//! how they are read, and the retention takes them from the other end.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Backend, Batch, Partition, Read, Record, StoreError};
use crate::clock::{Clock, rfc3339};
use crate::model::audit::{AuditAction, AuditActor, AuditLine, AuditOutcome, AuditTarget};

/// The target of the lines in the process's log. They are written whatever its level.
pub const LOG_TARGET: &str = "audit";

const VERSION: u32 = 1;
const KIND: &str = "audit";
const LINE: &str = "line/";
/// Lines that are asked of the store in one go.
const PAGE: usize = 500;

/// The audit log.
#[derive(Clone, Debug)]
pub struct AuditLog {
    store: Arc<dyn Backend>,
    clock: Clock,
    retention: Duration,
}

/// A change that is about to be made, before it has a time and an outcome.
#[derive(Clone, Debug)]
pub struct Change {
    /// Who asks.
    pub actor: AuditActor,
    /// What for.
    pub action: AuditAction,
    /// About what.
    pub target: AuditTarget,
    /// The request that asks; no two changes have the same.
    pub request_id: String,
}

/// A change that has its line and may be made.
#[must_use = "what came of the change has to be written down"]
#[derive(Debug)]
pub struct Begun(AuditLine);

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    #[serde(flatten)]
    line: AuditLine,
}

impl AuditLog {
    /// Kept in `store`, each line for `retention`.
    pub fn new(store: Arc<dyn Backend>, clock: Clock, retention: Duration) -> AuditLog {
        AuditLog { store, clock, retention }
    }

    /// Writes down that a change is about to be made, durably.
    ///
    /// # Errors
    /// When the store does not take the line. The change must not be made then; [`AuditAction::PaymentsOff`] never gets
    /// this error.
    pub async fn begin(&self, change: Change) -> Result<Begun, StoreError> {
        let line = self.line(change, AuditOutcome::Begun, None);
        match self.put(&line).await {
            Ok(()) => Ok(Begun(line)),
            Err(error) if line.action == AuditAction::PaymentsOff.as_str() => {
                log::error!("the audit line of calling payments off is in this log alone: {error}");
                Ok(Begun(line))
            }
            Err(error) => {
                let reason = Some(format!("not begun, its line could not be stored: {error}"));
                tell(&AuditLine { outcome: AuditOutcome::Failed, reason, ..line });
                Err(error)
            }
        }
    }

    /// Writes down what came of a change. When the store does not take it, the line keeps saying that the change was
    /// begun, and the process's log says the rest.
    pub async fn finish(&self, begun: Begun, outcome: AuditOutcome, reason: Option<String>) {
        let line = AuditLine { outcome, reason, ..begun.0 };
        tell(&line);
        if let Err(error) = self.put(&line).await {
            log::error!("what came of request {} is in this log alone: {error}", line.request_id);
        }
    }

    /// Makes a change with its line around it. Calling payments off does not wait for its line: a store that takes nothing
    /// may take seconds to say so.
    ///
    /// # Errors
    /// `unwritten` of that of [`AuditLog::begin`], with the change not made, and those of the change.
    pub async fn around<T, E: fmt::Display>(
        &self,
        change: Change,
        unwritten: impl FnOnce(StoreError) -> E,
        made: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (begun, made) = if change.action == AuditAction::PaymentsOff {
            let (begun, made) = join(self.begin(change), made).await;
            (begun.map_err(unwritten)?, made)
        } else {
            (self.begin(change).await.map_err(unwritten)?, made.await)
        };
        self.conclude(begun, &made).await;
        made
    }

    /// Makes a change that nobody waits for and who wants it could not be told to ask again, with its line around it. What
    /// the store does not take of that stands in the process's log alone.
    ///
    /// # Errors
    /// Those of the change.
    pub async fn beside<T, E: fmt::Display>(
        &self,
        change: Change,
        made: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let line = self.line(change, AuditOutcome::Begun, None);
        if let Err(error) = self.put(&line).await {
            tell(&line);
            log::error!("that {} was begun is in this log alone: {error}", line.request_id);
        }
        let made = made.await;
        self.conclude(Begun(line), &made).await;
        made
    }

    async fn conclude<T, E: fmt::Display>(&self, begun: Begun, made: &Result<T, E>) {
        match made {
            Ok(_) => self.finish(begun, AuditOutcome::Done, None).await,
            Err(error) => self.finish(begun, AuditOutcome::Failed, Some(error.to_string())).await,
        }
    }

    /// Writes down that somebody asked for what is not theirs to ask. Nothing has been changed, so nothing depends on the
    /// store.
    pub async fn refused(&self, change: Change, reason: String) {
        let line = self.line(change, AuditOutcome::Refused, Some(reason));
        tell(&line);
        if let Err(error) = self.put(&line).await {
            log::error!("the refusal of request {} is in this log alone: {error}", line.request_id);
        }
    }

    /// Up to `limit` lines, the newest first: older than the one that `after` names, and not from before `since`
    /// (milliseconds since the Unix epoch). Each comes with the name to go on after.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn lines(
        &self,
        since: u64,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, AuditLine)>, StoreError> {
        let after = after.map(|after| format!("{LINE}{after}"));
        let page = self.store.scan(&partition(), LINE, after.as_deref(), limit.min(PAGE), Read::Stale).await?;
        let mut lines = Vec::with_capacity(page.len());
        for (name, entry) in page {
            let stored: Stored = serde_json::from_slice(&entry.value)
                .map_err(|error| StoreError::Malformed(format!("an audit line: {error}")))?;
            if stored.line.at_ms < since {
                break;
            }
            lines.push((name.strip_prefix(LINE).unwrap_or_default().to_owned(), stored.line));
        }
        Ok(lines)
    }

    /// Whether a name to go on after may be one that [`AuditLog::lines`] gave.
    pub fn gave(name: &str) -> bool {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        name.split_once('-').is_some_and(|(time, id)| {
            time.len() == 20 && time.bytes().all(|b| b.is_ascii_digit()) && id.bytes().all(plain)
        })
    }

    fn line(&self, change: Change, outcome: AuditOutcome, reason: Option<String>) -> AuditLine {
        let Change { actor, action, target, request_id } = change;
        let at_ms = u64::try_from(self.clock.unix().as_millis()).unwrap_or(u64::MAX);
        AuditLine { at_ms, actor, action: action.as_str().to_owned(), target, outcome, reason, request_id }
    }

    async fn put(&self, line: &AuditLine) -> Result<(), StoreError> {
        let name = format!("{LINE}{:020}-{}", u64::MAX - line.at_ms, line.request_id);
        let value = serde_json::to_vec(&Stored { v: VERSION, line: line.clone() })
            .map_err(|error| StoreError::Internal(error.to_string()))?;
        self.store.apply(Batch::new(partition())?.put(name, value, Some(self.retention))).await.map(drop)
    }
}

/// Whether a record is an audit line: it tells of a store's past and is no part of its state.
pub fn is_audit(record: &Record) -> bool {
    match record {
        Record::Value { partition, .. } | Record::Item { partition, .. } => partition.kind() == KIND,
    }
}

/// A line as it stands in logs and answers.
pub fn as_json(line: &AuditLine) -> serde_json::Value {
    let mut told = json!({
        "at": rfc3339(line.at_ms / 1000),
        "actor": line.actor,
        "action": line.action,
        "target": line.target,
        "outcome": line.outcome,
        "request_id": line.request_id,
    });
    if let (Some(reason), Some(fields)) = (&line.reason, told.as_object_mut()) {
        fields.insert("reason".to_owned(), reason.as_str().into());
    }
    told
}

fn tell(line: &AuditLine) {
    log::info!(target: LOG_TARGET, "{}", as_json(line));
}

fn partition() -> Partition {
    Partition::of(KIND, &[])
}

#[cfg(test)]
mod tests;
