use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MILLI: u64 = 1_000_000;

fn told(leased: u32, left: u32, waits: Vec<Wait>) -> Told {
    Told { leased, left, full_in: 0, window: 0, waits }
}

/// How a call of this cost is answered without asking.
fn wait(hold: &mut Hold, cost: u32, now: Tick) -> Option<Wait> {
    hold.answer(cost, now).map(|(standing, _)| standing.wait)
}

fn served(hold: &mut Hold, now: Tick) -> usize {
    (0..).take_while(|_| !hold.runs_low() && hold.answer(1, now).is_some()).count()
}

#[test]
fn a_slow_key_has_no_lease_and_a_fast_one_has_fifty_milliseconds_worth() {
    let wish = |every: u64| {
        let mut hold = Hold::default();
        for call in 1..=2000 {
            hold.answer(1, Tick(call * every * MILLI));
        }
        hold.ask(1, false).wish
    };
    assert_eq!(wish(50), 0, "20 a second");
    assert_eq!(wish(10), 5, "100 a second");
    assert_eq!(wish(1), 50, "1,000 a second");
}

#[test]
fn a_lease_is_used_up_or_void_after_a_second_and_then_goes_back() {
    let mut hold = Hold::default();
    hold.learn(&told(3, 10, vec![Wait::No]), &[1], Tick(0), Tick(MILLI));
    assert_eq!(hold.answer(1, Tick(2 * MILLI)).map(|(standing, _)| standing.remaining), Some(12));
    assert_eq!(wait(&mut hold, 3, Tick(2 * MILLI)), None, "more than is held");
    assert_eq!(hold.give_back_void(Tick(999 * MILLI)), None);
    assert_eq!(wait(&mut hold, 1, Tick(1000 * MILLI)), None, "void");
    let back = Back { tokens: 2, origin: Origin::default() };
    assert_eq!(hold.give_back_void(Tick(1000 * MILLI)), Some(back));
    assert_eq!(hold.give_back_void(Tick(1000 * MILLI)), None, "once");
}

#[test]
fn the_next_lease_is_due_in_the_last_eighth_of_one_and_does_not_prolong_it() {
    let mut hold = Hold::default();
    for call in 1..=2000 {
        hold.answer(1, Tick(call * MILLI));
    }
    let asked = Tick(2000 * MILLI);
    let wish = hold.ask(1, false).wish;
    hold.learn(&told(wish, 1000, vec![Wait::No]), &[1], asked, asked);
    assert!(!hold.runs_low());
    assert_eq!(served(&mut hold, asked), 44, "of 50");
    // It serves while the next one is on its way.
    assert_eq!(hold.clone().ask(0, true).wish, 0, "who only hands back wishes for nothing");
    let terms = hold.ask(0, false);
    assert_eq!((terms.wish, terms.back), (50, Back::default()));
    let (_, origin) = hold.answer(1, asked).unwrap();
    hold.learn(&told(50, 1000, vec![]), &[], Tick(2900 * MILLI), Tick(2901 * MILLI));
    // The five that were left would be void by now, and so would one that a call hands back.
    let now = Tick(3100 * MILLI);
    assert!(!hold.hand_back(1, origin, now), "the next question takes it along");
    assert_eq!((1..).take_while(|_| hold.answer(1, now).is_some()).count(), 50);
    assert_eq!(hold.ask(1, false).back, Back { tokens: 6, origin });
}

#[test]
fn nothing_is_fetched_ahead_for_a_slow_key_or_out_of_a_bucket_that_is_nearly_empty() {
    let mut slow = Hold::default();
    slow.learn(&told(50, 1000, vec![Wait::No]), &[1], Tick(0), Tick(0));
    assert_eq!(served(&mut slow, Tick(1)), 50);
    let mut empty = Hold::default();
    for call in 1..=2000 {
        empty.answer(1, Tick(call * MILLI));
    }
    empty.learn(&told(7, 140, vec![Wait::No]), &[1], Tick(2000 * MILLI), Tick(2000 * MILLI));
    assert_eq!(served(&mut empty, Tick(2000 * MILLI)), 7);
}

