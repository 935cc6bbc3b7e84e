//! The OAuth 2.0 server's values and state machines (protocol section 3): who asks, and
//! the life of a permission from the first question to the last refresh token.
//!
//! ```text
//! authorize ── Consent ──► Code ─┐
//!                                ├─► Live ──► ended
//! device ──── Device ────────────┘
//! token exchange ────────────────┘
//! ```
//!
//! Everything here is pure: transitions take `self` and the time, and say what comes of it; `store::oauth` makes them
//! happen once. Times are milliseconds since the Unix epoch.

pub mod client;
pub mod consent;
pub mod device;
pub mod digest;
pub mod grant;
pub mod pkce;
pub mod user_code;

pub use client::{BACKEND, ClientId};
pub use consent::Consent;
pub use device::{Device, Poll};
pub use digest::Digest;
pub use grant::{Code, Family, Grant, GrantId, Presented, Via};
pub use pkce::{Challenge, Verifier};
pub use user_code::UserCode;
