//! The seam: where buckets live.
//!
//! An engine is asked with everything that it takes to decide: the policies with their arithmetic and their rule for a
//! store that does not answer, whose bucket, and how many tokens. It decides over all of them at once, because "all or
//! none" cannot be put together from single answers without handing tokens back.
//!
//! The answer comes as [`Taken`]: at once where the buckets are at hand, so that a limit in process costs no more than
//! its arithmetic; later where somebody else has to be asked. Tokens held on behalf of a shared store are at
//! hand, too, so such an engine answers at once most of the time, and waits only where exactness needs it.

use futures::future::BoxFuture;
use smallvec::SmallVec;

use super::key::LimitKey;
use super::policies::Policy;
use super::rule::{Standing, Wait};
use crate::clock::Tick;
use crate::store::StoreError;

/// Tokens asked of one bucket.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// Under which policy.
    pub policy: &'a Policy,
    /// Whose.
    pub key: LimitKey,
    /// How many.
    pub cost: u32,
}

/// The answer to a call's charges.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether the call may proceed: no policy objects that is not report-only.
    pub admitted: bool,
    /// How each charge stands, in the order asked. Report-only policies that object have [`Standing::wait`] set though
    /// the call is admitted; they gave no tokens.
    pub standings: SmallVec<[Standing; 2]>,
    /// Refused for no other reason than that the store does not answer and a policy is closed then.
    pub lost: bool,
}

impl Outcome {
    /// Whether the standings let a call through.
    pub fn admits(charges: &[Charge<'_>], standings: &[Standing]) -> bool {
        charges.iter().zip(standings).all(|(charge, standing)| charge.policy.report_only || standing.wait == Wait::No)
    }

    /// What came of asking for a [mark](Policy::mark)'s only token: it stands until the token is back.
    pub(super) fn mark(&self) -> Marked {
        let wait = match self.standings.first() {
            Some(standing) if standing.wait == Wait::No => Wait::Nanos(standing.full_in),
            Some(standing) => standing.wait,
            None => Wait::No,
        };
        Marked { new: self.admitted, wait }
    }
}

/// An answer, or the promise of one.
pub enum Answer<T> {
    /// Decided.
    Now(T),
    /// Somebody has to be asked first. Dropping it leaves no tokens taken that are not handed back or void in time.
    Later(BoxFuture<'static, T>),
}

impl<T> Answer<T> {
    /// The answer, once it is there.
    pub async fn get(self) -> T {
        match self {
            Answer::Now(answer) => answer,
            Answer::Later(answer) => answer.await,
        }
    }
}

/// What came of asking for tokens.
pub type Taken = Answer<Outcome>;

/// A mark that a key bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Whether it was set by this call; otherwise the key bore it already.
    pub new: bool,
    /// For how long.
    pub wait: Wait,
}

/// A place where buckets live.
pub trait Engine: Send + Sync {
    /// Takes what is asked from all buckets, or from none.
    ///
    /// When any policy objects that is not report-only, no bucket changes, and standings are those before the call.
    /// Otherwise every bucket of a policy that does not object has given its tokens.
    fn take(&self, now: Tick, charges: &[Charge<'_>]) -> Taken;

    /// Whether a key bears a [mark](Policy::mark), and for how long; nothing is taken. What another instance has set is seen
    /// within a second. When nobody can tell, what this instance knows holds.
    fn marked(&self, now: Tick, mark: &Policy, key: LimitKey) -> Answer<Wait>;

    /// Marks a key, unless it bears the mark. From now on it does, here at once and, as soon as they can be told, at
    /// every instance.
    fn set_mark(&self, now: Tick, mark: &Policy, key: LimitKey) -> Answer<Marked>;

    /// How a key stands, if it asked for one token; nothing is taken. For operators: it asks wherever the bucket is.
    fn look_at<'a>(
        &'a self,
        now: Tick,
        policy: &'a Policy,
        key: LimitKey,
    ) -> BoxFuture<'a, Result<Standing, StoreError>>;

    /// Forgets what a key has used, at every instance.
    fn reset<'a>(&'a self, policy: &'a Policy, key: LimitKey) -> BoxFuture<'a, Result<(), StoreError>>;
}
