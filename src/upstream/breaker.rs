//! The circuit breaker (protocol section 5), one per upstream and operation class.
//!
//! It has three states, and each has its function below: `closed` counts, `open` refuses, `probation` lets one trial
//! through at a time. It does not know what a failure is: [`super::outcome`] decides that, so that the two can be
//! read, and tested, apart.
//!
//! A healthy upstream is the common case and costs two atomic loads a request: while no failure stands in the window,
//! admitting and settling a success change nothing, so neither takes the lock. Whatever ends after the breaker has
//! changed state says nothing about the new state; the ticket's epoch tells, and it is not counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::outcome::Outcome;
use crate::clock::{Clock, Tick};
use crate::config;

/// A circuit breaker. Shared by every request of its class; cheap to ask while the upstream is well.
#[derive(Debug)]
pub struct Breaker {
    numbers: config::Breaker,
    clock: Clock,
    /// `epoch << 1 | calm`. The epoch counts changes of state; calm means closed and no failure in the window.
    /// Written under the lock, read without it.
    summary: AtomicU64,
    state: Mutex<State>,
    counts: Counts,
}

#[derive(Debug)]
enum State {
    /// Calls pass and are counted: `true` is a failure, the oldest first.
    Closed { window: VecDeque<bool>, failures: u32 },
    /// Calls are refused.
    Open { until: Tick },
    /// One trial is let through at a time; any success closes the breaker.
    Probation { next_trial: Tick, latest: u64 },
}

#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    refused: AtomicU64,
    trials: AtomicU64,
    failures: AtomicU64,
}

/// What a breaker is doing, as metrics and the admin address show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Everything passes.
    Closed,
    /// Nothing passes.
    Open,
    /// One call at a time is tried (the field calls this half open).
    Probation,
}

impl Position {
    /// The name in metrics and at the admin address.
    pub const fn as_str(self) -> &'static str {
        match self {
            Position::Closed => "closed",
            Position::Open => "open",
            Position::Probation => "probation",
        }
    }
}

/// A look at a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What it is doing.
    pub position: Position,
    /// Failures among the calls looked back on.
    pub failures_in_window: u32,
    /// How long until a trial is let through; `None` while everything passes.
    pub next_trial: Option<Duration>,
    /// How often it opened.
    pub opened: u64,
    /// Calls refused while it was open.
    pub refused: u64,
    /// Trials let through.
    pub trials: u64,
    /// Failures settled.
    pub failures: u64,
}

/// The breaker is open; nothing is let through before this much time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFor(pub Duration);

/// Leave to call the upstream. Settle it with what came of the call; dropped unsettled (the client left, the request
/// was abandoned) it counts as neutral.
#[derive(Debug)]
#[must_use = "a ticket that is not settled teaches the breaker nothing"]
pub struct Ticket {
    breaker: Arc<Breaker>,
    epoch: u64,
    trial: Option<Trial>,
    settled: bool,
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    number: u64,
    began: Tick,
}

impl Breaker {
    /// A closed breaker. `numbers.window` and `numbers.failures` are at least 1 (config checks it).
    pub fn new(numbers: config::Breaker, clock: Clock) -> Arc<Self> {
        Arc::new(Breaker {
            numbers,
            clock,
            summary: AtomicU64::new(CALM),
            state: Mutex::new(State::Closed { window: VecDeque::new(), failures: 0 }),
            counts: Counts::default(),
        })
    }

    /// The numbers it was made with.
    pub fn numbers(&self) -> &config::Breaker {
        &self.numbers
    }

    /// Asks to call the upstream at `now`, which is a tick of the clock that the breaker was made with.
    pub fn admit(self: &Arc<Self>, now: Tick) -> Result<Ticket, OpenFor> {
        let summary = self.summary.load(Ordering::Acquire);
        if summary & CALM != 0 {
            return Ok(self.ticket(summary >> 1, None));
        }
        let mut state = self.state.lock();
        match &mut *state {
            State::Closed { .. } => Ok(self.ticket(self.epoch(), None)),
            State::Open { until } if now < *until => self.refuse(until.since(now)),
            State::Open { .. } => {
                self.change(&mut state, State::Probation { next_trial: now, latest: 0 });
                self.probation(&mut state, now)
            }
            State::Probation { .. } => self.probation(&mut state, now),
        }
    }

    fn probation(self: &Arc<Self>, state: &mut State, now: Tick) -> Result<Ticket, OpenFor> {
        let State::Probation { next_trial, latest } = state else {
            return Ok(self.ticket(self.epoch(), None));
        };
        if now < *next_trial {
            return self.refuse(next_trial.since(now));
        }
        *next_trial = now.plus(self.numbers.trial_every);
        *latest += 1;
        self.counts.trials.fetch_add(1, Ordering::Relaxed);
        Ok(self.ticket(self.epoch(), Some(Trial { number: *latest, began: now })))
    }

