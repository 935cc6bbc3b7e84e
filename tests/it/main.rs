//! One integration binary, a module per theme.

mod arrows;
mod bodies;
mod dev;
mod edge;
mod headers;
mod json;
mod limits;
mod logs;
mod matrix;
mod paths;
mod resolve;
mod rows;
mod smuggling;
mod upstream;
mod wallet;
mod wire;
