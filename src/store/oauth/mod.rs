//! What the OAuth server remembers.
//!
//! | file | holds |
//! |---|---|
//! | `approvals` | what users have approved |
//! | `visits` | who sits at a browser |

pub mod approvals;
pub mod visits;
