//! Does this caller hold the scopes that the route asks for?
//!
//! Each of a route's sets asks for any one of its scopes; a config's row adds sets and never takes one away. Callers
//! without scopes of their own (a Matrix user, a merchant's client, the homeserver) prove their right by who they
//! are, so scopes are asked of TEP tokens only (protocol section 1, column "Scope").

use super::authn::Revocations;
use super::route::Route;
use crate::clock::Tick;
use crate::error::{Challenge, Code, Refusal};
use crate::model::rows::Class;
use crate::model::{Scope, ScopeSet};

/// Refuses with 403 INVALID_SCOPE, naming what is missing, unless `held` satisfies every set of `required`.
pub fn check(required: &[ScopeSet], held: ScopeSet) -> Result<(), Refusal> {
    match required.iter().find(|any_of| !held.intersects(**any_of)) {
        None => Ok(()),
        Some(missing) => Err(lacking(*missing, held)),
    }
}

/// The scopes that reach a wallet.
const WALLET: ScopeSet = ScopeSet::of(&[
    Scope::WalletBalance,
    Scope::WalletHistory,
    Scope::WalletRequest,
    Scope::WalletPay,
    Scope::WalletAdmin,
]);

/// Refuses payments while an operator has called them off, and whatever takes a wallet scope while this instance cannot
/// know what has been revoked: a token that is void elsewhere must not move money here.
///
/// # Errors
/// 503 `SERVICE_UNAVAILABLE` with `Retry-After`.
pub fn money(route: &Route, by_token: bool, revocations: &Revocations, now: Tick) -> Result<(), Refusal> {
    if route.class == Class::Payment && revocations.payments_off() {
        return Err(Refusal::new(Code::ServiceUnavailable, "Payments are switched off at present.").retry_after(60));
    }
    let reaches_wallet = by_token && route.scopes.iter().any(|set| set.intersects(WALLET));
    if reaches_wallet && !revocations.is_current(now) {
        return Err(Refusal::new(Code::ServiceUnavailable, "Wallet calls are not taken at present.")
            .retry_after(1)
            .inside("the log of revocations has not been seen for more than a second"));
    }
    Ok(())
}

fn lacking(any_of: ScopeSet, held: ScopeSet) -> Refusal {
    let names: Vec<&str> = any_of.iter().map(|scope| scope.as_str()).collect();
    let granted: Vec<&str> = held.iter().map(|scope| scope.as_str()).collect();
    Refusal::new(Code::InvalidScope, format!("The token lacks the scope {}.", names.join(" or ")))
        .details(serde_json::json!({"required_any_of": names, "granted": granted}))
        .challenge(Challenge::BearerScope)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::authn::Generation;
    use super::super::route::RouteAnswer;
    use super::*;
    use crate::clock::Clock;
    use crate::model::rows::{Auth, Body};
    use crate::model::{Operation, Revocation, Revoked};

    fn route(class: Class, scopes: &[Scope]) -> Route {
        Route {
            operation: Operation::WalletBalance,
            methods: Vec::new(),
            paths: Vec::new(),
            auth: Auth::Tep,
            scopes: vec![ScopeSet::of(scopes)],
            limits: Vec::new(),
            body: Body::None,
            text_fields: &[],
            answer: RouteAnswer::Edge,
            class,
            cacheable: false,
            label: None,
            upgrades: false,
        }
    }

    fn says(outcome: Result<(), Refusal>) -> Option<(Code, String)> {
        outcome.err().map(|refusal| (refusal.code(), refusal.message().to_owned()))
    }

    #[test]
    fn who_does_not_know_what_is_revoked_lets_nobody_at_money() {
        let (clock, time) = Clock::manual(0);
        let revocations = Revocations::new(Generation::default());
        revocations.agree(1, clock.tick());
        let told = |route: &Route, by_token| says(money(route, by_token, &revocations, clock.tick()));
        let (balance, pay) = (route(Class::Other, &[Scope::WalletBalance]), route(Class::Payment, &[Scope::WalletPay]));
        let either = route(Class::Other, &[Scope::UserRead, Scope::WalletBalance]);
        let profile = route(Class::Other, &[Scope::UserRead, Scope::StorageWrite]);
        time.advance(Duration::from_secs(1));
        assert!([&balance, &pay, &either, &profile].iter().all(|route| told(route, true).is_none()));
        time.advance(Duration::from_millis(1));
        for route in [&balance, &pay, &either] {
            assert_eq!(told(route, true).unwrap().0, Code::ServiceUnavailable);
            assert_eq!(told(route, false), None, "who shows no token has none that could be void");
        }
        assert_eq!(told(&profile, true), None);
    }

    #[test]
    fn payments_that_are_off_are_off_for_everybody() {
        let (clock, revocations) = (Clock::manual(0).0, Revocations::new(Generation::default()));
        let switch = |number, off| Revocation { number, at: 0, what: Revoked::Payments { off } };
        let told =
            |class, by_token| says(money(&route(class, &[Scope::WalletPay]), by_token, &revocations, clock.tick()));
        revocations.apply(&switch(1, true));
        assert!(
            [true, false].map(|by_token| told(Class::Payment, by_token).unwrap().1.contains("switched off"))
                == [true; 2]
        );
        assert_eq!(told(Class::Other, true), None);
        revocations.apply(&switch(2, false));
        assert_eq!(told(Class::Payment, true), None);
    }

    #[test]
    fn every_set_needs_one_scope() {
        let balance = ScopeSet::of(&[Scope::WalletBalance]);
        let either = ScopeSet::of(&[Scope::WalletBalance, Scope::WalletPay]);
        let pay = ScopeSet::of(&[Scope::WalletPay]);
        assert!(check(&[], ScopeSet::EMPTY).is_ok());
        assert!(check(&[either], pay).is_ok());
        assert!(check(&[balance, either], balance).is_ok());
        let refusal = check(&[balance, either], pay).unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidScope);
        assert!(refusal.message().contains("wallet:balance"), "{refusal}");
    }
}
