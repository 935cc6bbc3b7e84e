//! May this request proceed?
//!
//! [`Policy::admit`] is the answer: straight-line code that returns a [`Permit`] or says why not. Only it can make a
//! permit, and nothing is answered or forwarded without one, so a check cannot be forgotten by whoever comes after.
//!
//! | file | decides |
//! |---|---|
//! | `guard` | is this address flooding us, or guessing credentials? |
//! | `path`, `route`, `trie` | which operation is it, in the one reading that the path has? |
//! | `authn`, `keyring`, `issuers`, `whoami` | who is calling? |
//! | `apps` | which mini-apps does the store know? |
//! | `authz` | may the caller do this? |
//! | `lockout` | has the caller gone too far? |
//! | `rate_limit`, `limits`, `polls` | may the caller do it now? |
//! | `validate`, `json`, `sanitize`, `schema` | is the request what the operation takes? |

pub mod apps;
pub mod authn;
pub mod authz;
mod build;
mod count;
pub mod guard;
pub mod issuers;
pub mod json;
pub mod keyring;
mod limits;
pub mod lockout;
pub mod path;
mod polls;
pub mod rate_limit;
pub mod route;
pub mod sanitize;
pub mod schema;
mod trie;
pub mod validate;
pub mod whoami;

use std::future::Future;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::clock::{Clock, Tick};
use crate::error::{Code, Refusal};
use crate::metrics::Metrics;
use crate::model::Operation;
use crate::model::rows::Auth;
use crate::store::oauth::Devices;
use authn::{Authn, Caller};
pub use build::Ingredients;
use guard::PeerGuard;
pub use limits::RouteLimit;
use limits::batch_size;
use lockout::Lockouts;
use path::PathView;
use polls::Poll;
use rate_limit::{LimitKey, Limiter, Report};
use route::{Route, RouteTable};
pub use validate::Form;
use validate::{BodyPlan, Length, Reading, Validator, is_heavy};

/// A request as the policy sees it: its head, and a body that is read only once everything else is settled.
pub trait Exchange: Send {
    /// The request's head.
    fn head(&self) -> &http::request::Parts;

    /// The body, at most `cap` bytes: 413 beyond, 408 when it does not come in time, 503 when there is no room.
    fn read_body(&mut self, cap: usize) -> impl Future<Output = Result<Bytes, Refusal>> + Send;
}

/// What has been found out about a request so far; also what a refused one leaves behind for its answer and its log line.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// The route and its number in the table.
    pub route: Option<(Arc<Route>, usize)>,
    /// Which of the route's patterns matched.
    pub pattern: Option<Arc<str>>,
    /// Where the pattern's parameters stand in the raw path, in order.
    pub params: SmallVec<[Range<usize>; 2]>,
    /// Who is calling.
    pub caller: Caller,
    /// How the caller stands with its limits.
    pub limit: Option<Report>,
}

impl Trail {
    /// The operation, [`Operation::Unmatched`] as long as no route is known.
    pub fn operation(&self) -> Operation {
        self.route.as_ref().map_or(Operation::Unmatched, |(route, _)| route.operation)
    }
}

/// Leave to proceed. Made by [`Policy::admit`] and by nobody else.
#[derive(Debug)]
pub struct Permit {
    route: Arc<Route>,
    body: Option<Bytes>,
}

impl Permit {
    /// The route.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// The body as it may be passed on, when the route's rule had it read: checked, sanitised.
    pub fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }

    /// Takes the body out.
    pub fn take_body(&mut self) -> Option<Bytes> {
        self.body.take()
    }
}

/// The rules of one config revision.
pub struct Policy {
    /// The routes.
    pub table: RouteTable,
    /// Who is who.
    pub authn: Authn,
    /// How much is too much.
    pub limiter: Limiter,
    /// Who has gone too far, where the config asks for it.
    pub lockouts: Option<Lockouts>,
    /// What a request may look like.
    pub validator: Arc<Validator>,
    /// The guard at the door.
    pub guard: PeerGuard,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The limit policies of each route, by its number.
    pub limits: Vec<SmallVec<[RouteLimit; 2]>>,
    /// The limit of servers that look at tokens, in place of their route's.
    pub introspection: Vec<RouteLimit>,
    /// Devices that ask for their tokens.
    pub devices: Devices,
}

