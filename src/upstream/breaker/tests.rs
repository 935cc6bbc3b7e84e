use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;

const NUMBERS: config::Breaker =
    config::Breaker { window: 10, failures: 5, open: Duration::from_secs(60), trial_every: Duration::from_secs(10) };

struct Rig {
    clock: Clock,
    hand: ManualClock,
    breaker: Arc<Breaker>,
}

impl Rig {
    fn new(numbers: config::Breaker) -> Rig {
        let (clock, hand) = Clock::manual(0);
        Rig { breaker: Breaker::new(numbers, clock.clone()), clock, hand }
    }

    fn admit(&self) -> Result<Ticket, u64> {
        self.breaker.admit(self.clock.tick()).map_err(|OpenFor(wait)| wait.as_secs())
    }

    fn call(&self, outcome: Outcome) {
        self.admit().expect("the breaker is closed").settle(outcome);
    }

    fn opened() -> Rig {
        let rig = Rig::new(NUMBERS);
        (0..5).for_each(|_| rig.call(Outcome::Failure));
        rig
    }

    fn position(&self) -> Position {
        self.breaker.read(self.clock.tick()).position
    }
}

#[test]
fn when_it_opens() {
    use Outcome::{Failure as F, Neutral as N, Success as S};
    let table: &[(&[Outcome], bool)] = &[
        (&[F, F, F, F], false),
        (&[F, F, F, F, F], true),
        (&[S, S, S, S, S, F, F, F, F, F], true),
        (&[F, S, F, S, F, S, F, S, F], true),
        // The first failure has left the window of ten.
        (&[F, S, S, S, S, S, S, S, F, F, F, F], false),
        // Neutral calls neither fail nor push a failure out of the window.
        (&[F, F, F, F, N, N, N, N, N, N, N, N, N, N, N, F], true),
        (&[F, F, F, F, N, N, N, N, N, N], false),
    ];
    for (calls, opens) in table {
        let rig = Rig::new(NUMBERS);
        calls.iter().for_each(|outcome| rig.call(*outcome));
        assert_eq!(rig.admit().is_err(), *opens, "{calls:?}");
    }
}

#[test]
fn open_for_a_minute_then_one_trial_each_ten_seconds() {
    let rig = Rig::opened();
    assert_eq!(rig.admit().unwrap_err(), 60);
    rig.hand.advance(Duration::from_secs(59));
    assert_eq!(rig.admit().unwrap_err(), 1);
    assert_eq!(rig.breaker.read(rig.clock.tick()).next_trial, Some(Duration::from_secs(1)));
    rig.hand.advance(Duration::from_secs(1));

    let next_trial = || rig.breaker.read(rig.clock.tick()).next_trial;
    assert_eq!(next_trial(), Some(Duration::ZERO));
    let trial = rig.admit().unwrap();
    assert!(trial.is_trial());
    assert_eq!(next_trial(), Some(Duration::from_secs(10)));
    assert_eq!(rig.admit().unwrap_err(), 10, "one trial at a time");
    trial.settle(Outcome::Failure);
    assert_eq!(rig.admit().unwrap_err(), 10);
    rig.hand.advance(Duration::from_secs(10));
    rig.admit().unwrap().settle(Outcome::Success);
    assert_eq!((rig.position(), next_trial()), (Position::Closed, None));
    // Closed means closed: four failures are none too many.
    (0..4).for_each(|_| rig.call(Outcome::Failure));
    assert_eq!(rig.position(), Position::Closed);
    let reading = rig.breaker.read(rig.clock.tick());
    assert_eq!((reading.opened, reading.trials, reading.refused, reading.failures), (1, 2, 4, 10));
}

#[test]
fn an_abandoned_trial_frees_its_place() {
    let rig = Rig::opened();
    rig.hand.advance(Duration::from_secs(60));
    drop(rig.admit().unwrap());
    let second = rig.admit().expect("the first trial taught nothing");
    // It hangs; after ten seconds another is tried, and what becomes of the hung one no longer matters.
    rig.hand.advance(Duration::from_secs(10));
    let third = rig.admit().unwrap();
    drop(second);
    assert_eq!(rig.admit().unwrap_err(), 10);
    third.settle(Outcome::Success);
    assert_eq!(rig.position(), Position::Closed);
}

