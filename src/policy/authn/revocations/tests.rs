use super::super::testing::tep_claims as claims;
use super::*;
use crate::model::oauth::{ClientId, Via};

/// A revocation at that second, the thousandfold of which is its number.
fn at(second: u64, what: Revoked) -> Revocation {
    Revocation { number: second * 1000, at: second, what }
}

#[test]
fn within_a_second_the_order_decides() {
    let c = claims();
    let own = |known: u64| TepClaims { revocation: Some(known), ..claims() };
    let what = Revoked::Pair(c.user.clone(), c.app.clone());
    let revocations = Revocations::new(Generation::default());
    revocations.apply(&Revocation { number: 7, at: 100, what: what.clone() });
    assert!(revocations.voids(&own(6)) && revocations.voids(&own(0)), "issued before it");
    assert!(!revocations.voids(&own(7)) && !revocations.voids(&own(8)), "issued in the same second, after it");
    assert!(revocations.voids(&c), "a stranger's token of that second");
    assert_eq!(revocations.taken_back(&c.user, &c.app, 6), None);
    assert_eq!(revocations.taken_back(&c.user, &c.app, 7), Some(ScopeSet::EMPTY));
    revocations.apply(&Revocation { number: 9, at: 100, what });
    assert!(revocations.voids(&own(8)) && !revocations.voids(&own(9)));
}

#[test]
fn the_last_switch_of_payments_counts_in_whatever_order_they_come() {
    let switch = |number, off| Revocation { number, at: 100, what: Revoked::Payments { off } };
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let revocations = Revocations::new(Generation::default());
        assert!(!revocations.payments_off());
        let all = [switch(1, true), switch(2, false), switch(3, true)];
        order.iter().for_each(|at| revocations.apply(&all[*at]));
        assert!(revocations.payments_off());
        revocations.apply(&switch(4, false));
        revocations.apply(&switch(3, true));
        assert!(!revocations.payments_off());
    }
}

#[test]
fn it_is_current_for_a_second() {
    let (clock, time) = crate::clock::Clock::manual(0);
    let generation = Generation::default();
    let revocations = Revocations::new(generation.clone());
    time.advance(Duration::from_secs(100));
    assert!(revocations.is_current(clock.tick()), "nothing is followed");
    revocations.expect();
    assert!(!revocations.is_current(clock.tick()), "nothing has been heard");
    revocations.agree(5, clock.tick());
    assert_eq!(generation.revocation(), 5);
    time.advance(STALE_AFTER);
    assert!(revocations.is_current(clock.tick()));
    time.advance(Duration::from_millis(1));
    assert!(!revocations.is_current(clock.tick()));
    revocations.agree(5, clock.tick());
    assert!(revocations.is_current(clock.tick()));
}

#[test]
fn each_kind_voids_what_was_issued_until_then() {
    let c = claims();
    let (user, app) = (c.user.clone(), c.app.clone());
    for what in [
        Revoked::Grant("g1".to_owned()),
        Revoked::Pair(user.clone(), app.clone()),
        Revoked::Scopes(user.clone(), app.clone(), ScopeSet::of(&[Scope::WalletPay])),
        Revoked::User(user.clone()),
        Revoked::App(app.clone()),
    ] {
        let revocations = Revocations::new(Generation::default());
        revocations.apply(&at(99, what.clone()));
        assert!(!revocations.voids(&c), "{what:?} before the token was issued");
        revocations.apply(&at(100, what.clone()));
        revocations.apply(&at(50, what.clone()));
        assert!(revocations.voids(&c), "{what:?}");
    }
    for what in [
        Revoked::Key { issuer: c.issuer.clone(), kid: c.kid.clone() },
        Revoked::Token { jti: "j1".to_owned(), expires_at: 200 },
    ] {
        let revocations = Revocations::new(Generation::default());
        revocations.apply(&at(0, what.clone()));
        assert!(revocations.voids(&c), "{what:?}");
    }
}

/// A grant of all that the mini-app may ask for, given when that revocation was the last.
fn grant(holds_from: u64) -> Grant {
    let c = claims();
    Grant::given(
        ClientId::of(c.app),
        c.user,
        ScopeSet::of(&[Scope::WalletBalance, Scope::WalletPay, Scope::UserRead]),
        Via::Code,
        (0, holds_from),
    )
}

