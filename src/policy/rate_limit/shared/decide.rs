//! A call's outcome, put together from what its buckets say: all of its tokens or none.
//!
//! Whatever a bucket has given goes back unless the call is let through: a refusal by another limit, a store that stops
//! answering and a client that hangs up take nothing.

use std::sync::Arc;

use futures::future::join_all;
use smallvec::SmallVec;
use tokio::runtime::Handle;

use super::ask::Why;
use super::claims::{Bucket, Claims};
use super::hold::Origin;
use super::without::Alone;
use super::{Charge, Outcome, Shared, Standing, Taken, Wait};
use crate::clock::Tick;
use crate::metrics::LimitAnswer;

/// What is said of a bucket of which nothing is known.
const UNKNOWN: Standing = Standing { remaining: 0, wait: Wait::No, full_in: 0 };

/// A bucket's answer to a call. The tokens in it go back when it is dropped, unless they are [kept](Given::keep).
pub(super) struct Given {
    shared: Arc<Shared>,
    bucket: Bucket,
    pub standing: Standing,
    origin: Origin,
}

impl Given {
    pub fn new(shared: Arc<Shared>, bucket: Bucket, (standing, origin): (Standing, Origin)) -> Given {
        Given { shared, bucket, standing, origin }
    }

    /// The call is let through.
    fn keep(mut self) {
        self.bucket.cost = 0;
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if self.standing.wait == Wait::No {
            self.shared.hand_back(&self.bucket, self.bucket.cost, self.origin);
        }
    }
}

/// What is known of a call's buckets without asking.
type Known = SmallVec<[Option<(Standing, Origin)>; 2]>;
/// What has been said of a call's buckets.
type Said = SmallVec<[Option<Standing>; 2]>;

