//! What is changed together: conditions, operations, and what came of them.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::Bytes;

use super::{Durability, Entry, Lease, Partition, StoreError, Version};

/// What a batch demands of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is there.
    Absent,
    /// Something is there.
    Present,
    /// What is there is of that version.
    Is(Version),
}

/// What a batch does.
#[derive(Clone, PartialEq, Eq)]
pub enum Operation {
    /// Puts a value in place of whatever is there.
    Put {
        /// Under which name.
        name: String,
        /// The value.
        value: Bytes,
        /// When it goes by itself; at least a millisecond. `None`: it stays.
        ttl: Option<Duration>,
    },
    /// Takes a value away, if it is there.
    Delete {
        /// Of which name.
        name: String,
    },
    /// Adds an item to a queue, in place of one with the same id.
    Enqueue {
        /// Which queue of the partition.
        queue: String,
        /// The item's id, unique in the queue.
        id: String,
        /// What it says.
        value: Bytes,
        /// How long from now it is due.
        due_in: Duration,
    },
    /// Takes an item off a queue. With a lease, only while that lease is the item's latest; else nothing happens.
    Dequeue {
        /// Which queue.
        queue: String,
        /// Which item.
        id: String,
        /// As whose.
        lease: Option<Lease>,
    },
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Put { name, value, ttl } => write!(f, "Put({name}, {} bytes, {ttl:?})", value.len()),
            Operation::Delete { name } => write!(f, "Delete({name})"),
            Operation::Enqueue { queue, id, value, due_in } => {
                write!(f, "Enqueue({queue}, {id}, {} bytes, {due_in:?})", value.len())
            }
            Operation::Dequeue { queue, id, lease } => write!(f, "Dequeue({queue}, {id}, {lease:?})"),
        }
    }
}

/// Conditions and operations of one partition: all of it happens, or nothing.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where.
    pub partition: Partition,
    /// The version of everything it puts.
    pub version: Version,
    /// All have to hold. They are looked at before any operation happens.
    pub conditions: Vec<(String, Condition)>,
    /// Done in order.
    pub operations: Vec<Operation>,
    /// How safe it has to be.
    pub durability: Durability,
    /// Whom to tell once it is done: a subscriber of this topic.
    pub tell: Option<&'static str>,
}

impl Batch {
    /// An empty, durable batch with a version of its own.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn new(partition: Partition) -> Result<Batch, StoreError> {
        let mut version = [0; 8];
        rand::fill(&mut version).map_err(|_| StoreError::Internal("the system gives no random numbers".to_owned()))?;
        let version = Version(u64::from_be_bytes(version));
        let (conditions, operations) = (Vec::new(), Vec::new());
        Ok(Batch { partition, version, conditions, operations, durability: Durability::Durable, tell: None })
    }

    /// Demands something of a name.
    #[must_use]
    pub fn when(mut self, name: impl Into<String>, condition: Condition) -> Batch {
        self.conditions.push((name.into(), condition));
        self
    }

    /// Puts a value.
    #[must_use]
    pub fn put(mut self, name: impl Into<String>, value: impl Into<Bytes>, ttl: Option<Duration>) -> Batch {
        self.operations.push(Operation::Put { name: name.into(), value: value.into(), ttl });
        self
    }

    /// Takes a value away.
    #[must_use]
    pub fn delete(mut self, name: impl Into<String>) -> Batch {
        self.operations.push(Operation::Delete { name: name.into() });
        self
    }

    /// Does something else.
    #[must_use]
    pub fn with(mut self, operation: Operation) -> Batch {
        self.operations.push(operation);
        self
    }

    /// Need not outlive a power cut.
    #[must_use]
    pub fn relaxed(mut self) -> Batch {
        self.durability = Durability::Relaxed;
        self
    }

    /// Tells the subscribers of `topic` once it is done.
    #[must_use]
    pub fn telling(mut self, topic: &'static str) -> Batch {
        self.tell = Some(topic);
        self
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It happened, as durably as it asked; what it put is of the batch's version.
    Done,
    /// Nothing happened: a condition did not hold.
    Conflict {
        /// Which one, by its place among the batch's conditions.
        condition: usize,
        /// What is there instead.
        found: Option<Entry>,
    },
}
