//! What a homeserver says about its users.

use super::UserId;

/// Whose access token it is: the answer to `GET /_matrix/client/v3/account/whoami`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whoami {
    /// The user.
    pub user: UserId,
    /// The device; absent for tokens that have none.
    pub device_id: Option<String>,
    /// Whether the user is a guest.
    pub is_guest: bool,
}

/// The homeserver did not say: it is down, slow or spoke nonsense. Says nothing about the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// Why, for the log.
    pub reason: String,
    /// Seconds after which asking again makes sense, if that is known.
    pub retry_after: Option<u64>,
}
