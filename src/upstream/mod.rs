//! Pools, breakers, health checks, header rules and clients of upstreams.

pub mod breaker;
pub mod client;
pub mod egress;
pub mod forward;
pub mod health;
pub mod homeserver;
pub mod pools;
pub mod templates;
