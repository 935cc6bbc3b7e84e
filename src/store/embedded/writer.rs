//! The thread that writes: group commit.
//!
//! One thread owns every write. It takes all that waits, does it in one transaction, commits that to disk and only then
//! answers: the disk syncs of one commit serve as many callers as came while the one before ran. A conflict is answered
//! after the commit too, since what it found may be another batch of the same group. When a commit fails, nobody in the
//! group is told that it happened.
//!
//! Between groups it looks for what other processes on the same file have told, and sweeps what has expired.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::backend::{Applied, Batch, Claimed, Operation, Partition, Record, StoreError};
use super::change::Change;
use super::chores::Chores;
use super::file::File;

/// How often the thread looks around when there is nothing to write.
const IDLE: Duration = Duration::from_millis(200);
/// The most jobs in one transaction: bounds how long the first of them waits.
const MOST_JOBS: usize = 1024;
/// The most bytes of values in one transaction, but for its last job.
const MOST_BYTES: usize = 8 << 20;

/// What the thread is asked for, and whom to answer.
pub(super) enum Job {
    /// A batch.
    Apply(Batch, Reply<Applied>),
    /// Due items.
    Claim(Claim, Reply<Vec<Claimed>>),
    /// Records of a dump.
    Load(Vec<Record>, Reply<()>),
}

/// The arguments of [`super::super::Backend::claim`].
pub(super) struct Claim {
    pub(super) partition: Partition,
    pub(super) queue: String,
    pub(super) lease: Duration,
    pub(super) max: usize,
}

/// Where an answer goes. Whoever asked may have gone away.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What a job came to, once its transaction is committed.
enum Outcome {
    Applied(Applied),
    Claimed(Vec<Claimed>),
    Loaded,
}

/// Runs until every sender of jobs is gone.
pub(super) fn run(file: &File, jobs: &Receiver<Job>) {
    let mut chores = Chores::new(file);
    loop {
        match jobs.recv_timeout(IDLE) {
            Ok(first) => write(file, gather(first, jobs)),
            Err(RecvTimeoutError::Timeout) => chores.listen(file),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        chores.when_due(file);
    }
}

/// The first job and all that waits behind it, within bounds.
fn gather(first: Job, jobs: &Receiver<Job>) -> Vec<Job> {
    let mut bytes = first.bytes();
    let mut group = vec![first];
    while group.len() < MOST_JOBS && bytes < MOST_BYTES {
        let Ok(job) = jobs.try_recv() else { break };
        bytes += job.bytes();
        group.push(job);
    }
    group
}

fn write(file: &File, group: Vec<Job>) {
    let batches: Vec<&Batch> = group.iter().filter_map(Job::batch).collect();
    let done = file.write(&batches, |change| group.iter().map(|job| job.run(change)).collect::<Result<Vec<_>, _>>());
    match done {
        Ok(outcomes) => {
            file.metrics().store_changes.inc_by(group.len() as u64);
            group.into_iter().zip(outcomes).for_each(|(job, outcome)| job.answer(Ok(outcome)));
        }
        // It may be one job's fault alone: what it would change cannot be read.
        Err(StoreError::Malformed(_) | StoreError::Internal(_)) if group.len() > 1 => {
            group.into_iter().for_each(|job| write(file, vec![job]));
        }
        Err(error) => group.into_iter().for_each(|job| job.answer(Err(error.clone()))),
    }
}

impl Job {
    fn batch(&self) -> Option<&Batch> {
        match self {
            Job::Apply(batch, _) => Some(batch),
            _ => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Job::Apply(batch, _) => batch.operations.iter().map(operation_bytes).sum(),
            Job::Claim(..) => 0,
            Job::Load(records, _) => records.iter().map(record_bytes).sum(),
        }
    }

    fn run(&self, change: &mut Change<'_>) -> Result<Outcome, StoreError> {
        Ok(match self {
            Job::Apply(batch, _) => Outcome::Applied(change.apply(batch)?),
            Job::Claim(Claim { partition, queue, lease, max }, _) => {
                Outcome::Claimed(change.claim(partition, queue, *lease, *max)?)
            }
            Job::Load(records, _) => {
                records.iter().try_for_each(|record| change.load(record))?;
                Outcome::Loaded
            }
        })
    }

    fn answer(self, outcome: Result<Outcome, StoreError>) {
        // A caller that has gone away misses its answer and nothing else.
        match self {
            Job::Apply(_, reply) => drop(reply.send(outcome.and_then(Outcome::applied))),
            Job::Claim(_, reply) => drop(reply.send(outcome.and_then(Outcome::claimed))),
            Job::Load(_, reply) => drop(reply.send(outcome.map(|_| ()))),
        }
    }
}

impl Outcome {
    fn applied(self) -> Result<Applied, StoreError> {
        match self {
            Outcome::Applied(applied) => Ok(applied),
            _ => Err(mixed_up()),
        }
    }

    fn claimed(self) -> Result<Vec<Claimed>, StoreError> {
        match self {
            Outcome::Claimed(claimed) => Ok(claimed),
            _ => Err(mixed_up()),
        }
    }
}

fn mixed_up() -> StoreError {
    StoreError::Internal("a job was given another job's outcome".to_owned())
}

fn operation_bytes(operation: &Operation) -> usize {
    match operation {
        Operation::Put { name, value, .. } => name.len() + value.len(),
        Operation::Enqueue { id, value, .. } => id.len() + value.len(),
        Operation::Delete { .. } | Operation::Dequeue { .. } => 0,
    }
}

fn record_bytes(record: &Record) -> usize {
    match record {
        Record::Value { name, entry, .. } => name.len() + entry.value.len(),
        Record::Item { id, value, .. } => id.len() + value.len(),
    }
}
