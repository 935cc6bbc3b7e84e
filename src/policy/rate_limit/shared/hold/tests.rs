use proptest::prelude::*;

use super::*;

const MILLI: u64 = 1_000_000;

fn told(leased: u32, left: u32, waits: Vec<Wait>) -> Told {
    Told { leased, left, full_in: 0, window: 0, waits }
}

#[test]
fn a_slow_key_has_no_lease_and_a_fast_one_has_fifty_milliseconds_worth() {
    let wish = |every: u64| {
        let mut hold = Hold::default();
        for call in 1..=2000 {
            hold.answer(1, Tick(call * every * MILLI));
        }
        hold.ask(1).wish
    };
    assert_eq!(wish(50), 0, "20 a second");
    assert_eq!(wish(10), 5, "100 a second");
    assert_eq!(wish(1), 50, "1,000 a second");
}

#[test]
fn a_lease_is_used_up_or_void_after_a_second_and_then_goes_back() {
    let mut hold = Hold::default();
    hold.learn(&told(3, 10, vec![Wait::No]), &[1], Tick(0), Tick(MILLI));
    assert_eq!(hold.answer(1, Tick(2 * MILLI)).map(|standing| standing.remaining), Some(12));
    assert_eq!(hold.answer(3, Tick(2 * MILLI)), None, "more than is held");
    assert_eq!(hold.give_back_void(Tick(999 * MILLI)), None);
    assert_eq!(hold.answer(1, Tick(1000 * MILLI)), None, "void");
    assert_eq!(hold.give_back_void(Tick(1000 * MILLI)), Some(Back { tokens: 2, window: 0 }));
    assert_eq!(hold.give_back_void(Tick(1000 * MILLI)), None, "once");
}

#[test]
fn the_next_lease_is_due_in_the_last_eighth_of_one_and_does_not_prolong_it() {
    let mut hold = Hold::default();
    for call in 1..=2000 {
        hold.answer(1, Tick(call * MILLI));
    }
    let asked = Tick(2000 * MILLI);
    let wish = hold.ask(1).wish;
    hold.learn(&told(wish, 1000, vec![Wait::No]), &[1], asked, asked);
    assert!(!hold.runs_low());
    let served = (1..).take_while(|_| !hold.runs_low() && hold.answer(1, asked).is_some()).count();
    assert_eq!(served, 44, "of 50");
    // It serves while the next one is on its way.
    let terms = hold.ask(0);
    assert_eq!((terms.wish, terms.back), (50, Back::default()));
    assert!(hold.answer(1, asked).is_some());
    hold.learn(&told(50, 1000, vec![]), &[], Tick(2900 * MILLI), Tick(2901 * MILLI));
    // The five that were left would be void by now.
    let now = Tick(3100 * MILLI);
    assert_eq!((1..).take_while(|_| hold.answer(1, now).is_some()).count(), 50);
    assert_eq!(hold.ask(1).back.tokens, 5);
}

#[test]
fn nothing_is_fetched_ahead_for_a_slow_key_or_out_of_a_bucket_that_is_nearly_empty() {
    let mut slow = Hold::default();
    slow.learn(&told(50, 1000, vec![Wait::No]), &[1], Tick(0), Tick(0));
    assert_eq!((1..).take_while(|_| !slow.runs_low() && slow.answer(1, Tick(1)).is_some()).count(), 50);
    let mut empty = Hold::default();
    for call in 1..=2000 {
        empty.answer(1, Tick(call * MILLI));
    }
    empty.learn(&told(7, 140, vec![Wait::No]), &[1], Tick(2000 * MILLI), Tick(2000 * MILLI));
    assert_eq!((1..).take_while(|_| !empty.runs_low() && empty.answer(1, Tick(2000 * MILLI)).is_some()).count(), 7);
}

#[test]
fn a_refusal_stands_until_its_time_for_calls_that_cost_as_much() {
    let mut hold = Hold::default();
    let wait = Wait::Nanos(100 * MILLI);
    hold.learn(&told(0, 4, vec![Wait::No, wait]), &[1, 5], Tick(0), Tick(MILLI));
    assert_eq!(hold.answer(5, Tick(40 * MILLI)).map(|s| s.wait), Some(Wait::Nanos(60 * MILLI)));
    assert_eq!(hold.answer(4, Tick(40 * MILLI)), None);
    assert_eq!(hold.answer(6, Tick(100 * MILLI)), None);
    hold.learn(&told(0, 0, vec![wait]), &[1], Tick(0), Tick(MILLI));
    hold.forget_refusal();
    assert_eq!(hold.answer(1, Tick(40 * MILLI)), None);
}

proptest! {
    /// Whatever happens, no more is admitted than was leased and not handed back.
    #[test]
    fn tokens_are_neither_made_nor_lost(steps in prop::collection::vec((0..4_u8, 1..5_u32, 0..400_u64), 1..200)) {
        let (mut hold, mut now) = (Hold::default(), Tick(0));
        let (mut leased, mut admitted, mut returned) = (0_u64, 0_u64, 0_u64);
        for (what, tokens, millis) in steps {
            now = Tick(now.0 + millis * MILLI);
            match what {
                0 => {
                    returned += u64::from(hold.ask(usize::from(tokens > 2)).back.tokens);
                    hold.learn(&told(tokens, 0, vec![]), &[], now, now);
                    leased += u64::from(tokens);
                }
                1 => returned += hold.give_back_void(now).map_or(0, |back| u64::from(back.tokens)),
                2 => {
                    if hold.answer(tokens, now).is_some_and(|standing| standing.wait == Wait::No) {
                        hold.hand_back(tokens, now);
                    }
                }
                _ => {
                    if hold.answer(tokens, now).is_some_and(|standing| standing.wait == Wait::No) {
                        admitted += u64::from(tokens);
                    }
                }
            }
            let held = u64::from(hold.spare) + u64::from(hold.aside.tokens);
            prop_assert_eq!(leased, admitted + returned + held);
        }
    }
}
