//! What is remembered.
//!
//! | file | holds |
//! |---|---|
//! | `backend` | the seam: what a place that remembers has to be able to do |
//! | `open` | from the config to an open store |
//! | `embedded` | the store in the data folder (redb) |
//! | `archive` | backup files |
//! | `transfer` | backup, restore and copy |
//! | `audit` | who changed what |
//! | `kept`, `replacing` | what a restore must not undo, also when it breaks off |
//! | `folder` | the data folder: whose it is, and which edge serves from it |
//! | `measured` | counting around a back end |
//! | `contract` | the tests that every back end has to pass |
//! | `failing` | a store that does not take what a test says |
//! | `refusal` | what a caller is told when the store fails |
//! | `topics` | who wants to know of what |
//! | `keys` | the key ring: one value, its private keys sealed |
//! | `redis` | the back end on Redis, and its handle for those who run scripts of their own |
//! | `apps` | mini-apps that commands have registered |
//! | `revocations` | what has been taken back |
//! | `blocking` | asking it from code that does not wait |
//! | `seal` | how secrets lie in a store |

pub mod apps;
pub mod archive;
pub mod audit;
pub mod backend;
mod blocking;
#[cfg(test)]
pub(crate) mod contract;
pub mod embedded;
#[cfg(test)]
pub(crate) mod failing;
pub mod folder;
pub mod kept;
pub mod keys;
mod measured;
pub mod oauth;
mod open;
pub mod redis;
mod refusal;
pub mod replacing;
pub mod revocations;
pub mod seal;
mod topics;
pub mod transfer;

pub use backend::{
    Applied, Backend, Batch, Claimed, Condition, Durability, Entry, Lease, Operation, Partition, Read, Record,
    StoreError, Version,
};
pub use blocking::blocking;
pub use open::{Opened, open, open_unseen};
pub use topics::told_or_after;
