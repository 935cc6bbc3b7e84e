//! One integration binary, a module per theme.

mod arrows;
mod edge;
mod headers;
mod rows;
mod wire;
