//! Upstreams: where they are, whether they are well, what is sent to them and what of their answers is believed.
//!
//! | file | what it is for |
//! |---|---|
//! | [`pools`] | all upstreams of a config revision: built, taken over at a reload, started |
//! | [`backend`] | one of them at run time: addresses in turn, prebuilt peers, breakers |
//! | [`address`] | one address: its peer, its client, its health |
//! | [`connections`] | connections to it: opened, kept while idle, taken again |
//! | [`tls`] | certificates and keys towards an upstream, read and checked once |
//! | [`health`] | active checks and DNS refresh, in the background |
//! | [`breaker`], [`outcome`] | when to stop calling, and what counts as a failure |
//! | [`forward`] | header rules, both directions |
//! | [`templates`] | the upstream's path for an operation |
//! | [`client`] | calls that the edge makes itself |
//! | [`wallet`], [`homeserver`] | what it asks those two |
//! | [`identity`] | whose Matrix access token is this, asked afresh |
//! | [`egress`] | the guarded client for URLs that others gave us |
//!
//! A request goes: [`Backend::admit`] (is the breaker open?) → [`Backend::pick`] (which address?) →
//! [`connections::Dialer::open`] → [`forward::whole_request`] → the upstream → [`forward::answer_headers`] → the ticket is
//! settled with [`outcome::Ended`]. What streams goes through Pingora instead: [`Backend::peer`] → [`forward::request`].

pub mod address;
pub mod backend;
pub mod breaker;
pub mod client;
pub mod connections;
pub mod egress;
pub mod forward;
pub mod health;
pub mod homeserver;
pub mod identity;
pub mod outcome;
pub mod pools;
pub mod templates;
pub mod tls;
pub mod wallet;

pub use backend::{Backend, Target};
pub use pools::Upstreams;

#[cfg(test)]
mod testing;
