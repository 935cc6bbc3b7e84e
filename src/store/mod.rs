//! What is remembered.
//!
//! So far the key ring alone: one sealed file in the store's folder.

pub mod keys;
pub mod seal;