/// In whatever order they are heard of.
#[test]
fn a_grant_lacks_what_was_taken_back_since_it_was_given() {
    let c = claims();
    let scopes = |number, scopes: &[Scope]| Revocation {
        number,
        at: 0,
        what: Revoked::Scopes(c.user.clone(), c.app.clone(), ScopeSet::of(scopes)),
    };
    let taken = [
        scopes(5, &[Scope::WalletBalance]),
        scopes(7, &[Scope::WalletPay, Scope::WalletBalance]),
        scopes(9, &[Scope::WalletBalance]),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let revocations = Revocations::new(Generation::default());
        order.iter().for_each(|at| revocations.apply(&taken[*at]));
        let left = |holds_from| revocations.left_of(GrantId([0; 16]), &grant(holds_from)).unwrap().scopes;
        let (all, read) = (grant(0).scopes, ScopeSet::of(&[Scope::UserRead]));
        assert_eq!(
            [left(0), left(6), left(7), left(9)],
            [read, read, read.union(ScopeSet::of(&[Scope::WalletPay])), all]
        );
        let narrow = Grant { scopes: ScopeSet::of(&[Scope::WalletPay]), ..grant(6) };
        assert_eq!(revocations.left_of(GrantId([0; 16]), &narrow), None, "nothing is left");
    }
}

/// A user takes a part back while an operator ends the whole: what comes last does not undo what came before.
#[test]
fn a_part_that_is_taken_back_brings_nothing_back() {
    let c = claims();
    let part = Revoked::Scopes(c.user.clone(), c.app.clone(), ScopeSet::of(&[Scope::WalletPay]));
    for whole in [
        Revoked::Grant(GrantId([0; 16]).to_string()),
        Revoked::Pair(c.user.clone(), c.app.clone()),
        Revoked::User(c.user.clone()),
        Revoked::App(c.app.clone()),
    ] {
        let revocations = Revocations::new(Generation::default());
        for (number, what) in [(5, part.clone()), (6, whole), (7, part.clone())] {
            revocations.apply(&Revocation { number, at: 0, what });
        }
        assert_eq!(revocations.left_of(GrantId([0; 16]), &grant(4)), None);
        assert_eq!(revocations.left_of(GrantId([0; 16]), &grant(7)), Some(grant(7)));
    }
}

#[test]
fn others_are_left_alone_and_old_tokens_forgotten() {
    let generation = Generation::default();
    let revocations = Revocations::new(generation.clone());
    let before = generation.current();
    revocations.apply(&at(500, Revoked::Grant("g2".to_owned())));
    revocations.apply(&at(500, Revoked::Pair(claims().user, MiniAppId::parse("ma_other").unwrap())));
    revocations.apply(&at(500, Revoked::User(UserId::parse("@bob:tween.example").unwrap())));
    revocations.apply(&at(500, Revoked::Key { issuer: "https://other.example".to_owned(), kid: "k1".to_owned() }));
    revocations.apply(&at(500, Revoked::Token { jti: "j2".to_owned(), expires_at: 200 }));
    assert!(!revocations.voids(&claims()));
    assert_ne!(generation.current(), before);
    revocations.sweep(201);
    assert!(revocations.tables.read().tokens.is_empty());
}

#[test]
fn memory_forgets_what_the_log_forgets() {
    let revocations = Revocations::new(Generation::default());
    let c = claims();
    revocations.apply(&at(500, Revoked::Grant("g1".to_owned())));
    revocations.apply(&at(500, Revoked::Pair(c.user.clone(), c.app.clone())));
    let some = ScopeSet::of(&[Scope::WalletPay]);
    revocations.apply(&at(500, Revoked::Scopes(c.user.clone(), c.app.clone(), some)));
    revocations.apply(&at(500, Revoked::User(c.user.clone())));
    revocations.apply(&at(500, Revoked::App(c.app.clone())));
    let held = || {
        let tables = revocations.tables.read();
        let of_pairs = tables.pairs.len() + tables.scopes.len();
        (tables.grants.len(), of_pairs + tables.users.len() + tables.apps.len())
    };
    revocations.sweep(500 + GRANTS_FOR.as_secs());
    assert_eq!(held(), (1, 4));
    revocations.sweep(501 + GRANTS_FOR.as_secs());
    assert_eq!(held(), (0, 4));
    revocations.sweep(501 + EPOCHS_FOR.as_secs());
    assert_eq!(held(), (0, 0));
}
