//! What is being decided on, and what a decision sets off: the one place where the pages meet the OAuth server's memory.
//!
//! A browser drops the answer to a button that is pressed again. So for as long as a code lives, and nobody has redeemed
//! it, whoever said yes to a question or no is told once more where that leads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use url::Url;

use crate::config::MiniApp;
use crate::error::{Code, Refusal};
use crate::metrics::{OauthAnswer, OauthFlow};
use crate::model::oauth::device::Answer;
use crate::model::oauth::{Consent, Device, Grant, GrantId, UserCode};
use crate::model::{MiniAppId, ScopeSet, UserId, wording};
use crate::operations::Services;
use crate::store::oauth::{Credential, Held, Kind};

/// What buttons and chat apps say for yes.
pub const YES: &str = "approve";
/// And for no.
pub const NO: &str = "deny";
/// What is sealed as an answer that may be asked for again.
const TOLD: &str = "consent answer";

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
    /// The question that `authorize` put, unless it is unknown, over or answered.
    ///
    /// # Errors
    /// 503 when the store does not say.
    pub async fn consent(services: &Services, session: &str) -> Result<Option<Question>, Refusal> {
        let Some(session) = Credential::parse(Kind::Consent, session) else { return Ok(None) };
        let Some(held) = services.questions().get(&session).await? else { return Ok(None) };
        let app = services.active_app(&held.value.client.app);
        // A code must not go where the mini-app has stopped listening since it asked.
        let app = app.filter(|app| app.redirect_uri(&held.value.redirect).is_some());
        Ok(app.map(|app| Question { app, what: What::Consent { session, held } }))
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

    /// The user's yes, to `ticked` among the new scopes, and to what comes without asking but for `unticked`: what was new
    /// when it was shown and has been allowed elsewhere since. A yes to nothing is a no. `known`: the last revocation before
    /// it was found out who says so; what is taken back after it, wherever that is, takes this yes along.
    ///
    /// What was approved is written last, so that nothing is remembered of an answer that did not count. A failure to do
    /// so changes nothing of the answer: the user is asked again next time.
    ///
    /// # Errors
    /// 404 when it was answered meanwhile; 503 when the store does not answer.
    pub async fn approve(
        self,
        services: &Services,
        (ticked, unticked): (ScopeSet, ScopeSet),
        known: u64,
    ) -> Result<Decided, Refusal> {
        let now = services.clock.unix();
        let app = self.question.app();
        let approved = services.approvals().of(&self.user, &app.id).await?;
        // What was taken back before that is no longer among them.
        let unasked = wording::unasked(self.known, approved, app.preapproved_scopes).difference(unticked);
        let granted = ticked.intersection(self.new).union(unasked);
        let asked = self.new.union(self.known);
        if granted.difference(ScopeSet::UNASKED).is_empty() && !asked.difference(ScopeSet::UNASKED).is_empty() {
            return self.refuse(services, YES).await;
        }
        let millis = millis(now);
        let flow = self.flow();
        let target = match self.question.what {
            What::Consent { session, held } => {
                let code = Credential::another(Kind::Code, session.grant())?;
                let target = held.value.address(services.config.issuer(), &[("code", code.expose())]);
                let kept = seal(services, &session, &self.user, YES, &target)?;
                let (granted, ttl) = ((granted, &code), services.config.oauth.code_ttl);
                if !services.questions().approve(&session, held, granted, kept, (millis, known), ttl).await? {
                    return told_before(services, &session, &self.user, YES).await;
                }
                Some(target)
            }
            What::Device { id, held } => {
                let yes = |device: Device| device.approved(self.user.clone(), granted, millis, known);
                settle(services, id, held, yes).await?;
                None
            }
        };
        services.metrics.oauth_answers.inc(flow, OauthAnswer::Approved);
        let (app, new) = (&self.question.app.id, ticked.intersection(self.new));
        if let Err(refusal) = remember(services, &self.user, app, new, (now.as_secs(), known)).await {
            log::error!("what was approved for {app} is not remembered: {refusal}");
        }
        Ok(Decided::Allowed(target))
    }

    /// The user's no.
    ///
    /// # Errors
    /// As [`Asking::approve`].
    pub async fn deny(self, services: &Services) -> Result<Decided, Refusal> {
        self.refuse(services, NO).await
    }

    async fn refuse(self, services: &Services, said: &str) -> Result<Decided, Refusal> {
        let flow = self.flow();
        let target = match self.question.what {
            What::Consent { session, held } => {
                let fault = [("error", "access_denied"), ("error_description", "The user said no.")];
                let target = held.value.address(services.config.issuer(), &fault);
                let kept = seal(services, &session, &self.user, said, &target)?;
                let ttl = services.config.oauth.code_ttl;
                if !services.questions().refuse(&session, &held, kept, ttl).await? {
                    return told_before(services, &session, &self.user, said).await;
                }
                Some(target)
            }
            What::Device { id, held } => {
                settle(services, id, held, Device::denied).await?;
                None
            }
        };
        services.metrics.oauth_answers.inc(flow, OauthAnswer::Denied);
        Ok(Decided::Refused(target))
    }

    fn flow(&self) -> OauthFlow {
        if self.is_device() { OauthFlow::Device } else { OauthFlow::Code }
    }
}