impl Policy {
    /// The brief's pipeline (3.2) on one screen. `trail` is filled as far as the request gets.
    pub async fn admit<X: Exchange>(
        &self,
        request: &mut X,
        client: IpAddr,
        trail: &mut Trail,
    ) -> Result<Permit, Refusal> {
        // Before anything is parsed: an address that floods us or guesses credentials gets no work done.
        let (now, unix) = (self.clock.tick(), self.clock.unix_secs());
        let peer = LimitKey::ip(client);
        self.guard.check(peer, now)?;

        let route = self.find_route(request.head(), trail)?;

        if route.auth == Auth::OauthClient {
            return Box::pin(self.admit_client(request, client, trail, route)).await;
        }

        // A credential that fails costs its address a token of a bucket of its own.
        let head = request.head();
        trail.caller = match self.authn.authenticate(route.auth, &head.headers, head.uri.query(), unix).await {
            Ok(caller) => caller,
            Err(refusal) => {
                // A wrong hs_token is 403 on Matrix paths; elsewhere that code says who one is, not that one lied.
                let guessed = route.auth == Auth::Homeserver && refusal.code() == Code::Forbidden;
                if guessed || refusal.code() == Code::InvalidToken {
                    self.guard.failed_auth(peer, now);
                }
                return Err(refusal);
            }
        };
        // Authenticating may have taken its time, and what follows goes by the present.
        let moment = (self.clock.tick(), self.clock.unix_secs());
        self.let_in(trail, moment).await?;

        if let Some(held) = trail.caller.scopes() {
            authz::check(&route.scopes, held)?;
            count::scopes(&self.metrics, &route.scopes, held);
        }
        let by_token = matches!(trail.caller, Caller::Tep(_));
        authz::money(&route, by_token, self.authn.verifier().revocations(), self.clock.tick())?;

        // A batch costs as many calls as it holds; how many that is only its body can tell, so it is read first.
        let batch = route.operation == Operation::WalletResolveBatch;
        if !batch {
            self.limit(client, trail, 1).await?;
        }

        let head = request.head();
        let length = Length::of(head.version, &head.headers)?;
        let plan = self.validator.head(route.body, &head.method, &head.headers, length);
        let body = match count::refused_body(&self.metrics, plan)? {
            BodyPlan::None | BodyPlan::Stream => None,
            BodyPlan::Read(reading) => Some(Box::pin(self.judge_body(request, &route, &reading)).await?),
        };
        if body.is_some() {
            self.look_again(&route, &trail.caller)?;
        }
        if batch {
            self.limit(client, trail, body.as_deref().map_or(1, batch_size)).await?;
        }
        Ok(Permit { route, body })
    }

    /// A body may take a minute to come: what was revoked or called off meanwhile is not passed on.
    fn look_again(&self, route: &Route, caller: &Caller) -> Result<(), Refusal> {
        let verifier = self.authn.verifier();
        let token = if let Caller::Tep(token) = caller { Some(token) } else { None };
        if let Some(token) = token {
            verifier.confirm(token)?;
        }
        authz::money(route, token.is_some(), verifier.revocations(), self.clock.tick())
    }

