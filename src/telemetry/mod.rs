//! What a request leaves behind: its trace ids, its access-log line, its span and its place in the metrics.
//!
//! All of them are made from one [`Outcome`] after the answer has been written, so they cannot contradict each other,
//! and what must not be written down (tokens, query strings, bodies) is kept out in one place: the outcome has no field
//! for it.

pub mod access_log;
mod escape;
pub mod export;
pub mod otlp;
pub mod outcome;
pub mod process;
pub mod random;
pub mod time;
pub mod trace;

pub use access_log::AccessLog;
pub use outcome::{CacheStatus, Outcome, Stages};
pub use trace::{RequestId, TraceContext, TraceId};