/// Remembers what was approved at `now` (seconds since the Unix epoch), unless it has been withdrawn since `known` was the
/// last revocation: a withdrawal revokes before it looks for approvals, so one that missed these is seen here.
async fn remember(
    services: &Services,
    user: &UserId,
    app: &MiniAppId,
    new: ScopeSet,
    (now, known): (u64, u64),
) -> Result<(), Refusal> {
    services.approvals().add(user, app, new, now).await?;
    services.revocations.look().await?;
    let taken =
        services.verifier.revocations().taken_back(user, app, known).map_or(new, |taken| taken.intersection(new));
    if !taken.is_empty() {
        services.approvals().remove(user, app, taken).await?;
    }
    Ok(())
}

/// What `user` was told who has said this, [`YES`] or [`NO`], to the question of `session`.
///
/// # Errors
/// 404 when they have not, or a code has been redeemed since; 503 when the store does not say.
pub async fn again(services: &Services, session: &str, user: &UserId, said: &str) -> Result<Decided, Refusal> {
    let session = Credential::parse(Kind::Consent, session).ok_or_else(over)?;
    told_before(services, &session, user, said).await
}

async fn told_before(services: &Services, session: &Credential, user: &UserId, said: &str) -> Result<Decided, Refusal> {
    let kept = services.questions().told(session).await?.ok_or_else(over)?;
    let opened = std::str::from_utf8(&kept)
        .ok()
        .and_then(|kept| services.keyring.sealer().open(TOLD, &whose(session, user, said), kept).ok());
    let target = opened.and_then(|target| String::from_utf8(target.to_vec()).ok()).ok_or_else(over)?;
    match services.grants().get(session.grant()).await? {
        // A second use of its code would end the grant.
        Some(held) if held.value.family.is_some() => Err(over()),
        Some(held) if services.left_of(session.grant(), &held.value).is_none() => Err(over()),
        Some(held) if !listens(services, &held.value) => Err(over()),
        Some(_) => Ok(Decided::Allowed(Some(target))),
        None => Ok(Decided::Refused(Some(target))),
    }
}

/// Whether the mini-app still takes codes where this one was sent.
fn listens(services: &Services, grant: &Grant) -> bool {
    let app = services.active_app(&grant.client.app);
    let sent = grant.code.as_ref().map(|code| code.redirect.as_str());
    app.zip(sent).is_some_and(|(app, sent)| app.redirect_uri(sent).is_some())
}

fn seal(services: &Services, session: &Credential, user: &UserId, said: &str, told: &str) -> Result<Bytes, Refusal> {
    let sealed = services.keyring.sealer().seal(TOLD, &whose(session, user, said), told.as_bytes());
    sealed.map(Bytes::from).map_err(|error| Refusal::internal(error.to_string()))
}

/// Nobody else, and nobody who says something else, is told.
fn whose(session: &Credential, user: &UserId, said: &str) -> String {
    format!("{}/{}/{said}/{user}", session.grant(), session.hash())
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

/// A question that is unknown, over or answered.
pub fn over() -> Refusal {
    Refusal::new(Code::NotFound, "This request has expired, or has been answered already.")
}