#[test]
fn a_refusal_stands_until_its_time_for_calls_that_cost_as_much() {
    let mut hold = Hold::default();
    let soon = Wait::Nanos(100 * MILLI);
    hold.learn(&told(0, 4, vec![Wait::No, soon]), &[1, 5], Tick(0), Tick(MILLI));
    assert_eq!(wait(&mut hold, 5, Tick(40 * MILLI)), Some(Wait::Nanos(60 * MILLI)));
    assert_eq!(wait(&mut hold, 4, Tick(40 * MILLI)), None);
    assert_eq!(wait(&mut hold, 6, Tick(100 * MILLI)), None);
    hold.learn(&told(0, 0, vec![soon]), &[1], Tick(0), Tick(MILLI));
    hold.forget_refusal(Tick(30 * MILLI));
    assert_eq!(wait(&mut hold, 1, Tick(40 * MILLI)), None);
    // The answer to what was asked before may be of before, too.
    hold.learn(&told(0, 0, vec![soon]), &[1], Tick(20 * MILLI), Tick(41 * MILLI));
    assert_eq!(wait(&mut hold, 1, Tick(42 * MILLI)), None);
}

#[test]
fn a_long_refusal_is_told_whole_and_asked_about_again_after_a_lease_s_time() {
    let mut hold = Hold::default();
    let hour = 3_600_000 * MILLI;
    hold.learn(&told(0, 0, vec![Wait::Nanos(hour)]), &[1], Tick(0), Tick(MILLI));
    assert_eq!(wait(&mut hold, 1, Tick(999 * MILLI)), Some(Wait::Nanos(hour - 999 * MILLI)));
    assert_eq!(wait(&mut hold, 1, Tick(1000 * MILLI)), None);
}

#[test]
fn a_refusal_outlives_an_answer_to_others_and_ends_when_there_is_enough() {
    let mut hold = Hold::default();
    let refused = Wait::Nanos(500 * MILLI);
    let refuse = |hold: &mut Hold| {
        hold.learn(&told(0, 4, vec![refused]), &[5], Tick(0), Tick(MILLI));
    };
    refuse(&mut hold);
    hold.learn(&told(0, 3, vec![Wait::No]), &[1], Tick(2 * MILLI), Tick(2 * MILLI));
    assert_eq!(wait(&mut hold, 5, Tick(3 * MILLI)), Some(Wait::Nanos(497 * MILLI)));
    hold.learn(&told(2, 3, vec![]), &[], Tick(3 * MILLI), Tick(3 * MILLI));
    assert_eq!(wait(&mut hold, 5, Tick(3 * MILLI)), Some(Wait::Nanos(497 * MILLI)));
    // Somebody's tokens went back.
    hold.note(&told(0, 5, vec![]), Tick(4 * MILLI));
    assert_eq!(wait(&mut hold, 5, Tick(4 * MILLI)), None);
    refuse(&mut hold);
    hold.learn(&told(0, 5, vec![Wait::No]), &[1], Tick(5 * MILLI), Tick(5 * MILLI));
    assert_eq!(wait(&mut hold, 5, Tick(5 * MILLI)), None);
}

#[test]
fn nothing_of_before_goes_into_a_bucket_that_was_reset() {
    let mut hold = Hold::default();
    hold.learn(&told(5, 10, vec![Wait::No]), &[1], Tick(0), Tick(0));
    hold.learn(&told(5, 10, vec![Wait::No]), &[1], Tick(1), Tick(1));
    hold.start_afresh(Tick(2));
    assert_eq!((wait(&mut hold, 1, Tick(3)), hold.ask(1, false).back.tokens), (None, 0));
}

