//! What is being decided on, and what a decision sets off: the one place where the pages meet the OAuth server's memory.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config::MiniApp;
use crate::error::{Code, Refusal};
use crate::metrics::{OauthAnswer, OauthFlow};
use crate::model::oauth::device::Answer;
use crate::model::oauth::{Consent, Device, GrantId, UserCode};
use crate::model::{ScopeSet, UserId, wording};
use crate::operations::Services;
use crate::store::oauth::{Credential, Held, Kind};

/// A question that waits for an answer.
pub struct Question {
    app: Arc<MiniApp>,
    what: What,
}

enum What {
    Consent { session: Credential, held: Held<Consent> },
    Device { id: GrantId, held: Held<Device> },
}

/// A question that is put to a user who has proven who they are.
pub struct Asking {
    question: Question,
    user: UserId,
    new: ScopeSet,
    known: ScopeSet,
    target: Option<Url>,
}

impl Question {
    /// The question that `authorize` put.
    ///
    /// # Errors
    /// 404 when it is unknown, over or answered; 503 when the store does not say.
    pub async fn consent(services: &Services, session: &str) -> Result<Question, Refusal> {
        let session = Credential::parse(Kind::Consent, session).ok_or_else(over)?;
        let held = services.questions().get(&session).await?.ok_or_else(over)?;
        let app = services.active_app(&held.value.client.app).ok_or_else(over)?;
        // A code must not go where the mini-app has stopped listening since it asked.
        app.redirect_uri(&held.value.redirect).ok_or_else(over)?;
        Ok(Question { app, what: What::Consent { session, held } })
    }

    /// The question of the device that shows `typed`, if one waits for an answer.
    ///
    /// # Errors
    /// 503 when the store does not say.
    pub async fn device(services: &Services, typed: &str) -> Result<Option<Question>, Refusal> {
        let Some(code) = UserCode::parse(typed) else { return Ok(None) };
        let Some((id, held)) = services.devices().by_user_code(&code).await? else { return Ok(None) };
        if held.value.answer != Answer::Pending {
            return Ok(None);
        }
        let app = services.active_app(&held.value.client.app);
        Ok(app.map(|app| Question { app, what: What::Device { id, held } }))
    }

    /// Who asks.
    pub fn app(&self) -> &MiniApp {
        &self.app
    }

    /// Puts the question to a user, from now on to this one alone.
    ///
    /// # Errors
    /// 403 when it was put to somebody else; 503 when the store does not say.
    pub async fn for_user(self, services: &Services, user: UserId) -> Result<Asking, Refusal> {
        let Question { app, what } = self;
        let (what, asked, target) = match what {
            What::Consent { session, held } => {
                let ttl = services.config.oauth.session_ttl;
                let bound = services.questions().identify(&session, held, user.clone(), ttl).await?;
                let held = bound.ok_or_else(|| {
                    Refusal::new(Code::Forbidden, "Somebody else is answering this request.")
                        .inside("the consent session is bound to another user, or was answered meanwhile")
                })?;
                let target = Url::parse(held.value.redirect.as_str())
                    .map_err(|error| Refusal::internal(format!("a stored redirect URI: {error}")))?;
                let asked = held.value.scopes;
                (What::Consent { session, held }, asked, Some(target))
            }
            What::Device { id, held } => {
                let asked = held.value.scopes.difference(Device::NEVER);
                (What::Device { id, held }, asked, None)
            }
        };
        // What the mini-app gave up since it asked is not offered any more.
        let asked = asked.intersection(app.allowed_scopes());
        let approved = services.approvals().of(&user, &app.id).await?;
        let known = wording::unasked(asked, approved, app.preapproved_scopes);
        Ok(Asking { question: Question { app, what }, user, new: asked.difference(known), known, target })
    }
}

impl Asking {
    /// Who asks.
    pub fn app(&self) -> &MiniApp {
        self.question.app()
    }

    /// Who is asked.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// What the user has to decide on.
    pub fn new_scopes(&self) -> ScopeSet {
        self.new
    }

    /// What comes with it without asking.
    pub fn known_scopes(&self) -> ScopeSet {
        self.known
    }

    /// Whether a device asks.
    pub fn is_device(&self) -> bool {
        matches!(self.question.what, What::Device { .. })
    }

    /// Where the answer goes: the client's redirect URI, none for a device.
    pub fn target(&self) -> Option<&Url> {
        self.target.as_ref()
    }

    /// The user's yes, to `ticked` among the new scopes. Says where the browser goes with the code, if anywhere.
    ///
    /// The approvals are written first: they open nothing by themselves, and a grant without them would be asked about
    /// again.
    ///
    /// # Errors
    /// 404 when it was answered meanwhile; 503 when the store does not answer.
    pub async fn approve(self, services: &Services, ticked: ScopeSet) -> Result<Option<String>, Refusal> {
        let granted = ticked.intersection(self.new).union(self.known);
        if granted.difference(ScopeSet::UNASKED).is_empty() && !self.new.is_empty() {
            // Nothing was ticked: a yes to nothing is a no.
            return self.deny(services).await;
        }
        // What is taken back from here on, wherever that is, takes this yes along.
        services.revocations.look().await?;
        let (now, known) = (services.clock.unix(), services.verifier.revocations().known());
        let new = ticked.intersection(self.new);
        services.approvals().add(&self.user, &self.question.app.id, new, now.as_secs()).await?;
        let millis = millis(now);
        let flow = self.flow();
        let target = match self.question.what {
            What::Consent { session, held } => {
                let consent = held.value.clone();
                let ttl = services.config.oauth.code_ttl;
                let code = services.questions().approve(&session, held, granted, (millis, known), ttl).await?;
                let code = code.ok_or_else(over)?;
                Some(consent.address(services.config.issuer(), &[("code", code.expose())]))
            }
            What::Device { id, held } => {
                let approved = held.value.clone().approved(self.user, granted, millis, known).ok_or_else(over)?;
                let done = services.devices().change(id, &held, &approved, millis).await?;
                done.then_some(None).ok_or_else(over)?
            }
        };
        services.metrics.oauth_answers.inc(flow, OauthAnswer::Approved);
        Ok(target)
    }

    /// The user's no.
    ///
    /// # Errors
    /// As [`Asking::approve`].
    pub async fn deny(self, services: &Services) -> Result<Option<String>, Refusal> {
        let flow = self.flow();
        let target = match self.question.what {
            What::Consent { session, held } => {
                let done = services.questions().refuse(&session, &held).await?;
                let fault = [("error", "access_denied"), ("error_description", "The user said no.")];
                done.then(|| Some(held.value.address(services.config.issuer(), &fault))).ok_or_else(over)?
            }
            What::Device { id, held } => {
                let denied = held.value.clone().denied().ok_or_else(over)?;
                let done = services.devices().change(id, &held, &denied, millis(services.clock.unix())).await?;
                done.then_some(None).ok_or_else(over)?
            }
        };
        services.metrics.oauth_answers.inc(flow, OauthAnswer::Denied);
        Ok(target)
    }

    fn flow(&self) -> OauthFlow {
        if self.is_device() { OauthFlow::Device } else { OauthFlow::Code }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn over() -> Refusal {
    Refusal::new(Code::NotFound, "This request has expired, or has been answered already.")
}
