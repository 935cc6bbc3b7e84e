//! Who asks for tokens: a mini-app, or the back end of one that has both (protocol section 2).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::MiniAppId;

/// A hybrid mini-app's back end signs in under this name after its front's.
pub const BACKEND: &str = "_backend";

/// A client as it calls itself. Codes and refresh tokens belong to exactly one: the front of a hybrid mini-app, which
/// shows no secret, is not let into what its back end was given.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientId {
    /// The mini-app.
    pub app: MiniAppId,
    /// Whether it is a hybrid mini-app's back end.
    #[serde(default)]
    pub backend: bool,
}

impl ClientId {
    /// The mini-app itself.
    pub fn of(app: MiniAppId) -> ClientId {
        ClientId { app, backend: false }
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.app, if self.backend { BACKEND } else { "" })
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({self})")
    }
}