#[test]
fn what_began_before_the_breaker_opened_is_not_counted() {
    let rig = Rig::new(NUMBERS);
    let early_good = rig.admit().unwrap();
    let early_bad = rig.admit().unwrap();
    (0..5).for_each(|_| rig.call(Outcome::Failure));
    early_good.settle(Outcome::Success);
    assert_eq!(rig.admit().unwrap_err(), 60, "a success from before does not close it");
    rig.hand.advance(Duration::from_secs(60));
    rig.admit().unwrap().settle(Outcome::Success);
    early_bad.settle(Outcome::Failure);
    assert_eq!(rig.breaker.read(rig.clock.tick()).failures_in_window, 0);
}

/// The breaker in the plainest words: the whole history and no shortcuts.
struct Model {
    numbers: config::Breaker,
    now: u64,
    history: Vec<bool>,
    open_until: Option<u64>,
    next_trial: u64,
}

impl Model {
    fn admits(&self) -> bool {
        self.open_until.is_none_or(|until| self.now >= until && self.now >= self.next_trial)
    }

    /// One call that is admitted and settled at the same instant.
    fn call(&mut self, outcome: Outcome) {
        let probation = self.open_until.is_some();
        match outcome {
            Outcome::Neutral => {}
            Outcome::Success if probation => {
                self.open_until = None;
                self.history.clear();
            }
            Outcome::Failure if probation => self.next_trial = self.now + self.numbers.trial_every.as_secs(),
            Outcome::Success | Outcome::Failure => {
                self.history.push(outcome == Outcome::Failure);
                let window = self.history.len().saturating_sub(self.numbers.window as usize);
                if self.history[window..].iter().filter(|failed| **failed).count() >= self.numbers.failures as usize {
                    self.open_until = Some(self.now + self.numbers.open.as_secs());
                    self.next_trial = 0;
                    self.history.clear();
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn behaves_as_the_model(
        window in 1u32..14, failures in 1u32..8, open in 1u64..30, every in 1u64..15,
        steps in prop::collection::vec((0u64..8, 0u8..3), 1..300),
    ) {
        let numbers = config::Breaker {
            window, failures,
            open: Duration::from_secs(open), trial_every: Duration::from_secs(every),
        };
        let rig = Rig::new(numbers);
        let mut model = Model { numbers, now: 0, history: Vec::new(), open_until: None, next_trial: 0 };
        for (wait, outcome) in steps {
            rig.hand.advance(Duration::from_secs(wait));
            model.now += wait;
            let outcome = [Outcome::Success, Outcome::Failure, Outcome::Neutral][usize::from(outcome)];
            let ticket = rig.admit();
            prop_assert_eq!(ticket.is_ok(), model.admits());
            if let Ok(ticket) = ticket {
                ticket.settle(outcome);
                model.call(outcome);
            }
        }
    }

    /// Tickets held for a while, settled in any order, never wedge the breaker: a good upstream closes it again.
    #[test]
    fn always_recovers(steps in prop::collection::vec((0u8..3, any::<prop::sample::Index>()), 1..200)) {
        let rig = Rig::new(NUMBERS);
        let mut held = Vec::new();
        for (what, which) in steps {
            match what {
                0 => held.extend(rig.admit().ok()),
                1 if !held.is_empty() => held.swap_remove(which.index(held.len())).settle(Outcome::Failure),
                _ => rig.hand.advance(Duration::from_secs(3)),
            }
        }
        held.into_iter().for_each(|ticket| ticket.settle(Outcome::Failure));
        rig.hand.advance(Duration::from_secs(60));
        rig.admit().expect("a trial is due").settle(Outcome::Success);
        prop_assert_eq!(rig.position(), Position::Closed);
    }
}

#[test]
fn concurrent_calls_are_all_counted() {
    let numbers = config::Breaker { window: 100_000, failures: 100_001, ..NUMBERS };
    let rig = Rig::new(numbers);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..2000).for_each(|_| rig.call(Outcome::Failure)));
        }
    });
    assert_eq!(rig.breaker.read(rig.clock.tick()).failures_in_window, 8000);
}
