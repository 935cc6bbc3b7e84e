//! Who asks for tokens: a mini-app, or the back end of one that has both (protocol section 2).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::MiniAppId;

/// A hybrid mini-app's back end signs in under this name after its front's.
const BACKEND: &str = "_backend";

/// Whether a mini-app can keep a secret (RFC 6749 section 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientType {
    /// It cannot: it runs on the user's device alone. PKCE is all that binds its codes to it.
    #[default]
    Public,
    /// It can, and has to show it.
    Confidential,
    /// Its front cannot and its back end, `<id>_backend`, can. A code goes only to the half that asked for it.
    Hybrid,
}

impl ClientType {
    /// The name in configs, documents and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            ClientType::Public => "public",
            ClientType::Confidential => "confidential",
            ClientType::Hybrid => "hybrid",
        }
    }
}

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

    /// The mini-app that a name with the back end's ending would belong to.
    pub fn backend_of(name: &str) -> Option<MiniAppId> {
        name.strip_suffix(BACKEND).and_then(|front| MiniAppId::parse(front).ok())
    }

    /// Whether it has to show a secret.
    pub fn must_authenticate(&self, kind: ClientType) -> bool {
        match kind {
            ClientType::Public => false,
            ClientType::Confidential => true,
            ClientType::Hybrid => self.backend,
        }
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
