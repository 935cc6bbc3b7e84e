//! What a write transaction does: the batches, claims and loads of one group, one after the other.

use std::time::Duration;

use aws_lc_rs::rand;
use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};

use super::super::backend::{
    Applied, Batch, Claimed, Condition, Entry, Lease, Operation, Partition, Record, StoreError, Version,
};
use super::fault::fault;
use super::layout::{
    DUE, ITEMS, Item, Stored, TOPICS, VALUES, due_id, due_key, item_key, malformed, queue_key, value_key,
};

/// The tables of one write transaction, and the time that it goes by.
pub(super) struct Change<'t> {
    values: Table<'t, &'static [u8], &'static [u8]>,
    items: Table<'t, &'static [u8], &'static [u8]>,
    due: Table<'t, &'static [u8], ()>,
    topics: Table<'t, &'static str, u64>,
    now: u64,
    told: Vec<(&'static str, u64)>,
}

impl<'t> Change<'t> {
    /// Opens the tables. `now`: milliseconds since the Unix epoch.
    pub(super) fn begin(transaction: &'t WriteTransaction, now: u64) -> Result<Change<'t>, StoreError> {
        Ok(Change {
            values: transaction.open_table(VALUES).map_err(fault)?,
            items: transaction.open_table(ITEMS).map_err(fault)?,
            due: transaction.open_table(DUE).map_err(fault)?,
            topics: transaction.open_table(TOPICS).map_err(fault)?,
            now,
            told: Vec::new(),
        })
    }

    /// What was told in it: topics with their new numbers.
    pub(super) fn into_told(self) -> Vec<(&'static str, u64)> {
        self.told
    }

    /// Does all of a batch, or nothing.
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<Applied, StoreError> {
        // Before the conditions: what the batch itself has put makes them fail.
        if self.is_done(batch)? {
            return Ok(Applied::Done);
        }
        for (at, (name, condition)) in batch.conditions.iter().enumerate() {
            let found = self.entry(&batch.partition, name)?;
            let holds = match condition {
                Condition::Absent => found.is_none(),
                Condition::Present => found.is_some(),
                Condition::Is(version) => found.as_ref().is_some_and(|entry| entry.version == *version),
            };
            if !holds {
                return Ok(Applied::Conflict { condition: at, found });
            }
        }
        for operation in &batch.operations {
            self.operate(&batch.partition, batch.version, operation)?;
        }
        if let Some(topic) = batch.tell {
            self.tell(topic)?;
        }
        Ok(Applied::Done)
    }

    /// Whether something that the batch put is in place: it is sent again.
    pub(super) fn is_done(&self, batch: &Batch) -> Result<bool, StoreError> {
        for operation in &batch.operations {
            let found = match operation {
                Operation::Put { name, .. } => {
                    let found = self.values.get(value_key(&batch.partition, name).as_slice()).map_err(fault)?;
                    found.map(|found| Stored::decode(found.value()).map(|stored| stored.version)).transpose()?
                }
                Operation::Enqueue { queue, id, .. } => {
                    let found = self.items.get(item_key(&batch.partition, queue, id).as_slice()).map_err(fault)?;
                    found.map(|found| Item::decode(found.value()).map(|item| item.version)).transpose()?
                }
                Operation::Delete { .. } | Operation::Dequeue { .. } => None,
            };
            if found == Some(batch.version) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn entry(&self, partition: &Partition, name: &str) -> Result<Option<Entry>, StoreError> {
        let Some(found) = self.values.get(value_key(partition, name).as_slice()).map_err(fault)? else {
            return Ok(None);
        };
        let stored = Stored::decode(found.value())?;
        let live = stored.is_live(self.now);
        Ok(live.then(|| Entry { value: Bytes::copy_from_slice(stored.value), version: stored.version }))
    }

    fn operate(&mut self, partition: &Partition, version: Version, operation: &Operation) -> Result<(), StoreError> {
        match operation {
            Operation::Put { name, value, ttl } => self.put(partition, name, version, value, *ttl),
            Operation::Delete { name } => {
                self.values.remove(value_key(partition, name).as_slice()).map_err(fault)?;
                Ok(())
            }
            Operation::Enqueue { queue, id, value, due_in } => {
                self.enqueue(partition, queue, id, version, value, *due_in)
            }
            Operation::Dequeue { queue, id, lease } => self.dequeue(partition, queue, id, *lease),
        }
    }

    fn put(
        &mut self,
        partition: &Partition,
        name: &str,
        version: Version,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), StoreError> {
        let expires = ttl.map(|ttl| self.now.saturating_add(millis(ttl).max(1)));
        let stored = Stored { version, expires, value };
        self.values.insert(value_key(partition, name).as_slice(), stored.encode().as_slice()).map_err(fault)?;
        Ok(())
    }

    fn enqueue(
        &mut self,
        partition: &Partition,
        queue: &str,
        id: &str,
        version: Version,
        value: &[u8],
        due_in: Duration,
    ) -> Result<(), StoreError> {
        self.dequeue(partition, queue, id, None)?;
        let due = self.now.saturating_add(millis(due_in));
        self.place(partition, queue, id, &Item { version, due, lease: None, claims: 0, value })
    }

    fn place(&mut self, partition: &Partition, queue: &str, id: &str, item: &Item<'_>) -> Result<(), StoreError> {
        let key = item_key(partition, queue, id);
        self.items.insert(key.as_slice(), item.encode().as_slice()).map_err(fault)?;
        let due = due_key(&queue_key(partition, queue), item.due, id);
        self.due.insert(due.as_slice(), ()).map_err(fault)?;
        Ok(())
    }

    fn dequeue(
        &mut self,
        partition: &Partition,
        queue: &str,
        id: &str,
        lease: Option<Lease>,
    ) -> Result<(), StoreError> {
        let key = item_key(partition, queue, id);
        let found = match self.items.get(key.as_slice()).map_err(fault)? {
            Some(found) => Item::decode(found.value()).map(|item| (item.due, item.lease))?,
            None => return Ok(()),
        };
        if lease.is_some() && lease != found.1 {
            return Ok(());
        }
        self.items.remove(key.as_slice()).map_err(fault)?;
        self.due.remove(due_key(&queue_key(partition, queue), found.0, id).as_slice()).map_err(fault)?;
        Ok(())
    }

    fn tell(&mut self, topic: &'static str) -> Result<(), StoreError> {
        let number = self.topics.get(topic).map_err(fault)?.map_or(0, |told| told.value()).wrapping_add(1);
        self.topics.insert(topic, number).map_err(fault)?;
        self.told.push((topic, number));
        Ok(())
    }

    /// Takes hold of due items of a queue.
    pub(super) fn claim(
        &mut self,
        partition: &Partition,
        queue: &str,
        lease: Duration,
        max: usize,
    ) -> Result<Vec<Claimed>, StoreError> {
        let prefix = queue_key(partition, queue);
        let (first, end) = (due_key(&prefix, 0, ""), due_key(&prefix, self.now.saturating_add(1), ""));
        let mut ids = Vec::new();
        for entry in self.due.range::<&[u8]>(first.as_slice()..end.as_slice()).map_err(fault)?.take(max) {
            ids.push(due_id(entry.map_err(fault)?.0.value(), prefix.len())?.to_owned());
        }
        let due = self.now.saturating_add(millis(lease).max(1));
        let mut claimed = Vec::with_capacity(ids.len());
        for id in ids {
            let found = self.items.get(item_key(partition, queue, &id).as_slice()).map_err(fault)?;
            let bytes =
                found.map(|found| found.value().to_vec()).ok_or_else(|| malformed("a due item that is none"))?;
            let item = Item::decode(&bytes)?;
            let lease = new_lease()?;
            let claims = item.claims.saturating_add(1);
            self.due.remove(due_key(&prefix, item.due, &id).as_slice()).map_err(fault)?;
            self.place(partition, queue, &id, &Item { due, lease: Some(lease), claims, ..item })?;
            claimed.push(Claimed { id, value: Bytes::copy_from_slice(item.value), lease, claims });
        }
        Ok(claimed)
    }

    /// Writes a record of a dump.
    pub(super) fn load(&mut self, record: &Record) -> Result<(), StoreError> {
        match record {
            Record::Value { partition, name, entry, ttl } => {
                self.put(partition, name, entry.version, &entry.value, *ttl)
            }
            Record::Item { partition, queue, id, value, due_in } => {
                self.enqueue(partition, queue, id, Version(0), value, *due_in)
            }
        }
    }

    /// Removes a value, if it has expired by now; says whether it had.
    pub(super) fn remove_expired(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        let expired = match self.values.get(key).map_err(fault)? {
            Some(found) => !Stored::decode(found.value())?.is_live(self.now),
            None => false,
        };
        if expired {
            self.values.remove(key).map_err(fault)?;
        }
        Ok(expired)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A number that no other claim has; zero stands for none.
fn new_lease() -> Result<Lease, StoreError> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(|_| StoreError::Internal("the system gives no random numbers".to_owned()))?;
    Ok(Lease(u64::from_be_bytes(bytes).max(1)))
}
