//! What is being decided on, and what a decision sets off: the one place where the pages meet the OAuth server's memory.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config::MiniApp;
use crate::error::{Code, Refusal};
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

/// What became of a question.
pub enum Decided {
    /// Something was allowed. Where the browser goes with the code; nowhere for a device.
    Allowed(Option<String>),
    /// Nothing was.
    Refused(Option<String>),
}

impl Decided {
    /// Where the browser goes, if anywhere.
    pub fn target(self) -> Option<String> {
        match self {
            Decided::Allowed(target) | Decided::Refused(target) => target,
        }
    }
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

    /// A user at a browser says that it is somebody else who sits there: the question is no longer theirs.
    ///
    /// # Errors
    /// 503 when the store does not answer.
    pub async fn give_back(&self, services: &Services, user: &UserId) -> Result<(), Refusal> {
        if let What::Consent { session, .. } = &self.what {
            services.questions().release(session, user, services.config.oauth.session_ttl).await?;
        }
        Ok(())
    }

    /// Puts the question to a user.
    ///
    /// # Errors
    /// 403 when it is somebody else's; 503 when the store does not say.
    pub async fn for_user(self, services: &Services, user: UserId) -> Result<Asking, Refusal> {
        let Question { app, what } = self;
        let (what, asked, target) = match what {
            What::Consent { session, held } => {
                if held.value.user.as_ref().is_some_and(|bound| *bound != user) {
                    return Err(anothers());
                }
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

    /// Makes the question its user's, whom nobody answers for from then on: whoever got to know its address could
    /// answer it as somebody else, and have the mini-app act on another account than its user thinks. In a browser it is
    /// theirs as soon as they see it; a chat app, where one may change the account, makes it theirs by answering.
    ///
    /// # Errors
    /// 403 when it is somebody else's, 404 when it was answered meanwhile; 503 when the store does not answer.
    pub async fn hold(self, services: &Services) -> Result<Asking, Refusal> {
        let Asking { question: Question { app, what }, user, new, known, target } = self;
        let what = match what {
            What::Consent { session, held } => {
                let (questions, ttl) = (services.questions(), services.config.oauth.session_ttl);
                match questions.identify(&session, held, user.clone(), ttl).await? {
                    Some(held) => What::Consent { session, held },
                    None if questions.get(&session).await?.is_some() => return Err(anothers()),
                    None => return Err(over()),
                }
            }
            device @ What::Device { .. } => device,
        };
        Ok(Asking { question: Question { app, what }, user, new, known, target })
    }

    /// Whether a device asks.
    pub fn is_device(&self) -> bool {
        matches!(self.question.what, What::Device { .. })
    }

    /// Where the answer goes: the client's redirect URI, none for a device.
    pub fn target(&self) -> Option<&Url> {
        self.target.as_ref()
    }

    /// The user's yes, to `ticked` among the new scopes. A yes to nothing is a no.
    ///
    /// What was approved is written last, so that nothing is remembered of an answer that did not count. A failure to do
    /// so changes nothing of the answer: the user is asked again next time.
    ///
    /// # Errors
    /// 404 when it was answered meanwhile; 503 when the store does not answer.
    pub async fn approve(self, services: &Services, ticked: ScopeSet) -> Result<Decided, Refusal> {
        let granted = ticked.intersection(self.new).union(self.known);
        if granted.difference(ScopeSet::UNASKED).is_empty() && !self.new.is_empty() {
            return self.deny(services).await;
        }
        let now = services.clock.unix();
        let millis = millis(now);
        let target = match self.question.what {
            What::Consent { session, held } => {
                let consent = held.value.clone();
                let ttl = services.config.oauth.code_ttl;
                let code = services.questions().approve(&session, held, granted, millis, ttl).await?;
                let code = code.ok_or_else(over)?;
                Some(consent.address(services.config.issuer(), &[("code", code.expose())]))
            }
            What::Device { id, held } => {
                let yes = |device: Device| device.approved(self.user.clone(), granted, millis);
                settle(services, id, held, yes).await?;
                None
            }
        };
        let (app, new) = (&self.question.app.id, ticked.intersection(self.new));
        if let Err(error) = services.approvals().add(&self.user, app, new, now.as_secs()).await {
            log::error!("what was approved for {app} is not remembered: {error}");
        }
        Ok(Decided::Allowed(target))
    }

    /// The user's no.
    ///
    /// # Errors
    /// As [`Asking::approve`].
    pub async fn deny(self, services: &Services) -> Result<Decided, Refusal> {
        match self.question.what {
            What::Consent { session, held } => {
                let done = services.questions().refuse(&session, &held).await?;
                let fault = [("error", "access_denied"), ("error_description", "The user said no.")];
                let target = || Some(held.value.address(services.config.issuer(), &fault));
                done.then(target).map(Decided::Refused).ok_or_else(over)
            }
            What::Device { id, held } => {
                settle(services, id, held, Device::denied).await?;
                Ok(Decided::Refused(None))
            }
        }
    }
}

/// Writes the user's answer to a device down. The device asks all the while, and each of its questions changes what is
/// stored of it; only another answer stands in the way of this one.
async fn settle(
    services: &Services,
    id: GrantId,
    mut held: Held<Device>,
    answered: impl Fn(Device) -> Option<Device>,
) -> Result<(), Refusal> {
    loop {
        let changed = answered(held.value.clone()).ok_or_else(over)?;
        if services.devices().change(id, &held, &changed, millis(services.clock.unix())).await? {
            return Ok(());
        }
        let waits = services.devices().get(id).await?;
        held = waits.filter(|now| now.value.hash == changed.hash).ok_or_else(over)?;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn anothers() -> Refusal {
    Refusal::new(Code::Forbidden, "Somebody else is answering this request.")
        .inside("the consent session is bound to another user")
}

fn over() -> Refusal {
    Refusal::new(Code::NotFound, "This request has expired, or has been answered already.")
}
