//! What the admin address looks at and changes besides the edge itself: the store, and what keeps in step with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::model::Issuers;
use crate::model::miniapp::ClientType;
use crate::model::oauth::{BACKEND, ClientId};
use crate::policy::apps::AppFeed;
use crate::policy::apps::registrar::Registrar;
use crate::policy::authn::{MiniApps, RevocationFeed};
use crate::policy::keyring::Keyring;
use crate::store::Backend;
use crate::store::apps::AppStore;
use crate::store::audit::AuditLog;
use crate::store::oauth::Grants;

/// What is remembered, as of the revision in force. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Records {
    /// The store.
    pub store: Arc<dyn Backend>,
    /// The time.
    pub clock: Clock,
    /// How long audit lines are kept.
    pub audit_retention: Duration,
    /// What has been revoked, and where more is.
    pub revocations: Arc<RevocationFeed>,
    /// Our own signing keys.
    pub keyring: Arc<Keyring>,
    /// The mini-apps in the store, as this edge knows them.
    pub apps: Arc<AppFeed>,
    /// The mini-apps that the config names, and the file that they stand in.
    pub named: (MiniApps, Option<PathBuf>),
    /// Whose tokens are taken.
    pub issuers: Issuers,
}

impl Records {
    /// Who changed what.
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.store.clone(), self.clock.clone(), self.audit_retention)
    }

    /// The mini-apps in the store.
    pub fn app_store(&self) -> AppStore {
        AppStore::new(self.store.clone())
    }

    /// Who changes them.
    pub fn registrar(&self) -> Registrar {
        let log = self.revocations.log().clone();
        Registrar::new(self.app_store(), log, self.keyring.clone(), self.clock.clone(), self.named.clone())
    }

    /// What a client goes by: the mini-app, or the back end of one that has a front, too.
    pub fn client_name(&self, client: &ClientId) -> String {
        let app = self.named.0.get(&client.app).cloned().or_else(|| self.apps.get(&client.app));
        let hybrid = app.is_some_and(|app| app.client_type == ClientType::Hybrid);
        if client.backend && hybrid { format!("{client}{BACKEND}") } else { client.to_string() }
    }

    /// What users have permitted.
    pub fn grants(&self) -> Grants {
        Grants::new(self.store.clone())
    }
}
