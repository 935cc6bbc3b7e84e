//! The mini-apps that exist: those that the config names and those that commands have put into the store, as one.
//!
//! The config's own come with a revision and are part of it. The store's outlive revisions and change between them: they
//! lie behind one pointer, which [`crate::policy::apps`] moves, so that a look-up costs a load and no lock. Where both know an
//! id the config's is the mini-app. Whoever asks who a mini-app is asks here and sees both.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::fault::Fault;
use crate::config::MiniApp;
use crate::model::miniapp::ClientType;
use crate::model::oauth::BACKEND;
use crate::model::{MiniAppId, ScopeSet};

/// Mini-apps by id.
pub type MiniApps = BTreeMap<MiniAppId, Arc<MiniApp>>;

/// The store's mini-apps as this process knows them at the moment.
#[derive(Debug, Default)]
pub struct StoredApps(ArcSwap<Known>);

#[derive(Debug, Default)]
struct Known {
    apps: MiniApps,
    /// Whether the store has ever held one.
    begun: bool,
}

impl StoredApps {
    /// Puts these in place of those before. From then on there are mini-apps in the store, be it none.
    pub(in crate::policy) fn replace(&self, apps: MiniApps) {
        self.0.store(Arc::new(Known { apps, begun: true }));
    }

    /// The mini-app of that id.
    pub fn get(&self, id: &MiniAppId) -> Option<Arc<MiniApp>> {
        self.0.load().apps.get(id).cloned()
    }

    /// All of them.
    pub fn all(&self) -> MiniApps {
        self.0.load().apps.clone()
    }
}

/// The mini-apps under one config revision.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    named: Arc<MiniApps>,
    stored: Arc<StoredApps>,
}

impl Registry {
    /// A registry of the mini-apps that a config names and of those in the store. One that has never known any knows
    /// nobody and therefore confines nobody: a deployment whose tokens all come from elsewhere need not list mini-apps.
    pub fn new(named: MiniApps, stored: Arc<StoredApps>) -> Registry {
        Registry { named: Arc::new(named), stored }
    }

    /// The mini-app of that id.
    pub fn get(&self, id: &MiniAppId) -> Option<Arc<MiniApp>> {
        self.named.get(id).cloned().or_else(|| self.stored.get(id))
    }

    /// The mini-app that a client id stands for: its own, or that of the hybrid app whose back end it is. `None` when
    /// the name is no mini-app's.
    pub fn resolve(&self, client_id: &str) -> Option<MiniAppId> {
        let id = MiniAppId::parse(client_id).ok()?;
        if self.get(&id).is_some() {
            return Some(id);
        }
        let front = client_id.strip_suffix(BACKEND).and_then(|front| MiniAppId::parse(front).ok());
        let hybrid = |front: &MiniAppId| self.get(front).is_some_and(|app| app.client_type == ClientType::Hybrid);
        Some(front.filter(hybrid).unwrap_or(id))
    }

    /// The mini-app's entry, if there has to be one.
    pub(super) fn admit(&self, id: &MiniAppId) -> Result<Option<Arc<MiniApp>>, Fault> {
        match self.get(id) {
            Some(app) if app.suspended => Err(Fault::SuspendedApp),
            Some(app) => Ok(Some(app)),
            None if self.named.is_empty() && !self.stored.0.load().begun => Ok(None),
            None => Err(Fault::UnknownApp),
        }
    }
}

/// Scopes that a mini-app may hold: those it registered and those that every one has.
pub(super) fn registered(app: &MiniApp) -> ScopeSet {
    app.allowed_scopes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(id: &str, name: &str) -> (MiniAppId, Arc<MiniApp>) {
        let id = MiniAppId::parse(id).unwrap();
        (id.clone(), Arc::new(MiniApp { client_type: ClientType::Hybrid, ..MiniApp::new(id, name) }))
    }

    #[test]
    fn both_sources_are_one_and_the_config_wins() {
        let stored = Arc::new(StoredApps::default());
        let registry = Registry::new([app("ma_a", "config")].into(), stored.clone());
        let name = |text: &str| registry.get(&MiniAppId::parse(text).unwrap()).map(|app| app.name.clone());
        assert_eq!((name("ma_a").as_deref(), name("ma_b")), (Some("config"), None));
        stored.replace([app("ma_a", "store"), app("ma_b", "store")].into());
        assert_eq!((name("ma_a").as_deref(), name("ma_b").as_deref()), (Some("config"), Some("store")));
        assert_eq!(registry.resolve("ma_b_backend").unwrap().as_str(), "ma_b");
        stored.replace(MiniApps::new());
        assert_eq!((name("ma_a").as_deref(), name("ma_b")), (Some("config"), None));
    }

    #[test]
    fn whoever_has_never_listed_mini_apps_confines_nobody() {
        let stored = Arc::new(StoredApps::default());
        let registry = Registry::new(MiniApps::new(), stored.clone());
        let (id, _) = app("ma_a", "A");
        assert_eq!(registry.admit(&id), Ok(None));
        stored.replace(MiniApps::new());
        assert_eq!(registry.admit(&id), Err(Fault::UnknownApp), "the last one was removed, which lets nobody in");
    }
}