    fn refuse(&self, wait: Duration) -> Result<Ticket, OpenFor> {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        Err(OpenFor(wait))
    }

    fn ticket(self: &Arc<Self>, epoch: u64, trial: Option<Trial>) -> Ticket {
        Ticket { breaker: Arc::clone(self), epoch, trial, settled: false }
    }

    fn settle(&self, epoch: u64, trial: Option<Trial>, outcome: Outcome) {
        if outcome == Outcome::Failure {
            self.counts.failures.fetch_add(1, Ordering::Relaxed);
        }
        // A success while all is calm changes nothing, and neither does what began in another state.
        let summary = self.summary.load(Ordering::Acquire);
        if summary >> 1 != epoch || (summary & CALM != 0 && outcome != Outcome::Failure) {
            return;
        }
        let mut state = self.state.lock();
        if self.epoch() != epoch {
            return;
        }
        match (&mut *state, trial) {
            (State::Closed { .. }, _) => self.closed(&mut state, outcome),
            (State::Probation { next_trial, latest }, Some(trial)) => match outcome {
                Outcome::Success => {
                    self.change(&mut state, State::Closed { window: VecDeque::new(), failures: 0 });
                }
                // The next trial comes `trial_every` after this one began; that is what admitting it arranged.
                Outcome::Failure => {}
                // Nothing was learned, so the trial may be held again at once, unless another has begun since.
                Outcome::Neutral if *latest == trial.number => *next_trial = trial.began,
                Outcome::Neutral => {}
            },
            (State::Probation { .. } | State::Open { .. }, _) => {}
        }
    }

    fn closed(&self, state: &mut State, outcome: Outcome) {
        let State::Closed { window, failures } = state else { return };
        let failed = match outcome {
            Outcome::Success => false,
            Outcome::Failure => true,
            Outcome::Neutral => return,
        };
        window.push_back(failed);
        *failures += u32::from(failed);
        if window.len() > self.numbers.window as usize && window.pop_front() == Some(true) {
            *failures -= 1;
        }
        if *failures >= self.numbers.failures {
            self.counts.opened.fetch_add(1, Ordering::Relaxed);
            let until = self.clock.tick().plus(self.numbers.open);
            self.change(state, State::Open { until });
        } else if *failures == 0 {
            // Successes alone: as good as an empty window, and from here on nobody needs the lock.
            window.clear();
            self.summary.store(self.epoch() << 1 | CALM, Ordering::Release);
        } else {
            self.summary.store(self.epoch() << 1, Ordering::Release);
        }
    }

    fn change(&self, state: &mut State, next: State) {
        let calm = if matches!(next, State::Closed { .. }) { CALM } else { 0 };
        *state = next;
        self.summary.store((self.epoch() + 1) << 1 | calm, Ordering::Release);
    }

    fn epoch(&self) -> u64 {
        self.summary.load(Ordering::Acquire) >> 1
    }

    /// What it is doing at `now`, and its counters.
    pub fn read(&self, now: Tick) -> Reading {
        let (position, failures_in_window, next_trial) = match &*self.state.lock() {
            State::Closed { failures, .. } => (Position::Closed, *failures, None),
            State::Open { until } if now < *until => (Position::Open, 0, Some(until.since(now))),
            State::Open { .. } => (Position::Probation, 0, Some(Duration::ZERO)),
            State::Probation { next_trial, .. } => (Position::Probation, 0, Some(next_trial.since(now))),
        };
        Reading {
            position,
            failures_in_window,
            next_trial,
            opened: self.counts.opened.load(Ordering::Relaxed),
            refused: self.counts.refused.load(Ordering::Relaxed),
            trials: self.counts.trials.load(Ordering::Relaxed),
            failures: self.counts.failures.load(Ordering::Relaxed),
        }
    }
}

/// The bit of [`Breaker::summary`] that says: closed, and no failure in the window.
const CALM: u64 = 1;

impl Ticket {
    /// Tells the breaker what came of the call.
    pub fn settle(mut self, outcome: Outcome) {
        self.settled = true;
        self.breaker.settle(self.epoch, self.trial, outcome);
    }

    /// Whether the call is the one that decides if the breaker closes.
    pub fn is_trial(&self) -> bool {
        self.trial.is_some()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            self.breaker.settle(self.epoch, self.trial, Outcome::Neutral);
        }
    }
}

#[cfg(test)]
mod tests;
