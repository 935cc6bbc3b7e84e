//! One integration binary, a module per theme.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has failed, and these say where"
)]

mod arrows;
mod bodies;
mod cached;
mod dev;
mod docs;
mod edge;
mod fleet;
mod frames;
mod headers;
mod http2;
mod inside;
mod json;
mod life;
mod limits;
mod lockouts;
mod logs;
mod matrix;
mod oauth;
mod pages;
mod paths;
mod resolve;
mod rows;
mod smuggling;
mod tokens;
mod upstream;
mod wallet;
mod wire;