    /// The second kind of row: the body says who is calling, so it is read, bounded, before anything is known. Addresses
    /// that guess have been turned away before; whoever authenticates draws on a bucket of its own, and what is
    /// refused before it is known who sent it, on its address's.
    async fn admit_client<X: Exchange>(
        &self,
        request: &mut X,
        client: IpAddr,
        trail: &mut Trail,
        route: Arc<Route>,
    ) -> Result<Permit, Refusal> {
        let read = self.read_client(request, client, trail, &route).await;
        let (body, form) = match read {
            Ok(read) => read,
            Err(refusal) => {
                self.limit(client, trail, 1).await?;
                return Err(refusal);
            }
        };
        self.let_in(trail, (self.clock.tick(), self.clock.unix_secs())).await?;
        let now = u64::try_from(self.clock.unix().as_millis()).unwrap_or(u64::MAX);
        let poll = Poll::of(&self.devices, route.operation, &trail.caller, &form, now).await?;
        if poll != Poll::OnTime {
            self.limit(client, trail, 1).await.map_err(|refusal| poll.refused(refusal))?;
        }
        Ok(Permit { route, body: Some(body) })
    }

    /// Reads who is calling, and with what.
    async fn read_client<X: Exchange>(
        &self,
        request: &mut X,
        client: IpAddr,
        trail: &mut Trail,
        route: &Route,
    ) -> Result<(Bytes, Form), Refusal> {
        let head = request.head();
        let length = Length::of(head.version, &head.headers)?;
        let plan = self.validator.head(route.body, &head.method, &head.headers, length);
        let body = match count::refused_body(&self.metrics, plan)? {
            BodyPlan::None | BodyPlan::Stream => Bytes::new(),
            BodyPlan::Read(reading) => self.judge_body(request, route, &reading).await?,
        };
        let form = Form::parse(&body)?;
        trail.caller = match self.authn.client_of(&request.head().headers, &form, route.operation) {
            Ok(caller) => caller,
            Err(refusal) => {
                if refusal.code() == Code::InvalidToken {
                    self.guard.failed_auth(LimitKey::ip(client), self.clock.tick());
                }
                return Err(refusal);
            }
        };
        Ok((body, form))
    }

    /// Refuses callers that are kept out. Before anything else is done for them, so that all they cost is the look.
    async fn let_in(&self, trail: &Trail, moment: (Tick, u64)) -> Result<(), Refusal> {
        match &self.lockouts {
            Some(lockouts) => Box::pin(lockouts.check(&trail.caller, trail.operation(), moment)).await,
            None => Ok(()),
        }
    }

    /// Takes note of what the wallet answered to a call that it refused: payments that keep failing lock.
    pub async fn refused_by_wallet(&self, trail: &Trail, code: Code) {
        if let Some(lockouts) = &self.lockouts {
            lockouts.refused_by_wallet(&trail.caller, trail.operation(), code, self.clock.tick()).await;
        }
    }

    /// Reads the body and judges it whole. A large one is judged on a thread that may be kept busy.
    async fn judge_body<X: Exchange>(
        &self,
        request: &mut X,
        route: &Route,
        reading: &Reading,
    ) -> Result<Bytes, Refusal> {
        let over = |refusal: Refusal| if refusal.code() == Code::PayloadTooLarge { reading.over() } else { refusal };
        let read = count::refused_body(&self.metrics, request.read_body(reading.cap).await.map_err(over))?;
        let judged = if is_heavy(read.len()) {
            let (validator, reading, fields) = (self.validator.clone(), *reading, route.text_fields);
            let bytes = read.clone();
            let judge = move || validator.body(&reading, fields, bytes);
            tokio::task::spawn_blocking(judge).await.map_err(|error| Refusal::internal(error.to_string()))?
        } else {
            self.validator.body(reading, route.text_fields, read.clone())
        };
        let judged = count::refused_body(&self.metrics, judged)?;
        // What sanitising leaves alone comes back as the very same bytes.
        if judged.as_ptr() != read.as_ptr() {
            self.metrics.bodies_sanitised.inc();
        }
        Ok(judged)
    }

    fn find_route(&self, head: &http::request::Parts, trail: &mut Trail) -> Result<Arc<Route>, Refusal> {
        let path = PathView::parse(head.uri.path())?;
        let matched = self.table.find(&head.method, &path)?;
        trail.route = Some((matched.route.clone(), matched.index));
        trail.pattern = Some(matched.pattern.clone());
        trail.params = matched.params.into_iter().map(|(_, range)| range).collect();
        Ok(matched.route.clone())
    }
}
