//! Plain values and state machines: no I/O, no clocks, no configuration.
//!
//! Every identifier is a newtype that is parsed at the door, so that nothing further in handles a bare `String`.

pub mod audit;
pub mod ids;
pub mod matrix;
pub mod miniapp;
pub mod oauth;
pub mod operation;
pub mod revocation;
pub mod role;
pub mod rows;
pub mod scope;
pub mod token;
pub mod wording;

pub use ids::{MiniAppId, RoomId, UserId};
pub use operation::Operation;
pub use revocation::{Issuers, Revocation, RevokeOrder, RevokeRequest, Revoked};
pub use role::Role;
pub use scope::{Scope, ScopeSet};
