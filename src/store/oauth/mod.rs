//! What the OAuth server remembers.
//!
//! | file | holds |
//! |---|---|
//! | `credential` | the secrets that are handed out: consent sessions, codes, refresh tokens, device codes |
//! | `value` | how values lie in the store |
//! | `questions` | authorization requests that wait for a user's answer |
//! | `devices` | devices that wait for a user's answer |
//! | `grants` | permissions, their codes and their refresh tokens |
//! | `index` | which grants a user has |
//! | `listing` | grants page by page, for operators |
//! | `approvals` | what users have approved |
//! | `visits` | who sits at a browser |
//! | `guesses` | wrong user codes that chat apps sent |
//!
//! A permission has one partition for its whole life, from the question to the last refresh token, and every secret
//! carries its id: whatever happens to it is one conditional batch, so that of many requests at the same instant one
//! succeeds.

pub mod approvals;
pub mod credential;
pub mod devices;
pub mod grants;
pub mod guesses;
mod index;
pub mod listing;
pub mod questions;
mod value;
pub mod visits;

#[cfg(test)]
pub(crate) mod tests;

pub use approvals::Approvals;
pub use credential::{Credential, Kind};
pub use devices::Devices;
pub use grants::Grants;
pub use guesses::Guesses;
pub use questions::Questions;
pub use value::Held;
pub use visits::Visits;

use crate::model::oauth::GrantId;
use crate::store::Partition;

/// What the partitions of this room hold. All of it can be redeemed, or withdrawn: an old copy must not come back
/// ([`super::transfer::outdates`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A permission, from the question to the last refresh token.
    Grant,
    /// Which permissions a user has given.
    Grants,
    /// What a user code stands for.
    UserCode,
    /// Who sits at a browser.
    Visit,
    /// What a user has approved.
    Approvals,
}

impl Place {
    /// All of them.
    pub const ALL: [Place; 5] = [Place::Grant, Place::Grants, Place::UserCode, Place::Visit, Place::Approvals];

    /// The kind of its partitions.
    pub const fn kind(self) -> &'static str {
        match self {
            Place::Grant => "grant",
            Place::Grants => "grants",
            Place::UserCode => "user_code",
            Place::Visit => "visit",
            Place::Approvals => "approvals",
        }
    }

    fn of(self, whose: &str) -> Partition {
        Partition::of(self.kind(), &[whose])
    }
}

/// The partition of a permission.
fn partition(id: GrantId) -> Partition {
    Place::Grant.of(&id.to_string())
}
