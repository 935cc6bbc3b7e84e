//! What operations work with, and the questions that several of them have.

use std::sync::Arc;
use std::time::Duration;

use super::resolve::Resolved;
use crate::clock::Clock;
use crate::config::{Config, MiniApp};
use crate::error::{Code, Refusal};
use crate::metrics::Metrics;
use crate::model::oauth::{Grant, GrantId};
use crate::model::{MiniAppId, UserId};
use crate::policy::authn::{RevocationFeed, Verifier};
use crate::policy::keyring::Keyring;
use crate::store::Backend;
use crate::store::oauth::{Approvals, Devices, Grants, Guesses, Questions, Visits};
use crate::upstream::homeserver::Homeserver;
use crate::upstream::identity::Identities;
use crate::upstream::wallet::Wallet;

/// What operations work with.
pub struct Services {
    /// The time.
    pub clock: Clock,
    /// The config in force.
    pub config: Arc<Config>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is remembered.
    pub store: Arc<dyn Backend>,
    /// Who is who: mini-apps, tokens, revocations.
    pub verifier: Verifier,
    /// Our signing keys.
    pub keyring: Arc<Keyring>,
    /// Where tokens are revoked.
    pub revocations: Arc<RevocationFeed>,
    /// The wallet, when the config names one.
    pub wallet: Option<Wallet>,
    /// The homeserver, when the config names one.
    pub homeserver: Option<Homeserver>,
    /// Whose Matrix access token is this, asked afresh; `None` when the config names nobody who would know.
    pub identities: Option<Identities>,
    /// Wallets that were resolved.
    pub resolved: Arc<Resolved>,
}

impl Services {
    /// The number of the last revocation, after a look at the log. To be asked before who is calling: what is given to them
    /// as of this number is void by whatever is revoked from here on.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn look(&self) -> Result<u64, Refusal> {
        self.revocations.look().await?;
        Ok(self.verifier.revocations().known())
    }

    /// The time, milliseconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        u64::try_from(self.clock.unix().as_millis()).unwrap_or(u64::MAX)
    }

    /// Authorization requests that wait for an answer.
    pub fn questions(&self) -> Questions {
        Questions::new(self.store.clone())
    }

    /// Devices that wait for an answer.
    pub fn devices(&self) -> Devices {
        Devices::new(self.store.clone())
    }

    /// Permissions in force.
    pub fn grants(&self) -> Grants {
        Grants::new(self.store.clone())
    }

    /// What users have approved.
    pub fn approvals(&self) -> Approvals {
        Approvals::new(self.store.clone())
    }

    /// Who sits at a browser.
    pub fn visits(&self) -> Visits {
        Visits::new(self.store.clone(), self.config.oauth.session_ttl)
    }

    /// User codes that chat apps sent.
    pub fn guesses(&self) -> Guesses {
        Guesses::new(self.store.clone())
    }

    /// A mini-app that is registered.
    pub fn app(&self, id: &MiniAppId) -> Option<Arc<MiniApp>> {
        self.verifier.registry().get(id)
    }

    /// A mini-app that is registered and not switched off.
    pub fn active_app(&self, id: &MiniAppId) -> Option<Arc<MiniApp>> {
        self.app(id).filter(|app| !app.suspended)
    }

    /// What is left of a grant after all that was taken back, as [`Revocations::left_of`] says.
    ///
    /// [`Revocations::left_of`]: crate::policy::authn::Revocations::left_of
    pub fn left_of(&self, id: GrantId, grant: &Grant) -> Option<Grant> {
        self.verifier.revocations().left_of(id, grant)
    }

    /// How long a grant lives on from `now` (milliseconds since the Unix epoch) if nothing is done with it.
    pub fn life(&self, grant: &Grant, now: u64) -> Duration {
        grant.life(self.config.oauth.code_ttl, self.config.tokens.refresh_ttl, now)
    }

    /// Whose Matrix access token it is now.
    ///
    /// # Errors
    /// As [`Identities::whose`]; 503 where nobody can be asked.
    pub async fn identify(&self, token: &str) -> Result<UserId, Refusal> {
        let Some(identities) = &self.identities else {
            return Err(Refusal::new(Code::ServiceUnavailable, "Matrix access tokens cannot be checked here.")
                .retry_after(60)
                .inside("no homeserver upstream and no authentication service is configured"));
        };
        identities.whose(token).await.map(|whoami| whoami.user)
    }
}
