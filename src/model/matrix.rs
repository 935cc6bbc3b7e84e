//! What a homeserver says of its users.

use super::UserId;

/// To whom a Matrix access token belongs (`GET /_matrix/client/v3/account/whoami`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whoami {
    /// The user.
    pub user: UserId,
    /// The device that the token was issued to; tokens of application services and administrators have none.
    pub device_id: Option<String>,
    /// Whether the user is a guest.
    pub is_guest: bool,
}
