//! Who asks for tokens: a mini-app, or the back end of one that has both (protocol section 2).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::MiniAppId;

/// A hybrid mini-app's back end signs in under this name after its front's.
pub const BACKEND: &str = "_backend";

/// A client. Codes and refresh tokens belong to exactly one: the front of a hybrid mini-app, which shows no secret, is
/// not let into what its back end was given.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientId {
    /// The mini-app.
    pub app: MiniAppId,
    /// Whether it has shown the mini-app's secret: a confidential mini-app, or a hybrid one's back end under either name.
    #[serde(default)]
    pub backend: bool,
}

impl ClientId {
    /// The mini-app itself.
    pub fn of(app: MiniAppId) -> ClientId {
        ClientId { app, backend: false }
    }

    /// Whether what `owner` was given may be used by this client: by itself, and what was given without a secret by who has
    /// shown it. Never the other way round, also when a mini-app's type has been changed since.
    pub fn may_use(&self, owner: &ClientId) -> bool {
        self.app == owner.app && (self.backend || !owner.backend)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.app)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_back_end_may_use_what_its_front_was_given_and_not_the_other_way_round() {
        let [shop, other] = ["ma_shop", "ma_other"].map(|app| ClientId::of(MiniAppId::parse(app).unwrap()));
        let backend = ClientId { backend: true, ..shop.clone() };
        assert!(shop.may_use(&shop) && backend.may_use(&backend) && backend.may_use(&shop));
        assert!(!shop.may_use(&backend) && !other.may_use(&shop) && !backend.may_use(&other));
    }
}
