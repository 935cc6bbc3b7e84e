//! Real Redis servers for tests: each on a free loopback port and in a folder of its own, killed with what starts it.
//!
//! Both the tests of the store and those of whole edges include this folder; it knows nothing of the crate.

mod certificates;
mod cluster;
mod server;
mod watched;

use std::thread;
use std::time::Duration;

pub use certificates::Certificates;
pub use cluster::Cluster;
pub use server::Server;
pub use watched::Watched;

/// Looks until something holds. Tests that never get there hang, and say so by that.
pub fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        // A rest between two looks: Redis does not say when its nodes agree.
        thread::sleep(Duration::from_millis(10));
    }
}
