//! Several edges that act as one: real processes on real Redis servers.
//!
//! | file | what it holds |
//! |---|---|
//! | `edges` | three edges on one store, with the sandbox behind them |
//! | `relay` | the network between an edge and its Redis |
//! | the others | tests, one file per question an operator has |

mod edges;
mod relay;
#[path = "../../servers/mod.rs"]
#[expect(dead_code, reason = "the tests of the store use the rest")]
mod servers;

mod apps;
mod failover;
mod keys;
mod limits;
mod lockouts;
mod moves;
mod revocation;
mod start;
mod tokens;
