//! What is remembered.
//!
//! | file | holds |
//! |---|---|
//! | `backend` | the seam: what a place that remembers has to be able to do |
//! | `keys` | the key ring: one sealed file in the store's folder |
//! | `redis` | the back end on Redis, and its handle for those who run scripts of their own |
//! | `seal` | how secrets lie in a store |

pub mod backend;
pub mod keys;
pub mod redis;
pub mod seal;

pub use backend::{
    Applied, Backend, Batch, Claimed, Condition, Durability, Entry, Lease, Operation, Partition, Read, Record,
    StoreError, Version,
};
