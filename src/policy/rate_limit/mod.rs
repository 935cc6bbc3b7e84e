//! Rate limits (protocol section 8): how much a caller may do, and what it is told about it.
//!
//! ```text
//! config ──► Policies ─┐                      (one config revision)
//! caller ──► LimitKey ─┴► Limiter::take ──► Engine ──► Decision ──► headers, or a 429
//!                                             │
//!                                          Buckets    (outlives revisions)
//! ```
//!
//! What a limit *is* ([`Policies`], derived from the config) is kept apart from what has been *used* of it ([`Buckets`],
//! lived state). The two meet through a [`Family`]: a hash of one policy's own numbers, part of the address of every
//! bucket. A reload that leaves a policy's numbers alone finds its buckets again; one that changes them starts that
//! policy afresh and touches no other. There is nothing to hand over, so there is nothing to forget to hand over.
//!
//! Where buckets live is behind [`Engine`]. [`Buckets`] keeps them in this process and always answers at once; [`Shared`]
//! has them in Redis, for all instances together: it may have to ask first, and says so with [`Taken::Later`].
//!
//! A [mark](Policy::mark) is a bucket of one token, for whoever has something to remember of a key for a while
//! ([`super::lockout`]); engines set it and look at it apart from limits, because all calls look and hardly any sets.
//!
//! | file | holds |
//! |---|---|
//! | `key` | whose bucket: [`LimitKey`] |
//! | `rule`, `bucket`, `window` | the arithmetic, pure and exact: token bucket, sliding window |
//! | `policies` | compiled policies and the overrides of single mini-apps |
//! | `engine` | the seam |
//! | `buckets`, `shard` | the engine in process, and how its memory is bounded |
//! | `shared` | the engine over several instances |
//! | `limiter` | claims in, decision out |
//! | `report` | the decision in the caller's words: headers, 429 |

mod bucket;
mod buckets;
mod engine;
mod key;
mod limiter;
mod policies;
mod report;
mod rule;
mod shard;
mod shared;
#[cfg(test)]
mod tests;
mod window;

pub use bucket::TokenBucket;
pub use buckets::{Buckets, Stats};
pub use engine::{Answer, Charge, Engine, Marked, Outcome, Taken};
pub use key::LimitKey;
pub use limiter::{Claim, Decision, Limiter};
pub use policies::{Family, Policies, Policy, PolicyError, PolicyId};
pub use report::{Report, window_text};
pub use rule::{Rule, Standing, Wait};
#[cfg(test)]
pub(super) use shared::testing;
pub use shared::{Shared, instances_on};
pub use window::SlidingWindow;