impl Shared {
    pub(super) fn decide_on(&self, now: Tick, charges: &[Charge<'_>]) -> Taken {
        let claims = Claims::new(charges);
        let all_up = self.is_up();
        // What is known here holds, whether or not there is somebody to ask.
        let known: Known = claims.buckets.iter().map(|bucket| self.known(bucket, now, all_up)).collect();
        let said: Said = known.iter().map(|known| known.map(|(standing, _)| standing)).collect();
        let refused = claims.buckets.iter().zip(&said).any(|(bucket, said)| bucket.refuses(said.as_ref()));
        let asks = |(bucket, said): (&Bucket, &Option<Standing>)| said.is_none() && (all_up || self.asks(&bucket.slot));
        let ask: SmallVec<[bool; 2]> = claims.buckets.iter().zip(&said).map(asks).collect();
        if !refused
            && ask.contains(&true)
            && let Some(own) = self.own.upgrade()
        {
            let given =
                |(bucket, known): (&Bucket, Option<_>)| known.map(|known| Given::new(own.clone(), *bucket, known));
            let given = claims.buckets.iter().zip(known).map(given).collect();
            let alone = Alone::new(charges, &claims, self.instances());
            return Taken::Later(Box::pin(own.ask_and_decide(claims, given, ask, alone)));
        }
        let alone = |said: &Said| Alone::new(charges, &claims, self.instances()).decide(&self.local, now, said);
        let outcome = self.conclude(&claims, &said, now, alone);
        if !outcome.admitted {
            for (bucket, known) in claims.buckets.iter().zip(known) {
                if let Some((Standing { wait: Wait::No, .. }, origin)) = known {
                    self.hand_back(bucket, bucket.cost, origin);
                }
            }
        }
        Taken::Now(outcome)
    }

    /// What can be said of one bucket without asking.
    fn known(&self, bucket: &Bucket, now: Tick, all_up: bool) -> Option<(Standing, Origin)> {
        let (known, runs_low) = self.entry(bucket.slot, |entry| {
            let known = entry.hold.answer(bucket.cost, now)?;
            let runs_low = all_up && !entry.asking && entry.hold.runs_low();
            if runs_low {
                entry.asking = true;
                entry.question = Some(bucket.question);
            }
            Some((known, runs_low))
        })?;
        if runs_low && let Some(own) = self.own.upgrade() {
            own.spawn_asking(*bucket, Why::NextLease);
        }
        let from = if known.0.wait == Wait::No { LimitAnswer::Lease } else { LimitAnswer::Remembered };
        self.metrics.limit_answers.inc(from);
        Some(known)
    }

    /// Asks for what could not be answered, and decides.
    async fn ask_and_decide(
        self: Arc<Self>,
        claims: Claims,
        mut given: SmallVec<[Option<Given>; 2]>,
        ask: SmallVec<[bool; 2]>,
        alone: Alone,
    ) -> Outcome {
        let asked = claims.buckets.iter().zip(&ask).filter(|(_, ask)| **ask);
        let mut told = join_all(asked.map(|(bucket, _)| self.ask(*bucket))).await.into_iter();
        for (given, _) in given.iter_mut().zip(&ask).filter(|(_, ask)| **ask) {
            *given = told.next().flatten();
        }
        let now = self.clock.tick();
        let said: Said = given.iter().map(|given| given.as_ref().map(|given| given.standing)).collect();
        let outcome = self.conclude(&claims, &said, now, |said| alone.decide(&self.local, now, said));
        if outcome.admitted {
            given.into_iter().flatten().for_each(Given::keep);
        }
        outcome
    }

    /// The outcome of what was said. A bucket that refuses decides; else those of which nothing was said are left to
    /// this instance, by `alone`, and only those.
    fn conclude(&self, claims: &Claims, said: &Said, now: Tick, alone: impl FnOnce(&Said) -> Outcome) -> Outcome {
        let refused = claims.buckets.iter().zip(said).any(|(bucket, said)| bucket.refuses(said.as_ref()));
        let (mut admitted, mut lost, mut here) = (!refused, false, SmallVec::new());
        if !refused && said.contains(&None) {
            self.metrics.limit_answers.inc(LimitAnswer::WithoutStore);
            Outcome { admitted, standings: here, lost } = alone(said);
        }
        let mut here = here.into_iter();
        let standing = |(bucket, said): (&Bucket, &Option<Standing>)| match said {
            // It goes back.
            Some(standing) if !admitted && standing.wait == Wait::No => {
                Standing { remaining: standing.remaining.saturating_add(bucket.cost), ..*standing }
            }
            Some(standing) => *standing,
            // Decided here; or not asked, because another one has refused.
            None => here.next().unwrap_or_else(|| {
                self.with_entry(&bucket.slot, |entry| entry.hold.standing(Wait::No, now)).unwrap_or(UNKNOWN)
            }),
        };
        let of_buckets: SmallVec<[Standing; 2]> = claims.buckets.iter().zip(said).map(standing).collect();
        let standings = claims.of.iter().map(|at| of_buckets.get(*at).copied().unwrap_or(UNKNOWN)).collect();
        Outcome { admitted, standings, lost }
    }

    /// Takes tokens back that a call was given and did not use. Those of a key without leases go back to the store at once:
    /// another instance may be refusing for want of them.
    pub(super) fn hand_back(&self, bucket: &Bucket, tokens: u32, origin: Origin) {
        if tokens == 0 {
            return;
        }
        let now = self.clock.tick();
        // What cannot be handed back now waits for the sweep.
        let could = self.asks(&bucket.slot) && Handle::try_current().is_ok();
        let go_back = self.entry(bucket.slot, |entry| {
            // What was known of it may have been dropped meanwhile.
            entry.question = Some(bucket.question);
            let at_once = entry.hold.hand_back(tokens, origin, now) && could && !entry.asking;
            entry.asking |= at_once;
            at_once
        });
        if go_back && let Some(own) = self.own.upgrade() {
            own.spawn_asking(*bucket, Why::HandBack);
        }
    }
}
