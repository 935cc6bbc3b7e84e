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
mod edge;
mod headers;
mod life;
mod paths;
mod rows;
mod smuggling;
mod upstream;
mod wire;
