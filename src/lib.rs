//! `tmcp-edge`: the edge proxy of a TMCP mini-app platform. This page is the map.
//!
//! # A request's way
//!
//! ```text
//! bytes → peer guard → route → authn → authz → rate limit → validate → operation | proxy → response → observe
//! ```
//!
//! [`policy`] is the middle part: it returns a permit that only it can make, and nothing is answered or forwarded
//! without one. [`gateway`] drives the way through Pingora's phases, [`response`] is the only writer to the client.
//!
//! # The rooms
//!
//! | room | what it is for |
//! |---|---|
//! | [`model`] | ids, scopes, tokens, the built-in route table: plain values, no I/O |
//! | [`clock`], [`metrics`], [`error`] | time, counters and the one table of errors |
//! | [`config`] | text → typed, checked values with their place in the file |
//! | [`store`] | what is remembered |
//! | [`upstream`] | pools, breakers, health, header rules, and the guarded client for every URL we call |
//! | [`policy`] | may this request proceed? |
//! | [`operations`] | what the edge answers itself |
//! | [`snapshot`], [`live`] | everything derived from one config revision; what outlives a revision |
//! | [`context`], [`response`], [`cache`], [`telemetry`], [`admin`] | what one request carries, is told, is remembered by, leaves behind |
//! | [`gateway`] | Pingora's phases in execution order |
//! | [`server`] | listeners, TLS, connection guard, reload, upgrade, drain |
//! | [`commands`] | what the command line does |
//! | [`sandbox`] | a wallet, a homeserver and a mini-app to develop against |
//!
//! # Who may import whom
//!
//! model, clock, metrics ← error, config ← store ← upstream ← policy ← operations ← snapshot, live ← context,
//! response, cache, telemetry, admin ← gateway ← server ← commands ← cli ← main; sandbox uses model alone. A test reads every
//! `use crate::` and fails on an arrow that is not allowed.

pub mod admin;
pub mod cache;
pub mod clock;
pub mod commands;
pub mod config;
pub mod context;
pub mod error;
pub mod gateway;
pub mod live;
pub mod metrics;
pub mod model;
pub mod operations;
pub mod policy;
pub mod response;
pub mod sandbox;
pub mod server;
pub mod snapshot;
pub mod store;
pub mod telemetry;
pub mod upstream;
