//! The mini-apps that exist, as far as tokens and clients are concerned.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::Fault;
use crate::config::MiniApp;
use crate::model::miniapp::ClientType;
use crate::model::{MiniAppId, ScopeSet};

/// A hybrid app's back end signs in as `<id>_backend` and acts for the mini-app.
const BACKEND: &str = "_backend";

/// The registered mini-apps of one config revision.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    apps: BTreeMap<MiniAppId, Arc<MiniApp>>,
}

impl Registry {
    /// A registry of these mini-apps. An empty one knows nobody and therefore confines nobody: a deployment whose
    /// tokens all come from elsewhere need not list mini-apps.
    pub fn new(apps: BTreeMap<MiniAppId, Arc<MiniApp>>) -> Registry {
        Registry { apps }
    }

    /// The mini-app of that id.
    pub fn get(&self, id: &MiniAppId) -> Option<&Arc<MiniApp>> {
        self.apps.get(id)
    }

    /// The mini-app that a client id stands for: its own, or that of the hybrid app whose back end it is. `None` when
    /// the name is no mini-app's.
    pub fn resolve(&self, client_id: &str) -> Option<MiniAppId> {
        let id = MiniAppId::parse(client_id).ok()?;
        if self.apps.contains_key(&id) {
            return Some(id);
        }
        let front = client_id.strip_suffix(BACKEND).and_then(|front| MiniAppId::parse(front).ok());
        let hybrid = |front: &MiniAppId| self.apps.get(front).is_some_and(|app| app.client_type == ClientType::Hybrid);
        Some(front.filter(hybrid).unwrap_or(id))
    }

    /// The mini-app's entry, if there has to be one.
    pub(super) fn admit(&self, id: &MiniAppId) -> Result<Option<&Arc<MiniApp>>, Fault> {
        match self.apps.get(id) {
            Some(app) if app.suspended => Err(Fault::SuspendedApp),
            Some(app) => Ok(Some(app)),
            None if self.apps.is_empty() => Ok(None),
            None => Err(Fault::UnknownApp),
        }
    }
}

/// Scopes that a mini-app may hold: those it registered and those that every one has.
pub(super) fn registered(app: &MiniApp) -> ScopeSet {
    app.allowed_scopes()
}
