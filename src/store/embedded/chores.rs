//! What the writing thread does between groups.

use std::ops::Bound;
use std::time::Duration;

use super::super::backend::StoreError;
use super::fault::fault;
use super::file::File;
use super::layout::{Stored, VALUES};
use crate::clock::Tick;

/// How often what other processes have told is looked for while there is much to write.
const LISTEN_EVERY: Duration = Duration::from_millis(200);
/// How often a step of sweeping begins.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Values that one step of sweeping looks at.
const SWEEP_STEP: usize = 1_000;

/// When what was done last. Sweeping goes round the whole table in steps: an index by expiry would cost every write what
/// this costs now and then.
pub(super) struct Chores {
    listened: Tick,
    swept: Tick,
    /// The last key that was looked at; empty: the next step begins at the start.
    after: Vec<u8>,
    /// There may be much to remove: the next step need not wait.
    hurried: bool,
}

impl Chores {
    pub(super) fn new(file: &File) -> Chores {
        let now = file.clock().tick();
        Chores { listened: now, swept: now, after: Vec::new(), hurried: false }
    }

    /// Passes on what other processes have told.
    pub(super) fn listen(&mut self, file: &File) {
        self.listened = file.clock().tick();
        if let Err(error) = file.listen() {
            log::warn!("what others have told cannot be read: {error}");
        }
    }

    /// Does what has been left for long enough.
    pub(super) fn when_due(&mut self, file: &File) {
        let now = file.clock().tick();
        if now.since(self.listened) >= LISTEN_EVERY {
            self.listen(file);
        }
        if self.hurried || now.since(self.swept) >= SWEEP_EVERY {
            self.swept = now;
            if let Err(error) = self.sweep(file) {
                log::warn!("what has expired cannot be removed yet: {error}");
            }
            file.measure();
        }
    }

    /// Looks at the next values and removes those that have expired.
    fn sweep(&mut self, file: &File) -> Result<(), StoreError> {
        self.hurried = false;
        let now = file.now();
        let after = self.after.as_slice();
        let (looked_at, last, expired) = file.read(|transaction| {
            let values = transaction.open_table(VALUES).map_err(fault)?;
            let from = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
            let (mut looked_at, mut last, mut expired) = (0, Vec::new(), Vec::new());
            for entry in values.range::<&[u8]>((from, Bound::Unbounded)).map_err(fault)?.take(SWEEP_STEP) {
                let (key, value) = entry.map_err(fault)?;
                looked_at += 1;
                last = key.value().to_vec();
                // What cannot be read is left for whoever asks for it.
                if Stored::decode(value.value()).is_ok_and(|stored| !stored.is_live(now)) {
                    expired.push(last.clone());
                }
            }
            Ok((looked_at, last, expired))
        })?;
        self.after = if looked_at < SWEEP_STEP { Vec::new() } else { last };
        if expired.is_empty() {
            return Ok(());
        }
        let removed = file.write(&[], |change| {
            expired.iter().try_fold(0, |removed, key| Ok(removed + u64::from(change.remove_expired(key)?)))
        })?;
        file.metrics().store_swept.inc_by(removed);
        self.hurried = expired.len() * 4 >= SWEEP_STEP;
        Ok(())
    }
}