#[test]
fn what_is_not_used_makes_no_key_busy() {
    let mut hold = Hold::default();
    for call in 1..=2000 {
        let now = Tick(call * MILLI);
        hold.learn(&told(1, 1000, vec![]), &[], now, now);
        let (_, origin) = hold.answer(1, now).unwrap();
        hold.hand_back(1, origin, now);
    }
    assert_eq!(hold.ask(1, false).wish, 0);
}

#[test]
fn a_key_without_a_lease_keeps_nothing_that_a_call_did_not_use() {
    let mut hold = Hold::default();
    hold.learn(&told(0, 10, vec![Wait::No]), &[1], Tick(0), Tick(0));
    let origin = Origin { asked: Tick(0), window: 0 };
    assert!(hold.hand_back(1, origin, Tick(1)));
    assert_eq!((wait(&mut hold, 1, Tick(2)), hold.ask(0, false).back.tokens), (None, 1));
    // What was given before a reset goes nowhere.
    hold.start_afresh(Tick(5));
    assert!(!hold.hand_back(1, origin, Tick(6)));
    hold.learn(&told(5, 10, vec![]), &[], Tick(4), Tick(7));
    assert_eq!((wait(&mut hold, 1, Tick(8)), hold.ask(1, false).back.tokens), (None, 0));
}

/// A call's tokens, or a lease's, by their window.
#[derive(Default)]
struct Books(BTreeMap<u64, u32>);

impl Books {
    fn taken(&mut self, window: u64, tokens: u32) {
        *self.0.entry(window).or_default() += tokens;
    }

    /// Whether so many of that window were out.
    fn used(&mut self, window: u64, tokens: u32) -> bool {
        let out = self.0.entry(window).or_default();
        let enough = *out >= tokens;
        *out = out.saturating_sub(tokens);
        enough
    }

    fn out(&self) -> u32 {
        self.0.values().sum()
    }
}

proptest! {
    /// Whatever happens, no more is admitted or goes back than was leased in its window, nothing is used after its second,
    /// and within one window nothing is lost.
    #[test]
    fn tokens_are_neither_made_nor_lost(
        window in prop::option::of(500..3000_u64),
        steps in prop::collection::vec((0..6_u8, 1..5_u32, 0..400_u64), 1..200),
    ) {
        let (mut hold, mut now, mut books, mut given) = (Hold::default(), Tick(0), Books::default(), Vec::new());
        for (what, tokens, millis) in steps {
            now = Tick(now.0 + millis * MILLI);
            let in_window = window.map_or(0, |length| now.0 / (length * MILLI));
            let back = match what {
                0 => {
                    let back = hold.ask(usize::from(tokens > 2), false).back;
                    hold.learn(&Told { window: in_window, ..told(tokens, 0, vec![]) }, &[], now, now);
                    books.taken(in_window, tokens);
                    Some(back)
                }
                1 => hold.give_back_void(now),
                2 if !given.is_empty() => {
                    let (tokens, origin) = given.swap_remove(millis as usize % given.len());
                    hold.hand_back(tokens, origin, now);
                    None
                }
                _ => {
                    if let Some((Standing { wait: Wait::No, .. }, origin)) = hold.answer(tokens, now) {
                        prop_assert!(now < origin.asked.plus(LEASE));
                        if what == 3 {
                            prop_assert!(books.used(origin.window, tokens));
                        } else {
                            given.push((tokens, origin));
                        }
                    }
                    None
                }
            };
            if let Some(back) = back {
                prop_assert!(books.used(back.origin.window, back.tokens));
                prop_assert!(back.origin.asked <= now);
            }
            if window.is_none() {
                let with_calls: u32 = given.iter().map(|(tokens, _)| tokens).sum();
                let mut left = hold;
                prop_assert_eq!(books.out(), with_calls + hold.spare + left.aside.take().tokens);
            }
        }
    }
}
