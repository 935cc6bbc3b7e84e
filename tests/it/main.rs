//! One integration binary, a module per theme.

mod arrows;
mod bodies;
mod edge;
mod headers;
mod paths;
mod rows;
mod smuggling;
mod upstream;
mod wire;
